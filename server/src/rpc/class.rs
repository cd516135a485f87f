//! Classes of messages, each with connections of its own, and what is counted of them.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use pontoon_kv::cluster::Call;
use pontoon_raft::transport::{Envelope, Request};

/// What must not wait for each other. A class has its own connection to each node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Class {
    /// Small and urgent: votes, transfers of leadership, heartbeats.
    Control,
    /// Log entries.
    Log,
    /// Questions of the key-value layer.
    Data,
    /// Snapshots, and parts of queries.
    Bulk,
}

impl Class {
    /// Every class.
    pub(crate) const ALL: [Self; 4] = [Self::Control, Self::Log, Self::Data, Self::Bulk];

    /// The class of a Raft message.
    pub(super) fn of_envelope(envelope: &Envelope) -> Self {
        match &envelope.body {
            Request::Append(append) if !append.entries.is_empty() => Self::Log,
            Request::Snapshot(_) => Self::Bulk,
            Request::Append(_)
            | Request::Vote(_)
            | Request::PreVote(_)
            | Request::TransferLeader { .. }
            | Request::Quiesce(_)
            | Request::Wake => Self::Control,
        }
    }

    /// The class of a question.
    pub(super) fn of_call(call: &Call) -> Self {
        match call {
            Call::Heartbeat(_) | Call::PassedOn(_) => Self::Control,
            _ => Self::Data,
        }
    }

    /// Its name, on the wire and in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Log => "log",
            Self::Data => "data",
            Self::Bulk => "bulk",
        }
    }

    /// The class of that name.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a node has asked others in one class since it was started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ClassStats {
    /// The class.
    pub(crate) class: Class,
    /// Messages handed to a connection.
    pub(crate) sent: u64,
    /// Answers.
    pub(crate) received: u64,
    /// Bytes of the messages.
    pub(crate) sent_bytes: u64,
    /// Bytes of the answers.
    pub(crate) received_bytes: u64,
    /// Messages that nobody answered, in time or at all.
    pub(crate) failures: u64,
}

/// The counters behind [`ClassStats`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    sent: AtomicU64,
    received: AtomicU64,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
    failures: AtomicU64,
}

impl Counters {
    /// Messages were handed to a connection.
    pub(super) fn sent(&self, messages: usize, bytes: usize) {
        self.sent.fetch_add(messages as u64, Ordering::Relaxed);
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Answers have come.
    pub(super) fn received(&self, messages: usize, bytes: usize) {
        self.received.fetch_add(messages as u64, Ordering::Relaxed);
        self.received_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A message has no answer.
    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// What has been counted.
    pub(super) fn read(&self, class: Class) -> ClassStats {
        ClassStats {
            class,
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            sent_bytes: self.sent_bytes.load(Ordering::Relaxed),
            received_bytes: self.received_bytes.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
        }
    }
}
