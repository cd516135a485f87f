//! One stream as its caller sees it: who waits for which answer.
//!
//! Every call ends: with its answer, or when the stream breaks. A call that had not been handed to
//! the stream by then has certainly not arrived; about the others nothing is known.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt, future};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::class::Counters;
use super::codec::Frame;
use super::message::{self, Answer, Malformed};
use super::outbox::{Batches, Outbox, Refused, Tagged};

/// Calls of one stream that wait for an answer, whether or not they have been sent.
pub(super) const UNANSWERED_MAX: usize = 65_536;

/// Why a call has no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Broken {
    /// It has not been sent.
    Unsent(Arc<str>),
    /// It may have arrived.
    Lost(Arc<str>),
}

/// Why a call is not taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum NotTaken {
    /// Too many wait.
    Full,
    /// The stream has ended, and it will soon be known why.
    Ended,
    /// The stream has ended, or is unlikely to come up.
    Down(Arc<str>),
}

/// One stream, from before it is opened until it has ended.
pub(super) struct Exchange {
    outbox: Arc<Outbox<u64>>,
    waiting: Mutex<Waiting>,
    ended: Notify,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Waiting {
    calls: HashMap<u64, Call>,
    /// Why no call is taken, if none is.
    down: Option<Arc<str>>,
    /// It stays so.
    ended: bool,
}

struct Call {
    /// It has been handed to the stream.
    sent: bool,
    answer: oneshot::Sender<Result<Answer, Broken>>,
}

impl Exchange {
    /// One that takes calls and keeps them until it is opened.
    pub(super) fn new(counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            outbox: Outbox::new(false),
            waiting: Mutex::default(),
            ended: Notify::new(),
            counters,
        })
    }

    /// Takes a call.
    pub(super) fn take(self: &Arc<Self>, id: u64, message: Bytes) -> Result<Ticket, NotTaken> {
        let (sender, answer) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        if let Some(reason) = &waiting.down {
            return Err(NotTaken::Down(Arc::clone(reason)));
        }
        if waiting.calls.len() >= UNANSWERED_MAX {
            return Err(NotTaken::Full);
        }
        // Under the lock, so that a message never reaches the stream before its call is noted.
        match self.outbox.push(id, message) {
            Ok(()) => {}
            Err(Refused::Full) => return Err(NotTaken::Full),
            Err(Refused::Ended) => return Err(NotTaken::Ended),
        }
        let call = Call {
            sent: false,
            answer: sender,
        };
        waiting.calls.insert(id, call);
        drop(waiting);
        Ok(Ticket {
            exchange: Arc::clone(self),
            id,
            answer,
        })
    }

    /// What the stream shall send. Call it once.
    pub(super) fn frames(self: &Arc<Self>) -> impl Stream<Item = Frame> + Send + use<> {
        let exchange = Arc::clone(self);
        Batches(Arc::clone(&self.outbox)).filter_map(move |batch| {
            // An outbox ends with a status only on the side that answers.
            let frame = batch.ok().and_then(|batch| exchange.hand_over(batch));
            future::ready(frame)
        })
    }

    /// From here on the messages may arrive. Those whose callers have given up are left out.
    fn hand_over(&self, batch: Vec<Tagged<u64>>) -> Option<Frame> {
        let mut messages = Vec::with_capacity(batch.len());
        let mut waiting = self.waiting.lock();
        for (id, message) in batch {
            if let Some(call) = waiting.calls.get_mut(&id) {
                call.sent = true;
                messages.push(message);
            }
        }
        drop(waiting);
        let bytes = messages.iter().map(Bytes::len).sum();
        self.counters.sent(messages.len(), bytes);
        (!messages.is_empty()).then_some(Frame(messages))
    }

    /// Takes the answers of a frame.
    pub(super) fn answer(&self, mut frame: Bytes) -> Result<(), Malformed> {
        let bytes = frame.len();
        let mut answers = Vec::new();
        while let Some(answer) = message::decode::<Answer>(&mut frame)? {
            answers.push(answer);
        }
        self.counters.received(answers.len(), bytes);
        let mut waiting = self.waiting.lock();
        for (id, answer) in answers {
            // Nobody waits any more if the caller has given up.
            if let Some(call) = waiting.calls.remove(&id) {
                let _ = call.answer.send(Ok(answer));
            }
        }
        Ok(())
    }

    /// The other side has accepted the stream.
    pub(super) fn open(&self) {
        let mut waiting = self.waiting.lock();
        if !waiting.ended {
            waiting.down = None;
        }
        drop(waiting);
        self.outbox.open();
    }

    /// The stream takes long to come up: calls fail at once until it has.
    pub(super) fn doubt(&self, reason: Arc<str>) {
        self.fail(reason, false);
    }

    /// The stream has ended, and every call with it.
    pub(super) fn end(&self, reason: Arc<str>) {
        self.fail(reason, true);
        self.outbox.end(None);
        self.ended.notify_one();
    }

    fn fail(&self, reason: Arc<str>, ended: bool) {
        let mut waiting = self.waiting.lock();
        waiting.ended |= ended;
        waiting.down.get_or_insert_with(|| Arc::clone(&reason));
        let calls = std::mem::take(&mut waiting.calls);
        drop(waiting);
        for call in calls.into_values() {
            let reason = Arc::clone(&reason);
            let _ = call.answer.send(Err(if call.sent {
                Broken::Lost(reason)
            } else {
                Broken::Unsent(reason)
            }));
        }
    }

    /// Waits for [`Self::end`]. One task may.
    pub(super) async fn ended(&self) {
        self.ended.notified().await;
    }

    /// Why a call would not be taken, if it would not.
    pub(super) fn down(&self) -> Option<Arc<str>> {
        self.waiting.lock().down.clone()
    }

    /// Whether nobody waits for an answer.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.lock().calls.is_empty()
    }

    fn forget(&self, id: u64) {
        self.waiting.lock().calls.remove(&id);
    }
}

/// The claim to an answer. Dropped, it gives up the answer, and the question too if that has not
/// been sent.
pub(super) struct Ticket {
    exchange: Arc<Exchange>,
    id: u64,
    answer: oneshot::Receiver<Result<Answer, Broken>>,
}

impl Ticket {
    /// Waits for the answer.
    pub(super) async fn wait(mut self) -> Result<Answer, Broken> {
        // The sender is dropped only after it was used, or with the exchange, which lives in here.
        let lost = |_| Err(Broken::Lost("the connection has ended".into()));
        (&mut self.answer).await.unwrap_or_else(lost)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // Terminated: the answer has been taken, and the call is not noted any more.
        if !self.answer.is_terminated() {
            self.exchange.forget(self.id);
        }
    }
}
