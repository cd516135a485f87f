//! Connections: the one place where sockets are opened and accepted. TLS belongs in [`connect`] and
//! [`receive`].

use std::io;
use std::time::Duration;

use futures::{Stream, stream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tonic::transport::server::Server;
use tonic::transport::{Channel, Endpoint};

/// A connection must be made by then.
pub(super) const CONNECT_TIME_MAX: Duration = Duration::from_secs(2);
/// How often each side asks whether the other is there.
const PING_EVERY: Duration = Duration::from_secs(1);
/// A connection whose other side has not answered by then is closed.
const PING_TIME_MAX: Duration = Duration::from_secs(2);
/// Bytes that one side may send before the other has read them. A connection has one stream.
const WINDOW_BYTES: u32 = 8 << 20;
/// Bytes of an HTTP/2 frame; large, since there is nothing on a connection to take turns with.
const HTTP_FRAME_BYTES: u32 = 256 << 10;
/// A caller that has not said anything by then is dropped.
const FIRST_BYTE_TIME_MAX: Duration = Duration::from_secs(5);
/// Connections that have been made and not been taken over yet.
const ACCEPTED_MAX: usize = 64;
/// How long to wait when the system cannot accept.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// Streams of a connection. One is used; one more may be opened before the first has ended.
const STREAMS_MAX: u32 = 4;

/// Connects to `address`, `host:port`.
pub(super) async fn connect(address: &str) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_TIME_MAX)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIME_MAX)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_frame_size(HTTP_FRAME_BYTES)
        .connect()
        .await
}

/// How this node serves its connections.
pub(super) fn server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_TIME_MAX))
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_frame_size(HTTP_FRAME_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
}

/// Connections from other nodes. Dropped, it closes the listener.
pub(super) fn accept(listener: TcpListener) -> impl Stream<Item = io::Result<TcpStream>> {
    let (sender, receiver) = mpsc::channel(ACCEPTED_MAX);
    stream::unfold(
        (listener, sender, receiver),
        async |(listener, sender, mut receiver)| loop {
            let accepted = tokio::select! {
                taken = receiver.recv() => return Some((Ok(taken?), (listener, sender, receiver))),
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, _)) => {
                    tokio::spawn(receive(socket, sender.clone()));
                }
                Err(e) => {
                    // Mostly: too many open files. The listener works again when some are closed.
                    tracing::warn!(error = %e, "could not accept a connection of a node");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        },
    )
}

/// Hands a connection over when the caller has begun to speak: whoever only connects holds nothing
/// for long.
async fn receive(socket: TcpStream, taken: mpsc::Sender<TcpStream>) {
    let first = tokio::time::timeout(FIRST_BYTE_TIME_MAX, socket.peek(&mut [0])).await;
    if matches!(first, Ok(Ok(1..))) && socket.set_nodelay(true).is_ok() {
        // Refused when the node shuts down.
        let _ = taken.send(socket).await;
    }
}
