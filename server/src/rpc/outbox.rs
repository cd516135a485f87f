//! What waits to be sent on a stream.
//!
//! The stream takes frames whenever HTTP/2 has room for them: everything that waits, up to a limit,
//! and without a timer. While it has no room, messages stay here, and the limits of an outbox are
//! what keeps a slow peer from costing memory.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures::Stream;
use parking_lot::Mutex;
use tonic::Status;

/// A frame holds no more messages.
pub(super) const FRAME_MESSAGES: usize = 256;
/// A frame is full when its messages have so many bytes; a longer message is a frame of its own.
pub(super) const FRAME_BYTES: usize = 1 << 20;
/// Messages that wait for one stream.
pub(super) const QUEUE_MESSAGES_MAX: usize = 32_768;
/// Bytes that wait for one stream; a longer message may wait alone.
pub(super) const QUEUE_BYTES_MAX: usize = 64 << 20;

/// A message with what its sender wants to know it by.
pub(super) type Tagged<T> = (T, Bytes);

/// Why a message cannot wait here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    /// Too many do.
    Full,
    /// The stream has ended.
    Ended,
}

/// What waits to be sent on a stream.
pub(super) struct Outbox<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    /// The other side has accepted the stream; nothing is sent before.
    open: bool,
    queue: VecDeque<Tagged<T>>,
    bytes: usize,
    /// Nothing is sent any more; the status tells the other side why.
    ended: bool,
    status: Option<Status>,
    /// The stream, when it has found nothing to send.
    stream: Option<Waker>,
    /// Who waits for room.
    room: Option<Waker>,
}

impl<T> Outbox<T> {
    /// An empty one. Messages wait in it until it is open.
    pub(super) fn new(open: bool) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                open,
                queue: VecDeque::new(),
                bytes: 0,
                ended: false,
                status: None,
                stream: None,
                room: None,
            }),
        })
    }

    /// Adds a message, unless too many wait.
    pub(super) fn push(&self, tag: T, message: Bytes) -> Result<(), Refused> {
        let state = self.state.lock();
        let full = state.queue.len() >= QUEUE_MESSAGES_MAX
            || state.bytes.saturating_add(message.len()) > QUEUE_BYTES_MAX;
        if full && !state.queue.is_empty() {
            return Err(Refused::Full);
        }
        self.add(state, tag, message)
    }

    /// Adds a message however many wait; the caller sees to it that they are not too many.
    pub(super) fn push_anyway(&self, tag: T, message: Bytes) -> Result<(), Refused> {
        self.add(self.state.lock(), tag, message)
    }

    fn add(
        &self,
        mut state: parking_lot::MutexGuard<'_, State<T>>,
        tag: T,
        message: Bytes,
    ) -> Result<(), Refused> {
        if state.ended {
            return Err(Refused::Ended);
        }
        state.bytes = state.bytes.saturating_add(message.len());
        state.queue.push_back((tag, message));
        let waker = state.stream.take();
        drop(state);
        wake(waker);
        Ok(())
    }

    /// Waits until there is room for more bytes, or no need for it. One task at a time may wait.
    pub(super) async fn room(&self) {
        poll_fn(|cx| {
            let mut state = self.state.lock();
            if state.bytes < QUEUE_BYTES_MAX || state.ended {
                return Poll::Ready(());
            }
            state.room = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// The other side has accepted the stream.
    pub(super) fn open(&self) {
        let mut state = self.state.lock();
        state.open = true;
        let waker = state.stream.take();
        drop(state);
        wake(waker);
    }

    /// Ends the stream. What waits is dropped.
    pub(super) fn end(&self, status: Option<Status>) {
        let mut state = self.state.lock();
        if !state.ended {
            state.ended = true;
            state.status = status;
        }
        state.bytes = 0;
        let (queue, stream) = (std::mem::take(&mut state.queue), state.stream.take());
        let room = state.room.take();
        // Tags may have a destructor that comes back here.
        drop(state);
        drop(queue);
        wake(stream);
        wake(room);
    }

    fn poll_batch(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Vec<Tagged<T>>, Status>>> {
        let mut state = self.state.lock();
        if state.ended {
            return Poll::Ready(state.status.take().map(Err));
        }
        if !state.open || state.queue.is_empty() {
            state.stream = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut batch = Vec::with_capacity(state.queue.len().min(FRAME_MESSAGES));
        let mut bytes = 0_usize;
        while let Some((_, next)) = state.queue.front() {
            let with_next = bytes.saturating_add(next.len());
            let full = batch.len() >= FRAME_MESSAGES || with_next > FRAME_BYTES;
            if full && !batch.is_empty() {
                break;
            }
            bytes = with_next;
            batch.extend(state.queue.pop_front());
        }
        state.bytes = state.bytes.saturating_sub(bytes);
        let room = state.room.take();
        drop(state);
        wake(room);
        Poll::Ready(Some(Ok(batch)))
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The stream's end of an outbox. There is one of each outbox; when it is dropped, the outbox has
/// ended.
pub(super) struct Batches<T>(pub(super) Arc<Outbox<T>>);

impl<T> Stream for Batches<T> {
    type Item = Result<Vec<Tagged<T>>, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_batch(cx)
    }
}

impl<T> Drop for Batches<T> {
    fn drop(&mut self) {
        self.0.end(None);
    }
}
