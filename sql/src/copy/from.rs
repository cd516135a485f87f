//! COPY ... FROM STDIN, and the statement COPY itself.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::decode::{BinaryDecoder, Decoder, Record, Tuple};
use super::options::{CopyFormat, CopyOptions, Header};
use super::to::CopyOut;
use crate::bind::tree::{ColId, Column, Expr};
use crate::bind::{BindContext, Binder};
use crate::catalog::desc::{CatalogSnapshot, Relation, TableDesc};
use crate::ddl::{column_default, names};
use crate::error::{SqlError, SqlState};
use crate::exec::{self, ExecContext, interp};
use crate::parse::Statement;
use crate::parse::statement::{Copy, CopySubject, Name};
use crate::session::Session;
use crate::session::api::{CopySink, Outcome};
use crate::session::cancel::Bounds;
use crate::session::engine::virtual_table;
use crate::session::run::Runner;
use crate::session::{Work, read_only};
use crate::types::{Datum, io, typmod};

/// Rows inserted at once.
const BATCH_ROWS: usize = 1_000;
/// Longest text of a line in a message.
const SHOWN_BYTES_MAX: usize = 100;

/// Receives COPY data.
struct CopyIn {
    table: Arc<TableDesc>,
    /// Positions of the columns that the data has, in its order.
    columns: Vec<usize>,
    /// Values of the other columns.
    defaults: Vec<(usize, Expr)>,
    /// Generated columns.
    generated: Vec<(usize, Expr)>,
    filter: Option<Expr>,
    options: CopyOptions,
    context: ExecContext,
    bounds: Bounds,
    decoder: Decoder,
    binary: BinaryDecoder,
    header_seen: bool,
    /// Lines (number and text) and rows that wait for their insertion.
    lines: Vec<(u64, String)>,
    rows: Vec<Vec<Datum>>,
    tuples: u64,
    count: u64,
}

/// A row by position in the descriptor.
struct Positions<'a>(&'a [Datum]);

impl interp::Row for Positions<'_> {
    fn column(&self, id: ColId) -> Option<Datum> {
        self.0.get(id.0 as usize).cloned()
    }
}

fn shown(text: &str) -> String {
    let mut end = SHOWN_BYTES_MAX.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let head = text.get(..end).unwrap_or_default();
    if end < text.len() {
        format!("{head}...")
    } else {
        head.to_owned()
    }
}

fn bad(message: impl Into<std::borrow::Cow<'static, str>>) -> SqlError {
    SqlError::new(SqlState::BAD_COPY_FILE_FORMAT, message)
}

impl CopyIn {
    fn name(&self, position: usize) -> &str {
        self.table
            .columns
            .get(position)
            .map_or("", |c| c.name.as_str())
    }

    fn header(&self, record: &Record) -> Result<(), SqlError> {
        if self.options.header != Header::Match {
            return Ok(());
        }
        let context = |e: SqlError| {
            e.with_context(format!(
                "COPY {}, line 1: \"{}\"",
                self.table.name,
                shown(&record.raw)
            ))
        };
        if record.fields.len() != self.columns.len() {
            return Err(context(bad(format!(
                "wrong number of fields in header line: got {}, expected {}",
                record.fields.len(),
                self.columns.len()
            ))));
        }
        for (i, (field, position)) in record.fields.iter().zip(&self.columns).enumerate() {
            let expected = self.name(*position);
            if field.as_deref() != Some(expected) {
                let got = match field {
                    Some(text) => format!("\"{text}\""),
                    None => format!("null value (\"{}\")", self.options.null),
                };
                return Err(context(bad(format!(
                    "column name mismatch in header line field {}: got {got}, expected \
                     \"{expected}\"",
                    i + 1
                ))));
            }
        }
        Ok(())
    }

    fn record(&mut self, record: Record) -> Result<(), SqlError> {
        if self.options.header != Header::No && !std::mem::replace(&mut self.header_seen, true) {
            return self.header(&record);
        }
        let at_line = |e: SqlError| {
            e.with_context(format!(
                "COPY {}, line {}: \"{}\"",
                self.table.name,
                record.line,
                shown(&record.raw)
            ))
        };
        if record.fields.len() > self.columns.len() {
            return Err(at_line(bad("extra data after last expected column")));
        }
        if let Some(position) = self.columns.get(record.fields.len()) {
            let message = format!("missing data for column \"{}\"", self.name(*position));
            return Err(at_line(bad(message)));
        }
        let mut row = vec![Datum::Null; self.table.columns.len()];
        for (i, (field, position)) in record.fields.iter().zip(&self.columns).enumerate() {
            let Some(column) = self.table.columns.get(*position) else {
                continue;
            };
            let quoted = record.quoted.get(i).copied().unwrap_or(false);
            let text = match field {
                None if self.options.force_not_null.has(&column.name) => {
                    Some(self.options.null.as_str())
                }
                Some(text)
                    if quoted
                        && *text == self.options.null
                        && self.options.force_null.has(&column.name) =>
                {
                    None
                }
                other => other.as_deref(),
            };
            let Some(text) = text else { continue };
            let value = io::input(text, column.ty, self.context.eval.as_ref())
                .and_then(|v| typmod::apply(v, column.ty, false))
                .map_err(|e| {
                    e.with_context(format!(
                        "COPY {}, line {}, column {}: \"{}\"",
                        self.table.name,
                        record.line,
                        column.name,
                        shown(text)
                    ))
                })?;
            if let Some(place) = row.get_mut(*position) {
                *place = value;
            }
        }
        self.complete(row, record.line, record.raw)
    }

    fn tuple(&mut self, tuple: Tuple) -> Result<(), SqlError> {
        self.tuples += 1;
        let line = self.tuples;
        if tuple.len() != self.columns.len() {
            return Err(bad(format!(
                "row field count is {}, expected {}",
                tuple.len(),
                self.columns.len()
            ))
            .with_context(format!("COPY {}, line {line}", self.table.name)));
        }
        let mut row = vec![Datum::Null; self.table.columns.len()];
        for (bytes, position) in tuple.iter().zip(&self.columns) {
            let (Some(bytes), Some(column)) = (bytes, self.table.columns.get(*position)) else {
                continue;
            };
            let value = io::receive(bytes, column.ty.oid, self.context.eval.as_ref())
                .and_then(|v| typmod::apply(v, column.ty, false))
                .map_err(|e| {
                    e.with_context(format!(
                        "COPY {}, line {line}, column {}",
                        self.table.name, column.name
                    ))
                })?;
            if let Some(place) = row.get_mut(*position) {
                *place = value;
            }
        }
        self.complete(row, line, String::new())
    }

    /// Adds defaults and generated values and puts the row among those that wait.
    fn complete(&mut self, mut row: Vec<Datum>, line: u64, raw: String) -> Result<(), SqlError> {
        let eval = self.context.eval.as_ref();
        for (position, expr) in &self.defaults {
            let value = interp::eval(expr, &interp::NoRow, eval, &[])?;
            if let Some(place) = row.get_mut(*position) {
                *place = value;
            }
        }
        for (position, expr) in &self.generated {
            let value = interp::eval(expr, &Positions(&row), eval, &[])?;
            if let Some(place) = row.get_mut(*position) {
                *place = value;
            }
        }
        if let Some(filter) = &self.filter
            && !interp::holds(filter, &Positions(&row), eval, &[])?
        {
            return Ok(());
        }
        let live = self
            .table
            .live_columns()
            .map(|(p, _)| row.get(p).cloned().unwrap_or_default());
        self.rows.push(live.collect());
        self.lines.push((line, raw));
        Ok(())
    }

    async fn insert(&mut self, rows: Vec<Vec<Datum>>) -> Result<u64, SqlError> {
        loop {
            let attempt = exec::insert_rows(&self.table, rows.clone(), &self.context);
            match self.bounds.run(Box::pin(attempt)).await {
                // Nothing was written: the transaction moved on, the rows are the same.
                Err(error) if exec::is_rerun(&error) => {}
                other => return other,
            }
        }
    }

    async fn flush(&mut self) -> Result<(), SqlError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let rows = std::mem::take(&mut self.rows);
        let lines = std::mem::take(&mut self.lines);
        match self.insert(rows.clone()).await {
            Ok(count) => {
                self.count += count;
                Ok(())
            }
            Err(error) if error.context.is_some() => Err(error),
            Err(error) if !is_of_a_row(&error) => {
                // Some of the rows may be written by now, so looking for one would find others.
                let last = lines.last().map_or(0, |(line, _)| *line);
                Err(error.with_context(format!("COPY {}, line {last}", self.table.name)))
            }
            Err(error) => {
                // The transaction fails in any case; find the row for the message.
                for (row, (line, raw)) in rows.into_iter().zip(lines) {
                    if let Err(found) = self.insert(vec![row]).await {
                        let name = &self.table.name;
                        return Err(found.with_context(if raw.is_empty() {
                            format!("COPY {name}, line {line}")
                        } else {
                            format!("COPY {name}, line {line}: \"{}\"", shown(&raw))
                        }));
                    }
                }
                Err(error)
            }
        }
    }

    async fn take(&mut self, piece: Option<&[u8]>) -> Result<(), SqlError> {
        self.bounds.check()?;
        if self.options.format == CopyFormat::Binary {
            let mut tuples = Vec::new();
            match piece {
                Some(piece) => self.binary.push(piece, &mut tuples)?,
                None => self.binary.finish()?,
            }
            for tuple in tuples {
                self.tuple(tuple)?;
                if self.rows.len() >= BATCH_ROWS {
                    self.flush().await?;
                }
            }
        } else {
            let mut records = Vec::new();
            let decoded = match piece {
                Some(piece) => self.decoder.push(piece, &mut records),
                None => self.decoder.finish(&mut records),
            };
            for record in records {
                self.record(record)?;
                if self.rows.len() >= BATCH_ROWS {
                    self.flush().await?;
                }
            }
            let line = self.decoder.line();
            decoded
                .map_err(|e| e.with_context(format!("COPY {}, line {line}", self.table.name)))?;
        }
        if piece.is_none() {
            self.flush().await?;
        }
        Ok(())
    }
}

/// Whether an error lies with the values of a row: those of classes 22 and 23.
fn is_of_a_row(error: &SqlError) -> bool {
    error.state.0.starts_with(b"22") || error.state.0.starts_with(b"23")
}

impl CopySink for CopyIn {
    fn shape(&self) -> (usize, bool) {
        (
            self.columns.len(),
            self.options.format == CopyFormat::Binary,
        )
    }

    fn data<'a>(&'a mut self, piece: &'a [u8]) -> BoxFuture<'a, Result<(), SqlError>> {
        Box::pin(self.take(Some(piece)))
    }

    fn done(mut self: Box<Self>) -> BoxFuture<'static, Result<String, SqlError>> {
        Box::pin(async move {
            self.take(None).await?;
            Ok(format!("COPY {}", self.count))
        })
    }
}

/// Positions of the columns that a COPY names.
fn copy_columns(
    table: &TableDesc,
    names: &[sqlparser::ast::Ident],
) -> Result<Vec<usize>, SqlError> {
    if names.is_empty() {
        let plain = table.live_columns().filter(|(_, c)| c.generated.is_none());
        return Ok(plain.map(|(p, _)| p).collect());
    }
    let mut positions = Vec::with_capacity(names.len());
    for name in names {
        let Some((position, column)) = table.live_columns().find(|(_, c)| c.name == name.value)
        else {
            return Err(SqlError::new(
                SqlState::UNDEFINED_COLUMN,
                format!(
                    "column \"{}\" of relation \"{}\" does not exist",
                    name.value, table.name
                ),
            ));
        };
        if column.generated.is_some() {
            return Err(SqlError::new(
                SqlState::INVALID_COLUMN_REFERENCE,
                format!("column \"{}\" is a generated column", column.name),
            )
            .with_detail("Generated columns cannot be used in COPY."));
        }
        if positions.contains(&position) {
            return Err(SqlError::new(
                SqlState::DUPLICATE_COLUMN,
                format!("column \"{}\" specified more than once", column.name),
            ));
        }
        positions.push(position);
    }
    Ok(positions)
}

impl Session {
    /// COPY.
    pub(crate) async fn copy(&mut self, copy: &Copy, alone: bool) -> Result<Outcome, SqlError> {
        if copy.file.is_some() {
            return Err(
                SqlError::unsupported("COPY with a file of the server").with_hint(
                    "Use COPY FROM STDIN or COPY TO STDOUT; psql's \\copy does it for you.",
                ),
            );
        }
        let options = CopyOptions::read(&copy.options, copy.from)?;
        match &copy.subject {
            CopySubject::Query(statement) => self.copy_out(statement, options, alone).await,
            CopySubject::Table(name, columns) if copy.from => {
                self.copy_in(name, columns, options, copy.filter.as_ref())
                    .await
            }
            CopySubject::Table(name, columns) => {
                let (runner, catalog) = self.catalog_now().await?;
                let table = copied_table(&catalog, &runner, name, "from")?;
                let positions = copy_columns(&table, columns)?;
                let list: Vec<String> = positions
                    .iter()
                    .filter_map(|p| table.columns.get(*p))
                    .map(|c| names::quote(&c.name))
                    .collect();
                let sql = format!(
                    "SELECT {} FROM {}",
                    list.join(", "),
                    names::quoted(&table.schema_name, &table.name)
                );
                let mut parsed = crate::parse::split(&sql)?;
                let Some(parsed) = parsed.pop() else {
                    return Err(SqlError::internal("empty internal statement"));
                };
                self.copy_out(&parsed.statement, options, alone).await
            }
        }
    }

    async fn copy_out(
        &mut self,
        statement: &Statement,
        options: CopyOptions,
        alone: bool,
    ) -> Result<Outcome, SqlError> {
        let outcome = self
            .run_bound(&Work::Fresh(statement), Arc::from([]), alone)
            .await?;
        let Outcome::Rows {
            columns, source, ..
        } = outcome
        else {
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "COPY query must have a RETURNING clause",
            ));
        };
        Ok(Outcome::CopyOut(Box::new(CopyOut {
            source,
            columns,
            options,
            eval: self.output_context(),
            count: 0,
            begun: false,
            ended: false,
        })))
    }

    async fn copy_in(
        &mut self,
        name: &Name,
        columns: &[sqlparser::ast::Ident],
        options: CopyOptions,
        filter: Option<&sqlparser::ast::Expr>,
    ) -> Result<Outcome, SqlError> {
        let (txn, catalog) = self.begin_work().await?;
        let runner = self.runner(txn);
        if runner.read_only {
            return Err(read_only("COPY FROM"));
        }
        let table = copied_table(&catalog, &runner, name, "to")?;
        let positions = copy_columns(&table, columns)?;
        let eval = runner.eval(&catalog);
        let path = Arc::clone(&runner.values.search_path);
        let visible: Vec<Column> = table
            .live_columns()
            .map(|(position, c)| Column {
                id: ColId(u32::try_from(position).unwrap_or(u32::MAX)),
                name: Arc::from(c.name.as_str()),
                ty: c.ty,
            })
            .collect();
        let over = |expr: &sqlparser::ast::Expr, clause: &'static str| {
            let cx = BindContext {
                catalog: &catalog,
                search_path: &path,
                params: &[],
                eval: eval.as_ref(),
                virtual_table,
            };
            Binder::new(&cx).over_columns(expr, &table.name, &visible, clause)
        };
        let (mut defaults, mut generated) = (Vec::new(), Vec::new());
        for (position, column) in table.live_columns() {
            if let Some(text) = &column.generated {
                let expr = crate::parse::expression(text)?;
                generated.push((position, over(&expr, "column generation expressions")?));
            } else if !positions.contains(&position)
                && let Some(default) = column_default(&catalog, &path, eval.as_ref(), column)?
            {
                defaults.push((position, default));
            }
        }
        let filter = match filter {
            Some(expr) => Some(over(expr, "COPY FROM WHERE conditions")?),
            None => None,
        };
        let context = runner.context(&catalog, Arc::from([]));
        self.shared.engine.catalog.hold(&context.txn);
        self.transaction().statements += 1;
        Ok(Outcome::CopyIn(Box::new(CopyIn {
            columns: positions,
            defaults,
            generated,
            filter,
            decoder: Decoder::new(&options),
            binary: BinaryDecoder::default(),
            options,
            context,
            bounds: runner.bounds.clone(),
            header_seen: false,
            lines: Vec::new(),
            rows: Vec::new(),
            tuples: 0,
            count: 0,
            table,
        })))
    }
}

fn copied_table(
    catalog: &CatalogSnapshot,
    runner: &Runner,
    name: &Name,
    direction: &str,
) -> Result<Arc<TableDesc>, SqlError> {
    let (schema, relation) = names::split(name)?;
    match names::find(
        catalog,
        &runner.values.search_path,
        schema.as_deref(),
        &relation,
    ) {
        Some(Relation::Table(table)) => Ok(table),
        Some(other) => {
            let error = SqlError::new(
                SqlState::WRONG_OBJECT_TYPE,
                format!(
                    "cannot copy {direction} {} \"{}\"",
                    other.word(),
                    other.name()
                ),
            );
            Err(match (&other, direction) {
                (Relation::View(_), "from") => {
                    error.with_hint("Try the COPY (SELECT ...) TO variant.")
                }
                _ => error,
            })
        }
        None => Err(names::missing(
            catalog,
            "relation",
            schema.as_deref(),
            &relation,
        )),
    }
}
