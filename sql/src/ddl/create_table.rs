//! CREATE TABLE.

use sqlparser::ast;

use super::execute::Ddl;
use super::expression::nextval;
use super::{names, options};
use crate::bind::resolve_type;
use crate::bind::tree::OutputColumn;
use crate::catalog::cache::POSTGRES_ROLE;
use crate::catalog::desc::{ColumnDesc, Identity, RelationKind, TableDesc};
use crate::error::{SqlError, SqlState};
use crate::parse::statement::{
    ColumnDef, Constraint, CreateTable, IdentityDef, LikeClause, SequenceOptions, TableElement,
};
use crate::types::registry::registry;
use crate::types::{Oid, PgType, format_type};

/// Columns that a table may have.
const COLUMNS_MAX: usize = 1_600;
/// Names of PostgreSQL's system columns.
const SYSTEM_COLUMNS: &[&str] = &["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"];

/// A sequence that a new column wants.
pub(crate) struct WantedSequence {
    pub(crate) column: usize,
    pub(crate) options: SequenceOptions,
    pub(crate) ty: Oid,
    pub(crate) identity: Option<Identity>,
}

/// `42701` for a name that is there already.
pub(crate) fn check_column_name(columns: &[ColumnDesc], name: &ast::Ident) -> Result<(), SqlError> {
    if columns
        .iter()
        .any(|c| !c.dropped && c.attnum != 0 && c.name == name.value)
    {
        return Err(SqlError::new(
            SqlState::DUPLICATE_COLUMN,
            format!("column \"{}\" specified more than once", name.value),
        ));
    }
    if SYSTEM_COLUMNS.contains(&name.value.as_str()) {
        return Err(SqlError::new(
            SqlState::DUPLICATE_COLUMN,
            format!(
                "column name \"{}\" conflicts with a system column name",
                name.value
            ),
        ));
    }
    Ok(())
}

/// Refuses types that no column can have.
pub(crate) fn check_column_type(name: &str, ty: PgType) -> Result<(), SqlError> {
    let info = registry().type_info(ty.oid);
    if info.is_none_or(|i| i.kind == 'p') {
        return Err(SqlError::new(
            SqlState::INVALID_TABLE_DEFINITION,
            format!("column \"{name}\" has pseudo-type {}", format_type(ty)),
        ));
    }
    if crate::table::Stored::of(ty.oid).is_none() {
        return Err(SqlError::unsupported(format!(
            "a column of type {}",
            format_type(ty)
        )));
    }
    Ok(())
}

/// The hidden key of tables without a primary key.
pub(crate) fn row_id_column() -> ColumnDesc {
    ColumnDesc {
        not_null: true,
        ..ColumnDesc::plain(0, "row id", PgType::new(Oid::INT8))
    }
}

/// The columns of a table or view that is made of a query; `names` go before the query's own.
pub(crate) fn query_columns(
    output: &[OutputColumn],
    names: &[ast::Ident],
    kind: RelationKind,
) -> Result<Vec<ColumnDesc>, SqlError> {
    let mut columns: Vec<ColumnDesc> = Vec::with_capacity(output.len() + 1);
    for (i, shown) in output.iter().enumerate() {
        let name = names
            .get(i)
            .map_or_else(|| shown.name.to_string(), |ident| ident.value.clone());
        let ty = if shown.ty.oid == Oid::UNKNOWN {
            PgType::new(Oid::TEXT)
        } else {
            shown.ty
        };
        if kind == RelationKind::Table {
            check_column_type(&name, ty)?;
        }
        if columns.iter().any(|c| c.name == name) {
            return Err(SqlError::new(
                SqlState::DUPLICATE_COLUMN,
                format!("column \"{name}\" specified more than once"),
            ));
        }
        let attnum = i16::try_from(i + 1).map_err(|_| {
            let what = match kind {
                RelationKind::Table => "tables",
                RelationKind::View => "views",
            };
            SqlError::new(
                SqlState::TOO_MANY_COLUMNS,
                format!("{what} can have at most 1600 columns"),
            )
        })?;
        columns.push(ColumnDesc::plain(attnum, name, ty));
    }
    Ok(columns)
}

impl Ddl {
    pub(crate) async fn create_table(
        &mut self,
        create: &CreateTable,
    ) -> Result<&'static str, SqlError> {
        const TAG: &str = "CREATE TABLE";
        let (schema, schema_name, name) =
            names::creation(self.catalog(), self.search_path(), &create.name)?;
        if self.change.relation_in(schema, &name).is_some() {
            if create.if_not_exists {
                self.notice(
                    SqlState::DUPLICATE_TABLE,
                    format!("relation \"{name}\" already exists, skipping"),
                );
                return Ok(TAG);
            }
            self.change.check_free(schema, &name)?;
        }
        let oid = self.new_oid().await?;
        let mut table = TableDesc {
            oid,
            name,
            schema,
            schema_name,
            kind: RelationKind::Table,
            version: 0,
            columns: Vec::new(),
            storage_key: Vec::new(),
            storage: oid.0,
            indexes: Vec::new(),
            next_index: 2,
            checks: Vec::new(),
            owner: POSTGRES_ROLE,
            view: None,
            depends: Vec::new(),
            comment: None,
            options: options::of_new_table(&create.options)?,
        };
        let mut constraints: Vec<Constraint> = Vec::new();
        let mut wanted = Vec::new();
        let mut generated = Vec::new();
        for element in &create.elements {
            match element {
                TableElement::Column(def) => {
                    let position = table.columns.len();
                    let column = self
                        .new_column(&table.name, &table.columns, def, &mut wanted)
                        .await?;
                    table.columns.push(column);
                    if let Some(expr) = &def.generated {
                        generated.push((position, expr.clone()));
                    }
                    constraints.extend(def.constraints.iter().cloned());
                }
                TableElement::Constraint(constraint) => constraints.push(constraint.clone()),
                TableElement::Like(like) => {
                    self.like(&mut table, like, &mut wanted, &mut constraints)?;
                }
            }
        }
        if table.columns.len() > COLUMNS_MAX {
            return Err(SqlError::new(
                SqlState::TOO_MANY_COLUMNS,
                format!("tables can have at most {COLUMNS_MAX} columns"),
            ));
        }
        for (position, expr) in generated {
            let text = self.bind_generated(&expr, &table.name, position, &table.columns)?;
            if let Some(column) = table.columns.get_mut(position) {
                column.generated = Some(text);
            }
        }
        self.add_sequences(&mut table, wanted).await?;
        self.add_first_constraints(&mut table, &constraints).await?;
        let table = self.change.put_table(table)?;
        self.warn_of_places(&table);
        Ok(TAG)
    }

    /// A column from its definition. A sequence that it wants is left in `wanted`.
    pub(crate) async fn new_column(
        &mut self,
        table: &str,
        columns: &[ColumnDesc],
        def: &ColumnDef,
        wanted: &mut Vec<WantedSequence>,
    ) -> Result<ColumnDesc, SqlError> {
        let name = def.name.value.clone();
        check_column_name(columns, &def.name)?;
        let ty = resolve_type(&def.ty)?;
        check_column_type(&name, ty)?;
        if let Some(collation) = &def.collation {
            let last = names::parts(collation).pop().unwrap_or_default();
            if !matches!(last.as_str(), "C" | "POSIX" | "default" | "ucs_basic") {
                return Err(SqlError::unsupported(format!("collation \"{last}\"")));
            }
        }
        let is_identity = def.identity.is_some();
        let twice = |a: &str, b: &str| {
            SqlError::new(
                SqlState::SYNTAX_ERROR,
                format!("both {a} and {b} specified for column \"{name}\" of table \"{table}\""),
            )
        };
        match (
            def.default.is_some() || def.serial,
            is_identity,
            def.generated.is_some(),
        ) {
            (true, true, _) => return Err(twice("default", "identity")),
            (true, _, true) => return Err(twice("default", "generation expression")),
            (_, true, true) => return Err(twice("identity", "generation expression")),
            _ => {}
        }
        if def.not_null == Some(false) && (def.serial || is_identity) {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                format!(
                    "conflicting NULL/NOT NULL declarations for column \"{name}\" of table \
                     \"{table}\""
                ),
            ));
        }
        let default = match &def.default {
            Some(expr) => Some(self.bind_default(expr, &name, ty)?.0),
            None => None,
        };
        let default = default.filter(|text| !text.eq_ignore_ascii_case("null"));
        let identity = def.identity.as_ref().map(identity_of);
        if def.serial || is_identity {
            if !matches!(ty.oid, Oid::INT2 | Oid::INT4 | Oid::INT8) {
                return Err(SqlError::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    "identity column type must be smallint, integer, or bigint",
                ));
            }
            let options = def
                .identity
                .as_ref()
                .map_or_else(SequenceOptions::default, |i| i.options.clone());
            wanted.push(WantedSequence {
                column: columns.len(),
                options,
                ty: ty.oid,
                identity,
            });
        }
        let attnum = columns.iter().map(|c| c.attnum).max().unwrap_or(0);
        Ok(ColumnDesc {
            attnum: attnum.checked_add(1).ok_or_else(|| {
                SqlError::new(
                    SqlState::TOO_MANY_COLUMNS,
                    format!("tables can have at most {COLUMNS_MAX} columns"),
                )
            })?,
            name,
            ty,
            not_null: def.not_null == Some(true) || def.serial || is_identity,
            default,
            // Bound when all columns are known.
            generated: None,
            identity,
            sequence: None,
            dropped: false,
            missing: None,
            comment: None,
        })
    }

    /// Creates the sequences of new serial and identity columns.
    pub(crate) async fn add_sequences(
        &mut self,
        table: &mut TableDesc,
        wanted: Vec<WantedSequence>,
    ) -> Result<(), SqlError> {
        for want in wanted {
            let Some(column) = table.columns.get(want.column).map(|c| c.name.clone()) else {
                continue;
            };
            let name = match &want.options.name {
                Some(name) => names::split(name)?.1,
                None => names::choose_relation(
                    &self.change,
                    table.schema,
                    &table.name,
                    Some(&column),
                    "seq",
                    std::slice::from_ref(&table.name),
                ),
            };
            self.change.check_free(table.schema, &name)?;
            let mut sequence = self
                .new_sequence(
                    table.schema,
                    &table.schema_name,
                    &name,
                    want.ty,
                    &want.options,
                )
                .await?;
            sequence.owned_by = Some((table.oid, want.column));
            let oid = sequence.oid;
            if let Some(column) = table.columns.get_mut(want.column) {
                column.sequence = Some(oid);
                column.identity = want.identity;
                if want.identity.is_none() {
                    column.default = Some(nextval(&table.schema_name, &name));
                }
            }
            self.change.put_sequence(sequence)?;
        }
        Ok(())
    }

    /// LIKE.
    fn like(
        &mut self,
        table: &mut TableDesc,
        like: &LikeClause,
        wanted: &mut Vec<WantedSequence>,
        constraints: &mut Vec<Constraint>,
    ) -> Result<(), SqlError> {
        let source = self.table(&like.source)?;
        for (_, column) in source.live_columns() {
            check_column_name(&table.columns, &ast::Ident::new(column.name.clone()))?;
            let attnum = i16::try_from(table.columns.len() + 1).unwrap_or(i16::MAX);
            let mut copy = ColumnDesc {
                attnum,
                identity: None,
                sequence: None,
                missing: None,
                ..column.clone()
            };
            if !like.defaults {
                copy.default = None;
            }
            if !like.generated {
                copy.generated = None;
            }
            if !like.comments {
                copy.comment = None;
            }
            if like.identity
                && let Some(identity) = column.identity
            {
                wanted.push(WantedSequence {
                    column: table.columns.len(),
                    options: SequenceOptions::default(),
                    ty: column.ty.oid,
                    identity: Some(identity),
                });
            }
            table.columns.push(copy);
        }
        let ident = |name: &str| ast::Ident::with_quote('"', name);
        if like.constraints {
            for check in &source.checks {
                constraints.push(Constraint {
                    name: Some(ident(&check.name)),
                    kind: crate::parse::statement::ConstraintKind::Check(crate::parse::expression(
                        &check.expr,
                    )?),
                    not_valid: false,
                    options: Vec::new(),
                });
            }
        }
        if like.indexes {
            use crate::catalog::desc::IndexKind;
            use crate::parse::statement::ConstraintKind;
            let mut add = |kind| {
                constraints.push(Constraint {
                    name: None,
                    kind,
                    not_valid: false,
                    options: Vec::new(),
                });
            };
            for index in &source.indexes {
                let name = |p: &usize| source.columns.get(*p).map(|c| ident(&c.name));
                let columns = index
                    .columns
                    .iter()
                    .filter_map(|c| name(&c.column))
                    .collect();
                let include = index.include.iter().filter_map(name).collect();
                match index.kind {
                    IndexKind::Primary => add(ConstraintKind::PrimaryKey { columns, include }),
                    IndexKind::UniqueConstraint => add(ConstraintKind::Unique {
                        columns,
                        include,
                        nulls_not_distinct: index.nulls_not_distinct,
                    }),
                    IndexKind::Unique | IndexKind::Plain => {
                        return Err(SqlError::unsupported("LIKE INCLUDING INDEXES of an index"));
                    }
                }
            }
        }
        Ok(())
    }
}

fn identity_of(def: &IdentityDef) -> Identity {
    if def.always {
        Identity::Always
    } else {
        Identity::ByDefault
    }
}
