//! Messages as bytes.
//!
//! ```text
//! frame   = message, message, ...
//! message = length (u32, little endian), postcard of (number of the request, question or answer)
//! ```
//!
//! New variants are appended at the end; a change of what is there needs a new
//! [`super::handshake::PROTOCOL`].

use bytes::{Buf, Bytes};
use pontoon_kv::Span;
use pontoon_kv::cluster::{Answer as CallAnswer, Call};
use pontoon_kv::range::Refusal as CallRefusal;
use pontoon_raft::transport::{Envelope, Refusal, Reply, Request};
use pontoon_raft::{EntryPayload, NodeId};
use pontoon_sql::pg_catalog::NamedSpan;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::codec::FRAME_BYTES_MAX;

/// Bytes of the length before a message.
const LENGTH_BYTES: usize = size_of::<u32>();
/// Room for what a message has beside its long values.
const SMALL_BYTES: usize = 128;
/// Room for what a log entry has beside its command.
const ENTRY_BYTES: usize = 32;

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Question {
    /// A Raft message.
    Raft(Envelope),
    /// A question of the key-value layer.
    Call(Call),
    /// A question of the SQL layer, in its encoding.
    Sql(Bytes),
    /// What an operator asks of the SQL layer.
    Operate(Operation),
    /// A question to a node that the caller does not reach, to be passed on to it.
    PassOn {
        /// Whom it is for.
        to: NodeId,
        /// The question, which is not such a one itself.
        question: Box<Question>,
    },
}

/// What an operator asks of the SQL layer of any node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Operation {
    /// How people read spans of keys.
    Name(Vec<Span>),
    /// To run ALTER TABLE | INDEX ... SPLIT AT or UNSPLIT.
    Reshape(String),
}

/// The answer to an [`Operation`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Operated {
    /// To [`Operation::Name`], in the same order.
    Named(Vec<NamedSpan>),
    /// To [`Operation::Reshape`]: what the statement had to tell.
    Reshaped(Vec<String>),
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// To [`Question::Raft`].
    Raft(Result<Reply, Refusal>),
    /// To [`Question::Call`].
    Call(Result<CallAnswer, CallRefusal>),
    /// The handler has not come to an end, or its answer cannot be sent. What it was asked for may
    /// have happened.
    Failed,
    /// To [`Question::Sql`]; the error says in plain words why there is no answer.
    Sql(Result<Bytes, String>),
    /// To [`Question::Operate`]; the error says in plain words what is wrong.
    Operate(Result<Operated, String>),
    /// To [`Question::PassOn`]: what the other node has answered.
    PassedOn(Box<Answer>),
    /// To [`Question::PassOn`]: the other node was not reached.
    NotPassedOn,
}

/// A message that cannot be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum EncodeError {
    /// It is longer than a frame may be.
    #[error("a message of {bytes} bytes is longer than can be sent")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// It has no encoding.
    #[error("a message has no encoding")]
    Unencodable,
}

/// A frame that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("malformed message")]
pub(super) struct Malformed;

impl Question {
    /// About how many bytes it takes, so that long ones are written without growing their buffer
    /// again and again.
    fn bytes_hint(&self) -> usize {
        let envelope = match self {
            Self::Raft(envelope) => envelope,
            Self::Call(_) => return SMALL_BYTES,
            Self::Sql(question) => return SMALL_BYTES + question.len(),
            Self::Operate(_) => return SMALL_BYTES,
            Self::PassOn { question, .. } => return SMALL_BYTES + question.bytes_hint(),
        };
        SMALL_BYTES
            + match &envelope.body {
                Request::Append(append) => append
                    .entries
                    .iter()
                    .map(|entry| match &entry.payload {
                        EntryPayload::Blank => ENTRY_BYTES,
                        EntryPayload::Command(bytes) | EntryPayload::Membership(bytes) => {
                            ENTRY_BYTES + bytes.len()
                        }
                    })
                    .sum(),
                Request::Snapshot(chunk) => chunk.data.len() + chunk.membership.len(),
                Request::Vote(_)
                | Request::PreVote(_)
                | Request::TransferLeader { .. }
                | Request::Quiesce(_)
                | Request::Wake => 0,
            }
    }

    /// The message of that number.
    pub(super) fn encode(&self, id: u64) -> Result<Bytes, EncodeError> {
        encode(id, self, self.bytes_hint())
    }
}

impl Answer {
    /// The message that answers the one of that number.
    pub(super) fn encode(&self, id: u64) -> Result<Bytes, EncodeError> {
        let page = match self {
            Self::Sql(Ok(page)) => page.len(),
            _ => 0,
        };
        encode(id, self, SMALL_BYTES + page)
    }
}

fn encode(id: u64, body: &impl Serialize, bytes_hint: usize) -> Result<Bytes, EncodeError> {
    let mut buffer = Vec::with_capacity(LENGTH_BYTES + bytes_hint);
    buffer.extend([0; LENGTH_BYTES]);
    let mut message =
        postcard::to_extend(&(id, body), buffer).map_err(|_| EncodeError::Unencodable)?;
    let bytes = message.len().saturating_sub(LENGTH_BYTES);
    if message.len() > FRAME_BYTES_MAX {
        return Err(EncodeError::TooLong { bytes });
    }
    let length = u32::try_from(bytes).map_err(|_| EncodeError::TooLong { bytes })?;
    if let Some(place) = message.first_chunk_mut() {
        *place = length.to_le_bytes();
    }
    Ok(message.into())
}

/// Takes the first message off a frame; `None` when nothing is left of it.
pub(super) fn decode<T: DeserializeOwned>(
    frame: &mut Bytes,
) -> Result<Option<(u64, T)>, Malformed> {
    if frame.is_empty() {
        return Ok(None);
    }
    let length = frame.try_get_u32_le().map_err(|_| Malformed)?;
    let length = usize::try_from(length).map_err(|_| Malformed)?;
    let (message, _) = frame.split_at_checked(length).ok_or(Malformed)?;
    let (decoded, rest) = postcard::take_from_bytes(message).map_err(|_| Malformed)?;
    if !rest.is_empty() {
        return Err(Malformed);
    }
    frame.advance(length);
    Ok(Some(decoded))
}
