//! Connections: the one place where sockets are opened and accepted, and where TLS is.
//!
//! Between nodes with certificates both sides show theirs while they connect, so that [`connect`]
//! reaches whom it means or nobody, and [`accept`] knows who has called. A node may connect without
//! a certificate; what it is answered is decided in [`super::handshake`]. Of the two kinds of nodes,
//! those with `--insecure` and those without, each notices the other and says so.
//!
//! Each handshake is made in a task of its own and has a limited time.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, future, stream};
use hyper_util::rt::TokioIo;
use pontoon_raft::NodeId;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, TlsStream};
use tonic::codegen::{Service, http};
use tonic::transport::server::{Connected, Server};
use tonic::transport::{Channel, Endpoint};

use super::handshake::Identity;
use crate::certs::{Credentials, NodeName, explain};

/// A connection must be made by then.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(2);
/// How often who has made a connection asks whether the other side is there, when nothing else comes
/// from it.
const PING_EVERY: Duration = Duration::from_secs(1);
/// And how often who serves it does. Nobody waits for that: a dead caller only keeps a connection, and
/// what goes over idle connections is most of what an idle cluster does.
const SERVER_PING_EVERY: Duration = Duration::from_secs(10);
/// A connection whose other side has not answered by then is closed.
const PING_TIME_MAX: Duration = Duration::from_secs(2);
/// Bytes that one side may send before the other has read them. A connection has one stream.
const WINDOW_BYTES: u32 = 8 << 20;
/// Bytes of an HTTP/2 frame; large, since there is nothing on a connection to take turns with.
const HTTP_FRAME_BYTES: u32 = 256 << 10;
/// A caller that has not said anything by then, or not proven who it is, is dropped.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);
/// Connections that have been made and not been taken over yet.
const ACCEPTED_MAX: usize = 64;
/// How long to wait when the system cannot accept.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// Streams of a connection. One is used; one more may be opened before the first has ended.
const STREAMS_MAX: u32 = 4;

/// The first byte of what a client of TLS says.
const TLS_HANDSHAKE: u8 = 0x16;
/// What an insecure node answers to that: a fatal alert, `insufficient_security` (RFC 8446, 6.2).
const NO_TLS_HERE: [u8; 7] = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 71];

/// Connects to the node `to` at `address`, `host:port`; 0 is whoever is there. The error is a
/// sentence without its subject: the other side.
pub(super) async fn connect(
    address: &str,
    to: NodeId,
    credentials: &Credentials,
) -> Result<Channel, String> {
    // The limit covers the resolution of names, the connection and the handshake.
    let dialling = timeout(2 * CONNECT_TIME_MAX, dial(address, to, credentials));
    let socket = dialling
        .await
        .map_err(|_| "it does not answer".to_owned())??;
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| format!("{address} is no address"))?
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIME_MAX)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_frame_size(HTTP_FRAME_BYTES);
    let connected = endpoint.connect_with_connector(Once(Some(socket))).await;
    connected.map_err(|error| super::link::chain(error.source().unwrap_or(&error)))
}

async fn dial(address: &str, to: NodeId, credentials: &Credentials) -> Result<Socket, String> {
    let tls = match credentials {
        Credentials::Insecure => None,
        // Whom it reaches is known by the fingerprint; the name is not looked at.
        Credentials::Joining(pin) => Some((
            pin.client(),
            NodeName {
                node: to,
                cluster: 0,
            },
        )),
        Credentials::Member(keyring) => {
            let held = keyring.held().ok_or("this node has no certificate yet")?;
            let name = NodeName {
                node: to,
                ..held.name
            };
            Some((held.client(), name))
        }
    };
    let connecting = timeout(CONNECT_TIME_MAX, TcpStream::connect(address));
    let socket = connecting
        .await
        .map_err(|_| "it does not answer".to_owned())?;
    let socket = socket.map_err(|e| e.to_string())?;
    socket.set_nodelay(true).map_err(|e| e.to_string())?;
    let Some((config, name)) = tls else {
        return Ok(Socket::Plain(socket));
    };
    let expected = name.expected().ok_or("its name cannot be written")?;
    let connector = TlsConnector::from(config);
    let shaken = connector.connect(expected, socket).await;
    let stream = shaken.map_err(|error| explain(&error))?;
    Ok(Socket::Tls(Box::new(stream.into())))
}

/// Gives away the one connection that it has: a broken one is made again by the link.
struct Once(Option<Socket>);

impl Service<http::Uri> for Once {
    type Response = TokioIo<Socket>;
    type Error = io::Error;
    type Future = future::Ready<io::Result<TokioIo<Socket>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let socket = self.0.take().map(TokioIo::new);
        future::ready(socket.ok_or_else(|| io::ErrorKind::NotConnected.into()))
    }
}

/// How this node serves its connections.
pub(super) fn server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(SERVER_PING_EVERY))
        .http2_keepalive_timeout(Some(PING_TIME_MAX))
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_frame_size(HTTP_FRAME_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
}

/// Connections from other nodes. Dropped, it closes the listener.
pub(super) fn accept(
    listener: TcpListener,
    identity: Arc<Identity>,
) -> impl Stream<Item = io::Result<Socket>> {
    let (sender, receiver) = mpsc::channel(ACCEPTED_MAX);
    stream::unfold(
        (listener, identity, sender, receiver),
        async |(listener, identity, sender, mut receiver)| loop {
            let accepted = tokio::select! {
                taken = receiver.recv() => {
                    return Some((Ok(taken?), (listener, identity, sender, receiver)));
                }
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, from)) => {
                    let (identity, sender) = (Arc::clone(&identity), sender.clone());
                    tokio::spawn(async move {
                        let received = receive(socket, &identity);
                        let socket = match timeout(HANDSHAKE_TIME_MAX, received).await {
                            Ok(Ok(Some(socket))) => socket,
                            Ok(Ok(None)) | Err(_) => return,
                            Ok(Err(reason)) => {
                                tracing::warn!(%from, reason, "refused a connection");
                                return;
                            }
                        };
                        // Refused when the node shuts down.
                        let _ = sender.send(socket).await;
                    });
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

/// A connection whose caller has begun to speak, and has proven who it is if it can: whoever only
/// connects holds nothing for long. `None`: it said nothing.
async fn receive(mut socket: TcpStream, identity: &Identity) -> Result<Option<Socket>, String> {
    let mut first = [0];
    if !matches!(socket.peek(&mut first).await, Ok(1..)) || socket.set_nodelay(true).is_err() {
        return Ok(None);
    }
    let speaks_tls = first == [TLS_HANDSHAKE];
    let acceptor = match identity.credentials() {
        Credentials::Member(keyring) => keyring.held().map(|held| held.acceptor()),
        Credentials::Insecure | Credentials::Joining(_) => None,
    };
    match acceptor {
        Some(acceptor) if speaks_tls => {
            let shaken = acceptor.accept(socket).await;
            let stream = shaken.map_err(|error| explain(&error))?;
            Ok(Some(Socket::Tls(Box::new(stream.into()))))
        }
        None if speaks_tls => {
            // Nobody waits for it if it cannot be sent.
            let _ = socket.write_all(&NO_TLS_HERE).await;
            Err("it speaks TLS, and this node was started with --insecure".into())
        }
        // One that should speak TLS is told so where it says what it wants.
        Some(_) | None => Ok(Some(Socket::Plain(socket))),
    }
}

/// A connection between nodes.
#[derive(Debug)]
pub(super) enum Socket {
    /// As it is.
    Plain(TcpStream),
    /// Encrypted.
    Tls(Box<TlsStream<TcpStream>>),
}

/// What a caller has shown by the way in which it has connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Proof {
    /// It speaks no TLS.
    Plain,
    /// It has no certificate.
    Nothing,
    /// It has the key to a certificate of this cluster's authority, which names it so.
    Node(NodeName),
}

/// Who has connected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    /// From where.
    pub(super) address: Option<SocketAddr>,
    /// Who it is.
    pub(super) proof: Proof,
}

impl Connected for Socket {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        let (socket, proof) = match self {
            Self::Plain(socket) => (socket, Proof::Plain),
            Self::Tls(stream) => {
                let (socket, session) = stream.get_ref();
                let shown = session.peer_certificates().and_then(|chain| chain.first());
                // One that names nobody proves nothing.
                let name = shown.and_then(NodeName::of);
                (socket, name.map_or(Proof::Nothing, Proof::Node))
            }
        };
        Caller {
            address: socket.peer_addr().ok(),
            proof,
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, to),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, to),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, from),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, from),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, from),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, from),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
