//! Parts of a query at the nodes that lead the ranges it reads.
//!
//! ```text
//! Scan        rows = rows of part 1, of part 2, ...     in the order of their keys
//! Aggregate   final half  <-- gather <-- first half here
//!                                    <-- first half at n2, at n3, ...
//! Sort, Limit the first n <-- gather <-- the first n here
//!                                    <-- the first n at n2, at n3, ...
//! Aggregate   groups <-- gather <-- second half of some groups, of which all nodes shuffle first halves
//! Join        rows <-- gather <-- own rows here and at n2, n3, ... with all rows of a small side
//! Join        rows <-- gather <-- rows of both sides with the same keys, which all nodes shuffle
//! ```
//!
//! A [`Part`] names a table, spans of its keys, and what is done with the rows; it is read at the
//! timestamp that the transaction reads at, by a transaction of the other node. That one finds the
//! keys as any other does, so where a part is run is a matter of speed alone: ranges may move, and
//! a part whose node does not answer is run here. What was read is noted here, for validation.
//!
//! Whoever wants to see what became of the parts keeps an [`Account`] (EXPLAIN, DIST).
//!
//! What depends on the session (its zone, its settings, its own writes, the time) stays here.

mod account;
mod distribution;
mod draft;
mod fetch;
mod inlet;
mod part;
mod partitioner;
mod portable;
mod serve;
mod shuffle;
mod spread;
mod wire;
mod work;

pub use account::{Account, Measured, PartAccount, SpreadAccount};
pub use distribution::{Distribution, Shuffled, Wanted, distribution, placed};
pub use fetch::{Away, Placed, gather, in_order, is_lost};
pub use inlet::inlet;
pub use part::{Inlet, Part};
pub use serve::{Cursors, Number};
pub use shuffle::shuffle;
pub use spread::{Placement, Spread};
pub use work::{Half, Top};

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use pontoon_kv::NodeId;

/// How the SQL layers of nodes are asked.
pub trait Colleagues: Send + Sync + 'static {
    /// Brings a question to a node's [`crate::session::Engine::answer`]. The error says in
    /// plain words why there is no answer. Dropping the future gives up the answer.
    fn ask(&self, node: NodeId, question: Bytes) -> BoxFuture<'static, Result<Bytes, String>>;
}

/// The other nodes, as one of them sees them.
#[derive(Clone)]
pub struct Fellows {
    /// This node.
    pub me: NodeId,
    /// All of them, this one among them.
    pub others: Arc<dyn Colleagues>,
}
