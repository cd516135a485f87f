//! Throw-away servers on random loopback ports: PostgreSQL 15 clusters and Pontoon nodes.
//!
//! A server lives in a directory of its own under the system's temporary directory and dies with
//! its handle. Nothing here touches a server that it did not start.

mod engine;
mod pontoon;
mod postgres;

pub use engine::{Engine, Server, ServerFailure};
pub use pontoon::{Home, PontoonNode, pontoon_binary};
pub use postgres::{PostgresCluster, postgres_program};
