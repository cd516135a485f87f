//! The runtime under openraft: tokio, made repeatable.
//!
//! Random draws come from seeds ([`super::types::seeded`]) and watch channels wake in order
//! ([`super::watch`]). On a paused single-threaded tokio runtime nothing else is left to chance.
//! The tasks of one core are one task of tokio ([`super::together`]).

use std::cell::Cell;
use std::time::Duration;

use openraft::impls::TokioRuntime;
use openraft_rt::{AsyncRuntime, Instant as _, OptionalSend};

use super::together::{self, TaskError, TaskHandle};
use super::watch::OrderedWatch;

/// Waits shorter than this are none: tokio's timer counts whole milliseconds and rounds up, while
/// openraft asks for a microsecond between two notices of finished I/O.
const SHORTEST_WAIT: Duration = Duration::from_micros(100);
/// So many of them at one instant; the next one is a wait. On a paused clock, which goes on when
/// everybody waits, whoever waits again and again for one short moment would stop it for ever:
/// ticks that are switched on again right before one is due.
const AT_ONCE_MAX: u32 = 64;

thread_local! {
    /// The instant of the last wait that was none, and how many there were at it.
    static AT_ONCE: Cell<Option<(Instant, u32)>> = const { Cell::new(None) };
}

/// Whether a wait that begins at `now` and is shorter than [`SHORTEST_WAIT`] is none.
fn is_none(now: Instant) -> bool {
    let before = AT_ONCE.get().filter(|(at, _)| *at == now);
    let count = before.map_or(0, |(_, count)| count) + 1;
    AT_ONCE.set(Some((now, count)));
    count <= AT_ONCE_MAX
}

type Instant = <TokioRuntime as AsyncRuntime>::Instant;

/// Tokio with watch channels that wake in order.
#[derive(Debug)]
pub(crate) struct OrderedTokio(TokioRuntime);

impl AsyncRuntime for OrderedTokio {
    type JoinError = TaskError;
    type JoinHandle<T: OptionalSend + 'static> = TaskHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> =
        <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <TokioRuntime as AsyncRuntime>::ThreadLocalRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = OrderedWatch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        together::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        let now = Self::Instant::now();
        if deadline > now && deadline - now < SHORTEST_WAIT && is_none(now) {
            // So long ago that it is over however it is rounded.
            return TokioRuntime::sleep_until(now - Duration::from_millis(2));
        }
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        join_error.is_panic()
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        TokioRuntime::thread_rng()
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}

#[cfg(test)]
mod tests {
    use openraft_rt::testing::Suite;

    use super::OrderedTokio;

    #[test]
    fn openraft_runtime_suite() {
        Suite::<OrderedTokio>::test_all();
    }
}
