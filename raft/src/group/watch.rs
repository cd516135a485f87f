//! A watch channel that wakes its receivers in the order in which they began to wait.
//!
//! Tokio's spreads them over several lists, by draws that cannot be seeded; two runs of a
//! simulation would differ.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Poll, Waker};

use openraft_rt::watch::{RecvError, SendError, Watch, WatchReceiver, WatchSender};
use openraft_rt::{OptionalSend, OptionalSync};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};

/// The kind of channel.
pub(crate) struct OrderedWatch;

struct Channel<T> {
    value: RwLock<T>,
    /// Counts changes.
    version: AtomicU64,
    waiting: Mutex<Waiting>,
    senders: AtomicUsize,
    receivers: AtomicUsize,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    wakers: BTreeMap<u64, Waker>,
}

impl<T> Channel<T> {
    fn announce(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
        self.wake();
    }

    fn wake(&self) {
        let wakers = std::mem::take(&mut self.waiting.lock().wakers);
        wakers.into_values().for_each(Waker::wake);
    }
}

/// The sending end.
pub(crate) struct OrderedSender<T> {
    channel: Arc<Channel<T>>,
}

/// The receiving end.
pub(crate) struct OrderedReceiver<T> {
    channel: Arc<Channel<T>>,
    seen: u64,
}

impl<T> Clone for OrderedSender<T> {
    fn clone(&self) -> Self {
        self.channel.senders.fetch_add(1, Ordering::AcqRel);
        Self {
            channel: Arc::clone(&self.channel),
        }
    }
}

impl<T> Drop for OrderedSender<T> {
    fn drop(&mut self) {
        if self.channel.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.channel.wake();
        }
    }
}

impl<T> Clone for OrderedReceiver<T> {
    fn clone(&self) -> Self {
        self.channel.receivers.fetch_add(1, Ordering::AcqRel);
        Self {
            channel: Arc::clone(&self.channel),
            seen: self.seen,
        }
    }
}

impl<T> Drop for OrderedReceiver<T> {
    fn drop(&mut self) {
        self.channel.receivers.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Watch for OrderedWatch {
    type Sender<T: OptionalSend + OptionalSync> = OrderedSender<T>;
    type Receiver<T: OptionalSend + OptionalSync> = OrderedReceiver<T>;
    type Ref<'a, T: OptionalSend + 'a> = RwLockReadGuard<'a, T>;

    fn channel<T: OptionalSend + OptionalSync>(init: T) -> (OrderedSender<T>, OrderedReceiver<T>) {
        let channel = Arc::new(Channel {
            value: RwLock::new(init),
            version: AtomicU64::new(0),
            waiting: Mutex::default(),
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(1),
        });
        (
            OrderedSender {
                channel: Arc::clone(&channel),
            },
            OrderedReceiver { channel, seen: 0 },
        )
    }
}

impl<T: OptionalSend + OptionalSync> WatchSender<OrderedWatch, T> for OrderedSender<T> {
    fn send(&self, value: T) -> Result<(), SendError<T>> {
        if self.channel.receivers.load(Ordering::Acquire) == 0 {
            return Err(SendError(value));
        }
        let before = std::mem::replace(&mut *self.channel.value.write(), value);
        self.channel.announce();
        drop(before);
        Ok(())
    }

    fn send_if_modified<F: FnOnce(&mut T) -> bool>(&self, modify: F) -> bool {
        let modified = modify(&mut self.channel.value.write());
        if modified {
            self.channel.announce();
        }
        modified
    }

    fn borrow_watched(&self) -> RwLockReadGuard<'_, T> {
        self.channel.value.read()
    }

    fn subscribe(&self) -> OrderedReceiver<T> {
        self.channel.receivers.fetch_add(1, Ordering::AcqRel);
        let seen = self.channel.version.load(Ordering::Acquire);
        OrderedReceiver {
            channel: Arc::clone(&self.channel),
            seen,
        }
    }
}

/// Takes a waiting receiver off the list when its future is dropped.
struct Place<'a, T> {
    channel: &'a Channel<T>,
    id: Option<u64>,
}

impl<T> Drop for Place<'_, T> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.channel.waiting.lock().wakers.remove(&id);
        }
    }
}

impl<T: OptionalSend + OptionalSync> WatchReceiver<OrderedWatch, T> for OrderedReceiver<T> {
    async fn changed(&mut self) -> Result<(), RecvError> {
        let Self { channel, seen } = self;
        let channel = &**channel;
        let mut place = Place { channel, id: None };
        poll_fn(move |context| {
            // The sender counts up before it takes this lock: no change is missed.
            let mut waiting = channel.waiting.lock();
            let version = channel.version.load(Ordering::Acquire);
            if version != *seen {
                *seen = version;
                return Poll::Ready(Ok(()));
            }
            if channel.senders.load(Ordering::Acquire) == 0 {
                return Poll::Ready(Err(RecvError(())));
            }
            let id = *place.id.get_or_insert_with(|| {
                waiting.next += 1;
                waiting.next
            });
            waiting.wakers.insert(id, context.waker().clone());
            Poll::Pending
        })
        .await
    }

    fn borrow_watched(&self) -> RwLockReadGuard<'_, T> {
        self.channel.value.read()
    }

    fn borrow_and_update(&mut self) -> RwLockReadGuard<'_, T> {
        let value = self.channel.value.read();
        self.seen = self.channel.version.load(Ordering::Acquire);
        value
    }
}
