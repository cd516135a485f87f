//! A small blocking client for the PostgreSQL wire protocol, version 3.
//!
//! It exists beside the real drivers because tests need what drivers hide: raw frames, the
//! transaction status byte, COPY in the simple protocol, a deadline on every read. It knows text
//! format only and no authentication but "trust" and a clear-text password.

mod client;
mod error;
mod frame;

pub use client::{Address, Client, Column, Outcome};
pub use error::{ServerError, WireError};
pub use frame::{Frame, FrameReader, message, startup_message};
