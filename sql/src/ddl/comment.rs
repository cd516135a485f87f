//! COMMENT ON.

use std::sync::Arc;

use super::alter::column;
use super::execute::Ddl;
use super::names;
use crate::catalog::desc::{Relation, SchemaDesc, SequenceDesc, TableDesc};
use crate::error::{SqlError, SqlState};
use crate::parse::statement::{Comment, CommentTarget, Name, ObjectKind};

impl Ddl {
    pub(crate) fn comment(&mut self, comment: &Comment) -> Result<&'static str, SqlError> {
        const TAG: &str = "COMMENT";
        let text = comment.text.clone().filter(|t| !t.is_empty());
        match &comment.target {
            CommentTarget::Object(ObjectKind::Schema, name) => {
                let shown = names::parts(name).join(".");
                let schema = self
                    .catalog()
                    .schema_named(&shown)
                    .and_then(|oid| self.catalog().schemas.get(&oid))
                    .map(Arc::clone)
                    .ok_or_else(|| {
                        SqlError::new(
                            SqlState::INVALID_SCHEMA_NAME,
                            format!("schema \"{shown}\" does not exist"),
                        )
                    })?;
                let mut new = SchemaDesc::clone(&schema);
                new.comment = text;
                self.change.put_schema(new)?;
            }
            CommentTarget::Object(kind, name) => self.comment_relation(*kind, name, text)?,
            CommentTarget::Column(name) => {
                let mut table = name.clone();
                let ident = table.0.pop().and_then(|p| p.as_ident().cloned());
                let (Some(ident), false) = (ident, table.0.is_empty()) else {
                    return Err(SqlError::new(
                        SqlState::SYNTAX_ERROR,
                        "column name must be qualified",
                    ));
                };
                let table = match self.find(&table)? {
                    Some(Relation::Table(t) | Relation::View(t)) => t,
                    Some(other) => return Err(super::alter::not_a_table(&other)),
                    None => return Err(self.missing("relation", &table)),
                };
                let position = column(&table, &ident)?;
                let mut new = TableDesc::clone(&table);
                if let Some(column) = new.columns.get_mut(position) {
                    column.comment = text;
                }
                self.change.put_table(new)?;
            }
            CommentTarget::Constraint(name, table) => {
                let table = self.table(table)?;
                let mut new = TableDesc::clone(&table);
                let index = new
                    .indexes
                    .iter_mut()
                    .find(|i| i.constraint.is_some() && i.name == name.value);
                match index {
                    Some(index) => Arc::make_mut(index).comment = text,
                    None if table.checks.iter().any(|c| c.name == name.value) => {
                        return Err(SqlError::unsupported("COMMENT ON a CHECK constraint"));
                    }
                    None => {
                        return Err(SqlError::new(
                            SqlState::UNDEFINED_OBJECT,
                            format!(
                                "constraint \"{}\" for table \"{}\" does not exist",
                                name.value, table.name
                            ),
                        ));
                    }
                }
                self.change.put_table(new)?;
            }
            CommentTarget::Database(_) => {
                return Err(SqlError::unsupported("COMMENT ON DATABASE"));
            }
        }
        Ok(TAG)
    }

    fn comment_relation(
        &mut self,
        kind: ObjectKind,
        name: &Name,
        text: Option<String>,
    ) -> Result<(), SqlError> {
        let expected = match kind {
            ObjectKind::View => "view",
            ObjectKind::Index => "index",
            ObjectKind::Sequence => "sequence",
            ObjectKind::Table | ObjectKind::Schema => "table",
        };
        let Some(relation) = self.find(name)? else {
            return Err(self.missing("relation", name));
        };
        if relation.word() != expected {
            let article = if expected == "index" { "an" } else { "a" };
            return Err(SqlError::new(
                SqlState::WRONG_OBJECT_TYPE,
                format!("\"{}\" is not {article} {expected}", relation.name()),
            ));
        }
        match relation {
            Relation::Table(table) | Relation::View(table) => {
                let mut new = TableDesc::clone(&table);
                new.comment = text;
                self.change.put_table(new)?;
            }
            Relation::Index(table, index) => {
                let mut new = TableDesc::clone(&table);
                for each in new.indexes.iter_mut().filter(|i| i.oid == index.oid) {
                    Arc::make_mut(each).comment.clone_from(&text);
                }
                self.change.put_table(new)?;
            }
            Relation::Sequence(sequence) => {
                let mut new = SequenceDesc::clone(&sequence);
                new.comment = text;
                self.change.put_sequence(new)?;
            }
        }
        Ok(())
    }
}
