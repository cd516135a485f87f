//! [`Search`]: whom to take for the coordinator.

use parking_lot::Mutex;
use pontoon_raft::NodeId;

use crate::cluster::Book;
use crate::routing::Whom;

/// Looks for the coordinator, for all of a node that wants something of it.
///
/// The belief comes first: who answered, who was named, or who leads range 1 by what its replica
/// here has heard. When that fails, everybody else takes a turn, and at last the addresses that the
/// node was started with: whatever it remembers may be out of date, and whoever is called at one of
/// them learns where this node is.
///
/// Invariant: as long as nobody answers, everybody is asked; no belief is asked twice in a row
/// without news.
#[derive(Debug, Default)]
pub(crate) struct Search {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    believed: Option<NodeId>,
    /// What the replica of range 1 said last.
    hint: Option<NodeId>,
    /// Counts those who were asked in vain.
    turn: usize,
}

impl Search {
    /// Whom to ask now; `None` when there is nobody. `hint` leads range 1 by what its replica on
    /// this node has heard. `leave_out` has been asked already.
    pub(crate) fn next(
        &self,
        hint: Option<NodeId>,
        book: &Book,
        leave_out: Option<NodeId>,
    ) -> Option<Whom> {
        let mut state = self.state.lock();
        if hint.is_some() && hint != state.hint {
            state.believed = hint;
        }
        state.hint = hint;
        // Nobody else can be blamed for a belief that is not asked: it would stay, and keep the
        // turn from going on.
        if leave_out.is_some() && state.believed == leave_out {
            state.believed = None;
        }
        if let Some(believed) = state.believed {
            return Some(Whom::Node(believed));
        }
        let asked = |node: &NodeId| Some(*node) != leave_out;
        let members = book.system();
        let members = members.iter().map(|member| member.place.node);
        let others = members.clone().filter(|node| Some(*node) != hint);
        let nodes = hint.into_iter().chain(others).filter(asked);
        let seeds = book.seeds().into_iter().map(Whom::Address);
        let all: Vec<_> = nodes.map(Whom::Node).chain(seeds).collect();
        all.get(state.turn % all.len().max(1)).cloned()
    }

    /// This node has answered as the coordinator.
    pub(crate) fn found(&self, node: NodeId) {
        let mut state = self.state.lock();
        state.believed = Some(node);
        state.turn = 0;
    }

    /// Whoever was asked is not the coordinator, but may have named one.
    pub(crate) fn sent_on(&self, asked: &Whom, named: Option<NodeId>) {
        self.failed(asked);
        if named.is_some() {
            let mut state = self.state.lock();
            state.believed = named;
            state.turn = state.turn.wrapping_add(1);
        }
    }

    /// Whoever was asked has not answered.
    pub(crate) fn failed(&self, asked: &Whom) {
        let mut state = self.state.lock();
        match (state.believed, asked) {
            (Some(believed), Whom::Node(asked)) if believed == *asked => state.believed = None,
            // Somebody has found another one meanwhile.
            (Some(_), _) => {}
            (None, _) => state.turn = state.turn.wrapping_add(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use pontoon_raft::{Peer, Place};

    use super::*;
    use crate::cluster::View;

    fn book(members: &[u64], seeds: &[&str]) -> Book {
        let book = Book::default();
        let member = |node: &u64| Peer {
            place: Place {
                node: NodeId(*node),
                ..Place::default()
            },
            ..Peer::default()
        };
        book.learn(View {
            revision: (1, 1),
            system: members.iter().map(member).collect(),
            ..View::default()
        });
        book.note_seeds(seeds.iter().map(|seed| (*seed).to_owned()).collect());
        book
    }

    /// Asks `times` times, in vain.
    fn ask_in_vain(
        search: &Search,
        book: &Book,
        hint: Option<NodeId>,
        times: usize,
    ) -> Vec<String> {
        let asked = (0..times).filter_map(|_| {
            let whom = search.next(hint, book, Some(NodeId(3)))?;
            search.failed(&whom);
            Some(whom.to_string())
        });
        asked.collect()
    }

    #[test]
    fn everybody_is_asked_whatever_is_believed() {
        let search = Search::default();
        let known = book(&[1, 2, 3], &["seed"]);
        search.found(NodeId(2));
        // A replica that hears nothing goes on to believe in its leader.
        let hint = Some(NodeId(1));
        let asked = ask_in_vain(&search, &known, hint, 5);
        assert_eq!(asked, ["n1", "n1", "n2", "seed", "n1"]);
        // A node that was killed as soon as it had joined knows nobody.
        let asked = ask_in_vain(&Search::default(), &book(&[], &["a", "b"]), hint, 4);
        assert_eq!(asked, ["n1", "n1", "a", "b"]);
        assert!(ask_in_vain(&Search::default(), &book(&[3], &[]), None, 2).is_empty());
    }

    /// The coordinator of before, cut off from the others, believes in itself.
    #[test]
    fn a_node_that_believes_in_itself_asks_everybody_else() {
        let search = Search::default();
        let known = book(&[1, 2, 3], &["seed"]);
        search.found(NodeId(3));
        let asked = ask_in_vain(&search, &known, Some(NodeId(3)), 4);
        assert_eq!(asked, ["n1", "n2", "seed", "n1"]);
    }

    #[test]
    fn news_come_before_what_was_believed() {
        let search = Search::default();
        let known = book(&[1, 2, 3], &[]);
        let next = |hint| search.next(hint, &known, None);
        search.found(NodeId(2));
        assert_eq!(next(None), Some(Whom::Node(NodeId(2))));
        // An election that the own replica has heard of.
        assert_eq!(next(Some(NodeId(3))), Some(Whom::Node(NodeId(3))));
        search.sent_on(&Whom::Node(NodeId(3)), Some(NodeId(1)));
        assert_eq!(next(Some(NodeId(3))), Some(Whom::Node(NodeId(1))));
        // What an old question comes to changes nothing.
        search.failed(&Whom::Node(NodeId(2)));
        assert_eq!(next(Some(NodeId(3))), Some(Whom::Node(NodeId(1))));
    }

    /// Two nodes that name each other cannot keep a node from asking the others.
    #[test]
    fn being_sent_back_and_forth_ends() {
        let search = Search::default();
        let known = book(&[1, 2, 4], &[]);
        let mut asked = Vec::new();
        for _ in 0..6 {
            let whom = search.next(None, &known, None).unwrap();
            let named = match &whom {
                Whom::Node(NodeId(1)) => Some(NodeId(2)),
                _ => None,
            };
            search.sent_on(&whom, named);
            asked.push(whom);
        }
        assert!(asked.contains(&Whom::Node(NodeId(4))), "{asked:?}");
    }
}
