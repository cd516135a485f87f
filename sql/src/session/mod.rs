//! What the server speaks to: one [`Session`](api) for each connection, with its transaction,
//! variables, prepared statements and portals.

pub mod api;
pub(crate) mod cancel;
pub mod known;
pub(crate) mod sequences;
pub(crate) mod settings;
pub mod variables;
pub(crate) mod zone;

pub use cancel::CancelHandle;
