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

/// A cluster, by one of its nodes.
struct Asked<'a> {
    host: &'a str,
    network: Network,
}

async fn execute(command: &NodeCommand) -> Result<(), Failure> {
    let asked = Asked {
        host: &command.host,
        network: Network::new(Arc::new(Book::default()), Arc::new(Identity::default())),
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
            for (_, stuck) in &overview.stuck {
                say(&format!("\nstuck: {stuck}\n"));
            }
        }
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
                 Give the --listen-rpc of a node that runs with --insecure: --host HOST:PORT",
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
