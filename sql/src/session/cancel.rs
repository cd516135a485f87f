//! Ending a statement early: by another connection's cancel request, or by its time.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::sync::Notify;

use super::place;
use crate::error::{SqlError, SqlState};

/// The request to cancel what a session does; usable from any task.
#[derive(Clone, Default)]
pub struct CancelHandle(Arc<Flag>);

#[derive(Default)]
struct Flag {
    raised: AtomicBool,
    changed: Notify,
}

impl CancelHandle {
    /// Asks for the end of the statement that runs now; without effect when none runs.
    pub fn cancel(&self) {
        self.0.raised.store(true, Ordering::Release);
        self.0.changed.notify_waiters();
    }

    /// Whether a cancel was asked for since the statement began.
    pub(crate) fn is_raised(&self) -> bool {
        self.0.raised.load(Ordering::Acquire)
    }

    /// A statement begins: requests that came before it are void.
    pub(crate) fn clear(&self) {
        self.0.raised.store(false, Ordering::Release);
    }

    /// Returns when a cancel is asked for.
    pub(crate) async fn raised(&self) {
        loop {
            let changed = self.0.changed.notified();
            if self.is_raised() {
                return;
            }
            changed.await;
        }
    }
}

/// `57014` after a cancel.
pub(crate) fn cancelled() -> SqlError {
    SqlError::new(
        SqlState::QUERY_CANCELED,
        "canceling statement due to user request",
    )
}

/// `57014` after `statement_timeout`.
pub(crate) fn timed_out() -> SqlError {
    SqlError::new(
        SqlState::QUERY_CANCELED,
        "canceling statement due to statement timeout",
    )
}

/// What bounds a statement. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Bounds {
    /// Cancel requests.
    pub(crate) cancel: CancelHandle,
    /// `statement_timeout`.
    pub(crate) deadline: Option<Instant>,
}

impl Bounds {
    /// Fails when the statement must end.
    pub(crate) fn check(&self) -> Result<(), SqlError> {
        if self.cancel.is_raised() {
            return Err(cancelled());
        }
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(timed_out()),
            _ => Ok(()),
        }
    }

    /// Commits. The client hears in time that the outcome is not known when it is not; a cancel does
    /// not end a commit, as in PostgreSQL.
    pub(crate) async fn see_through(&self, txn: &pontoon_kv::Txn) -> Result<(), SqlError> {
        let committed = match self.deadline {
            None => txn.commit().await,
            Some(deadline) => {
                let committed = tokio::time::timeout_at(deadline.into(), txn.commit()).await;
                committed.map_err(|_| open_commit())?
            }
        };
        committed.map(drop).map_err(SqlError::from)
    }

    /// Runs `work` until it is done or the statement must end; then it is dropped.
    pub(crate) async fn run<T>(
        &self,
        work: impl Future<Output = Result<T, SqlError>>,
    ) -> Result<T, SqlError> {
        tokio::pin!(work);
        match self.deadline {
            None => tokio::select! {
                biased;
                done = &mut work => done,
                () = self.cancel.raised() => Err(cancelled()),
            },
            Some(deadline) => tokio::select! {
                biased;
                done = &mut work => done,
                () = self.cancel.raised() => Err(cancelled()),
                () = tokio::time::sleep_until(deadline.into()) => Err(timed_out()),
            },
        }
    }
}

/// What is known of a commit when its statement must end.
fn open_commit() -> SqlError {
    SqlError::from(pontoon_kv::Error::Ambiguous)
        .with_detail("The statement timeout passed before a majority had answered.")
}

/// Waits for a future from code that is not async (functions called by the executors). Other
/// tasks of this thread go on elsewhere meanwhile.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    use tokio::runtime::{Handle, RuntimeFlavor};
    place::pinned(|| match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(|| handle.block_on(future))
        }
        _ => futures::executor::block_on(future),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_cancel_ends_what_runs_but_not_what_follows() {
        let cancel = CancelHandle::default();
        let bounds = Bounds {
            cancel: cancel.clone(),
            deadline: None,
        };
        cancel.cancel();
        let ended = bounds
            .run(std::future::pending::<Result<(), SqlError>>())
            .await;
        assert_eq!(ended.unwrap_err().state, SqlState::QUERY_CANCELED);
        cancel.clear();
        assert!(bounds.run(async { Ok(1) }).await.is_ok());
        let bounds = Bounds {
            cancel,
            deadline: Some(Instant::now()),
        };
        let ended = bounds
            .run(std::future::pending::<Result<(), SqlError>>())
            .await;
        assert_eq!(
            ended.unwrap_err().message,
            "canceling statement due to statement timeout"
        );
    }
}
