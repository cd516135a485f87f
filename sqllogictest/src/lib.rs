//! The SQL test runner: it asks a server over the PostgreSQL wire protocol and compares answers.
//!
//! Owns: a small blocking wire client ([`wire`]), throw-away servers ([`server`]), the runner of
//! our own cases ([`cases`]), the readers and runners of foreign suites ([`corpus`]), the replay
//! of recorded introspection queries ([`introspection`]) and the tally that orders failures by
//! frequency ([`tally`]).
//!
//! It must not know anything of Pontoon but the wire and the command line of the binary: every
//! check here can be pointed at PostgreSQL 15 too, and has been.

pub mod cases;
pub mod corpus;
pub mod introspection;
pub mod server;
pub mod tally;
pub mod target;
pub mod wire;
