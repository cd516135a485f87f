//! The node among others: what it says to them, and what it answers.

use std::path::Path;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use pontoon_kv::cluster::{
    Answer, Book, Call, Candidate, Denial, Joined, Joining, NodeRow, NotJoined, Topic, Watched,
};
use pontoon_kv::db::Belonging;
use pontoon_kv::range::Refusal as CallRefusal;
use pontoon_kv::{Db, Error, Timestamp};
use pontoon_raft::transport::{Envelope, Refusal, Reply};
use pontoon_sql::session::Engine;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::Failure;
use super::joining::{ByToken, Insecurely};
use crate::certs::{self, Authority, CertDir, Credentials, JoinToken, Keyring, SigningRequest};
use crate::cli::{NodeConfig, PeerMode};
use crate::rpc::{self, Handler, Identity, Network, Operated, Operation};

/// What a node has to do with others, before it knows who it is.
pub(super) struct Peers {
    listener: TcpListener,
    identity: Arc<Identity>,
    network: Network,
    book: Arc<Book>,
    row: NodeRow,
    join: Vec<String>,
    certificates: Option<Certificates>,
    joining: Arc<dyn Joining>,
    /// It asks to be let in, though it has a number.
    rejoin: bool,
}

/// What a node with certificates has of them.
struct Certificates {
    directory: CertDir,
    keyring: Arc<Keyring>,
}

impl Peers {
    /// Prepares a node that is what `row` says; its number is not known yet.
    ///
    /// # Errors
    /// Its certificates cannot be read, or it has none and no way to get some.
    pub(super) fn new(
        config: &NodeConfig,
        data_dir: &Path,
        listener: TcpListener,
        row: NodeRow,
    ) -> Result<Self, Failure> {
        let secure = config.peers == PeerMode::Secure;
        let certificates = secure.then(|| Certificates::load(data_dir)).transpose();
        let certificates = certificates.map_err(Failure::Certificates)?;
        let credentials = certificates.as_ref().map(Certificates::credentials);
        let identity = Identity::at(row.rpc.clone(), credentials.unwrap_or_default());
        let (book, identity) = (Arc::default(), Arc::new(identity));
        let network = Network::new(Arc::clone(&book), Arc::clone(&identity));
        let (joining, rejoin) = match &certificates {
            Some(certificates) => certificates.joining(config)?,
            None => (Arc::new(Insecurely(network.clone())) as _, false),
        };
        Ok(Self {
            listener,
            network,
            identity,
            book,
            row,
            join: config.join.clone(),
            certificates,
            joining,
            rejoin,
        })
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
            rejoin: self.rejoin,
            joining: Arc::clone(&self.joining),
            transport: Arc::new(self.network.clone()),
            peers: Arc::new(self.network.clone()),
            book: Arc::clone(&self.book),
            identify: Arc::new(move |cluster, node| identity.set(cluster, node)),
        }
    }

    /// Sees to it that the node has a certificate to show, now and later.
    ///
    /// # Errors
    /// It cannot get one.
    pub(super) async fn certify(
        &self,
        db: &Db,
        shutdown: watch::Receiver<bool>,
    ) -> Result<(), Failure> {
        let Some(Certificates { directory, keyring }) = &self.certificates else {
            return Ok(());
        };
        let cluster = self.identity.cluster();
        certs::certify(db, cluster, directory, keyring)
            .await
            .map_err(Failure::Certificates)?;
        let (directory, keyring) = (directory.clone(), Arc::clone(keyring));
        tokio::spawn(certs::keep_valid(
            db.clone(),
            cluster,
            directory,
            keyring,
            shutdown,
        ));
        Ok(())
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
            secure: self.certificates.is_some(),
        });
        let serving = rpc::serve(self.listener, handler, self.network, shutdown);
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "other nodes cannot be answered");
            }
        });
        engine
    }
}

impl Certificates {
    fn load(data_dir: &Path) -> Result<Self, String> {
        let directory = CertDir::of_data_dir(data_dir);
        let keyring = Arc::new(Keyring::default());
        if let Some(held) = directory.load()? {
            keyring.install(held);
        }
        Ok(Self { directory, keyring })
    }

    fn credentials(&self) -> Credentials {
        Credentials::Member(Arc::clone(&self.keyring))
    }

    /// How the node asks to be let in, and whether it does so though it has a number: its
    /// certificate is lost or has expired, and it was given a token for another.
    fn joining(&self, config: &NodeConfig) -> Result<(Arc<dyn Joining>, bool), Failure> {
        let held = self.keyring.held();
        let valid = held.is_some_and(|held| !held.expires_within(Duration::ZERO));
        match &config.join_token {
            Some(token) if !config.join.is_empty() => {
                let by_token = ByToken {
                    token: token.clone(),
                    directory: self.directory.clone(),
                    keyring: Arc::clone(&self.keyring),
                };
                Ok((Arc::new(by_token), !valid))
            }
            Some(_) if !valid => Err(Failure::Usage(
                "a join token says how to join, and not whom: give the --listen-rpc of a node too, \
                 as in --join 10.0.0.1:26257"
                    .to_owned(),
            )),
            None if !valid && !config.join.is_empty() => Err(Failure::Usage(
                "joining a cluster needs a join token: run `pontoon node token` on the machine of \
                 a node that runs, and start again with --join-token TOKEN\n\
                 (a cluster whose nodes run with --insecure is joined with --insecure)"
                    .to_owned(),
            )),
            // A member does not ask, and the first node has nobody to ask.
            _ => Ok((Arc::new(Nobody), false)),
        }
    }
}

/// Whom a node asks that has nobody to ask.
struct Nobody;

impl Joining for Nobody {
    fn ask(&self, _: String, _: Candidate) -> BoxFuture<'static, Result<Joined, NotJoined>> {
        let message = "the store does not know its number: its first start was interrupted; start \
                       again with --join and --join-token (another one if that has expired)";
        async move { Err(NotJoined::Ever(message.to_owned())) }.boxed()
    }
}

/// Brings what others say to the store.
struct Answers {
    db: Db,
    engine: Arc<OnceLock<Weak<Engine>>>,
    /// Nodes have certificates.
    secure: bool,
}

impl Answers {
    /// Lets a node in that has the secret of a join token, and signs a certificate for it.
    async fn let_in(
        db: Db,
        candidate: Candidate,
        secret: &[u8],
        request: &[u8],
    ) -> Result<Answer, CallRefusal> {
        let node = db.node();
        // Before the token is used up. Who asks for the key of another has seen the secret only.
        let Some(key) = SigningRequest::check(request, secret) else {
            return Ok(Answer::Denied(Denial::Token));
        };
        let hash = JoinToken::hash(secret);
        let joined = match node.admit_by_token(candidate, &hash).await? {
            Answer::Joined(joined) => joined,
            other => return Ok(other),
        };
        // If this fails the node asks again, and gets the same number.
        let unavailable = |message| CallRefusal::Error(Error::Unavailable { message });
        let stored = node.authority().await?;
        let stored = stored.ok_or_else(|| unavailable("the cluster has no authority".into()))?;
        let authority = Authority::decode(&stored).map_err(unavailable)?;
        let certificate = authority.certify(joined.node, &key).map_err(unavailable)?;
        Ok(Answer::Certified {
            joined,
            certificate: certificate.to_vec().into(),
            authority: authority.certificate().to_vec().into(),
        })
    }
}

impl Handler for Answers {
    fn raft(&self, envelope: Envelope) -> BoxFuture<'static, Result<Reply, Refusal>> {
        let host = self.db.node().host().clone();
        async move { host.handle(envelope).await }.boxed()
    }

    fn call(&self, call: Call) -> BoxFuture<'static, Result<Answer, CallRefusal>> {
        let (db, secure) = (self.db.clone(), self.secure);
        async move {
            match call {
                Call::JoinByToken {
                    candidate,
                    secret,
                    request,
                } if secure => Self::let_in(db, candidate, &secret.0, &request).await,
                // Nobody is let in without one, a friend of a member neither.
                Call::Join(_) if secure => Ok(Answer::Denied(Denial::Token)),
                call => db.node().answer(call).await,
            }
        }
        .boxed()
    }

    fn operate(&self, operation: Operation) -> BoxFuture<'static, Result<Operated, String>> {
        let engine = self.engine.get().and_then(Weak::upgrade);
        async move {
            let engine = engine.ok_or("it does not run statements at this moment")?;
            match operation {
                Operation::Name(spans) => engine.name_spans(&spans).await.map(Operated::Named),
                Operation::Reshape(statement) => {
                    engine.reshape(&statement).await.map(Operated::Reshaped)
                }
            }
        }
        .boxed()
    }

    fn sql(&self, question: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        let engine = self.engine.get().and_then(Weak::upgrade);
        async move {
            let engine = engine.ok_or("it does not run queries at this moment")?;
            engine.answer(question).await.map_err(|e| e.to_string())
        }
        .boxed()
    }

    fn watch(
        &self,
        topics: Vec<Topic>,
        since: Timestamp,
        wait: Duration,
    ) -> BoxFuture<'static, Result<Watched, Error>> {
        let db = self.db.clone();
        async move { db.watch(&topics, since, wait).await }.boxed()
    }
}
