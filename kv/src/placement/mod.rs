//! Where replicas should be: a pure function from what the coordinator sees to the next changes.
//!
//! ```text
//! Picture (nodes, ranges) --plan--> Steps, at most one a range     the leaders carry them out
//! ```
//!
//! It plans one step at a time and looks again: whatever fails, or was done by somebody else, is seen
//! in the next picture. New members are learners first and vote when they have caught up; members are
//! exchanged in one change, so that no range has fewer votes that count than before.
//!
//! Where a [`Rule`](crate::cluster::Rule) holds for the keys of a range, the number of its replicas and the nodes that may
//! hold and should lead it are the rule's; a replica elsewhere is exchanged as if its node were to
//! leave.
//!
//! What is wrong with a range comes first. Then numbers of replicas and leaders are made equal
//! (`balance`), load is spread (`load`), small neighbours become one (`merge`), and those on different
//! nodes are brought together for that (`together`); each only where nothing before it is to be done.
//!
//! Absent on purpose: a range never gives up votes because nodes have died; it waits for new ones.

mod balance;
mod exchange;
mod load;
#[cfg(test)]
mod load_tests;
mod merge;
mod plan;
#[cfg(test)]
mod rule_tests;
mod ruled;
mod supposed;
#[cfg(test)]
mod tests;
mod together;
#[cfg(test)]
mod together_tests;
mod unmet;
mod wish;
#[cfg(test)]
mod wish_tests;

pub(crate) use plan::has_caught_up;
pub use plan::{Picture, Step, Wishes, plan, stuck};
pub use unmet::{lacking, unmet};
pub use wish::{is_fulfilled, objection};
