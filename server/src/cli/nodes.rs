//! `pontoon node`: looks at a cluster and tells its nodes what to do, over the address by which they
//! reach each other.

use std::time::Duration;

use pontoon_kv::cluster::{Answer, Call, NodeState, NodeStatus};
use pontoon_raft::NodeId;

use super::args::{NodeAction, NodeCommand};
use super::contact::{Contact, LOOK_EVERY, block_on, number, say};
use crate::admin::cluster;
use crate::certs::JoinToken;
use crate::node::Failure;

/// Runs the command and prints what comes of it.
pub(super) fn run(command: &NodeCommand) -> Result<(), Failure> {
    block_on(execute(command))
}

async fn execute(command: &NodeCommand) -> Result<(), Failure> {
    let asked = Contact::new(&command.contact)?;
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
        NodeAction::Token { ttl } => asked.token(*ttl).await?,
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

impl Contact {
    /// Has the cluster keep a token, and prints it. Its secret is drawn here and goes nowhere else.
    async fn token(&self, ttl: Duration) -> Result<(), Failure> {
        let held = self.held.as_ref().ok_or_else(|| {
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
