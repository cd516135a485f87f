//! DROP, with what depends on the dropped.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::execute::Ddl;
use super::names;
use crate::catalog::desc::{
    INFORMATION_SCHEMA, PG_CATALOG, PONTOON_INTERNAL, Relation, RelationKind, TableDesc,
};
use crate::error::{SqlError, SqlState};
use crate::parse::statement::{Drop, Name, ObjectKind};
use crate::types::Oid;

const CASCADE_HINT: &str = "Use DROP ... CASCADE to drop the dependent objects too.";

impl Ddl {
    pub(crate) async fn drop(&mut self, drop: &Drop) -> Result<&'static str, SqlError> {
        let (tag, word) = match drop.kind {
            ObjectKind::Table => ("DROP TABLE", "table"),
            ObjectKind::View => ("DROP VIEW", "view"),
            ObjectKind::Index => ("DROP INDEX", "index"),
            ObjectKind::Sequence => ("DROP SEQUENCE", "sequence"),
            ObjectKind::Schema => ("DROP SCHEMA", "schema"),
        };
        if drop.kind == ObjectKind::Schema {
            for name in &drop.names {
                self.drop_schema(name, drop.if_exists, drop.cascade)?;
            }
            return Ok(tag);
        }
        let mut relations = Vec::with_capacity(drop.names.len());
        for name in &drop.names {
            match self.dropped_relation(name, word, drop.if_exists)? {
                Some(relation)
                    if !relations
                        .iter()
                        .any(|r: &Relation| r.oid() == relation.oid()) =>
                {
                    relations.push(relation);
                }
                _ => {}
            }
        }
        if drop.kind == ObjectKind::Index {
            for relation in relations {
                if let Relation::Index(table, index) = relation {
                    let table = self.table_now(table.oid)?;
                    self.drop_index(&table, &index).await?;
                }
            }
            return Ok(tag);
        }
        self.drop_relations(&relations, drop.cascade)?;
        Ok(tag)
    }

    /// What a name of DROP stands for; `None` after a notice.
    fn dropped_relation(
        &mut self,
        name: &Name,
        word: &'static str,
        if_exists: bool,
    ) -> Result<Option<Relation>, SqlError> {
        match self.find(name)? {
            Some(relation) if relation.word() == word => Ok(Some(relation)),
            Some(other) => {
                let article = if word == "index" { "an" } else { "a" };
                Err(SqlError::new(
                    SqlState::WRONG_OBJECT_TYPE,
                    format!("\"{}\" is not {article} {word}", other.name()),
                )
                .with_hint(format!(
                    "Use DROP {} to remove {} {}.",
                    other.word().to_uppercase(),
                    if other.word() == "index" { "an" } else { "a" },
                    other.word()
                )))
            }
            None => {
                let (schema, relation) = names::split(name)?;
                if !if_exists {
                    let error = match &schema {
                        Some(_) => self.missing(word, name),
                        None => SqlError::new(
                            if word == "index" {
                                SqlState::UNDEFINED_OBJECT
                            } else {
                                SqlState::UNDEFINED_TABLE
                            },
                            format!("{word} \"{relation}\" does not exist"),
                        ),
                    };
                    return Err(error);
                }
                let message = match schema {
                    Some(schema) if self.catalog().schema_named(&schema).is_none() => {
                        format!("schema \"{schema}\" does not exist, skipping")
                    }
                    _ => format!("{word} \"{relation}\" does not exist, skipping"),
                };
                self.notice(SqlState::SUCCESSFUL_COMPLETION, message);
                Ok(None)
            }
        }
    }

    /// The views that read a relation directly.
    pub(crate) fn dependent_views(&self, oid: Oid) -> Vec<Arc<TableDesc>> {
        self.catalog()
            .tables
            .values()
            .filter(|t| t.kind == RelationKind::View && t.depends.contains(&oid) && t.oid != oid)
            .map(Arc::clone)
            .collect()
    }

    /// "view v", "table t", "default value for column c of table t": what depends on relations
    /// that are dropped, in the order found, without what is dropped anyway.
    fn dependents(&self, roots: &[Relation]) -> (Vec<(String, String)>, Vec<Oid>) {
        let mut gone: BTreeSet<Oid> = roots.iter().map(Relation::oid).collect();
        let mut queue: Vec<Relation> = roots.to_vec();
        let mut lines = Vec::new();
        let mut views = Vec::new();
        let mut i = 0;
        while let Some(relation) = queue.get(i).cloned() {
            i += 1;
            let on = format!("{} {}", relation.word(), self.shown(&relation));
            if let Relation::Sequence(sequence) = &relation {
                for table in self.catalog().tables.values() {
                    for (_, column) in table.live_columns() {
                        if column.sequence == Some(sequence.oid) && !gone.contains(&table.oid) {
                            let shown = self.shown(&Relation::Table(Arc::clone(table)));
                            lines.push((
                                format!(
                                    "default value for column {} of table {shown}",
                                    column.name
                                ),
                                on.clone(),
                            ));
                        }
                    }
                }
                continue;
            }
            for view in self.dependent_views(relation.oid()) {
                if gone.insert(view.oid) {
                    let view = Relation::View(view);
                    lines.push((format!("view {}", self.shown(&view)), on.clone()));
                    views.push(view.oid());
                    queue.push(view);
                }
            }
        }
        (lines, views)
    }

    fn drop_relations(&mut self, roots: &[Relation], cascade: bool) -> Result<(), SqlError> {
        for root in roots {
            if let Relation::Sequence(sequence) = root
                && let Some((table, position)) = sequence.owned_by
                && let Some(table) = self.catalog().tables.get(&table)
                && let Some(column) = table.columns.get(position)
                && column.identity.is_some()
                && column.sequence == Some(sequence.oid)
            {
                return Err(SqlError::new(
                    SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
                    format!(
                        "cannot drop sequence {} because column {} of table {} requires it",
                        sequence.name, column.name, table.name
                    ),
                )
                .with_hint(format!(
                    "You can drop column {} of table {} instead.",
                    column.name, table.name
                )));
            }
        }
        let (lines, views) = self.dependents(roots);
        if !lines.is_empty() && !cascade {
            let details: Vec<String> = lines
                .iter()
                .map(|(what, on)| format!("{what} depends on {on}"))
                .collect();
            let message = match roots {
                [one] => format!(
                    "cannot drop {} {} because other objects depend on it",
                    one.word(),
                    self.shown(one)
                ),
                _ => {
                    "cannot drop desired object(s) because other objects depend on them".to_owned()
                }
            };
            return Err(
                SqlError::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message)
                    .with_detail(details.join("\n"))
                    .with_hint(CASCADE_HINT),
            );
        }
        self.cascade_notice(lines.iter().map(|(what, _)| what.clone()).collect());
        for view in views {
            self.remove_relation(view)?;
        }
        for root in roots {
            self.remove_relation(root.oid())?;
        }
        Ok(())
    }

    /// "drop cascades to ..."
    fn cascade_notice(&mut self, what: Vec<String>) {
        match what.as_slice() {
            [] => {}
            [one] => {
                self.notice(
                    SqlState::SUCCESSFUL_COMPLETION,
                    format!("drop cascades to {one}"),
                );
            }
            many => {
                let detail: Vec<String> = many
                    .iter()
                    .map(|w| format!("drop cascades to {w}"))
                    .collect();
                let notice = SqlError::notice(
                    crate::error::Severity::Notice,
                    SqlState::SUCCESSFUL_COMPLETION,
                    format!("drop cascades to {} other objects", many.len()),
                )
                .with_detail(detail.join("\n"));
                self.notices.push(notice);
            }
        }
    }

    /// Drops views that a cascade reached, with the views on them.
    pub(crate) fn drop_cascaded(&mut self, oids: &[Oid]) -> Result<(), SqlError> {
        let roots: Vec<Relation> = oids
            .iter()
            .filter_map(|oid| self.catalog().relation(*oid))
            .collect();
        let mut what: Vec<String> = roots
            .iter()
            .map(|r| format!("{} {}", r.word(), self.shown(r)))
            .collect();
        let (lines, views) = self.dependents(&roots);
        what.extend(lines.into_iter().map(|(line, _)| line));
        self.cascade_notice(what);
        for oid in views.into_iter().chain(oids.iter().copied()) {
            self.remove_relation(oid)?;
        }
        Ok(())
    }

    /// Removes one relation with the sequences that its columns own.
    fn remove_relation(&mut self, oid: Oid) -> Result<(), SqlError> {
        match self.catalog().relation(oid) {
            Some(Relation::Table(table) | Relation::View(table)) => {
                let owned: Vec<_> = self
                    .catalog()
                    .sequences
                    .values()
                    .filter(|s| s.owned_by.is_some_and(|(t, _)| t == oid))
                    .map(Arc::clone)
                    .collect();
                for sequence in owned {
                    self.change.remove_sequence(&sequence)?;
                }
                self.change.remove_table(&table)
            }
            Some(Relation::Sequence(sequence)) => {
                self.forget_default(sequence.oid)?;
                self.change.remove_sequence(&sequence)
            }
            _ => Ok(()),
        }
    }

    /// Takes the defaults away that a dropped sequence served.
    fn forget_default(&mut self, sequence: Oid) -> Result<(), SqlError> {
        let tables: Vec<_> = self
            .catalog()
            .tables
            .values()
            .filter(|t| t.columns.iter().any(|c| c.sequence == Some(sequence)))
            .map(Arc::clone)
            .collect();
        for table in tables {
            let mut new = TableDesc::clone(&table);
            for column in new
                .columns
                .iter_mut()
                .filter(|c| c.sequence == Some(sequence))
            {
                column.sequence = None;
                column.default = None;
            }
            self.change.put_table(new)?;
        }
        Ok(())
    }

    fn drop_schema(&mut self, name: &Name, if_exists: bool, cascade: bool) -> Result<(), SqlError> {
        let shown = names::parts(name).join(".");
        let Some(schema) = self.catalog().schema_named(&shown) else {
            let message = format!("schema \"{shown}\" does not exist");
            if if_exists {
                self.notice(
                    SqlState::SUCCESSFUL_COMPLETION,
                    format!("{message}, skipping"),
                );
                return Ok(());
            }
            return Err(SqlError::new(SqlState::INVALID_SCHEMA_NAME, message));
        };
        if matches!(schema, PG_CATALOG | INFORMATION_SCHEMA | PONTOON_INTERNAL) {
            return Err(SqlError::new(
                SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
                format!("cannot drop schema {shown} because it is required by the database system"),
            ));
        }
        let inside: Vec<Relation> = self
            .catalog()
            .tables
            .values()
            .filter(|t| t.schema == schema)
            .filter_map(|t| self.catalog().relation(t.oid))
            .chain(
                self.catalog()
                    .sequences
                    .values()
                    .filter(|s| s.schema == schema && s.owned_by.is_none())
                    .map(|s| Relation::Sequence(Arc::clone(s))),
            )
            .collect();
        let (lines, views) = self.dependents(&inside);
        let own: Vec<String> = inside
            .iter()
            .map(|r| format!("{} {}", r.word(), self.shown(r)))
            .collect();
        if !inside.is_empty() && !cascade {
            let mut details: Vec<String> = own
                .iter()
                .map(|what| format!("{what} depends on schema {shown}"))
                .collect();
            details.extend(
                lines
                    .iter()
                    .map(|(what, on)| format!("{what} depends on {on}")),
            );
            return Err(SqlError::new(
                SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
                format!("cannot drop schema {shown} because other objects depend on it"),
            )
            .with_detail(details.join("\n"))
            .with_hint(CASCADE_HINT));
        }
        self.cascade_notice(
            own.into_iter()
                .chain(lines.into_iter().map(|(w, _)| w))
                .collect(),
        );
        for oid in views.into_iter().chain(inside.iter().map(Relation::oid)) {
            self.remove_relation(oid)?;
        }
        self.change.remove_schema(schema)
    }
}
