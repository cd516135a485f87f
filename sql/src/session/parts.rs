//! Parts of queries of other nodes: what they are run with.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use pontoon_kv::NodeId;

use super::cancel::Bounds;
use super::engine::Engine;
use super::eval::{DATABASE_OWNER, Shared};
use super::run::Runner;
use super::settings::Settings;
use crate::catalog::desc::CatalogSnapshot;
use crate::error::SqlError;
use crate::exec::ExecContext;
use crate::exec::remote::{Colleagues, Fellows, Part};

impl Engine {
    /// Makes the SQL layers of other nodes known.
    pub fn meet(self: &Arc<Self>, others: Arc<dyn Colleagues>) {
        let me = self.db.node().id();
        let engine = Arc::downgrade(self);
        let all = Everybody { me, engine, others };
        self.runtime.meet(Fellows {
            me,
            others: Arc::new(all),
        });
    }

    /// Answers the SQL layer of another node, which trusts this one to know its own.
    ///
    /// # Errors
    /// Only for what cannot be read, or has no encoding.
    pub async fn answer(self: &Arc<Self>, question: Bytes) -> Result<Bytes, SqlError> {
        let context = |part: &Part| self.context_of(part);
        self.cursors.answer(&question, context).await
    }

    /// What a part of a query is run with: the settings of nobody in particular, and a catalog that
    /// is empty, as all that depends on either has stayed where the query came from.
    fn context_of(self: &Arc<Self>, part: &Part) -> Result<ExecContext, SqlError> {
        let settings = Settings::new(&[])?;
        let shared = Shared::new(Arc::clone(self), DATABASE_OWNER.to_owned(), 0, settings);
        let bounds = Bounds {
            cancel: shared.cancel.clone(),
            deadline: None,
        };
        let txn = self.db.read_for_another(part.read_at, part.notes_reads);
        let runner = Runner {
            values: shared.values(),
            shared: Arc::new(shared),
            bounds,
            transaction_time: 0,
            statement_time: 0,
            isolation: txn.options().isolation,
            read_only: true,
            txn,
        };
        Ok(runner.context(&Arc::new(CatalogSnapshot::default()), Arc::from([])))
    }
}

/// The other nodes and this one.
struct Everybody {
    me: NodeId,
    engine: Weak<Engine>,
    others: Arc<dyn Colleagues>,
}

impl Colleagues for Everybody {
    fn ask(&self, node: NodeId, question: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        if node != self.me {
            return self.others.ask(node, question);
        }
        let engine = self.engine.upgrade();
        async move {
            let engine = engine.ok_or("the node is stopping")?;
            engine.answer(question).await.map_err(|e| e.to_string())
        }
        .boxed()
    }
}
