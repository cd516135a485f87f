//! What the server speaks to: one [`Session`](api) for each connection, with its transaction,
//! variables, prepared statements and portals.

pub mod api;
