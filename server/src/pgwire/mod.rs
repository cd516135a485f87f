//! The PostgreSQL wire protocol: from a socket to a [`pontoon_sql`] session and back.
//!
//! A connection is one future, which lives at one of the [`homes`] and works elsewhere when a
//! statement may be long. [`startup`] negotiates encryption, protocol version and session;
//! [`connection`] then reads frames and hands them to [`simple`] and [`extended`]; results leave
//! through [`rows`] into one output buffer that is written once per Sync, Flush, ReadyForQuery or
//! when it exceeds [`connection::FLUSH_BYTES`].
//!
//! Frames are decoded by [`frames`] and encoded by [`out`], our own: the decoder of the pgwire
//! crate panics on frames shorter than their contents say, replaces invalid UTF-8 silently, and
//! its handlers write once per message. What a frame may hold is checked before memory is reserved
//! for it.
//!
//! This module must not look at the text of a statement.

pub(crate) mod cancel;
pub(crate) mod connection;
pub(crate) mod copy;
pub(crate) mod extended;
pub(crate) mod frames;
pub(crate) mod homes;
pub(crate) mod io;
pub(crate) mod listener;
pub(crate) mod out;
pub(crate) mod rows;
pub(crate) mod simple;
pub(crate) mod startup;
#[cfg(test)]
mod tests;
pub(crate) mod tls;
