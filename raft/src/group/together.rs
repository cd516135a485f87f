//! The tasks of one openraft core as one task of the runtime.
//!
//! openraft runs a replica as half a dozen tasks that wake each other by channels: the core, the
//! one that tells it of finished I/O, the one that applies, timers. On a runtime with several
//! threads each of those wake-ups of a second task makes another thread get up to steal it, which
//! costs both threads more than the work itself when a single client waits for a single entry.
//! Here they are the futures of one task: a proposal is one wake-up into it, and the reply one out
//! of it.
//!
//! What may take long must not be done inside: it would hold up the core. The state machine
//! adapter hands such work to the runtime's threads for blocking work and waits for it.
//!
//! ```text
//! Raft::new                 spawn ... spawn           on one thread, in one poll: [`gathered`]
//!   -> GATHERING              | boxed futures
//!   -> one task: Together { members, Gate }
//! ```
//! Invariant (no wake-up is lost): the [`Gate`] holds a bit for each member that wants to be
//! polled, and one that says that the task is being polled. A wake-up sets the member's bit; if the
//! task is not being polled, it wakes the task. A poll of the task ends by clearing its own bit only
//! while no member's bit is set; otherwise it goes on, or, after [`ROUNDS_MAX`], wakes the task
//! itself.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::task::AtomicWaker;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};

/// How often in a row the futures are polled before others of the runtime get their turn.
const ROUNDS_MAX: usize = 16;

/// More are tasks of their own.
const MEMBERS_MAX: usize = 32;

/// The task is being polled. The bits below are those of the members.
const POLLING: u64 = 1 << 63;

type Members = Vec<BoxFuture<'static, ()>>;

thread_local! {
    /// What is spawned while a core is made, on the thread that makes it.
    static GATHERING: Cell<Option<Members>> = const { Cell::new(None) };
}

/// Ends the gathering on this thread, also when what it is for panics.
struct Gathering;

impl Drop for Gathering {
    fn drop(&mut self) {
        GATHERING.take();
    }
}

/// Runs a future; what openraft spawns in one poll of it becomes one task, which is started after
/// that poll.
pub(crate) async fn gathered<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(move |cx| {
        GATHERING.set(Some(Members::new()));
        let gathering = Gathering;
        let polled = future.as_mut().poll(cx);
        let members = GATHERING.take().unwrap_or_default();
        drop(gathering);
        if !members.is_empty() {
            crate::shell::spawn_task(Together::new(members));
        }
        polled
    })
    .await
}

/// Starts a task of openraft: as a member of the core that is being made on this thread, otherwise
/// as a task of its own.
pub(super) fn spawn<T>(future: impl Future<Output = T> + Send + 'static) -> TaskHandle<T>
where
    T: Send + 'static,
{
    let mut members = match GATHERING.take() {
        Some(members) if members.len() < MEMBERS_MAX => members,
        others => {
            GATHERING.set(others);
            return TaskHandle::Own(tokio::spawn(future));
        }
    };
    let (sender, receiver) = oneshot::channel();
    let member = async move {
        let outcome = AssertUnwindSafe(future).catch_unwind().await;
        // Nobody may wait for it.
        let _ = sender.send(outcome);
    };
    members.push(member.boxed());
    GATHERING.set(Some(members));
    TaskHandle::Member(receiver)
}

/// Waits for a task of openraft. Dropping it does not stop the task.
pub(crate) enum TaskHandle<T> {
    Own(JoinHandle<T>),
    Member(oneshot::Receiver<Result<T, Box<dyn Any + Send>>>),
}

/// Why a task of openraft gave no result.
#[derive(Debug)]
pub(crate) enum TaskError {
    Own(JoinError),
    Panicked,
    Dropped,
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(error) => error.fmt(f),
            Self::Panicked => f.write_str("task panicked"),
            Self::Dropped => f.write_str("task was dropped"),
        }
    }
}

impl TaskError {
    pub(super) fn is_panic(&self) -> bool {
        match self {
            Self::Own(error) => error.is_panic(),
            Self::Panicked => true,
            Self::Dropped => false,
        }
    }
}

impl<T> Future for TaskHandle<T> {
    type Output = Result<T, TaskError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match self.get_mut() {
            Self::Own(handle) => ready!(handle.poll_unpin(cx)).map_err(TaskError::Own),
            Self::Member(receiver) => match ready!(receiver.poll_unpin(cx)) {
                Ok(outcome) => outcome.map_err(|_| TaskError::Panicked),
                Err(_) => Err(TaskError::Dropped),
            },
        })
    }
}

/// Who wants to be polled.
struct Gate {
    state: AtomicU64,
    task: AtomicWaker,
}

/// Wakes one member.
struct Bell {
    gate: Arc<Gate>,
    bit: u64,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.gate.state.fetch_or(self.bit, Ordering::AcqRel) & POLLING == 0 {
            self.gate.task.wake();
        }
    }
}

struct Member {
    /// `None` once it is over.
    future: Option<BoxFuture<'static, ()>>,
    waker: Waker,
    bit: u64,
}

impl Member {
    fn poll(&mut self) {
        let Some(future) = &mut self.future else {
            return;
        };
        let mut cx = Context::from_waker(&self.waker);
        if future.as_mut().poll(&mut cx).is_ready() {
            self.future = None;
        }
    }
}

/// The members of a core, as one future; ready when all of them are.
struct Together {
    members: Vec<Member>,
    gate: Arc<Gate>,
}

impl Together {
    fn new(futures: Members) -> Self {
        let gate = Arc::new(Gate {
            // Everybody is polled once.
            state: AtomicU64::new((1_u64 << futures.len()) - 1),
            task: AtomicWaker::new(),
        });
        let member = |(at, future)| {
            let bit = 1_u64 << at;
            let gate = Arc::clone(&gate);
            Member {
                future: Some(future),
                waker: Waker::from(Arc::new(Bell { gate, bit })),
                bit,
            }
        };
        let members = futures.into_iter().enumerate().map(member).collect();
        Self { members, gate }
    }

    fn is_over(&self) -> bool {
        self.members.iter().all(|member| member.future.is_none())
    }

    /// Polls the members of `wanted`, in order.
    fn round(&mut self, wanted: u64) {
        for member in &mut self.members {
            if wanted & member.bit != 0 {
                member.poll();
            }
        }
    }
}

impl Future for Together {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let gate = Arc::clone(&this.gate);
        gate.task.register(cx.waker());
        gate.state.fetch_or(POLLING, Ordering::AcqRel);
        for _ in 0..ROUNDS_MAX {
            let wanted = gate.state.swap(POLLING, Ordering::AcqRel) & !POLLING;
            this.round(wanted);
            if this.is_over() {
                return Poll::Ready(());
            }
            let idle = gate
                .state
                .compare_exchange(POLLING, 0, Ordering::AcqRel, Ordering::Acquire);
            if idle.is_ok() {
                return Poll::Pending;
            }
        }
        gate.state.fetch_and(!POLLING, Ordering::AcqRel);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc;

    use super::*;

    /// Two members that pass a number to and fro, fed from outside while they are being polled:
    /// a wake-up that is lost leaves everybody waiting.
    #[test]
    fn no_wake_up_is_lost() {
        const ROUNDS: u64 = 50_000;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let polls = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&polls);
        let outcome = runtime.block_on(async move {
            let (ask, mut asked) = mpsc::channel::<u64>(4);
            let (forth, mut there) = mpsc::channel::<u64>(1);
            let (answer, mut answered) = mpsc::channel::<u64>(4);
            let handles = gathered(async move {
                let first = spawn(async move {
                    while let Some(number) = asked.recv().await {
                        counted.fetch_add(1, Ordering::Relaxed);
                        forth.send(number).await.unwrap();
                    }
                });
                let second = spawn(async move {
                    while let Some(number) = there.recv().await {
                        answer.send(number + 1).await.unwrap();
                    }
                });
                (first, second)
            })
            .await;
            let asking = tokio::spawn(async move {
                for number in 0..ROUNDS {
                    ask.send(number).await.unwrap();
                }
            });
            let answers = async {
                for number in 0..ROUNDS {
                    assert_eq!(answered.recv().await, Some(number + 1));
                }
            };
            tokio::time::timeout(Duration::from_secs(60), answers)
                .await
                .expect("somebody waits for ever");
            asking.await.unwrap();
            (handles.0.await, handles.1.await)
        });
        assert!(outcome.0.is_ok() && outcome.1.is_ok(), "members end");
        assert_eq!(polls.load(Ordering::Relaxed), ROUNDS);
    }

    #[tokio::test]
    async fn a_member_that_panics_harms_no_other() {
        let (panics, lives) = gathered(async {
            let panics = spawn(async { panic!("on purpose") });
            let lives = spawn(async {
                tokio::time::sleep(Duration::from_millis(1)).await;
                7
            });
            (panics, lives)
        })
        .await;
        let error: TaskError = panics.await.map(|()| ()).unwrap_err();
        assert!(error.is_panic());
        assert_eq!(lives.await.unwrap(), 7);
        // Later ones are tasks of their own.
        assert!(matches!(spawn(async {}), TaskHandle::Own(_)));
    }
}
