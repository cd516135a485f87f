//! How commands of operators reach a running cluster: over the address by which its nodes reach each
//! other, with the certificate of one of them.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use pontoon_kv::cluster::{Answer, Book, Call, Overview};
use pontoon_kv::range::Refusal;
use pontoon_kv::routing::{PeerError, Peers, Whom};
use pontoon_kv::{Error, NodeId};

use super::args::ContactArguments;
use crate::certs::{CertDir, Credentials, Held, Keyring};
use crate::node::Failure;
use crate::rpc::{Identity, Network, Operated, Operation};

/// How long a node may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(15);
/// And a statement.
const STATEMENT_TIME_MAX: Duration = Duration::from_secs(600);
/// How often the progress of what takes time is looked at.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(1_000);

/// Runs what asks a cluster, to its end.
pub(super) fn block_on<F>(asking: F) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::Usage(format!("cannot start threads: {e}")))?;
    let done = runtime.block_on(asking);
    runtime.shutdown_timeout(Duration::from_millis(100));
    done
}

/// The certificate that is shown; `None`: the nodes are insecure.
pub(super) fn keyring(contact: &ContactArguments) -> Result<Option<Arc<Keyring>>, Failure> {
    let directory = match (&contact.certs, &contact.data_dir) {
        _ if contact.insecure => return Ok(None),
        (Some(certs), _) => CertDir::at(certs),
        (None, Some(data_dir)) => CertDir::of_data_dir(data_dir),
        (None, None) => {
            return Err(Failure::Usage(
                "say as whom to ask: --data-dir DIR of a node on this machine (or --insecure, if \
                 the nodes run with that)"
                    .to_owned(),
            ));
        }
    };
    let held = directory.load().map_err(Failure::Certificates)?;
    let held = held.ok_or_else(|| {
        Failure::Certificates(format!(
            "there is no certificate of a node in {}: give the --data-dir of a node on this \
             machine that was started without --insecure",
            directory.path().display()
        ))
    })?;
    let keyring = Keyring::default();
    keyring.install(held);
    Ok(Some(Arc::new(keyring)))
}

/// A cluster, by one of its nodes.
pub(super) struct Contact {
    host: String,
    network: Network,
    /// The certificate that is shown.
    pub(super) held: Option<Arc<Held>>,
}

impl Contact {
    /// What the arguments say; nobody is asked yet.
    pub(super) fn new(contact: &ContactArguments) -> Result<Self, Failure> {
        let keyring = keyring(contact)?;
        let held = keyring.as_ref().and_then(|keyring| keyring.held());
        let credentials = keyring.map_or(Credentials::Insecure, Credentials::Member);
        let identity = Identity::at(String::new(), credentials);
        if let Some(held) = &held {
            // It speaks for the node whose certificate it has.
            identity.set(held.name.cluster, held.name.node);
        }
        Ok(Self {
            host: contact.host.clone(),
            network: Network::new(Arc::new(Book::default()), Arc::new(identity)),
            held,
        })
    }

    /// Asks the node that was named.
    pub(super) async fn ask(&self, call: Call) -> Result<Answer, Failure> {
        let failed = |reason: String| {
            Failure::Usage(format!(
                "cannot ask the node at {}: {reason}\n\
                 Give the --listen-rpc of a node that runs: --host HOST:PORT",
                self.host
            ))
        };
        let called = self.network.call(Whom::Address(self.host.clone()), call);
        match tokio::time::timeout(ANSWER_TIME_MAX, called).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed("it does not answer".to_owned())),
        }
    }

    /// Asks the node that coordinates; an error of the cluster is told as it is. `None`: it does
    /// not coordinate any more.
    pub(super) async fn ask_coordinator(
        &self,
        overview: &Overview,
        call: Call,
    ) -> Result<Option<Answer>, Failure> {
        let coordinator = overview.view.coordinator;
        let mut rows = overview.view.nodes.iter().map(|status| &status.row);
        let row = rows.find(|row| row.place.node == coordinator);
        let address = row.map_or_else(|| self.host.clone(), |row| row.rpc.clone());
        let called = self.network.call(Whom::Address(address.clone()), call);
        let reason = match tokio::time::timeout(STATEMENT_TIME_MAX, called).await {
            Ok(Ok(answer)) => return Ok(Some(answer)),
            Ok(Err(PeerError::Refused(Refusal::Elsewhere(_)))) => return Ok(None),
            Ok(Err(PeerError::Refused(Refusal::Error(Error::Unavailable { message })))) => {
                return Err(Failure::Usage(message));
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it does not answer".to_owned(),
        };
        Err(Failure::Usage(format!(
            "cannot ask {coordinator} at {address}, which coordinates: {reason}"
        )))
    }

    /// Has the node that was named do something in SQL. The error is a sentence.
    pub(super) async fn operate(
        &self,
        operation: Operation,
        patience: Duration,
    ) -> Result<Operated, String> {
        let asked = self.network.operate(self.host.clone(), operation);
        let answer = tokio::time::timeout(patience, asked).await;
        answer.unwrap_or_else(|_| Err("it does not answer".to_owned()))
    }

    /// Has the node that was named run a statement about ranges, and prints what that tells.
    pub(super) async fn reshape(&self, statement: String) -> Result<(), Failure> {
        let operation = Operation::Reshape(statement);
        match self.operate(operation, STATEMENT_TIME_MAX).await {
            Ok(Operated::Reshaped(notices)) => {
                notices
                    .iter()
                    .for_each(|notice| say(&format!("{notice}\n")));
                Ok(())
            }
            Ok(_) => Err(self.odd()),
            Err(reason) => Err(Failure::Usage(reason)),
        }
    }

    /// The cluster as it is.
    pub(super) async fn look(&self) -> Result<Overview, Failure> {
        match self.ask(Call::Look).await? {
            Answer::Overview(overview) => Ok(overview),
            _ => Err(self.odd()),
        }
    }

    /// What is said of an answer that makes no sense.
    pub(super) fn odd(&self) -> Failure {
        Failure::Usage(format!("the node at {} gives an odd answer", self.host))
    }
}

/// Reads `n2` or `2`.
pub(super) fn number(text: &str) -> Result<NodeId, Failure> {
    let digits = text.strip_prefix('n').unwrap_or(text);
    digits.parse().map(NodeId).map_err(|_| {
        Failure::Usage(format!(
            "{text:?} is no node; give a number as `pontoon node ls` shows it"
        ))
    })
}

/// Prints.
pub(super) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody reads: nothing to do about it.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
