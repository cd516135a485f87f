//! TRUNCATE: the table gets an empty storage.

use std::sync::Arc;

use super::alter::not_a_table;
use super::execute::Ddl;
use crate::catalog::desc::{Relation, SequenceDesc, TableDesc};
use crate::error::{SqlError, SqlState};
use crate::parse::statement::Truncate;
use crate::session::sequences::Position;

impl Ddl {
    pub(crate) async fn truncate(&mut self, truncate: &Truncate) -> Result<&'static str, SqlError> {
        let mut tables = Vec::with_capacity(truncate.tables.len());
        for name in &truncate.tables {
            match self.find(name)? {
                Some(Relation::Table(table)) => tables.push(table),
                Some(other) => return Err(not_a_table(&other)),
                None => {
                    let error = self.missing("relation", name);
                    debug_assert!(error.state != SqlState::SUCCESSFUL_COMPLETION);
                    return Err(error);
                }
            }
        }
        for table in tables {
            let mut new = TableDesc::clone(&table);
            new.storage = self.new_oid().await?.0;
            // There are no rows any more that lack a column.
            for column in &mut new.columns {
                column.missing = None;
            }
            self.change.put_table(new)?;
            self.change.drop_storage(table.storage)?;
            if truncate.restart_identity {
                let owned: Vec<_> = self
                    .catalog()
                    .sequences
                    .values()
                    .filter(|s| s.owned_by.is_some_and(|(t, _)| t == table.oid))
                    .map(Arc::clone)
                    .collect();
                for sequence in owned {
                    let position = Position {
                        last: sequence.start,
                        called: false,
                    };
                    self.move_sequence(SequenceDesc::clone(&sequence), position)
                        .await?;
                }
            }
        }
        Ok("TRUNCATE TABLE")
    }
}
