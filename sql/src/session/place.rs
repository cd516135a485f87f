//! Where a session runs: at home, on the one thread that reads its socket, or among the threads
//! that share all work.
//!
//! At home nothing passes from one processor to another between a request and its answer, which is
//! what most of a short statement costs otherwise. But whoever stays long at home holds up the
//! other sessions that live there, and no idle thread can help them. So work that may be long says
//! so, with [`leave`], before it begins. Work that turned out to be long gives way, with
//! [`pause_when_long`]: at home by leaving it, elsewhere to whatever else waits for a thread, and
//! that may be the replication of what others write.
//!
//! Whoever polls a session does so through [`poll`], and carries the session's future over when
//! told to. Where nobody does, as in tests, nothing here waits.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

/// Work that has gone on for so long without a pause is long.
const LONG: Duration = Duration::from_millis(1);

/// Where a session runs now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// On the thread that reads its socket.
    Home,
    /// Among the threads that share all work.
    Shared,
}

#[derive(Clone, Copy)]
struct State {
    /// `None` outside of any session.
    place: Option<Place>,
    /// It wants to go to the other place.
    moves: bool,
    began: Option<Instant>,
}

const NOWHERE: State = State {
    place: None,
    moves: false,
    began: None,
};

thread_local! {
    static STATE: Cell<State> = const { Cell::new(NOWHERE) };
}

/// Puts back what was before, also when a session panics.
struct Restore(State);

impl Drop for Restore {
    fn drop(&mut self) {
        STATE.set(self.0);
    }
}

/// Polls a session at its place. True when it is to be polled at the other one from now on: nothing
/// of it goes on before.
pub fn poll<T>(place: Place, poll: impl FnOnce() -> Poll<T>) -> (Poll<T>, bool) {
    let state = State {
        place: Some(place),
        moves: false,
        began: Some(Instant::now()),
    };
    let _restore = Restore(STATE.replace(state));
    let polled = poll();
    (polled, STATE.get().moves)
}

/// Runs what blocks its thread: a wait in there cannot be carried elsewhere.
pub(crate) fn pinned<T>(body: impl FnOnce() -> T) -> T {
    let _restore = Restore(STATE.replace(NOWHERE));
    body()
}

/// Goes on among the threads that share work: what follows may be long.
pub async fn leave() {
    away_from(Place::Home).await;
}

/// Lets others go on if this poll has been long already.
pub async fn pause_when_long() {
    let state = STATE.get();
    if state.began.is_some_and(|began| began.elapsed() >= LONG) {
        match state.place {
            Some(Place::Home) => leave().await,
            _ => tokio::task::yield_now().await,
        }
    }
}

/// Goes on at home.
pub async fn go_home() {
    away_from(Place::Shared).await;
}

async fn away_from(place: Place) {
    poll_fn(|cx| {
        let state = STATE.get();
        if state.place != Some(place) {
            return Poll::Ready(());
        }
        STATE.set(State {
            moves: true,
            ..state
        });
        // Combinators poll again only what was woken.
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn here() -> Option<Place> {
        STATE.get().place
    }

    #[test]
    fn a_session_goes_on_only_where_it_wants_to_be() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut session = pin!(async {
            pause_when_long().await;
            assert_eq!(here(), Some(Place::Home));
            leave().await;
            assert_eq!(here(), Some(Place::Shared));
            leave().await;
            pinned(|| assert_eq!(here(), None));
            go_home().await;
            assert_eq!(here(), Some(Place::Home));
            std::thread::sleep(LONG);
            pause_when_long().await;
            assert_eq!(here(), Some(Place::Shared));
            std::thread::sleep(LONG);
            pause_when_long().await;
            pause_when_long().await;
        });
        let mut at = |place| poll(place, || session.as_mut().poll(&mut cx));
        assert_eq!(at(Place::Home), (Poll::Pending, true));
        assert_eq!(at(Place::Home), (Poll::Pending, true), "not carried over");
        assert_eq!(at(Place::Shared), (Poll::Pending, true));
        assert_eq!(at(Place::Home), (Poll::Pending, true));
        assert_eq!(at(Place::Shared), (Poll::Pending, false), "gives way once");
        assert_eq!(at(Place::Shared), (Poll::Ready(()), false));
        assert_eq!(here(), None);
    }

    #[test]
    fn outside_of_a_session_nothing_waits() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut nowhere = pin!(async {
            leave().await;
            go_home().await;
        });
        assert_eq!(nowhere.as_mut().poll(&mut cx), Poll::Ready(()));
    }
}
