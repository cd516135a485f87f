//! [`Roll`]: what the coordinator has heard of the nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use parking_lot::Mutex;
use pontoon_raft::{NodeId, Peer, ReplicaId};

use crate::cluster::{Move, NodeRow, NodeState, NodeStatus, Opening, RangeReport, Report, View};
use crate::db::cluster::used::Used;
use crate::db::cluster::wish::Wanting;
use crate::placement;

/// What one leadership of range 1 has heard.
#[derive(Debug, Default)]
pub(crate) struct Roll {
    heard: Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    /// The leadership; what an earlier one has heard does not count.
    term: u64,
    /// When it began.
    since: Duration,
    /// Counts what has changed.
    changes: u64,
    rows: BTreeMap<NodeId, NodeRow>,
    reports: BTreeMap<NodeId, (Report, Duration)>,
    /// What is being changed about the members of ranges, and since when.
    changing: BTreeMap<u64, (Move, Duration)>,
    /// Replicas that their ranges do not know, and since when.
    strays: BTreeMap<Stray, Duration>,
    /// Replicas that nodes do not hold though they are members, and since when.
    missing: BTreeMap<Stray, Duration>,
    /// Members that were closed on their nodes for good.
    lost: BTreeSet<(u64, ReplicaId)>,
    /// The generation of each range's bounds, and since when it is that.
    bounds: BTreeMap<u64, (u64, Duration)>,
    /// How much ranges are used.
    used: Used,
    /// What operators want of ranges.
    wanting: Wanting,
}

impl Roll {
    /// Begins anew when `term` has changed.
    pub(super) fn begin(&self, term: u64, now: Duration) {
        let mut heard = self.heard.lock();
        if heard.term != term {
            *heard = Heard {
                term,
                since: now,
                ..Heard::default()
            };
        }
    }

    /// Notes a report.
    pub(super) fn note(&self, report: Report, now: Duration) {
        let mut heard = self.heard.lock();
        heard.changes += 1;
        heard.reports.insert(report.row.place.node, (report, now));
    }

    /// Takes over the rows of the system range. Returns those that the nodes say differently.
    pub(super) fn take_rows(&self, rows: Vec<NodeRow>) -> Vec<NodeRow> {
        let mut heard = self.heard.lock();
        heard.rows = rows.into_iter().map(|row| (row.place.node, row)).collect();
        heard.changes += 1;
        let differs = |(node, row): (&NodeId, &NodeRow)| {
            let (report, _) = heard.reports.get(node)?;
            let now = NodeRow {
                state: row.state,
                ..report.row.clone()
            };
            (now != *row && row.state != NodeState::Gone).then_some(now)
        };
        heard.rows.iter().filter_map(differs).collect()
    }

    /// The cluster as it is seen.
    pub(super) fn view(&self, me: NodeId, system: Vec<Peer>, now: Duration) -> View {
        let heard = self.heard.lock();
        let statuses = heard.statuses(now).into_iter().map(|(status, _)| status);
        // Everybody has to know whom to refuse.
        let gone = heard.rows.values();
        let gone = gone.filter(|row| row.state == NodeState::Gone);
        let gone = gone.map(|row| NodeStatus {
            row: row.clone(),
            alive: false,
            stopping: false,
            usage: Default::default(),
            replicas: 0,
            leads: 0,
        });
        let mut nodes: Vec<_> = statuses.chain(gone).collect();
        nodes.sort_by_key(|status| status.row.place.node);
        View {
            coordinator: me,
            revision: (heard.term, heard.changes),
            nodes,
            system,
            system_position: None,
        }
    }

    /// What a plan is made from.
    pub(super) fn picture(&self, now: Duration) -> placement::Picture {
        let mut heard = self.heard.lock();
        heard
            .changing
            .retain(|_, (_, began)| now.saturating_sub(*began) < CHANGE_MAX);
        // A newer leader may have reported a range that an older one still believes to lead.
        let mut ranges: BTreeMap<u64, RangeReport> = BTreeMap::new();
        for (report, at) in heard.reports.values() {
            if now.saturating_sub(*at) > SILENCE {
                continue;
            }
            for range in &report.leads {
                let newer = |known: &RangeReport| known.term < range.term;
                let entry = ranges.entry(range.descriptor.range);
                entry
                    .and_modify(|known| {
                        if newer(known) {
                            *known = range.clone();
                        }
                    })
                    .or_insert_with(|| range.clone());
            }
        }
        heard.used.note(&mut ranges, now);
        let known = &mut heard.bounds;
        known.retain(|range, _| ranges.contains_key(range));
        let mut steady = BTreeMap::new();
        for report in ranges.values() {
            let generation = report.descriptor.generation;
            let since = known
                .entry(report.descriptor.range)
                .or_insert((generation, now));
            if since.0 != generation {
                *since = (generation, now);
            }
            steady.insert(report.descriptor.range, now.saturating_sub(since.1));
        }
        placement::Picture {
            steady,
            nodes: heard.statuses(now),
            ranges: ranges.into_values().collect(),
            changing: heard.changing.keys().copied().collect(),
            lost: heard.lost.clone(),
            ..placement::Picture::default()
        }
    }

    /// Does something with what operators want of ranges.
    pub(super) fn wanting<T>(&self, of: impl FnOnce(&mut Wanting) -> T) -> T {
        of(&mut self.heard.lock().wanting)
    }

    /// A member was closed on its node for good.
    pub(super) fn lose(&self, member: (u64, ReplicaId)) {
        self.heard.lock().lost.insert(member);
    }

    /// A change of the members of a range begins.
    pub(super) fn begin_change(&self, change: Move, now: Duration) {
        let mut heard = self.heard.lock();
        heard.changing.insert(change.range, (change, now));
    }

    /// The changes that are under way, and what operators want to be changed.
    pub(super) fn moves(&self) -> Vec<Move> {
        let heard = self.heard.lock();
        let begun = heard.changing.values().map(|(of, _)| of.clone());
        let wanted = heard.wanting.moves();
        begun.chain(wanted).collect()
    }

    /// It is over.
    pub(super) fn end_change(&self, range: u64) {
        self.heard.lock().changing.remove(&range);
    }

    /// Replicas that nodes hold though the leaders of their ranges do not know them, for a while.
    pub(super) fn strays(&self, picture: &placement::Picture, now: Duration) -> Vec<Stray> {
        let members: BTreeMap<u64, BTreeSet<ReplicaId>> = picture
            .ranges
            .iter()
            .filter(|range| range.settled)
            .map(|range| {
                let members = range.membership.members.keys().copied().collect();
                (range.descriptor.range, members)
            })
            .collect();
        let mut heard = self.heard.lock();
        let held = heard.reports.iter().flat_map(|(node, (report, _))| {
            let held = report.replicas.iter();
            held.map(|(range, replica, placed)| ((*node, *range, *replica), *placed))
        });
        let unknown = |(stray, _): &(Stray, bool)| {
            let (_, range, replica) = stray;
            let known = members.get(range);
            // What is being changed may be about to make it a member.
            known.is_some_and(|known| !known.contains(replica)) && !picture.changing.contains(range)
        };
        let now_strays: BTreeMap<Stray, bool> = held.filter(unknown).collect();
        heard
            .strays
            .retain(|stray, _| now_strays.contains_key(stray));
        for stray in now_strays.keys() {
            heard.strays.entry(*stray).or_insert(now);
        }
        let old = |(stray, placed): &(&Stray, &bool)| {
            let since = heard.strays.get(*stray).copied().unwrap_or(now);
            let patience = if **placed { LEFT } else { STRAY };
            now.saturating_sub(since) >= patience
        };
        let strays = now_strays.iter().filter(old);
        strays.map(|(stray, _)| *stray).collect()
    }
}

impl Roll {
    /// Members that their nodes do not hold though they are alive, for a while: one that was given
    /// a snapshot of a range did not see what was split off from it before.
    pub(super) fn missing(
        &self,
        picture: &placement::Picture,
        now: Duration,
    ) -> Vec<(NodeId, Opening)> {
        let mut heard = self.heard.lock();
        let mut missing = BTreeMap::new();
        for range in picture.ranges.iter().filter(|range| range.settled) {
            let number = range.descriptor.range;
            for (replica, place) in &range.membership.members {
                let Some((report, at)) = heard.reports.get(&place.node) else {
                    continue;
                };
                let silent = now.saturating_sub(*at) > SILENCE;
                if !silent && !report.holds(number, *replica) {
                    let opening = Opening {
                        descriptor: range.descriptor.clone(),
                        replica: *replica,
                    };
                    missing.insert((place.node, number, *replica), opening);
                }
            }
        }
        heard
            .missing
            .retain(|missed, _| missing.contains_key(missed));
        for missed in missing.keys() {
            heard.missing.entry(*missed).or_insert(now);
        }
        let old = |missed: &Stray| {
            let since = heard.missing.get(missed);
            since.is_some_and(|since| now.saturating_sub(*since) >= MISSING)
        };
        let found = missing.into_iter().filter(|(missed, _)| old(missed));
        found.map(|((node, ..), opening)| (node, opening)).collect()
    }
}

/// A node, a range, and the replica of it that has no business there.
pub(super) type Stray = (NodeId, u64, ReplicaId);

/// A node that was not heard of for so long is taken for dead.
pub(super) const SILENCE: Duration = Duration::from_millis(4_000);
/// A change of members that takes longer may be tried again.
const CHANGE_MAX: Duration = Duration::from_secs(60);
/// A replica that has its keys and is not a member is closed after this; it has the last word.
const LEFT: Duration = Duration::from_secs(5);
/// One that has nothing is closed after this: by then a change that was to make
/// it a member has failed.
const STRAY: Duration = Duration::from_secs(70);
/// A member that its node does not hold for so long is opened there.
const MISSING: Duration = Duration::from_secs(3);

impl Heard {
    /// The nodes with how long they have been silent.
    fn statuses(&self, now: Duration) -> Vec<(NodeStatus, Duration)> {
        let status = |row: &NodeRow| {
            let report = self.reports.get(&row.place.node);
            let last = report.map_or(self.since, |(_, at)| *at);
            let silent = now.saturating_sub(last);
            let report = report.map(|(report, _)| report);
            let status = NodeStatus {
                row: row.clone(),
                alive: silent <= SILENCE,
                stopping: report.is_some_and(|report| report.stopping),
                usage: report.map(|report| report.usage).unwrap_or_default(),
                replicas: report.map_or(0, |report| report.replicas.len() as u64),
                leads: report.map_or(0, |report| report.leads.len() as u64),
            };
            (status, silent)
        };
        let rows = self.rows.values();
        rows.filter(|row| row.state != NodeState::Gone)
            .map(status)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::cluster::used::tests::report;

    #[test]
    fn of_two_leaders_the_newer_one_counts() {
        let now = Duration::from_secs(1);
        for (old, new) in [(1, 2), (2, 1)] {
            let roll = Roll::default();
            roll.begin(1, now);
            for (leader, term) in [(old, 4), (new, 5)] {
                let mut row = NodeRow::default();
                row.place.node = NodeId(leader);
                let leads = vec![RangeReport {
                    term,
                    ..report(leader, 0)
                }];
                let heard = Report {
                    row,
                    leads,
                    usage: Default::default(),
                    replicas: Vec::new(),
                    stopping: false,
                };
                roll.note(heard, now);
            }
            let picture = roll.picture(now);
            let leaders: Vec<u64> = picture
                .ranges
                .iter()
                .map(|of| of.leader.place.node.0)
                .collect();
            assert_eq!(leaders, [new]);
        }
    }
}
