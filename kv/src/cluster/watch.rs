//! What may be watched of the cluster's metadata, and how changes of it are told.
//!
//! ```text
//! Watching(topics, since) --> Watched(revision, changes) --> Watching(topics, revision) --> ...
//! ```
//!
//! A revision is a timestamp of the cluster: the commits at or below it have been seen. Whoever asks
//! again from the revision that he was told misses nothing and hears nothing twice, whichever node
//! answers.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::cluster::row::decode_row;
use crate::cluster::{Constraint, NodeRow, NodeState, Rule};
use crate::error::Error;
use crate::keys;
use crate::routing::Address;
use crate::timestamp::Timestamp;
use crate::txn::Span;

/// A kind of metadata. Join tokens and the certificate authority are none: they are secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Topic {
    /// The nodes of the cluster: who and where they are, and what the operator wants of them.
    Nodes,
    /// Where ranges are.
    Ranges,
    /// Cluster settings.
    Settings,
    /// Where ranges shall begin because somebody wants it so.
    Splits,
    /// Placement rules of tables.
    Rules,
}

impl Topic {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Nodes,
        Self::Ranges,
        Self::Settings,
        Self::Splits,
        Self::Rules,
    ];

    /// Its name, as people and programs give it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Ranges => "ranges",
            Self::Settings => "settings",
            Self::Splits => "splits",
            Self::Rules => "rules",
        }
    }

    /// The topic of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.name() == name)
    }

    /// The keys of its rows.
    pub(crate) fn span(self) -> Span {
        match self {
            Self::Nodes => keys::node_span(),
            Self::Ranges => keys::address_span(),
            Self::Settings => keys::setting_span(),
            Self::Splits => keys::wanted_split_span(),
            Self::Rules => keys::placement_rule_span(),
        }
    }

    /// The topic of a row.
    pub(crate) fn of(key: &[u8]) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|topic| topic.span().contains(key))
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A question for what has changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Watching {
    /// Of what.
    pub topics: Vec<Topic>,
    /// Since when: the revision of the last answer. Zero asks for the rows as they are.
    pub since: Timestamp,
    /// How long the answer may wait for the first change.
    pub wait_ms: u32,
}

/// What has changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Watched {
    /// Every commit at or below it has been told now.
    pub revision: Timestamp,
    /// What the events are.
    pub kind: WatchedKind,
    /// The events: changes in the order of their commits, or rows in the order of their keys.
    /// There may be none.
    pub events: Vec<WatchEvent>,
}

/// What an answer to a watch holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum WatchedKind {
    /// All changes from the revision that was asked for up to that of the answer.
    Changes,
    /// All rows as of the revision: nothing had been seen before.
    Rows,
    /// All rows as of the revision, in place of what was seen: the changes since are not known any
    /// more, or never were.
    Compacted,
}

impl WatchedKind {
    /// Its name, as people and programs read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Changes => "changes",
            Self::Rows => "rows",
            Self::Compacted => "compacted",
        }
    }
}

/// A row that was written or deleted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WatchEvent {
    /// The commit that did.
    pub revision: Timestamp,
    /// What it is about.
    pub topic: Topic,
    /// The key of the row within its topic.
    pub key: Bytes,
    /// The row now, `None` when it was deleted.
    pub value: Option<Bytes>,
    /// The row before, `None` when there was none or it is not told.
    pub old: Option<Bytes>,
}

/// A row of metadata, read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Metadata {
    /// Of [`Topic::Nodes`].
    Node(NodeRow),
    /// Of [`Topic::Ranges`].
    Range(Address),
    /// Of [`Topic::Settings`].
    Setting(String),
    /// Of [`Topic::Splits`]: the key at which a range shall begin.
    Split(Bytes),
    /// Of [`Topic::Rules`].
    Rule(Rule),
}

impl WatchEvent {
    /// "put" or "delete".
    pub fn verb(&self) -> &'static str {
        match self.value {
            Some(_) => "put",
            None => "delete",
        }
    }

    /// What the row is about: the number of a node, the first key of a range in hexadecimal, the
    /// name of a setting, the key of a split, the number of the table that has a rule.
    pub fn id(&self) -> String {
        match self.topic {
            Topic::Nodes => match self.key.as_ref().try_into().map(u64::from_be_bytes) {
                Ok(node) => node.to_string(),
                Err(_) => key_text(&self.key),
            },
            Topic::Rules => match self.key.as_ref().try_into().map(u32::from_be_bytes) {
                Ok(table) => table.to_string(),
                Err(_) => key_text(&self.key),
            },
            Topic::Settings => String::from_utf8_lossy(&self.key).into_owned(),
            Topic::Ranges | Topic::Splits => key_text(&self.key),
        }
    }

    /// The table that has the rule which this is about.
    ///
    /// # Errors
    /// [`Error::Storage`] when the key is damaged.
    pub(crate) fn table(&self) -> Result<u32, Error> {
        let table = self.key.as_ref().try_into().map(u32::from_be_bytes);
        Ok(table.map_err(|_| keys::Malformed)?)
    }

    /// The row now.
    ///
    /// # Errors
    /// [`Error::Storage`] when it is damaged.
    pub fn row(&self) -> Result<Option<Metadata>, Error> {
        self.read(self.value.as_ref())
    }

    /// The row before.
    ///
    /// # Errors
    /// [`Error::Storage`] when it is damaged.
    pub fn old_row(&self) -> Result<Option<Metadata>, Error> {
        self.read(self.old.as_ref())
    }

    fn read(&self, stored: Option<&Bytes>) -> Result<Option<Metadata>, Error> {
        let Some(stored) = stored else {
            return Ok(None);
        };
        Ok(Some(match self.topic {
            Topic::Nodes => Metadata::Node(decode_row(stored)?),
            Topic::Ranges => Metadata::Range(decode_row(stored)?),
            Topic::Settings => Metadata::Setting(String::from_utf8_lossy(stored).into_owned()),
            Topic::Splits => Metadata::Split(self.key.clone()),
            Topic::Rules => Metadata::Rule(decode_row(stored)?),
        }))
    }
}

impl Metadata {
    /// The row as JSON, for people and programs. Names stay; new ones may come.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Node(row) => node_json(row),
            Self::Range(address) => range_json(address),
            Self::Setting(value) => value.as_str().into(),
            Self::Split(key) => serde_json::json!({ "start_key": key_text(key) }),
            Self::Rule(rule) => rule_json(rule),
        }
    }
}

fn node_json(row: &NodeRow) -> serde_json::Value {
    let roles = [(row.roles.data, "data"), (row.roles.query, "query")];
    let roles = roles.into_iter().filter(|(has, _)| *has);
    let locality = row.locality.iter().map(|(k, v)| format!("{k}={v}"));
    serde_json::json!({
        "node_id": row.place.node.0,
        "state": match row.state {
            NodeState::Active => "active",
            NodeState::Leaving => "leaving",
            NodeState::Gone => "gone",
        },
        "roles": roles.map(|(_, role)| role).collect::<Vec<_>>(),
        "locality": locality.collect::<Vec<_>>().join(","),
        "rpc_address": row.rpc,
        "sql_address": row.sql,
        "admin_address": row.admin,
        "version": row.version,
    })
}

fn rule_json(rule: &Rule) -> serde_json::Value {
    let place = |place: &Option<Constraint>| place.as_ref().map(Constraint::to_string);
    serde_json::json!({
        "replicas": rule.replicas,
        "placement": place(&rule.constraint),
        "leaders": place(&rule.leaders),
    })
}

fn range_json(address: &Address) -> serde_json::Value {
    let descriptor = &address.descriptor;
    let members = address.members.iter().map(|member| {
        serde_json::json!({
            "replica_id": member.replica.0,
            "node_id": member.place.node.0,
        })
    });
    serde_json::json!({
        "range_id": descriptor.range,
        "generation": descriptor.generation,
        "start_key": key_text(&descriptor.span.start),
        "end_key": key_text(&descriptor.span.end),
        "replicas": members.collect::<Vec<_>>(),
    })
}

/// A key in hexadecimal, as PostgreSQL writes bytes.
fn key_text(key: &[u8]) -> String {
    let digits = key.iter().map(|byte| format!("{byte:02x}"));
    digits.fold("\\x".to_owned(), |text, digits| text + &digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::row::encode_row;

    #[test]
    fn topics_have_names_and_keys_of_their_own() {
        for topic in Topic::ALL {
            assert_eq!(Topic::from_name(topic.name()), Some(topic));
            let first = topic.span().start;
            assert_eq!(Topic::of(&first), Some(topic));
            assert!(keys::is_watched(&first), "{topic}");
        }
        let secrets = [
            keys::authority_key(),
            keys::join_token_key(&[7; 32]),
            keys::let_in_key(3),
        ];
        for key in secrets.iter().chain([&keys::next_node_key()]) {
            assert_eq!(Topic::of(key), None);
            assert!(!keys::is_watched(key));
        }
        assert_eq!(Topic::from_name("tokens"), None);
    }

    #[test]
    fn rows_are_shown_by_name() {
        let mut row = NodeRow {
            rpc: "host:1".to_owned(),
            locality: vec![("zone".into(), "a".into())],
            ..NodeRow::default()
        };
        row.place.node.0 = 3;
        let event = WatchEvent {
            revision: Timestamp(9),
            topic: Topic::Nodes,
            key: Bytes::copy_from_slice(&keys::node_key(3)[1..]),
            value: Some(encode_row(&row).unwrap()),
            old: None,
        };
        assert_eq!((event.verb(), event.id()), ("put", "3".to_owned()));
        let shown = event.row().unwrap().unwrap().to_json();
        assert_eq!(
            shown.to_string(),
            "{\"node_id\":3,\"state\":\"active\",\"roles\":[\"data\",\"query\"],\
             \"locality\":\"zone=a\",\"rpc_address\":\"host:1\",\"sql_address\":\"\",\
             \"admin_address\":\"\",\"version\":\"\"}"
        );
        let deleted = WatchEvent {
            topic: Topic::Splits,
            key: Bytes::from_static(&[0x20, 0x0f]),
            value: None,
            ..event.clone()
        };
        assert_eq!((deleted.verb(), deleted.id()), ("delete", "\\x200f".into()));
        let damaged = WatchEvent {
            value: Some(Bytes::from_static(b"?")),
            ..event
        };
        assert!(damaged.row().is_err());
    }
}
