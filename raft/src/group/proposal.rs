//! [`Proposal`]: what a proposer and who replicates share of a command on its way.
//!
//! A proposer hears of two things: that its command is committed, and what came of applying it.
//! Whoever may go on when the command can no longer be lost need not wait for the second.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use openraft::raft::responder::Responder;
use parking_lot::Mutex;

use super::types::{LogId, Types};

/// A command on its way, with the answer `T`.
pub(crate) struct Proposal<T> {
    /// The term in which commitment is enough for the proposer; 0 for none.
    enough_in: u64,
    stage: Mutex<Stage<T>>,
    proposer: AtomicWaker,
}

enum Stage<T> {
    UnderWay,
    Committed,
    Answered(T),
    /// It was dropped without an answer.
    Dropped,
}

/// What a proposer hears.
pub(crate) enum News<T> {
    /// The command is committed, in the term that the proposer named.
    Committed,
    Answered(T),
    /// Nobody will answer any more: who replicates has ended with the command under way.
    Dropped,
}

impl<T> Proposal<T> {
    /// One whose proposer waits for no more than commitment, if that is in the term `enough_in`.
    pub(super) fn new(enough_in: u64) -> Arc<Self> {
        Arc::new(Self {
            enough_in,
            stage: Mutex::new(Stage::UnderWay),
            proposer: AtomicWaker::new(),
        })
    }

    /// Whether its proposer wants to hear that it is committed in `term`.
    fn awaits_commit_in(&self, term: u64) -> bool {
        self.enough_in == term
    }

    fn is_committed(&self) -> bool {
        matches!(*self.stage.lock(), Stage::Committed)
    }

    /// Wakes the proposer at the first news only: it may be doing something else after that.
    fn advance(&self, next: Stage<T>) {
        let before = std::mem::replace(&mut *self.stage.lock(), next);
        if matches!(before, Stage::UnderWay) {
            self.proposer.wake();
        }
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<News<T>> {
        self.proposer.register(cx.waker());
        let mut stage = self.stage.lock();
        match std::mem::replace(&mut *stage, Stage::Dropped) {
            Stage::UnderWay => {
                *stage = Stage::UnderWay;
                Poll::Pending
            }
            Stage::Committed => {
                *stage = Stage::Committed;
                Poll::Ready(News::Committed)
            }
            Stage::Answered(answer) => Poll::Ready(News::Answered(answer)),
            Stage::Dropped => Poll::Ready(News::Dropped),
        }
    }
}

/// The proposer's end of a proposal.
pub(crate) struct Proposer<T>(Arc<Proposal<T>>);

impl<T> Proposer<T> {
    pub(super) fn new(proposal: &Arc<Proposal<T>>) -> Self {
        Self(Arc::clone(proposal))
    }

    /// Waits for news. An answer is given once.
    pub(super) async fn news(&self) -> News<T> {
        std::future::poll_fn(|cx| self.0.poll(cx)).await
    }
}

/// The end of a proposal that who replicates holds.
pub(crate) struct ProposalResponder<T>(Arc<Proposal<T>>);

impl<T> ProposalResponder<T> {
    pub(super) fn new(proposal: &Arc<Proposal<T>>) -> Self {
        Self(Arc::clone(proposal))
    }

    /// Says that the command is committed in `term`.
    pub(super) fn committed_in(&self, term: u64) {
        let proposal = &*self.0;
        if proposal.awaits_commit_in(term) && !proposal.is_committed() {
            proposal.advance(Stage::Committed);
        }
    }

    /// Says what came of it.
    pub(super) fn answer(self, answer: T) {
        self.0.advance(Stage::Answered(answer));
    }
}

impl<T: Send + 'static> Responder<Types, T> for ProposalResponder<T> {
    fn on_commit(&mut self, log_id: LogId) {
        self.committed_in(log_id.committed_leader_id().term);
    }

    fn on_complete(self, answer: T) {
        self.answer(answer);
    }
}

impl<T> Drop for ProposalResponder<T> {
    fn drop(&mut self) {
        if matches!(*self.0.stage.lock(), Stage::UnderWay) {
            self.0.advance(Stage::Dropped);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use openraft::vote::leader_id_std::CommittedLeaderId;

    use super::*;

    fn at(term: u64) -> LogId {
        LogId::new(CommittedLeaderId::new(term), 7)
    }

    fn news(proposal: &Proposal<u8>) -> &'static str {
        match proposal.poll(&Context::from_waker(Waker::noop())) {
            Poll::Pending => "none",
            Poll::Ready(News::Committed) => "committed",
            Poll::Ready(News::Answered(_)) => "answered",
            Poll::Ready(News::Dropped) => "dropped",
        }
    }

    #[test]
    fn commitment_counts_in_the_named_term_only() {
        let proposal = Proposal::new(3);
        let mut responder = ProposalResponder::new(&proposal);
        responder.on_commit(at(4));
        assert_eq!(news(&proposal), "none");
        responder.on_commit(at(3));
        assert_eq!(news(&proposal), "committed");
        responder.on_complete(1);
        assert_eq!(news(&proposal), "answered");
    }

    #[test]
    fn a_proposal_that_is_dropped_says_so() {
        let proposal = Proposal::<u8>::new(0);
        let responder = ProposalResponder::new(&proposal);
        assert_eq!(news(&proposal), "none");
        drop(responder);
        assert_eq!(news(&proposal), "dropped");
    }
}
