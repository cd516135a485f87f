//! Rules of placement: what somebody wants of the replicas of some keys, in place of what holds for
//! all ([`Wishes`](crate::placement::Wishes)).
//!
//! Each is a row of the system range ([`keys::placement_rule_key`]), written by the transaction that
//! changes the table, and read by the coordinator with what else it reads in a round. A rule holds for
//! ranges that lie within its keys; so ranges are split at the bounds of [`Rules`], and no two become
//! one across them.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::cluster::{NodeRow, NodeState, NodeStatus, encode_row};
use crate::error::Error;
use crate::keys;
use crate::txn::Span;

/// What must hold of the locality of a node: all of these.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Constraint(Vec<(String, String)>);

/// Why a text is no [`Constraint`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoConstraint {
    /// A part of it is not of the form.
    #[error("{0:?} is not of the form key=value, as in region=eu,zone=a")]
    Form(String),
    /// A node cannot be in two places.
    #[error("{0:?} is named twice")]
    Twice(String),
}

impl FromStr for Constraint {
    type Err = NoConstraint;

    /// Reads `region=eu,zone=a`.
    fn from_str(text: &str) -> Result<Self, NoConstraint> {
        let mut all: Vec<(String, String)> = Vec::new();
        for part in text.split(',') {
            let pair = part.split_once('=');
            let pair = pair.map(|(key, value)| (key.trim(), value.trim()));
            let pair = pair.filter(|(key, value)| !key.is_empty() && !value.is_empty());
            let Some((key, value)) = pair.filter(|(_, value)| !value.contains('=')) else {
                return Err(NoConstraint::Form(part.trim().to_owned()));
            };
            if all.iter().any(|(known, _)| known == key) {
                return Err(NoConstraint::Twice(key.to_owned()));
            }
            all.push((key.to_owned(), value.to_owned()));
        }
        Ok(Self(all))
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (key, value)) in self.0.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            write!(f, "{comma}{key}={value}")?;
        }
        Ok(())
    }
}

impl Constraint {
    /// Whether a node satisfies it.
    pub fn holds(&self, node: &NodeRow) -> bool {
        self.0.iter().all(|pair| node.locality.contains(pair))
    }
}

/// What somebody wants of the replicas of some keys.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Rule {
    /// Replicas of a range, an odd number; `None`: as many as others have.
    pub replicas: Option<u8>,
    /// Which nodes may hold one.
    pub constraint: Option<Constraint>,
    /// Which of those should lead.
    pub leaders: Option<Constraint>,
}

impl Rule {
    /// Whether a node may hold a replica.
    pub fn admits(&self, node: &NodeRow) -> bool {
        let constraint = self.constraint.as_ref();
        constraint.is_none_or(|constraint| constraint.holds(node))
    }

    /// Whether a node may lead, as far as there is a choice.
    pub fn prefers(&self, node: &NodeRow) -> bool {
        let leaders = self.leaders.as_ref();
        leaders.is_none_or(|leaders| leaders.holds(node))
    }

    /// How many nodes work and may hold a replica, and how many of those should lead.
    pub fn able(&self, nodes: &[NodeStatus]) -> (usize, usize) {
        let works = |status: &&NodeStatus| {
            let row = &status.row;
            status.alive && row.roles.data && row.state == NodeState::Active && self.admits(row)
        };
        let able: Vec<_> = nodes.iter().filter(works).collect();
        let lead = able.iter().filter(|status| self.prefers(&status.row));
        (able.len(), lead.count())
    }

    /// The row of the system range.
    ///
    /// # Errors
    /// [`Error::Storage`] when it cannot be encoded.
    pub fn encode(&self) -> Result<Bytes, Error> {
        encode_row(self)
    }
}

/// All rules, by the keys for which they hold.
#[derive(Clone, Debug, Default)]
pub struct Rules(Vec<(Span, Rule)>);

impl FromIterator<(u32, Rule)> for Rules {
    /// The rules of tables. Where one is like that of the keys before it the two are one: nothing
    /// need part them.
    fn from_iter<T: IntoIterator<Item = (u32, Rule)>>(rules: T) -> Self {
        let rules = rules.into_iter();
        let mut all: Vec<_> = rules
            .map(|(table, rule)| (keys::table_span(table), rule))
            .collect();
        all.sort_by(|(one, _), (other, _)| one.start.cmp(&other.start));
        all.dedup_by(|(span, rule), (before, known)| {
            let same = before.end == span.start && known == rule;
            if same {
                before.end = span.end.clone();
            }
            same
        });
        Self(all)
    }
}

impl Rules {
    /// The rule for all keys of a range.
    pub fn of(&self, span: &Span) -> Option<&Rule> {
        let holds = |(of, _): &&(Span, Rule)| of.start <= span.start && span.end <= of.end;
        self.0.iter().find(holds).map(|(_, rule)| rule)
    }

    /// A key within a range with which another should begin, since its rule is another.
    pub(crate) fn part(&self, span: &Span) -> Option<&Bytes> {
        let inner = |key: &&Bytes| span.start < **key && **key < span.end;
        self.bounds().find(inner)
    }

    /// Whether the keys before `key` have another rule than those from it on.
    pub(crate) fn parts(&self, key: &Bytes) -> bool {
        self.bounds().any(|bound| bound == key)
    }

    fn bounds(&self) -> impl Iterator<Item = &Bytes> {
        self.0.iter().flat_map(|(span, _)| [&span.start, &span.end])
    }
}
