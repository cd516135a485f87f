//! Giving up what one leads before one stops, so that nobody has to wait for an election.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pontoon_raft::ReplicaId;

use crate::db::node::Node;
use crate::range::Replica;

/// How often it is looked whether everything is given up.
const AGAIN: Duration = Duration::from_millis(50);

impl Node {
    /// Hands every range that this node leads to another member that is alive and has the log, as
    /// far as there is one, at most for `patience`. Returns how many it still leads.
    pub async fn drain(&self, patience: Duration) -> usize {
        self.stopping.store(true, Ordering::Relaxed);
        let until = self.runtime.monotonic() + patience;
        loop {
            let led: Vec<_> = self
                .replicas()
                .into_iter()
                .filter_map(|replica| Some((self.heir(&replica)?, replica)))
                .collect();
            if led.is_empty() || self.runtime.monotonic() >= until {
                return led.len();
            }
            let handed = led.iter().map(|(heir, replica)| async {
                let transferred = replica.group().transfer_leader(*heir).await;
                if let Err(error) = transferred {
                    let range = replica.state().range;
                    tracing::debug!(range, %error, "the range could not be handed over");
                }
            });
            let handed = futures::future::join_all(handed);
            let left = until.saturating_sub(self.runtime.monotonic());
            self.runtime.timeout(left, handed).await;
            self.runtime.sleep(AGAIN).await;
        }
    }

    /// Who should lead a range instead of this node, if it leads.
    fn heir(&self, replica: &Arc<Replica>) -> Option<ReplicaId> {
        if !replica.leads() {
            return None;
        }
        let status = replica.group().status();
        let voters = status.membership.voters();
        let others = voters
            .into_iter()
            .filter(|voter| *voter != replica.group().replica());
        let alive = others.filter(|voter| {
            let place = status.membership.members.get(voter);
            place.is_some_and(|place| self.book.is_alive(place.node))
        });
        alive.max_by_key(|voter| {
            let place = status.membership.members.get(voter);
            // Whoever is to be rid of it would have to hand it over again.
            let stays = place.is_some_and(|place| self.book.holds_data(place.node));
            (stays, status.matched.get(voter).copied().flatten())
        })
    }
}
