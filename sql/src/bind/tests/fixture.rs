//! A catalog in memory that follows simple DDL.

use std::sync::Arc;

use crate::bind::tree::{BoundStatement, ColId, Column};
use crate::bind::{BindContext, Binder, StoredKind, canonical, resolve_type};
use crate::catalog::desc::{
    CatalogSnapshot, ColumnDesc, INFORMATION_SCHEMA, Identity, IndexColumn, IndexDesc, IndexKind,
    PG_CATALOG, PUBLIC, RelationKind, SchemaDesc, SequenceDesc, TableDesc,
};
use crate::error::{SqlError, SqlState};
use crate::parse::statement::{
    AlterAction, ConstraintKind, CopySubject, CreateTable, CreateView, Name, ObjectKind, Statement,
    TableElement,
};
use crate::types::testing::Fixed;
use crate::types::{Oid, PgType};

/// Every name of a relation is one sequence.
pub(crate) const NOWHERE: Fixed = Fixed {
    relation: Some((Oid(16_384), "t_id_seq")),
    ..Fixed::UTC
};

pub(crate) struct Fixture {
    pub(crate) catalog: CatalogSnapshot,
    path: Vec<String>,
    next: u32,
}

fn last(name: &Name) -> String {
    name.0
        .last()
        .and_then(|p| p.as_ident())
        .map_or_else(String::new, |i| i.value.clone())
}

impl Fixture {
    pub(crate) fn new(ddl: &str) -> Self {
        let mut catalog = CatalogSnapshot::default();
        for (oid, name) in [
            (PG_CATALOG, "pg_catalog"),
            (PUBLIC, "public"),
            (INFORMATION_SCHEMA, "information_schema"),
        ] {
            let schema = SchemaDesc {
                oid,
                name: name.to_owned(),
                owner: Oid(10),
                comment: None,
            };
            catalog.schemas.insert(oid, Arc::new(schema));
        }
        let mut out = Self {
            catalog,
            path: vec!["public".to_owned()],
            next: 16_384,
        };
        for statement in crate::parse::split(ddl).expect("fixture parses") {
            out.run(&statement.statement).expect("fixture binds");
        }
        out
    }

    pub(crate) fn context(&self) -> BindContext<'_> {
        BindContext {
            catalog: &self.catalog,
            search_path: &self.path,
            params: &[],
            eval: &NOWHERE,
            virtual_table: crate::pg_catalog::find,
        }
    }

    /// Binds the one statement of a text.
    pub(crate) fn bind(&self, sql: &str) -> Result<BoundStatement, SqlError> {
        let parsed = crate::parse::split(sql)?;
        let first = parsed.first().ok_or_else(|| SqlError::internal("empty"))?;
        let cx = self.context();
        let mut binder = Binder::new(&cx);
        let out = binder.statement(&first.statement)?;
        binder.parameter_types()?;
        Ok(out)
    }

    fn schema_of(&self, name: &Name) -> Oid {
        let parts: Vec<_> = name.0.iter().filter_map(|p| p.as_ident()).collect();
        match parts.as_slice() {
            [s, _] => self.catalog.schema_named(&s.value).unwrap_or(PUBLIC),
            _ => PUBLIC,
        }
    }

    fn oid(&mut self) -> Oid {
        self.next += 1;
        Oid(self.next)
    }

    /// Binds a query or write; follows DDL.
    pub(crate) fn run(&mut self, s: &Statement) -> Result<(), SqlError> {
        match s {
            Statement::Query(_)
            | Statement::Insert(_)
            | Statement::Update(_)
            | Statement::Delete(_) => {
                let cx = self.context();
                let mut binder = Binder::new(&cx);
                binder.statement(s)?;
                binder.parameter_types()?;
                Ok(())
            }
            Statement::CreateTable(c) => self.create_table(c),
            Statement::CreateTableAs(c) => {
                let cx = self.context();
                let bound = Binder::new(&cx).query(&c.query)?;
                let columns: Vec<(String, PgType)> = bound
                    .columns
                    .iter()
                    .enumerate()
                    .map(|(i, col)| match c.columns.get(i) {
                        Some(n) => (n.value.clone(), col.ty),
                        None => (col.name.to_string(), col.ty),
                    })
                    .collect();
                self.add(&c.name, RelationKind::Table, columns, None)
            }
            Statement::CreateView(v) => self.create_view(v),
            Statement::CreateSequence(q) => {
                let oid = self.oid();
                let name = last(&q.name);
                self.catalog.names.insert((PUBLIC, name.clone()), oid);
                let desc = SequenceDesc {
                    oid,
                    name,
                    schema: PUBLIC,
                    schema_name: "public".into(),
                    ty: Oid::INT8,
                    start: 1,
                    increment: 1,
                    min: 1,
                    max: i64::MAX,
                    cache: 1,
                    cycle: false,
                    owned_by: None,
                    owner: Oid(10),
                    storage: oid.0,
                    comment: None,
                };
                self.catalog.sequences.insert(oid, Arc::new(desc));
                Ok(())
            }
            Statement::CreateSchema(c) => {
                let oid = self.oid();
                let name = c.name.clone();
                let schema = SchemaDesc {
                    oid,
                    name,
                    owner: Oid(10),
                    comment: None,
                };
                self.catalog.schemas.insert(oid, Arc::new(schema));
                Ok(())
            }
            Statement::Drop(d) if d.kind != ObjectKind::Schema => {
                for n in &d.names {
                    if let Some(oid) = self.catalog.names.remove(&(self.schema_of(n), last(n))) {
                        self.catalog.tables.remove(&oid);
                        self.catalog.sequences.remove(&oid);
                    }
                }
                Ok(())
            }
            Statement::AlterTable(a) => {
                for action in &a.actions {
                    self.alter(self.schema_of(&a.name), &last(&a.name), action)?;
                }
                Ok(())
            }
            Statement::Explain(e) => self.run(&e.statement),
            Statement::Copy(c) => match &c.subject {
                CopySubject::Query(q) => self.run(q),
                CopySubject::Table(..) => Ok(()),
            },
            Statement::Declare(d) => {
                let cx = self.context();
                Binder::new(&cx).query(&d.query).map(|_| ())
            }
            Statement::Unsupported(what) => Err(SqlError::unsupported(what)),
            _ => Ok(()),
        }
    }

    fn alter(&mut self, schema: Oid, table: &str, action: &AlterAction) -> Result<(), SqlError> {
        let Some(oid) = self.catalog.names.get(&(schema, table.to_owned())).copied() else {
            return Err(SqlError::new(SqlState::UNDEFINED_TABLE, "no such table"));
        };
        let Some(desc) = self.catalog.tables.get(&oid) else {
            return Ok(());
        };
        let mut desc = (**desc).clone();
        match action {
            AlterAction::AddColumn { column, .. } => {
                let n = i16::try_from(desc.columns.len()).unwrap_or(0) + 1;
                desc.columns.push(plain_column(
                    n,
                    &column.name.value,
                    resolve_type(&column.ty)?,
                ));
            }
            AlterAction::DropColumn { name, .. } => {
                for c in &mut desc.columns {
                    if c.name == name.value {
                        c.dropped = true;
                    }
                }
            }
            AlterAction::RenameColumn(from, to) => {
                for c in &mut desc.columns {
                    if c.name == from.value {
                        c.name.clone_from(&to.value);
                    }
                }
            }
            AlterAction::SetType { name, ty, .. } => {
                for c in &mut desc.columns {
                    if c.name == name.value {
                        c.ty = resolve_type(ty)?;
                    }
                }
            }
            AlterAction::Rename(to) => {
                self.catalog.names.remove(&(schema, table.to_owned()));
                self.catalog.names.insert((schema, to.value.clone()), oid);
                desc.name.clone_from(&to.value);
            }
            _ => {}
        }
        self.catalog.tables.insert(oid, Arc::new(desc));
        Ok(())
    }

    fn create_view(&mut self, v: &CreateView) -> Result<(), SqlError> {
        let cx = self.context();
        let bound = Binder::new(&cx).query(&v.query)?;
        let columns = bound
            .columns
            .iter()
            .enumerate()
            .map(|(i, c)| match v.columns.get(i) {
                Some(n) => (n.value.clone(), c.ty),
                None => (c.name.to_string(), c.ty),
            })
            .collect();
        self.add(
            &v.name,
            RelationKind::View,
            columns,
            Some(v.query_text.clone()),
        )
    }

    fn add(
        &mut self,
        name: &Name,
        kind: RelationKind,
        columns: Vec<(String, PgType)>,
        view: Option<String>,
    ) -> Result<(), SqlError> {
        let oid = self.oid();
        let schema = self.schema_of(name);
        let schema_name = self
            .catalog
            .schemas
            .get(&schema)
            .map_or_else(String::new, |s| s.name.clone());
        let name = last(name);
        let mut columns: Vec<ColumnDesc> = columns
            .into_iter()
            .enumerate()
            .map(|(i, (n, t))| plain_column(i16::try_from(i).unwrap_or(0) + 1, &n, t))
            .collect();
        let mut storage_key = Vec::new();
        if kind == RelationKind::Table {
            storage_key.push(columns.len());
            columns.push(plain_column(0, "row_id", PgType::new(Oid::INT8)));
        }
        self.catalog.names.insert((schema, name.clone()), oid);
        let desc = TableDesc {
            oid,
            name,
            schema,
            schema_name,
            kind,
            version: 1,
            columns,
            storage_key,
            storage: oid.0,
            indexes: Vec::new(),
            next_index: 2,
            checks: Vec::new(),
            owner: Oid(10),
            view,
            depends: Default::default(),
            options: Default::default(),
            comment: None,
        };
        self.catalog.tables.insert(oid, Arc::new(desc));
        Ok(())
    }

    fn create_table(&mut self, c: &CreateTable) -> Result<(), SqlError> {
        let mut columns = Vec::new();
        let mut keys: Vec<(IndexKind, Vec<String>, Option<String>)> = Vec::new();
        let mut defaults = Vec::new();
        let mut unsupported = None;
        let mut constraint = |k: &ConstraintKind, name: Option<String>| match k {
            ConstraintKind::PrimaryKey { columns, .. } => keys.push((
                IndexKind::Primary,
                columns.iter().map(|i| i.value.clone()).collect(),
                name,
            )),
            ConstraintKind::Unique { columns, .. } => keys.push((
                IndexKind::UniqueConstraint,
                columns.iter().map(|i| i.value.clone()).collect(),
                name,
            )),
            ConstraintKind::ForeignKey { .. } | ConstraintKind::Check(_) => {}
            ConstraintKind::Exclude | ConstraintKind::UsingIndex { .. } => {
                unsupported = Some("EXCLUDE");
            }
        };
        for e in &c.elements {
            match e {
                TableElement::Column(col) => {
                    let ty = resolve_type(&col.ty)?;
                    let n = i16::try_from(columns.len()).unwrap_or(0) + 1;
                    let mut desc = plain_column(n, &col.name.value, ty);
                    if let Some(i) = &col.identity {
                        desc.identity = Some(if i.always {
                            Identity::Always
                        } else {
                            Identity::ByDefault
                        });
                        desc.sequence = Some(Oid(99_999));
                    }
                    if col.serial {
                        desc.default = Some("nextval('t_id_seq'::regclass)".into());
                    }
                    desc.not_null = col.not_null == Some(true);
                    columns.push(desc);
                    if col.default.is_some() || col.generated.is_some() {
                        defaults.push((columns.len() - 1, col.clone()));
                    }
                    for k in &col.constraints {
                        constraint(&k.kind, k.name.as_ref().map(|i| i.value.clone()));
                    }
                }
                TableElement::Constraint(k) => {
                    constraint(&k.kind, k.name.as_ref().map(|i| i.value.clone()));
                }
                TableElement::Like(_) => {}
            }
        }
        if let Some(what) = unsupported {
            return Err(SqlError::unsupported(what));
        }
        let numbered: Vec<Column> = columns
            .iter()
            .enumerate()
            .map(|(i, d)| Column {
                id: ColId(u32::try_from(i).unwrap_or(0)),
                name: Arc::from(d.name.as_str()),
                ty: d.ty,
            })
            .collect();
        let table = last(&c.name);
        for (i, def) in defaults {
            let cx = self.context();
            let Some(desc) = columns.get_mut(i) else {
                continue;
            };
            if let Some(e) = &def.default {
                let kind = StoredKind::Default(desc.ty);
                desc.default = Some(canonical(&cx, e, kind, &table, &numbered)?.1);
            }
            if let Some(e) = &def.generated {
                let kind = StoredKind::Generated(desc.ty);
                desc.generated = Some(canonical(&cx, e, kind, &table, &numbered)?.1);
            }
        }
        let pairs = columns.iter().map(|d| (d.name.clone(), d.ty)).collect();
        self.add(&c.name, RelationKind::Table, pairs, None)?;
        let schema = self.schema_of(&c.name);
        let Some(oid) = self.catalog.names.get(&(schema, table.clone())).copied() else {
            return Ok(());
        };
        let Some(old) = self.catalog.tables.get(&oid) else {
            return Ok(());
        };
        let mut desc = (**old).clone();
        for (slot, new) in desc.columns.iter_mut().zip(columns) {
            *slot = new;
        }
        for (n, (kind, names, name)) in keys.into_iter().enumerate() {
            let key = names
                .iter()
                .filter_map(|n| desc.columns.iter().position(|c| c.name == *n))
                .map(|column| IndexColumn {
                    column,
                    descending: false,
                    nulls_first: false,
                })
                .collect();
            desc.indexes.push(Arc::new(IndexDesc {
                oid: Oid(oid.0 + 1_000_000),
                id: u32::try_from(n).unwrap_or(0) + 1,
                name: name.unwrap_or_else(|| {
                    if kind == IndexKind::Primary {
                        format!("{table}_pkey")
                    } else {
                        format!("{table}_{}_key", names.join("_"))
                    }
                }),
                columns: key,
                kind,
                constraint: Some(Oid(1)),
                nulls_not_distinct: false,
                include: Vec::new(),
                comment: None,
            }));
        }
        self.catalog.tables.insert(oid, Arc::new(desc));
        Ok(())
    }
}

fn plain_column(attnum: i16, name: &str, ty: PgType) -> ColumnDesc {
    ColumnDesc {
        attnum,
        name: name.to_owned(),
        ty,
        not_null: false,
        default: None,
        generated: None,
        identity: None,
        sequence: None,
        dropped: false,
        missing: None,
        comment: None,
    }
}
