//! What other nodes say to this one: streams of questions, each answered by a [`Handler`] in a task
//! of its own.
//!
//! A stream has a limited number of questions in work, and of their bytes. A question counts until
//! its answer has been handed to the stream, so that a peer that does not read its answers is not
//! read either. Invariant: a question that was read is answered, or its stream ends.
//!
//! What a peer has asked for is carried out even when its stream breaks meanwhile: half of a commit
//! is worth less than one without an answer.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{self, BoxFuture, FutureExt};
use futures::stream::{BoxStream, StreamExt};
use pontoon_kv::cluster::{Answer as CallAnswer, Call, Topic, Watched};
use pontoon_kv::range::Refusal as CallRefusal;
use pontoon_kv::{Error, Timestamp};
use pontoon_raft::transport::{Envelope, Refusal, Reply};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::metadata::MetadataMap;
use tonic::server::{Grpc, StreamingService};
use tonic::{Request, Response, Status, Streaming};

use super::codec::{FRAME_BYTES_MAX, Frame, FrameCodec, PATH};
use super::handshake::{self, Hello, Standing};
use super::message::{self, Answer, Operated, Operation, Question};
use super::network::Network;
use super::outbox::{Batches, Outbox, Refused};
use super::socket::{self, Caller, Proof};
use crate::certs::Credentials;

/// Questions of one stream in work.
const IN_WORK_MAX: u32 = 1_024;
/// Bytes of the questions of one stream in work; a longer one is in work alone.
const IN_WORK_BYTES_MAX: u32 = 128 << 20;
/// No frame of a caller without a certificate is longer: all it can say is short.
const STRANGERS_FRAME_BYTES_MAX: usize = 16 << 10;
/// Tools that watch the cluster's metadata at this node.
const WATCHERS_MAX: usize = 1_024;
/// How often it is looked whether a caller has left the cluster.
const LEFT_CHECK_EVERY: Duration = Duration::from_secs(1);
/// When the node shuts down, what is in work has so long to end.
const LAST_WORK_TIME_MAX: Duration = Duration::from_secs(1);
/// And so long to be sent.
const LAST_WORDS_TIME_MAX: Duration = Duration::from_secs(1);

/// Answers questions of other nodes. A handler may panic; the question is then without an answer.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Handles a Raft message; see [`pontoon_raft::Host::handle`].
    fn raft(&self, envelope: Envelope) -> BoxFuture<'static, Result<Reply, Refusal>>;

    /// Answers a question of the key-value layer.
    fn call(&self, call: Call) -> BoxFuture<'static, Result<CallAnswer, CallRefusal>>;

    /// Answers a question of the SQL layer.
    fn sql(&self, question: Bytes) -> BoxFuture<'static, Result<Bytes, String>>;

    /// Does what an operator asks of the SQL layer.
    fn operate(&self, operation: Operation) -> BoxFuture<'static, Result<Operated, String>>;
    /// Tells what has changed of the cluster's metadata; see [`pontoon_kv::Db::watch`].
    fn watch(
        &self,
        topics: Vec<Topic>,
        since: Timestamp,
        wait: Duration,
    ) -> BoxFuture<'static, Result<Watched, Error>>;
}

/// What the streams of a node share.
pub(super) struct Front {
    pub(super) handler: Arc<dyn Handler>,
    pub(super) network: Network,
    pub(super) shutdown: watch::Receiver<bool>,
    /// How many more may watch.
    pub(super) watchers: Arc<Semaphore>,
}

/// Serves other nodes, and passes on by `network` what is for others, until `shutdown` is true or its
/// sender is gone; then what is in work has about a second to end.
///
/// # Errors
/// Only if it cannot serve at all; a connection that fails is the concern of its peer.
pub(crate) async fn serve(
    listener: TcpListener,
    handler: Arc<dyn Handler>,
    network: Network,
    shutdown: watch::Receiver<bool>,
) -> Result<(), tonic::transport::Error> {
    let identity = Arc::clone(network.identity());
    let service = NodeService(Arc::new(Front {
        handler,
        network,
        shutdown: shutdown.clone(),
        watchers: Arc::new(Semaphore::new(WATCHERS_MAX)),
    }));
    let serving = socket::server().serve_with_incoming_shutdown(
        service,
        socket::accept(listener, identity),
        wait_for(shutdown.clone()),
    );
    let too_late = async {
        wait_for(shutdown).await;
        tokio::time::sleep(LAST_WORK_TIME_MAX + LAST_WORDS_TIME_MAX).await;
    };
    tokio::select! {
        served = serving => served,
        // A peer that does not close its connection cannot keep the node from stopping.
        () = too_late => Ok(()),
    }
}

pub(super) async fn wait_for(mut shutdown: watch::Receiver<bool>) {
    // An error: nobody is left who could say it.
    let _ = shutdown.wait_for(|down| *down).await;
}

/// The gRPC service, as a generator would write it.
#[derive(Clone)]
struct NodeService(Arc<Front>);

impl Service<http::Request<Body>> for NodeService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() == super::watch::PATH {
            let service = super::watch::Service(Arc::clone(&self.0));
            return async move { Ok(service.serve(request).await) }.boxed();
        }
        if request.uri().path() != PATH {
            let served = format!("{PATH} and {}", super::watch::PATH);
            let status = Status::unimplemented(format!("this node serves {served} only"));
            return future::ready(Ok(status.into_http())).boxed();
        }
        let accept = Accept(Arc::clone(&self.0));
        let caller = request.extensions().get::<Caller>();
        let proven = caller.is_some_and(|caller| matches!(caller.proof, Proof::Node(_)));
        let bytes_max = match self.0.network.identity().credentials() {
            Credentials::Insecure => FRAME_BYTES_MAX,
            _ if proven => FRAME_BYTES_MAX,
            _ => STRANGERS_FRAME_BYTES_MAX,
        };
        async move {
            let mut grpc = Grpc::new(FrameCodec).max_decoding_message_size(bytes_max);
            Ok(grpc.streaming(accept, request).await)
        }
        .boxed()
    }
}

/// Accepts a stream, or says why not.
struct Accept(Arc<Front>);

impl Accept {
    /// Whether the caller is heard, and what it may ask.
    fn check(
        &self,
        metadata: &MetadataMap,
        caller: Option<Caller>,
    ) -> Result<(Hello, Standing), Status> {
        let (identity, book) = (self.0.network.identity(), self.0.network.book());
        let hello = Hello::read(metadata)?;
        // First, as the rest tells who is here.
        let proof = caller.map_or(Proof::Plain, |caller| caller.proof);
        let standing = handshake::check_proof(&hello, proof, identity, book)?;
        hello.check(identity)?;
        Ok((hello, standing))
    }
}

impl StreamingService<Bytes> for Accept {
    type Response = Frame;
    type ResponseStream = BoxStream<'static, Result<Frame, Status>>;
    type Future = future::Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let caller = request.extensions().get::<Caller>().copied();
        let (hello, standing) = match self.check(request.metadata(), caller) {
            Ok(checked) => checked,
            Err(status) => {
                let from = caller.and_then(|caller| caller.address);
                tracing::warn!(?from, reason = status.message(), "refused another node");
                return future::ready(Err(status));
            }
        };
        // Only of a node of this very cluster: others have numbers of their own.
        let known = hello.from.0 != 0 && hello.cluster == self.0.network.identity().cluster();
        if known && !hello.rpc.is_empty() {
            self.0.network.book().note(hello.from, hello.rpc.clone());
        }
        let outbox = Outbox::new(true);
        let answers = Batches(Arc::clone(&outbox)).map(|batch| {
            // They are not in work any more.
            let messages = batch?.into_iter().map(|(_, message)| message);
            Ok(Frame(messages.collect()))
        });
        let conversation = Conversation {
            front: Arc::clone(&self.0),
            hello,
            standing,
            outbox,
            in_work: Arc::new(Semaphore::new(IN_WORK_MAX as usize)),
            bytes_in_work: Arc::new(Semaphore::new(IN_WORK_BYTES_MAX as usize)),
        };
        tokio::spawn(conversation.run(request.into_inner()));
        future::ready(Ok(Response::new(answers.boxed())))
    }
}

type Answers = Arc<Outbox<InWork>>;

/// A question counts as being in work while this lives.
struct InWork {
    _question: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

/// A stream that has been accepted.
struct Conversation {
    front: Arc<Front>,
    hello: Hello,
    standing: Standing,
    outbox: Answers,
    in_work: Arc<Semaphore>,
    bytes_in_work: Arc<Semaphore>,
}

impl Conversation {
    async fn run(self, mut questions: Streaming<Bytes>) {
        let status = tokio::select! {
            status = self.listen(&mut questions) => status,
            () = self.left() => Some(handshake::gone(self.hello.from)),
            () = wait_for(self.front.shutdown.clone()) => {
                self.finish().await;
                Some(Status::unavailable("the node shuts down"))
            }
        };
        self.outbox.end(status);
    }

    /// Waits until the caller has left the cluster for good, where that can be told.
    async fn left(&self) {
        if let Credentials::Insecure = self.front.network.identity().credentials() {
            return future::pending().await;
        }
        while !self.front.network.book().is_gone(self.hello.from) {
            tokio::time::sleep(LEFT_CHECK_EVERY).await;
        }
    }

    /// Reads questions until there are no more.
    async fn listen(&self, questions: &mut Streaming<Bytes>) -> Option<Status> {
        loop {
            let mut frame = match questions.message().await {
                Ok(Some(frame)) => frame,
                Ok(None) => return None,
                Err(status) => {
                    // The peer knows, and logs it: mostly it is its connection that has broken.
                    tracing::debug!(from = %self.hello.from, %status, "a stream has broken");
                    return Some(status);
                }
            };
            loop {
                let before = frame.len();
                let (id, question) = match message::decode::<Question>(&mut frame) {
                    Ok(Some(question)) => question,
                    Ok(None) => break,
                    Err(error) => {
                        let (from, class) = (self.hello.from, self.hello.class);
                        tracing::error!(%from, %class, %error, "dropped a stream of another node");
                        return Some(Status::invalid_argument(error.to_string()));
                    }
                };
                let joins = matches!(&question, Question::Call(Call::JoinByToken { .. }));
                if self.standing == Standing::Stranger && !joins {
                    return Some(Status::unauthenticated(
                        "the caller shows no certificate of this cluster",
                    ));
                }
                self.outbox.room().await;
                let bytes = before.saturating_sub(frame.len());
                self.answer(id, question, self.begin(bytes).await?);
            }
        }
    }

    /// Waits until one more question may be in work; `None` never happens, as nobody closes the
    /// semaphores.
    async fn begin(&self, bytes: usize) -> Option<InWork> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let all_bytes = Arc::clone(&self.bytes_in_work);
        let question = Arc::clone(&self.in_work).acquire_owned().await;
        let bytes = all_bytes.acquire_many_owned(bytes.min(IN_WORK_BYTES_MAX));
        Some(InWork {
            _question: question.ok()?,
            _bytes: bytes.await.ok()?,
        })
    }

    fn answer(&self, id: u64, question: Question, in_work: InWork) {
        let mut reply = Answering {
            outbox: Arc::clone(&self.outbox),
            id,
            in_work: Some(in_work),
        };
        let (front, class) = (Arc::clone(&self.front), self.hello.class);
        tokio::spawn(async move {
            let Front {
                handler, network, ..
            } = &*front;
            // Called in here, so that a panic ends this task and no more.
            reply.send(&match question {
                Question::Raft(envelope) => Answer::Raft(handler.raft(envelope).await),
                Question::Call(call) => Answer::Call(handler.call(call).await),
                Question::Sql(question) => Answer::Sql(handler.sql(question).await),
                Question::Operate(operation) => Answer::Operate(handler.operate(operation).await),
                Question::PassOn { to, question } => network.pass_on(to, class, *question).await,
            });
        });
    }

    /// Waits until nothing is in work any more, but not for long.
    async fn finish(&self) {
        let all = self.in_work.acquire_many(IN_WORK_MAX);
        let _ = tokio::time::timeout(LAST_WORK_TIME_MAX, all).await;
    }
}

/// The duty to answer a question: whoever asked waits for it.
struct Answering {
    outbox: Answers,
    id: u64,
    in_work: Option<InWork>,
}

impl Answering {
    fn send(&mut self, answer: &Answer) {
        let message = answer.encode(self.id).or_else(|error| {
            tracing::error!(%error, "could not answer another node");
            Answer::Failed.encode(self.id)
        });
        // Ended: the peer has gone, and knows that it has no answer.
        if let (Ok(message), Some(in_work)) = (message, self.in_work.take()) {
            let _: Result<(), Refused> = self.outbox.push_anyway(in_work, message);
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if self.in_work.is_some() {
            self.send(&Answer::Failed);
        }
    }
}
