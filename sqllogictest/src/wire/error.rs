//! What can go wrong while talking to a server: the server's own errors and the connection's.

use std::collections::BTreeMap;
use std::fmt;

/// One ErrorResponse, as the server sent it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerError {
    /// `ERROR`, `FATAL` or `PANIC`.
    pub severity: String,
    /// The SQLSTATE, five characters.
    pub code: String,
    /// The primary message.
    pub message: String,
    /// The detail line, if any.
    pub detail: Option<String>,
    /// The hint line, if any.
    pub hint: Option<String>,
    /// The 1-based character position in the statement, if any.
    pub position: Option<String>,
}

impl ServerError {
    /// Reads the field list of an ErrorResponse or NoticeResponse body.
    pub fn parse(body: &[u8]) -> Self {
        let mut fields: BTreeMap<u8, String> = BTreeMap::new();
        let mut rest = body;
        while let Some((&kind, tail)) = rest.split_first() {
            if kind == 0 {
                break;
            }
            let end = tail.iter().position(|b| *b == 0).unwrap_or(tail.len());
            let (text, after) = tail.split_at(end);
            fields.insert(kind, String::from_utf8_lossy(text).into_owned());
            rest = after.get(1..).unwrap_or_default();
        }
        let mut take = |kind: u8| fields.remove(&kind);
        let localized = take(b'S');
        Self {
            severity: take(b'V').or(localized).unwrap_or_default(),
            code: take(b'C').unwrap_or_default(),
            message: take(b'M').unwrap_or_default(),
            detail: take(b'D'),
            hint: take(b'H'),
            position: take(b'P'),
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.severity, self.code, self.message)
    }
}

/// Why a request got no ordinary answer.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The server answered with an error; the connection may still be usable.
    #[error("{0}")]
    Server(Box<ServerError>),
    /// No answer within the client's deadline.
    #[error("no answer within {0} ms")]
    Timeout(u128),
    /// The server closed the connection in the middle of an exchange.
    #[error("the server closed the connection")]
    Closed,
    /// The socket failed.
    #[error("socket: {0}")]
    Io(std::io::Error),
    /// The server sent what the protocol does not allow at this place.
    #[error("protocol violation by the server: {0}")]
    Protocol(String),
}

impl WireError {
    /// The SQLSTATE, when the server sent one.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Server(error) => Some(&error.code),
            Self::Timeout(_) | Self::Closed | Self::Io(_) | Self::Protocol(_) => None,
        }
    }
}

impl From<ServerError> for WireError {
    fn from(error: ServerError) -> Self {
        Self::Server(Box::new(error))
    }
}
