//! `pontoon node`: looks at a cluster and tells its nodes what to do, over the address by which they
//! reach each other.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use pontoon_kv::cluster::{Answer, Book, Call, NodeState, NodeStatus, Overview};
use pontoon_kv::routing::{Peers, Whom};
use pontoon_raft::NodeId;

use super::args::{NodeAction, NodeCommand};
use crate::admin::cluster;
use crate::certs::{CertDir, Credentials, Held, JoinToken, Keyring};
use crate::node::Failure;
use crate::rpc::{Identity, Network};

/// How long a node may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(15);
/// How often the progress of what takes time is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(1_000);

/// Runs the command and prints what comes of it.
pub(super) fn run(command: &NodeCommand) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::Usage(format!("cannot start threads: {e}")))?;
    let done = runtime.block_on(execute(command));
    runtime.shutdown_timeout(Duration::from_millis(100));
    done
}

/// The certificate that is shown; `None`: the nodes are insecure.
fn keyring(command: &NodeCommand) -> Result<Option<Arc<Keyring>>, Failure> {
    let directory = match (&command.certs, &command.data_dir) {
        _ if command.insecure => return Ok(None),
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
struct Asked<'a> {
    host: &'a str,
    network: Network,
}

async fn execute(command: &NodeCommand) -> Result<(), Failure> {
    let keyring = keyring(command)?;
    let held = keyring.as_ref().and_then(|keyring| keyring.held());
    let credentials = keyring.map_or(Credentials::Insecure, Credentials::Member);
    let identity = Identity::at(String::new(), credentials);
    if let Some(held) = &held {
        // It speaks for the node whose certificate it has.
        identity.set(held.name.cluster, held.name.node);
    }
    let asked = Asked {
        host: &command.host,
        network: Network::new(Arc::new(Book::default()), Arc::new(identity)),
    };
    match &command.what {
        NodeAction::Ls => {
            let overview = asked.look().await?;
            say(&cluster::nodes(&overview.view));
        }
        NodeAction::Status => {
            let overview = asked.look().await?;
            say(&cluster::nodes(&overview.view));
            say("\n");
            say(&cluster::ranges(&overview.ranges));
            say(&cluster::given_up(&overview.view));
            for (_, stuck) in &overview.stuck {
                say(&format!("\nstuck: {stuck}\n"));
            }
        }
        NodeAction::Token { ttl } => asked.token(held.as_deref(), *ttl).await?,
        NodeAction::Drain => match asked.ask(Call::Drain).await? {
            Answer::Drained(0) => say("the node leads nothing any more\n"),
            Answer::Drained(left) => say(&format!(
                "the node leads {left} ranges yet: no other member of them is there to lead\n"
            )),
            _ => return Err(asked.odd()),
        },
        NodeAction::Decommission { node } => asked.decommission(number(node)?).await?,
        NodeAction::Recommission { node } => {
            let node = number(node)?;
            let state = NodeState::Active;
            asked.ask(Call::Want { node, state }).await?;
            say(&format!("{node} takes replicas again\n"));
        }
    }
    Ok(())
}

impl Asked<'_> {
    async fn ask(&self, call: Call) -> Result<Answer, Failure> {
        let failed = |reason: String| {
            Failure::Usage(format!(
                "cannot ask the node at {}: {reason}\n\
                 Give the --listen-rpc of a node that runs: --host HOST:PORT",
                self.host
            ))
        };
        let called = self.network.call(Whom::Address(self.host.to_owned()), call);
        match tokio::time::timeout(ANSWER_TIME_MAX, called).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed("it does not answer".to_owned())),
        }
    }

    fn odd(&self) -> Failure {
        Failure::Usage(format!("the node at {} gives an odd answer", self.host))
    }

    async fn look(&self) -> Result<Overview, Failure> {
        match self.ask(Call::Look).await? {
            Answer::Overview(overview) => Ok(overview),
            _ => Err(self.odd()),
        }
    }

    /// Has the cluster keep a token, and prints it. Its secret is drawn here and goes nowhere else.
    async fn token(&self, held: Option<&Held>, ttl: Duration) -> Result<(), Failure> {
        let held = held.ok_or_else(|| {
            Failure::Usage(
                "nodes that run with --insecure are joined without a token: give a new one \
                 --insecure and --join HOST:PORT"
                    .to_owned(),
            )
        })?;
        let token = JoinToken::draw(held.authority()).map_err(Failure::Usage)?;
        let call = Call::KeepToken {
            hash: JoinToken::hash(token.secret()),
            ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
        };
        match self.ask(call).await? {
            Answer::Done => say(&format!("{token}\n")),
            _ => return Err(self.odd()),
        }
        Ok(())
    }

    /// Has a node give up everything, telling how far it is.
    async fn decommission(&self, node: NodeId) -> Result<(), Failure> {
        let state = NodeState::Leaving;
        self.ask(Call::Want { node, state }).await?;
        let mut said = String::new();
        loop {
            let overview = self.look().await?;
            let known = |status: &&NodeStatus| status.row.place.node == node;
            let Some(status) = overview.view.nodes.iter().find(known) else {
                return Err(Failure::Usage(format!("there is no {node} in the cluster")));
            };
            let member = overview.ranges.iter().filter(|range| {
                let mut places = range.membership.members.values();
                places.any(|place| place.node == node)
            });
            let member = member.count();
            if status.replicas == 0 && member == 0 {
                break;
            }
            let mut now = format!(
                "{node} holds {} replicas, is a member of {member} ranges and leads {}\n",
                status.replicas, status.leads
            );
            for (_, stuck) in &overview.stuck {
                now.push_str(&format!("stuck: {stuck}\n"));
            }
            if now != said {
                say(&now);
                said = now;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let state = NodeState::Gone;
        self.ask(Call::Want { node, state }).await?;
        say(&format!(
            "{node} has left the cluster for good; it can be stopped, and its directory removed\n"
        ));
        Ok(())
    }
}

/// Reads `n2` or `2`.
fn number(text: &str) -> Result<NodeId, Failure> {
    let digits = text.strip_prefix('n').unwrap_or(text);
    digits.parse().map(NodeId).map_err(|_| {
        Failure::Usage(format!(
            "{text:?} is no node; give a number as `pontoon node ls` shows it"
        ))
    })
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody reads: nothing to do about it.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
