//! [`Known`]: the metadata of the cluster as a node has watched it.
//!
//! The coordinator reads what it plans from there, and every node where ranges are. A node that is
//! behind loses nothing by it: whoever asks at the wrong place is told so, and looks.
//!
//! Invariant: what is known is what was so at the revision; answers are taken over in the order of
//! their revisions, each only where the one before it ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;

use crate::cluster::{
    Metadata, NodeRow, Rule, Rules, Topic, WatchEvent, Watched, WatchedKind, Watching,
};
use crate::db::node::Node;
use crate::error::Error;
use crate::range::Replica;
use crate::routing::{Address, plain};
use crate::timestamp::Timestamp;

/// What a node wants to know.
const TOPICS: [Topic; 4] = [Topic::Nodes, Topic::Ranges, Topic::Splits, Topic::Rules];
/// How long an answer may wait for a change.
const WAIT_MS: u32 = 10_000;
/// The pause of a node that has learned something, so that it hears of many changes at a time; of
/// one that was not answered; and of the coordinator, which has read everything itself.
const PAUSE: Duration = Duration::from_millis(500);

/// What a node knows of the metadata.
#[derive(Debug, Default)]
pub(in crate::db) struct Known {
    /// The commits up to here.
    revision: Timestamp,
    /// What had been counted of changes when this was read here, as the coordinator of a term.
    stirred: Option<(u64, u64)>,
    nodes: BTreeMap<Bytes, NodeRow>,
    splits: BTreeSet<Bytes>,
    rules: BTreeMap<u32, Rule>,
}

impl Known {
    /// Takes over what has changed since a revision, and returns where ranges are now. Nothing is
    /// done when more or less is known than up to that revision: somebody else has asked too.
    /// `stirred` had been counted before that was read, here.
    fn take_over(
        &mut self,
        since: Timestamp,
        watched: Watched,
        stirred: Option<(u64, u64)>,
    ) -> Result<Vec<Address>, Error> {
        if since != self.revision {
            return Ok(Vec::new());
        }
        // If a row cannot be read, nothing that is known is relied on.
        let mut known = std::mem::take(self);
        if watched.kind != WatchedKind::Changes {
            known = Self::default();
        }
        // There may be more changes behind these.
        let all = watched.kind != WatchedKind::Changes || watched.events.is_empty();
        known.stirred = stirred.filter(|_| all);
        let mut addresses = Vec::new();
        for event in watched.events {
            addresses.extend(known.apply(event)?);
        }
        known.revision = watched.revision;
        *self = known;
        Ok(addresses)
    }

    fn apply(&mut self, event: WatchEvent) -> Result<Option<Address>, Error> {
        match event.row()? {
            Some(Metadata::Node(row)) => {
                self.nodes.insert(event.key, row);
            }
            Some(Metadata::Split(key)) => {
                self.splits.insert(key);
            }
            Some(Metadata::Rule(rule)) => {
                self.rules.insert(event.table()?, rule);
            }
            Some(Metadata::Range(address)) => return Ok(Some(address)),
            Some(Metadata::Setting(_)) => {}
            None if event.topic == Topic::Nodes => {
                self.nodes.remove(&event.key);
            }
            None if event.topic == Topic::Splits => {
                self.splits.remove(&event.key);
            }
            None if event.topic == Topic::Rules => {
                self.rules.remove(&event.table()?);
            }
            None => {}
        }
        Ok(None)
    }
}

/// Runs for as long as the node lives.
pub(in crate::db) async fn follow(node: Weak<Node>) {
    loop {
        let Some(strong) = node.upgrade() else { return };
        if strong.peers.is_none() {
            // It leads all that there is, and reads it where it is.
            return;
        }
        let runtime = strong.runtime.clone();
        if strong.coordinating().is_err()
            && let Err(error) = strong.learn_changes().await
        {
            tracing::debug!(%error, "the metadata of the cluster cannot be watched");
        }
        drop(strong);
        runtime.sleep(PAUSE).await;
    }
}

#[cfg(test)]
impl Node {
    /// The keys of nodes and splits that are known.
    pub(crate) fn known_keys(&self) -> (Vec<Bytes>, Vec<Bytes>) {
        let known = self.known.lock();
        let splits = known.splits.iter().cloned();
        (known.nodes.keys().cloned().collect(), splits.collect())
    }
}

impl Node {
    /// Waits for changes, and takes them over.
    async fn learn_changes(&self) -> Result<(), Error> {
        let asked = self.next_question(WAIT_MS);
        let since = asked.since;
        let watched = self.watch(asked).await.map_err(plain)?;
        self.take_over(since, watched, None)
    }

    fn next_question(&self, wait_ms: u32) -> Watching {
        Watching {
            topics: TOPICS.to_vec(),
            since: self.known.lock().revision,
            wait_ms,
        }
    }

    fn take_over(
        &self,
        since: Timestamp,
        watched: Watched,
        stirred: Option<(u64, u64)>,
    ) -> Result<(), Error> {
        let addresses = self.known.lock().take_over(since, watched, stirred);
        for address in addresses? {
            self.learn_address(address);
        }
        Ok(())
    }

    /// The nodes of the cluster, the keys with which ranges shall begin because somebody wants it, and
    /// placement rules, as the leader of range 1 in `term` has them. Where nothing was written since they were
    /// read nothing is read.
    pub(super) async fn metadata(
        &self,
        system: &Arc<Replica>,
        term: u64,
    ) -> Result<(Vec<NodeRow>, BTreeSet<Bytes>, Rules), Error> {
        loop {
            // Before it is read: see `watch_here`.
            let stirred = Some((term, system.state().stirred.count()));
            {
                let known = self.known.lock();
                if known.stirred == stirred {
                    let rows = known.nodes.values().cloned().collect();
                    let rules = known.rules.iter();
                    let rules = rules.map(|(table, rule)| (*table, rule.clone()));
                    return Ok((rows, known.splits.clone(), rules.collect()));
                }
            }
            let asked = self.next_question(0);
            let watched = self.watch_here(&asked).await.map_err(plain)?;
            self.take_over(asked.since, watched, stirred)?;
        }
    }
}
