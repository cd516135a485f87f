//! Writing all rows of a table again, into a storage of its own, within the transaction.

use std::sync::Arc;

use super::execute::Ddl;
use super::names;
use crate::catalog::desc::TableDesc;
use crate::error::SqlError;
use crate::exec;
use crate::session::run::rows_of;

/// Rows written at once.
const BATCH_ROWS: usize = 2_000;

impl Ddl {
    /// Replaces `old` by `new` and copies the rows. `changed` are expressions over the old columns
    /// for columns of `new` by position; other columns keep their value, which by name they have in
    /// `old`.
    pub(crate) async fn rewrite(
        &mut self,
        old: &Arc<TableDesc>,
        mut new: TableDesc,
        changed: &[(usize, String)],
    ) -> Result<(), SqlError> {
        let before = self.change.published();
        let exprs: Vec<String> = new
            .live_columns()
            .map(
                |(position, column)| match changed.iter().find(|(p, _)| *p == position) {
                    Some((_, expr)) => format!("({expr})"),
                    None => names::quote(&column.name),
                },
            )
            .collect();
        new.storage = self.new_oid().await?.0;
        for column in &mut new.columns {
            column.missing = None;
        }
        let sql = format!(
            "SELECT {} FROM {}",
            exprs.join(", "),
            names::quoted(&old.schema_name, &old.name)
        );
        let (mut source, columns) = self.runner.stream(&before, &sql).await?;
        let new = self.change.put_table(new)?;
        let after = self.change.published();
        let context = self.runner.context(&after, Arc::from([]));
        let mut pending = Vec::new();
        while let Some(batch) = source.next().await? {
            pending.extend(rows_of(batch, &columns));
            while pending.len() >= BATCH_ROWS {
                let rest = pending.split_off(BATCH_ROWS);
                let rows = std::mem::replace(&mut pending, rest);
                exec::insert_rows(&new, rows, &context).await?;
            }
        }
        if !pending.is_empty() {
            exec::insert_rows(&new, pending, &context).await?;
        }
        self.change.drop_storage(old.storage)
    }
}
