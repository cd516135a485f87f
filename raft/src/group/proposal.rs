//! [`Proposal`]: what a proposer and openraft share of a command on its way.
//!
//! A proposer hears of two things: that its command is committed, and what came of applying it.
//! Whoever may go on when the command can no longer be lost need not wait for the second. openraft
//! tells of the first before it applies; where the leader is the only voter, the log adapter tells
//! of it still earlier, for there an entry is committed when it is durable. The task of the core
//! then stops, so that the proposer can answer its client first, and is set going again when the
//! proposer hears the news: it runs when that poll of the proposer's task is over.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::task::AtomicWaker;
use openraft::raft::ClientWriteResult;
use openraft::raft::responder::Responder;
use parking_lot::Mutex;

use super::types::{LogId, Types};

/// A command on its way, with the answer `T` of openraft.
pub(crate) struct Proposal<T> {
    /// The term in which commitment is enough for the proposer; 0 for none.
    enough_in: u64,
    stage: Mutex<Stage<T>>,
    proposer: AtomicWaker,
    /// The task of the core, while it has stopped for the proposer.
    core: AtomicWaker,
}

/// The proposal of a write.
pub(crate) type Write = Proposal<ClientWriteResult<Types>>;

enum Stage<T> {
    UnderWay,
    Committed,
    Answered(T),
    /// openraft has dropped it without an answer.
    Dropped,
}

/// What a proposer hears.
pub(crate) enum News<T> {
    /// The command is committed, in the term that the proposer named.
    Committed,
    Answered(T),
    /// Nobody will answer any more: the core has died with the command under way.
    Dropped,
}

impl<T> Proposal<T> {
    /// One whose proposer waits for no more than commitment, if that is in the term `enough_in`.
    pub(super) fn new(enough_in: u64) -> Arc<Self> {
        Arc::new(Self {
            enough_in,
            stage: Mutex::new(Stage::UnderWay),
            proposer: AtomicWaker::new(),
            core: AtomicWaker::new(),
        })
    }

    /// Whether its proposer wants to hear that it is committed in `term`.
    pub(super) fn awaits_commit_in(&self, term: u64) -> bool {
        self.enough_in == term
    }

    /// Says that it is committed in the term in which that is enough.
    pub(super) fn committed(&self) {
        self.advance(Stage::Committed);
    }

    pub(super) fn is_committed(&self) -> bool {
        matches!(*self.stage.lock(), Stage::Committed)
    }

    /// Has `core` woken when the proposer has heard that the command is committed, or is gone.
    pub(super) fn wakes_then(&self, core: &Waker) {
        self.core.register(core);
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
                drop(stage);
                self.core.wake();
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

impl<T> Drop for Proposer<T> {
    fn drop(&mut self) {
        // Invariant: a core that has stopped for a proposer is woken, whatever becomes of that.
        self.0.core.wake();
    }
}

/// openraft's end of a proposal.
pub(crate) struct ProposalResponder<T>(Arc<Proposal<T>>);

impl<T> ProposalResponder<T> {
    pub(super) fn new(proposal: &Arc<Proposal<T>>) -> Self {
        Self(Arc::clone(proposal))
    }
}

impl<T: Send + 'static> Responder<Types, T> for ProposalResponder<T> {
    fn on_commit(&mut self, log_id: LogId) {
        let proposal = &*self.0;
        if proposal.awaits_commit_in(log_id.committed_leader_id().term) && !proposal.is_committed()
        {
            proposal.committed();
        }
    }

    fn on_complete(self, answer: T) {
        self.0.advance(Stage::Answered(answer));
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
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::task::Wake;

    use openraft::vote::leader_id_std::CommittedLeaderId;

    use super::*;

    fn at(term: u64) -> LogId {
        LogId::new(CommittedLeaderId::new(term), 7)
    }

    #[derive(Default)]
    struct Count(AtomicU64);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_core_that_has_stopped_is_woken_by_the_news_or_the_end_of_the_proposer() {
        for hears in [true, false] {
            let proposal = Proposal::<u8>::new(3);
            let proposer = Proposer::new(&proposal);
            let core = Arc::new(Count::default());
            proposal.wakes_then(&Waker::from(Arc::clone(&core)));
            proposal.committed();
            assert_eq!(core.0.load(Ordering::Relaxed), 0);
            if hears {
                assert_eq!(news(&proposal), "committed");
                assert_eq!(core.0.load(Ordering::Relaxed), 1);
            }
            drop(proposer);
            assert_eq!(core.0.load(Ordering::Relaxed), 1);
        }
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
    fn a_proposal_that_openraft_drops_says_so() {
        let proposal = Proposal::<u8>::new(0);
        let responder = ProposalResponder::new(&proposal);
        assert_eq!(news(&proposal), "none");
        drop(responder);
        assert_eq!(news(&proposal), "dropped");
    }
}
