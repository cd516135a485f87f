//! NOT NULL and CHECK.

use std::sync::Arc;

use crate::bind::BindContext;
use crate::bind::expression_text;
use crate::bind::tree::{ColId, Column, Expr};
use crate::catalog::desc::TableDesc;
use crate::error::{SqlError, SqlState};
use crate::exec::context::{BoundCheck, ExecContext};
use crate::exec::interp::{Row, eval};
use crate::types::registry::EvalContext;
use crate::types::{Datum, io};

/// A row by position in the descriptor, whose columns have their position as number.
struct ByPosition<'a>(&'a [Datum]);

impl Row for ByPosition<'_> {
    fn column(&self, id: ColId) -> Option<Datum> {
        self.0.get(id.0 as usize).cloned()
    }
}

/// The columns of a table with their positions as numbers, as stored expressions are bound to
/// them.
fn position_columns(table: &TableDesc) -> Vec<(usize, Column)> {
    table
        .live_columns()
        .map(|(p, c)| {
            let id = ColId(u32::try_from(p).unwrap_or(u32::MAX));
            (
                p,
                Column {
                    id,
                    name: c.name.as_str().into(),
                    ty: c.ty,
                },
            )
        })
        .collect()
}

/// Binds the CHECK constraints of a table.
pub fn bind_checks(table: &Arc<TableDesc>, cx: &ExecContext) -> Result<Vec<BoundCheck>, SqlError> {
    table
        .checks
        .iter()
        .map(|check| {
            let condition = bind_text(&check.expr, table, cx)?;
            Ok(BoundCheck {
                name: check.name.clone(),
                condition,
            })
        })
        .collect()
}

/// Binds a stored expression to a table's columns.
fn bind_text(text: &str, table: &TableDesc, cx: &ExecContext) -> Result<Expr, SqlError> {
    let columns: Vec<Column> = position_columns(table)
        .into_iter()
        .map(|(_, c)| c)
        .collect();
    let context = BindContext {
        catalog: &cx.catalog,
        search_path: &[],
        params: &[],
        eval: cx.eval.as_ref(),
        virtual_table: |_, _| None,
    };
    expression_text(&context, text, &columns)
}

/// Fails if a row by position violates NOT NULL or CHECK.
pub fn check_row(
    table: &Arc<TableDesc>,
    checks: &[BoundCheck],
    row: &[Datum],
    cx: &ExecContext,
) -> Result<(), SqlError> {
    for (value, column) in row.iter().zip(&table.columns) {
        if column.not_null && !column.dropped && column.attnum != 0 && value.is_null() {
            let mut error = SqlError::new(
                SqlState::NOT_NULL_VIOLATION,
                format!(
                    "null value in column \"{}\" of relation \"{}\" violates not-null constraint",
                    column.name, table.name
                ),
            )
            .with_detail(failing_row(table, row, cx.eval.as_ref()));
            error.0.schema = Some(table.schema_name.clone());
            error.0.table = Some(table.name.clone());
            error.0.column = Some(column.name.clone());
            return Err(error);
        }
    }
    for check in checks {
        let holds = eval(&check.condition, &ByPosition(row), cx.eval.as_ref(), &[])?;
        if matches!(holds, Datum::Bool(false)) {
            return Err(SqlError::new(
                SqlState::CHECK_VIOLATION,
                format!(
                    "new row for relation \"{}\" violates check constraint \"{}\"",
                    table.name, check.name
                ),
            )
            .with_detail(failing_row(table, row, cx.eval.as_ref()))
            .with_constraint(&table.schema_name, &table.name, &check.name));
        }
    }
    Ok(())
}

/// Bytes of one value that PostgreSQL shows.
const SHOWN_MAX: usize = 64;

fn failing_row(table: &TableDesc, row: &[Datum], eval: &dyn EvalContext) -> String {
    let mut out = String::from("Failing row contains (");
    for (i, (position, column)) in table.live_columns().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        match row.get(position) {
            None | Some(Datum::Null) => out.push_str("null"),
            Some(value) => {
                let mut text = String::new();
                io::output(value, column.ty, eval, &mut text);
                if text.len() > SHOWN_MAX {
                    let mut end = SHOWN_MAX;
                    while !text.is_char_boundary(end) {
                        end -= 1;
                    }
                    text.truncate(end);
                    text.push_str("...");
                }
                out.push_str(&text);
            }
        }
    }
    out.push_str(").");
    out
}
