//! Rows of computed tables: the catalog, and the cluster as its coordinator sees it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pontoon_kv::cluster::Overview;
use pontoon_kv::range::Refusal;
use tokio::sync::OnceCell;

use crate::catalog::virtual_tables::{Rows, VirtualTable};
use crate::error::{SqlError, SqlState};
use crate::exec::context::Runtime;

use super::Values;
use super::executor::Executor;

/// For how long the coordinator is looked for before a statement fails. A node may have to be told
/// by one that is not it who is.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// The cluster as it was when the statement first asked: all of its tables show the same moment.
#[derive(Default)]
pub(super) struct Cluster(OnceCell<Arc<Overview>>);

impl Executor {
    /// The rows of a computed table, with the columns at these positions.
    pub(super) async fn computed_table(
        &self,
        table: &VirtualTable,
        positions: &[usize],
    ) -> Result<Vec<Values>, SqlError> {
        let (catalog, eval) = (&self.cx.catalog, self.cx.eval.as_ref());
        let rows = match table.rows {
            Rows::Catalog(rows) => rows(catalog, eval)?,
            Rows::Cluster(rows) => rows(self.overview().await?.as_ref(), catalog, eval)?,
        };
        let only = |row: Vec<_>| -> Values {
            let wanted = positions.iter();
            wanted
                .map(|p| row.get(*p).cloned().unwrap_or_default())
                .collect()
        };
        Ok(rows.into_iter().map(only).collect())
    }

    async fn overview(&self) -> Result<&Arc<Overview>, SqlError> {
        let asked = self.cluster.0.get_or_try_init(|| async {
            let until = Instant::now() + PATIENCE;
            loop {
                if let Some(overview) = look(&self.cx.runtime).await? {
                    return Ok(Arc::new(overview));
                }
                if Instant::now() >= until {
                    return Err(nobody());
                }
                self.cx.eval.check_cancelled()?;
                tokio::time::sleep(PAUSE).await;
            }
        });
        asked.await
    }
}

/// Asks the coordinator once; `None` when it was not found, or has not heard of any node yet.
async fn look(runtime: &Runtime) -> Result<Option<Overview>, SqlError> {
    let store = runtime.store().ok_or_else(nobody)?;
    match store.node().overview().await {
        Ok(overview) => Ok((!overview.view.nodes.is_empty()).then_some(overview)),
        Err(Refusal::Error(error)) => Err(nobody().with_detail(format!("{error}."))),
        Err(_) => Ok(None),
    }
}

/// `57P03`: there is no coordinator, or none that is heard.
pub(super) fn nobody() -> SqlError {
    SqlError::new(
        SqlState::CANNOT_CONNECT_NOW,
        "the coordinator of the cluster does not answer",
    )
    .with_detail("Only the leader of range 1 knows how the cluster is.")
    .with_hint("There is one as long as most members of range 1 are up and reach each other.")
}
