//! The threads at which sessions are at home, and the way from and to them.
//!
//! Every home is a thread with a reactor of its own. A session's socket belongs to the reactor of
//! its home for good; the session runs there as long as its statements are short, and elsewhere,
//! among the threads that share all work, when they are not ([`pontoon_sql::session::place`]).
//! `docs/design/0017-sessions-at-home.md` has the reasons and the figures.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use pontoon_sql::session::place::{self, Place};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle, Runtime};

/// A home may have so many sessions more than the emptiest one, and a quarter more than that.
const UNEVEN_MAX: usize = 2;

/// The homes of a node's sessions.
pub(crate) struct Homes {
    homes: Vec<Home>,
    /// The threads that share work.
    shared: Handle,
}

struct Home {
    handle: Handle,
    /// Taken when this is dropped.
    runtime: Option<Runtime>,
    sessions: AtomicUsize,
}

impl Homes {
    /// As many as there are processors. Called within the runtime that shares work.
    pub(crate) fn start() -> io::Result<Self> {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let start = |_| {
            // Not the runtime of the current thread: functions of SQL that wait block their
            // thread, and the others of that home go on meanwhile at one that replaces it.
            let runtime = Builder::new_multi_thread()
                .worker_threads(1)
                .thread_name("pontoon-home")
                .enable_all()
                .build()?;
            Ok(Home {
                handle: runtime.handle().clone(),
                runtime: Some(runtime),
                sessions: AtomicUsize::new(0),
            })
        };
        Ok(Self {
            homes: (0..count).map(start).collect::<io::Result<_>>()?,
            shared: Handle::current(),
        })
    }

    /// Runs a task at one of the homes, which must take no time there.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(home) = self.homes.first() {
            home.handle.spawn(task);
        }
    }

    /// Gives a socket a home, and runs `session` with it there.
    pub(crate) fn take_in<S, F>(self: &Arc<Self>, socket: TcpStream, session: S)
    where
        S: FnOnce(TcpStream) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let lodging = self.lodging(receiver_of(&socket));
        let socket = match socket.into_std() {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%error, "could not give a connection a home");
                return;
            }
        };
        let session = async move {
            // Within the home's reactor: the first poll is there.
            match TcpStream::from_std(socket) {
                Ok(socket) => session(socket).await,
                Err(error) => tracing::warn!(%error, "could not give a connection a home"),
            }
        };
        Resident {
            place: Place::Home,
            stay: Some((lodging, Box::pin(session))),
        }
        .run();
    }

    /// Takes the home at the processor that has received for the socket: that is where its client
    /// is, if it is on this machine, and where its packets are in the caches. Unless that has many
    /// more sessions than another.
    fn lodging(self: &Arc<Self>, processor: Option<usize>) -> Lodging {
        let sessions = |home: &Home| home.sessions.load(Ordering::Relaxed);
        let counts: Vec<_> = self.homes.iter().map(sessions).collect();
        let home = choose(&counts, processor);
        if let Some(home) = self.homes.get(home) {
            home.sessions.fetch_add(1, Ordering::Relaxed);
        }
        Lodging {
            homes: Arc::clone(self),
            home,
        }
    }
}

impl Drop for Homes {
    fn drop(&mut self) {
        for home in &mut self.homes {
            if let Some(runtime) = home.runtime.take() {
                runtime.shutdown_background();
            }
        }
    }
}

/// The processor that has received for a socket.
#[cfg(target_os = "linux")]
fn receiver_of(socket: &TcpStream) -> Option<usize> {
    socket2::SockRef::from(socket).cpu_affinity().ok()
}

/// Elsewhere the system does not tell.
#[cfg(not(target_os = "linux"))]
fn receiver_of(_: &TcpStream) -> Option<usize> {
    None
}

/// Which home a session gets.
fn choose(sessions: &[usize], processor: Option<usize>) -> usize {
    let least = sessions.iter().copied().min().unwrap_or(0);
    let near = processor.map(|processor| processor % sessions.len().max(1));
    let near = near.filter(|near| {
        let there = sessions.get(*near).copied().unwrap_or(0);
        there <= least + least / 4 + UNEVEN_MAX
    });
    near.unwrap_or_else(|| sessions.iter().position(|n| *n == least).unwrap_or(0))
}

/// The claim of a session to its home.
struct Lodging {
    homes: Arc<Homes>,
    home: usize,
}

impl Lodging {
    fn home(&self) -> Option<&Home> {
        self.homes.homes.get(self.home)
    }
}

impl Drop for Lodging {
    fn drop(&mut self) {
        if let Some(home) = self.home() {
            home.sessions.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A session at one of its places: a task that ends when the session moves. Another task goes on
/// with the same future then, and polls it at once, so nothing that has woken the first one is lost.
struct Resident {
    place: Place,
    /// `None` when the session has moved.
    stay: Option<(Lodging, BoxFuture<'static, ()>)>,
}

impl Resident {
    /// Starts the task.
    fn run(self) {
        let Some((lodging, _)) = &self.stay else {
            return;
        };
        let handle = match (self.place, lodging.home()) {
            (Place::Home, Some(home)) => &home.handle,
            _ => &lodging.homes.shared,
        };
        handle.clone().spawn(self);
    }
}

impl Future for Resident {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let here = self.place;
        let Some((_, session)) = &mut self.stay else {
            return Poll::Ready(());
        };
        let (polled, moves) = place::poll(here, || session.as_mut().poll(cx));
        if polled.is_pending() && moves {
            let place = match here {
                Place::Home => Place::Shared,
                Place::Shared => Place::Home,
            };
            let stay = self.stay.take();
            Self { place, stay }.run();
            return Poll::Ready(());
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn sessions_are_near_their_clients_unless_that_is_uneven() {
        assert_eq!(choose(&[0, 0], Some(1)), 1);
        assert_eq!(choose(&[0, 0], Some(3)), 1, "more processors than homes");
        assert_eq!(choose(&[0, 2], Some(1)), 1);
        assert_eq!(choose(&[0, 3], Some(1)), 0);
        assert_eq!(choose(&[40, 52], Some(1)), 1);
        assert_eq!(choose(&[40, 53], Some(1)), 0);
        assert_eq!(choose(&[2, 1, 1], None), 1);
    }

    /// Echoes numbers, on threads whose names it sends with them.
    async fn echo(mut socket: TcpStream) {
        while let Ok(number) = socket.read_u8().await {
            if number % 2 == 0 {
                place::leave().await;
            }
            let thread = std::thread::current();
            let is_home = thread.name() == Some("pontoon-home");
            let written = socket.write_all(&[number, u8::from(is_home)]).await;
            place::go_home().await;
            if written.is_err() {
                return;
            }
        }
    }

    /// Sessions on several homes go back and forth while their clients wait and do not wait.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_session_that_moves_loses_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let homes = Arc::new(Homes::start().unwrap());
        let clients: Vec<_> = (0..8_u8)
            .map(|client| {
                tokio::spawn(async move {
                    let mut socket = TcpStream::connect(address).await.unwrap();
                    for round in 0..200_u8 {
                        // One that moves, one that does not, and a pair of them at once.
                        let sent = [round, round.wrapping_add(client)];
                        socket.write_all(&sent).await.unwrap();
                        for number in sent {
                            let mut answer = [0; 2];
                            socket.read_exact(&mut answer).await.unwrap();
                            assert_eq!(answer, [number, number % 2]);
                        }
                    }
                })
            })
            .collect();
        for _ in 0..clients.len() {
            let (socket, _) = listener.accept().await.unwrap();
            homes.take_in(socket, echo);
        }
        for client in clients {
            client.await.unwrap();
        }
        let all_gone = async {
            while Arc::strong_count(&homes) > 1 {
                tokio::task::yield_now().await;
            }
        };
        let gone = tokio::time::timeout(std::time::Duration::from_secs(30), all_gone);
        gone.await.expect("every session ends");
        assert!(
            homes
                .homes
                .iter()
                .all(|h| h.sessions.load(Ordering::Relaxed) == 0)
        );
    }
}
