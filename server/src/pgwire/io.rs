//! The two buffers of a connection and the socket between which they lie.
//!
//! While a statement runs, [`Io::watched`] keeps reading: input that arrives is kept for later, the
//! end of the stream or a shutdown of the node cancels the statement.

use std::future::Future;
use std::pin::pin;

use bytes::BytesMut;
use pontoon_sql::session::CancelHandle;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;

/// Output over this is written even before Sync.
pub(crate) const FLUSH_BYTES: usize = 64 << 10;
/// Bytes that one read asks for.
const READ_BYTES: usize = 8 << 10;
/// Buffers of an idle connection larger than this are given back.
const IDLE_BUFFER_BYTES_MAX: usize = 16 << 10;
/// While a statement runs, no more than so many bytes are read ahead.
const READ_AHEAD_BYTES_MAX: usize = 1 << 20;

/// A byte stream to a client.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Why waiting for input ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// There is more input.
    Input,
    /// The client closed the connection, or it broke.
    Closed,
    /// The node is shutting down.
    Shutdown,
}

/// Socket and buffers.
pub(crate) struct Io<S> {
    socket: S,
    /// Received and not yet read.
    pub(crate) input: BytesMut,
    /// To be sent.
    pub(crate) out: Vec<u8>,
    /// True when the node shuts down.
    pub(crate) shutdown: watch::Receiver<bool>,
    /// The client is gone; nothing more is read or written.
    pub(crate) closed: bool,
}

impl<S: Stream> Io<S> {
    /// Over a socket, with what was read from it already.
    pub(crate) fn new(socket: S, input: BytesMut, shutdown: watch::Receiver<bool>) -> Self {
        Self {
            socket,
            input,
            out: Vec::new(),
            shutdown,
            closed: false,
        }
    }

    /// Waits for more input.
    pub(crate) async fn wait(&mut self) -> Woken {
        if self.closed {
            return Woken::Closed;
        }
        if *self.shutdown.borrow() {
            return Woken::Shutdown;
        }
        self.input.reserve(READ_BYTES);
        tokio::select! {
            biased;
            read = self.socket.read_buf(&mut self.input) => match read {
                Ok(n) if n > 0 => Woken::Input,
                _ => {
                    self.closed = true;
                    Woken::Closed
                }
            },
            _ = self.shutdown.wait_for(|down| *down) => Woken::Shutdown,
        }
    }

    /// Gives back memory that an idle connection does not need.
    pub(crate) fn shrink(&mut self) {
        if self.input.is_empty() && self.input.capacity() > IDLE_BUFFER_BYTES_MAX {
            self.input = BytesMut::new();
        }
        if self.out.is_empty() && self.out.capacity() > IDLE_BUFFER_BYTES_MAX {
            self.out = Vec::new();
        }
    }

    /// Writes all output.
    pub(crate) async fn flush(&mut self) {
        if !self.out.is_empty() {
            if !self.closed {
                let sent = async {
                    self.socket.write_all(&self.out).await?;
                    self.socket.flush().await
                };
                if sent.await.is_err() {
                    self.closed = true;
                }
            }
            self.out.clear();
        }
    }

    /// Writes the output if there is much of it.
    pub(crate) async fn flush_if_large(&mut self) {
        if self.out.len() >= FLUSH_BYTES {
            self.flush().await;
        }
    }

    /// Runs `work` to its end; cancels it when the client goes away, or the node shuts down.
    pub(crate) async fn watched<F: Future>(&mut self, cancel: &CancelHandle, work: F) -> F::Output {
        let mut work = pin!(work);
        // The usual case: the work needs no waiting, and neither socket nor clock is touched.
        if let std::task::Poll::Ready(done) = futures::poll!(work.as_mut()) {
            return done;
        }
        let mut stopped = false;
        loop {
            let may_read = !self.closed && self.input.len() < READ_AHEAD_BYTES_MAX;
            if may_read && self.input.capacity() == self.input.len() {
                self.input.reserve(READ_BYTES);
            }
            tokio::select! {
                biased;
                done = work.as_mut() => return done,
                read = self.socket.read_buf(&mut self.input), if may_read => {
                    if !matches!(read, Ok(n) if n > 0) {
                        self.closed = true;
                        cancel.cancel();
                    }
                }
                _ = self.shutdown.wait_for(|down| *down), if !stopped => {
                    stopped = true;
                    cancel.cancel();
                }
            }
        }
    }

    /// Says goodbye to the other side.
    pub(crate) async fn close(&mut self) {
        self.flush().await;
        // The client may be gone already: nothing is left to do then.
        let _ = self.socket.shutdown().await;
    }
}
