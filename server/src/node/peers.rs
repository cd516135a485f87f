//! The node among others: what it says to them, and what it answers.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use pontoon_kv::Db;
use pontoon_kv::cluster::{Answer, Book, Call, NodeRow, Roles};
use pontoon_kv::db::Belonging;
use pontoon_kv::range::Refusal as CallRefusal;
use pontoon_raft::transport::{Envelope, Refusal, Reply};
use pontoon_sql::session::Engine;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::cli::{NodeConfig, VERSION};
use crate::rpc::{self, Handler, Identity, Network};

/// What a node has to do with others, before it knows who it is.
pub(super) struct Peers {
    listener: TcpListener,
    identity: Arc<Identity>,
    network: Network,
    book: Arc<Book>,
    row: NodeRow,
    join: Vec<String>,
}

impl Peers {
    /// Prepares a node whose addresses are known.
    pub(super) fn new(
        config: &NodeConfig,
        listener: TcpListener,
        [rpc, sql, admin]: [SocketAddr; 3],
    ) -> Self {
        let advertised = config.advertise_rpc.clone();
        let rpc = advertised.unwrap_or_else(|| rpc.to_string());
        let (book, identity) = (Arc::default(), Arc::new(Identity::at(rpc.clone())));
        let row = NodeRow {
            rpc,
            sql: sql.to_string(),
            admin: admin.to_string(),
            locality: config.locality.clone(),
            roles: Roles::default(),
            version: VERSION.to_owned(),
            ..NodeRow::default()
        };
        Self {
            listener,
            network: Network::new(Arc::clone(&book), Arc::clone(&identity)),
            identity,
            book,
            row,
            join: config.join.clone(),
        }
    }

    /// What is said to other nodes.
    pub(super) fn network(&self) -> Network {
        self.network.clone()
    }

    /// What the store is told of the cluster.
    pub(super) fn belonging(&self) -> Belonging {
        let identity = Arc::clone(&self.identity);
        Belonging {
            row: self.row.clone(),
            join: self.join.clone(),
            transport: Arc::new(self.network.clone()),
            peers: Arc::new(self.network.clone()),
            book: Arc::clone(&self.book),
            identify: Arc::new(move |cluster, node| identity.set(cluster, node)),
        }
    }

    /// Answers other nodes from now on, until shutdown.
    ///
    /// The SQL layer is put into what this returns when it is there: it needs other nodes to open.
    pub(super) fn serve(
        self,
        db: &Db,
        shutdown: watch::Receiver<bool>,
    ) -> Arc<OnceLock<Weak<Engine>>> {
        let engine = Arc::new(OnceLock::new());
        let handler = Arc::new(Answers {
            db: db.clone(),
            engine: Arc::clone(&engine),
        });
        let serving = rpc::serve(self.listener, handler, self.identity, self.book, shutdown);
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "other nodes cannot be answered");
            }
        });
        engine
    }
}

/// Brings what others say to the store.
struct Answers {
    db: Db,
    engine: Arc<OnceLock<Weak<Engine>>>,
}

impl Handler for Answers {
    fn raft(&self, envelope: Envelope) -> BoxFuture<'static, Result<Reply, Refusal>> {
        let host = self.db.node().host().clone();
        async move { host.handle(envelope).await }.boxed()
    }

    fn call(&self, call: Call) -> BoxFuture<'static, Result<Answer, CallRefusal>> {
        let node = Arc::clone(self.db.node());
        async move { node.answer(call).await }.boxed()
    }

    fn sql(&self, question: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        let engine = self.engine.get().and_then(Weak::upgrade);
        async move {
            let engine = engine.ok_or("it does not run queries at this moment")?;
            engine.answer(question).await.map_err(|e| e.to_string())
        }
        .boxed()
    }
}
