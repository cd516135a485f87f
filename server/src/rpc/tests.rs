//! Nodes that talk over real sockets of this machine: what arrives, what is refused, and how soon a
//! caller learns that nobody answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use futures::{FutureExt, StreamExt, stream};
use pontoon_kv::cluster::{
    Answer as CallAnswer, Book, Call, Candidate, NodeRow, NodeStatus, Report, Topic, Usage, View,
    WatchEvent, Watched, WatchedKind,
};
use pontoon_kv::oracle::Moment;
use pontoon_kv::range::Refusal as CallRefusal;
use pontoon_kv::routing::{PeerError, Peers, Whom};
use pontoon_kv::{Error, Timestamp};
use pontoon_raft::transport::{
    AppendReply, AppendRequest, Envelope, Refusal, Reply, Request as RaftRequest, Vote,
};
use pontoon_raft::{
    Entry, EntryPayload, GroupId, LogPosition, NodeId, Peer, Place, ReplicaId, StoreId, Transport,
    TransportError,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{oneshot, watch};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};

use super::class::{Class, Counters};
use super::codec::{FRAME_BYTES_MAX, Frame, FrameCodec, PATH};
use super::exchange::{Broken, Exchange, NotTaken};
use super::handshake::{Hello, Identity, PROTOCOL};
use super::message::{self, Answer, Malformed, Question};
use super::outbox::{
    Batches, FRAME_BYTES, FRAME_MESSAGES, Outbox, QUEUE_BYTES_MAX, QUEUE_MESSAGES_MAX, Refused,
};
use super::{Handler, Network, Operated, Operation, serve, socket};
use crate::certs::Credentials;

pub(super) const CLUSTER: u64 = 7;
pub(super) const ME: NodeId = NodeId(1);
pub(super) const PEER: NodeId = NodeId(2);
/// Longer than anything here should take.
pub(super) const LONG: Duration = Duration::from_secs(60);
/// A silent node is noticed by then, far earlier than [`LONG`]: three seconds, and a busy machine.
pub(super) const NOTICED: Duration = Duration::from_secs(20);

/// Answers everything, except what it is told to leave alone.
struct Echo;

impl Handler for Echo {
    fn raft(&self, envelope: Envelope) -> BoxFuture<'static, Result<Reply, Refusal>> {
        async move {
            match envelope.body {
                RaftRequest::Append(append) => Ok(Reply::Append(AppendReply::StoredUpTo(
                    append.entries.last().map(|entry| entry.position),
                ))),
                _ => Err(Refusal::NoSuchGroup(envelope.group)),
            }
        }
        .boxed()
    }

    fn sql(&self, question: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        async move { Ok(question) }.boxed()
    }

    fn operate(&self, operation: Operation) -> BoxFuture<'static, Result<Operated, String>> {
        async move {
            match operation {
                Operation::Name(_) => Ok(Operated::Named(Vec::new())),
                Operation::Reshape(statement) => Err(statement),
            }
        }
        .boxed()
    }

    /// Three pages of one change each, then nothing for ever.
    fn watch(
        &self,
        topics: Vec<Topic>,
        since: Timestamp,
        _: Duration,
    ) -> BoxFuture<'static, Result<Watched, Error>> {
        async move {
            if since.0 >= 3 {
                return futures::future::pending().await;
            }
            let revision = Timestamp(since.0 + 1);
            let event = |topic: Topic| WatchEvent {
                revision,
                topic,
                key: Bytes::from_static(b"name"),
                value: Some(Bytes::from_static(b"new")),
                old: None,
            };
            Ok(Watched {
                revision,
                kind: WatchedKind::Changes,
                events: topics.into_iter().map(event).collect(),
            })
        }
        .boxed()
    }

    fn call(&self, call: Call) -> BoxFuture<'static, Result<CallAnswer, CallRefusal>> {
        async move {
            match call {
                Call::Now { .. } => Ok(CallAnswer::Now(Moment::alone(Timestamp(42)))),
                Call::Heartbeat(_) => Ok(CallAnswer::Done),
                Call::Close { range: 0, .. } => futures::future::pending().await,
                Call::Close { .. } => panic!("asked to"),
                _ => Err(CallRefusal::Moved),
            }
        }
        .boxed()
    }
}

/// A call that [`Echo`] never answers.
const NEVER: Call = close(0);
/// A call on which [`Echo`] panics.
const PANIC: Call = close(1);

const fn close(range: u64) -> Call {
    let replica = ReplicaId(0);
    Call::Close {
        range,
        replica,
        membership: None,
    }
}

/// A node with a runtime of its own, so that it can die like a process.
pub(super) struct Served {
    pub(super) address: String,
    pub(super) book: Arc<Book>,
    runtime: Option<Runtime>,
    shutdown: watch::Sender<bool>,
    ended: oneshot::Receiver<()>,
}

impl Served {
    fn start(address: &str, cluster: u64, node: NodeId) -> Self {
        Self::showing(address, Identity::new(cluster, node))
    }

    /// A node with certificates, perhaps.
    pub(super) fn showing(address: &str, identity: Identity) -> Self {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.enable_all().worker_threads(2).build().unwrap();
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (shutdown, down) = watch::channel(false);
        let (end, ended) = oneshot::channel();
        let book = Arc::new(Book::default());
        let known = Arc::clone(&book);
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            let network = Network::new(known, Arc::new(identity));
            serve(listener, Arc::new(Echo), network, down)
                .await
                .unwrap();
            end.send(()).unwrap();
        });
        Self {
            address,
            book,
            runtime: Some(runtime),
            shutdown,
            ended,
        }
    }

    fn peer() -> Self {
        Self::start("127.0.0.1:0", CLUSTER, PEER)
    }

    fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    async fn stop(mut self) -> String {
        self.shutdown.send(true).unwrap();
        (&mut self.ended).await.unwrap();
        self.address.clone()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.kill();
    }
}

fn network(peer: &str) -> Network {
    let book = Book::default();
    book.note(PEER, peer.into());
    Network::new(Arc::new(book), Arc::new(Identity::new(CLUSTER, ME)))
}

/// [`network`] of a node that is somebody else.
pub(super) fn network_of(peer: &str, identity: Identity) -> Network {
    let book = Book::default();
    book.note(PEER, peer.into());
    Network::new(Arc::new(book), Arc::new(identity))
}

fn envelope(body: RaftRequest) -> Envelope {
    let at = |node| Peer {
        replica: ReplicaId(1),
        place: Place {
            node,
            store: StoreId(1),
        },
    };
    Envelope {
        group: GroupId(5),
        from: at(ME),
        to: at(PEER),
        body,
    }
}

fn append(commands: &[Bytes]) -> Envelope {
    let entry = |(index, command): (u64, &Bytes)| Entry {
        position: LogPosition { term: 1, index },
        payload: EntryPayload::Command(command.clone()),
    };
    envelope(RaftRequest::Append(AppendRequest {
        vote: Vote::default(),
        previous: None,
        entries: (1..).zip(commands).map(entry).collect(),
        committed: None,
    }))
}

fn heartbeat() -> Call {
    Call::Heartbeat(Report {
        row: NodeRow::default(),
        usage: Usage::default(),
        replicas: Vec::new(),
        leads: Vec::new(),
        stopping: false,
    })
}

pub(super) async fn now(network: &Network) -> Result<CallAnswer, PeerError> {
    network.call(Whom::Node(PEER), Call::Now { count: 1 }).await
}

pub(super) fn reason(error: PeerError) -> String {
    match error {
        PeerError::Unreachable { reason } => reason,
        other => panic!("{other:?}"),
    }
}

/// Asks until there is an answer.
pub(super) async fn now_at_last(network: &Network) {
    let asking = async {
        while now(network).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, asking).await.unwrap();
}

/// A node that does not reach another, but a third that does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_takes_a_way_around() {
    const THIRD: NodeId = NodeId(3);
    let mut peer = Served::peer();
    let third = Served::start("127.0.0.1:0", CLUSTER, THIRD);
    third.book.note(PEER, peer.address.clone());
    let book = Book::default();
    let mut status = NodeStatus {
        row: NodeRow::default(),
        alive: true,
        stopping: false,
        usage: Usage::default(),
        replicas: 0,
        leads: 0,
    };
    status.row.place.node = THIRD;
    book.learn(View {
        revision: (1, 1),
        nodes: vec![status],
        ..View::default()
    });
    book.note(THIRD, third.address.clone());
    // Nobody listens there.
    book.note(PEER, "127.0.0.1:1".into());
    let network = Network::new(Arc::new(book), Arc::new(Identity::new(CLUSTER, ME)));
    now_at_last(&network).await;
    let sent = async {
        loop {
            let reply = network.send(append(&["a".into()]), LONG).await;
            if let Ok(Reply::Append(AppendReply::StoredUpTo(Some(last)))) = reply {
                return last.index;
            }
        }
    };
    assert_eq!(tokio::time::timeout(LONG, sent).await.unwrap(), 1);

    // The third does not reach it either, and says so.
    peer.kill();
    let refused = async { while now(&network).await.is_ok() {} };
    tokio::time::timeout(NOTICED, refused).await.unwrap();
    // Nor is anything passed on twice.
    let question = Box::new(Question::Call(Call::Now { count: 1 }));
    let question = Question::PassOn { to: PEER, question };
    let answer = network.pass_on(THIRD, Class::Data, question).await;
    assert!(matches!(answer, Answer::NotPassedOn));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_of_both_kinds_are_answered() {
    let peer = Served::peer();
    let network = network(&peer.address);

    assert!(matches!(
        now(&network).await,
        Ok(CallAnswer::Now(Moment {
            at: Timestamp(42),
            ..
        }))
    ));
    let by_address = Whom::Address(peer.address.clone());
    let answer = network.call(by_address, Call::Now { count: 1 }).await;
    assert!(matches!(answer, Ok(CallAnswer::Now(_))));
    let joining = Call::Join(Candidate {
        row: NodeRow::default(),
    });
    let refused = network.call(Whom::Node(PEER), joining).await;
    assert!(matches!(
        refused,
        Err(PeerError::Refused(CallRefusal::Moved))
    ));

    let reply = network.send(append(&["a".into(), "b".into()]), LONG).await;
    let Ok(Reply::Append(AppendReply::StoredUpTo(Some(last)))) = reply else {
        panic!("{reply:?}");
    };
    assert_eq!(last, LogPosition { term: 1, index: 2 });
    let transfer = RaftRequest::TransferLeader {
        successor: ReplicaId(2),
        vote: Vote::default(),
        last: None,
    };
    let refused = network.send(envelope(transfer), LONG).await;
    assert_eq!(
        refused.unwrap_err(),
        TransportError::Refused(Refusal::NoSuchGroup(GroupId(5)))
    );

    let sent: Vec<_> = network
        .stats()
        .iter()
        .map(|s| (s.class, s.sent, s.received))
        .collect();
    let expected = [
        (Class::Control, 1),
        (Class::Log, 1),
        (Class::Data, 3),
        (Class::Bulk, 0),
    ];
    assert_eq!(sent, expected.map(|(class, n)| (class, n, n)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_goes_from_page_to_page_and_ends_with_the_node() {
    let peer = Served::peer();
    let watch = |topics: &[&str], since| {
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        let request = super::watch::Request { topics, since };
        super::watch::watch(&peer.address, &Credentials::Insecure, request)
    };
    let mut pages = watch(&["settings"], 1).await.unwrap();
    for revision in [2, 3] {
        let page = pages.message().await.unwrap().unwrap();
        assert_eq!(page.revision, revision);
        let [event] = &page.events[..] else {
            panic!("{page:?}");
        };
        assert_eq!((event.revision, event.deleted), (revision, false));
        assert_eq!([&*event.topic, &*event.id], ["settings", "name"]);
        assert_eq!([&*event.value, &*event.old], ["\"new\"", ""]);
    }
    // Those of nodes and ranges are damaged.
    let status = watch(&[], 1).await.unwrap().message().await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    let status = watch(&["tokens"], 1).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "tokens cannot be watched");

    let stopping = tokio::spawn(peer.stop());
    let status = pages.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.message(), "the node shuts down: go on at another");
    stopping.await.unwrap();
}

/// A call that has been handed to its stream and is never answered.
async fn ask_in_vain(network: &Network) -> BoxFuture<'static, Result<CallAnswer, PeerError>> {
    let mut waiting = network.call(Whom::Node(PEER), NEVER);
    assert!(futures::poll!(&mut waiting).is_pending());
    // Sent behind it.
    now(network).await.unwrap();
    waiting
}

/// Waits for an answer that must not come.
async fn is_lost(waiting: BoxFuture<'static, Result<CallAnswer, PeerError>>) {
    let answer = tokio::time::timeout(LONG, waiting).await.unwrap();
    assert!(matches!(answer, Err(PeerError::Lost)), "{answer:?}");
}

/// Opens a stream as another program might.
async fn raw(
    address: &str,
    hello: Hello,
    frames: Vec<Bytes>,
) -> Result<tonic::Streaming<Bytes>, Status> {
    raw_with(address, &Credentials::Insecure, hello, frames).await
}

/// [`raw`] by TLS.
pub(super) async fn raw_with(
    address: &str,
    credentials: &Credentials,
    hello: Hello,
    frames: Vec<Bytes>,
) -> Result<tonic::Streaming<Bytes>, Status> {
    let channel = socket::connect(address, NodeId(0), credentials)
        .await
        .unwrap();
    let frames = stream::iter([Frame(frames)]).chain(stream::pending());
    let mut request = Request::new(frames);
    hello.write(request.metadata_mut());
    let mut client = Grpc::new(channel);
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static(PATH);
    let opened = client.streaming(request, path, FrameCodec).await?;
    Ok(opened.into_inner())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused_in_plain_words() {
    let stranger = Served::start("127.0.0.1:0", CLUSTER + 1, PEER);
    let error = reason(now(&network(&stranger.address)).await.unwrap_err());
    assert_eq!(
        error,
        "n2: this node belongs to cluster 8, the caller to cluster 7"
    );
    let reply = network(&stranger.address).send(append(&[]), LONG).await;
    let reason_of_raft = error.clone();
    assert_eq!(
        reply.unwrap_err(),
        TransportError::Unreachable {
            reason: reason_of_raft
        }
    );

    let other = Served::start("127.0.0.1:0", CLUSTER, NodeId(3));
    let error = reason(now(&network(&other.address)).await.unwrap_err());
    assert_eq!(error, "n2: this node is n3, the caller wants n2");
    // By address it is whoever it is.
    let by_address = Whom::Address(other.address.clone());
    let answer = network(&other.address)
        .call(by_address, Call::Now { count: 1 })
        .await;
    assert!(answer.is_ok());

    let joining = Served::start("127.0.0.1:0", 0, NodeId(0));
    let error = reason(now(&network(&joining.address)).await.unwrap_err());
    assert_eq!(
        error,
        "n2: this node has not joined yet, the caller wants n2"
    );

    let mut hello = Hello::new(&Identity::new(CLUSTER, ME), NodeId(0), Class::Data);
    hello.protocol = PROTOCOL + 1;
    let status = raw(&other.address, hello, vec![]).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let (ours, theirs) = (PROTOCOL, PROTOCOL + 1);
    let refusal = format!("this node speaks protocol {ours}, the caller {theirs}: ");
    assert!(status.message().starts_with(&refusal));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_node_is_heard_and_learns_who_it_is() {
    let peer = Served::peer();
    let book = Arc::new(Book::default());
    let identity = Arc::new(Identity::default());
    let network = Network::new(Arc::clone(&book), Arc::clone(&identity));
    let error = reason(now(&network).await.unwrap_err());
    assert_eq!(error, "n2: its address is not known");
    let by_address = Whom::Address(peer.address.clone());
    assert!(
        network
            .call(by_address, Call::Now { count: 1 })
            .await
            .is_ok()
    );

    identity.set(CLUSTER, ME);
    book.note(PEER, peer.address.clone());
    now_at_last(&network).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_calls_says_where_it_is() {
    let peer = Served::peer();
    let book = Arc::new(Book::default());
    book.note(PEER, peer.address.clone());
    // Before it has joined it has no number, and nobody has to call it.
    for (cluster, told) in [(0, None), (CLUSTER, Some("elsewhere:7".to_owned()))] {
        let identity = Identity::at("elsewhere:7".to_owned(), Credentials::Insecure);
        identity.set(cluster, ME);
        let network = Network::new(Arc::clone(&book), Arc::new(identity));
        now(&network).await.unwrap();
        assert_eq!(peer.book.address(ME), told);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_node_that_dies_is_told_so() {
    let mut peer = Served::peer();
    let network = network(&peer.address);
    now(&network).await.unwrap();
    network.send(append(&[]), LONG).await.unwrap();
    let waiting = ask_in_vain(&network).await;
    let start = Instant::now();
    peer.kill();
    is_lost(waiting).await;
    // The port is closed: nobody waits for anything.
    let dead = async {
        while !matches!(
            network.send(append(&[]), LONG).await,
            Err(TransportError::Unreachable { .. })
        ) {}
    };
    tokio::time::timeout(NOTICED, dead).await.unwrap();
    reason(now(&network).await.unwrap_err());
    assert!(start.elapsed() < NOTICED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_panics_leaves_no_one_waiting() {
    let peer = Served::peer();
    let network = network(&peer.address);
    is_lost(network.call(Whom::Node(PEER), PANIC)).await;
    now(&network).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_never_says_anything_is_noticed() {
    // The system accepts for it.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let network = network(&silent.local_addr().unwrap().to_string());
    let start = Instant::now();
    reason(now(&network).await.unwrap_err());
    assert!(start.elapsed() < NOTICED);

    // A Raft message waits as long as its sender says, if that is shorter.
    let start = Instant::now();
    let reply = network.send(append(&[]), Duration::from_millis(100)).await;
    assert_eq!(reply.unwrap_err(), TransportError::Timeout);
    assert!(start.elapsed() < NOTICED);

    // After one failure nobody waits for the next: the pause, and a moment for the attempt.
    let start = Instant::now();
    while reason(now(&network).await.unwrap_err()) != "n2: no connection" {
        tokio::task::yield_now().await;
    }
    assert!(start.elapsed() < NOTICED);
}

/// Stands between two nodes and passes on what they say, until it is told to be silent.
async fn proxy(to: String, mut silent: watch::Receiver<bool>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            let near = listener.accept().await.unwrap().0;
            let far = TcpStream::connect(&to).await.unwrap();
            let (mut near_in, mut near_out) = near.into_split();
            let (mut far_in, mut far_out) = far.into_split();
            tokio::select! {
                _ = copy(&mut near_in, &mut far_out) => {}
                _ = copy(&mut far_in, &mut near_out) => {}
                _ = silent.wait_for(|silent| *silent) => {}
            }
            held.push((near_in, near_out, far_in, far_out));
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_falls_silent_is_noticed() {
    let peer = Served::peer();
    let (silence, silent) = watch::channel(false);
    let network = network(&proxy(peer.address.clone(), silent).await);
    now(&network).await.unwrap();
    let waiting = ask_in_vain(&network).await;
    let start = Instant::now();
    silence.send(true).unwrap();
    is_lost(waiting).await;
    assert!(start.elapsed() < NOTICED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_hurts_nobody_else() {
    let peer = Served::peer();
    let network = network(&peer.address);
    now(&network).await.unwrap();

    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice();
    let junk: Vec<u8> = (0..10_000_u32)
        .map(|i| ((i * i) >> 3).to_le_bytes()[0])
        .collect();
    for garbage in [
        &junk,
        &[preface, &junk].concat(),
        &b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ] {
        let mut socket = TcpStream::connect(&peer.address).await.unwrap();
        socket.write_all(garbage).await.unwrap();
        let mut rest = Vec::new();
        let closed = socket.read_to_end(&mut rest);
        // Closed or reset.
        let _ = tokio::time::timeout(LONG, closed).await.unwrap();
    }

    let hello = Hello::new(&Identity::new(CLUSTER, ME), PEER, Class::Data);
    let cut = Question::Call(Call::Now { count: 1 })
        .encode(1)
        .unwrap()
        .split_to(5);
    for message in [Bytes::from(junk), cut, Bytes::from_static(&[0, 0, 0, 0])] {
        let mut answers = raw(&peer.address, hello.clone(), vec![message])
            .await
            .unwrap();
        let status = answers.message().await.unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (Code::InvalidArgument, "malformed message")
        );
    }
    now(&network).await.unwrap();
    assert_eq!(network.stats()[2].failures, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_finds_no_room_fails_at_once() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let network = network(&silent.local_addr().unwrap().to_string());
    let command = Bytes::from(vec![0; 1 << 20]);
    let full = async {
        let mut waiting = stream::FuturesUnordered::new();
        for _ in 0..80 {
            waiting.push(network.send(append(std::slice::from_ref(&command)), LONG));
        }
        let first = waiting.next().await.unwrap().unwrap_err();
        let reason = "too many messages wait for n2".into();
        assert_eq!(first, TransportError::Unreachable { reason });
    };
    let start = Instant::now();
    full.await;
    assert!(start.elapsed() < NOTICED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_calls_at_a_time_are_all_answered() {
    let peer = Served::peer();
    let network = network(&peer.address);
    let answers = join_all((0..20_000).map(|_| now(&network))).await;
    assert!(
        answers
            .iter()
            .all(|answer| matches!(answer, Ok(CallAnswer::Now(_))))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_long_append_does_not_delay_heartbeats() {
    let peer = Served::peer();
    let network = network(&peer.address);
    let beat = || network.call(Whom::Node(PEER), heartbeat());
    beat().await.unwrap();
    let command = Bytes::from(vec![7; 32 << 20]);
    let sender = network.clone();
    let appending = tokio::spawn(async move {
        for _ in 0..4 {
            let append = append(std::slice::from_ref(&command));
            sender.send(append, LONG).await.unwrap();
        }
    });
    // On the same connection the first of them would come behind all that is sent there.
    let mut beats = 0;
    while !appending.is_finished() {
        beat().await.unwrap();
        beats += 1;
    }
    appending.await.unwrap();
    assert!(beats > 3, "only {beats} heartbeats beside the appends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_back_is_found_again() {
    let peer = Served::peer();
    let network = network(&peer.address);
    now(&network).await.unwrap();
    let waiting = ask_in_vain(&network).await;
    let address = peer.stop().await;
    is_lost(waiting).await;
    let _peer = Served::start(&address, CLUSTER, PEER);
    let start = Instant::now();
    now_at_last(&network).await;
    assert!(start.elapsed() < NOTICED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unused_connections_are_closed() {
    let peer = Served::peer();
    let book = Book::default();
    book.note(PEER, peer.address.clone());
    let identity = Arc::new(Identity::new(CLUSTER, ME));
    let soon = Duration::from_millis(100);
    let network = Network::closing_after(Arc::new(book), identity, soon);
    for _ in 0..2 {
        now(&network).await.unwrap();
        assert_eq!(network.connections(), 1);
        let closed = async {
            while network.connections() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, closed).await.unwrap();
    }
    assert_eq!(network.stats()[2].failures, 0);
}

#[test]
fn calls_end_as_unsent_or_lost() {
    let exchange = Exchange::new(Arc::new(Counters::default()));
    let message = Bytes::from_static(b"message");
    let mut frames = Box::pin(exchange.frames());
    assert!(frames.next().now_or_never().is_none());
    exchange.open();
    let given_up = exchange.take(1, message.clone()).unwrap();
    drop(given_up);
    let sent = exchange.take(2, message.clone()).unwrap();
    let Frame(messages) = frames.next().now_or_never().unwrap().unwrap();
    assert_eq!(messages.len(), 1);
    let unsent = exchange.take(3, message.clone()).unwrap();
    exchange.end("gone".into());
    assert_eq!(
        sent.wait().now_or_never().unwrap().unwrap_err(),
        Broken::Lost("gone".into())
    );
    assert_eq!(
        unsent.wait().now_or_never().unwrap().unwrap_err(),
        Broken::Unsent("gone".into())
    );
    assert!(exchange.is_idle());
    let refused = exchange.take(4, message).err();
    assert_eq!(refused, Some(NotTaken::Down("gone".into())));
    assert!(frames.next().now_or_never().unwrap().is_none());
}

#[test]
fn an_outbox_keeps_its_limits() {
    let outbox = Outbox::new(true);
    let mut batches = Batches(Arc::clone(&outbox));
    for i in 0..QUEUE_MESSAGES_MAX {
        outbox.push(i, Bytes::from_static(b"x")).unwrap();
    }
    assert_eq!(outbox.push(0, Bytes::new()), Err(Refused::Full));
    let batch = batches.next().now_or_never().unwrap().unwrap().unwrap();
    assert_eq!(batch.len(), FRAME_MESSAGES);
    while batches.next().now_or_never().is_some() {}

    // A message that is longer than the queue waits alone.
    outbox
        .push(0, Bytes::from(vec![0; QUEUE_BYTES_MAX + 1]))
        .unwrap();
    assert_eq!(outbox.push(1, Bytes::from_static(b"x")), Err(Refused::Full));
    assert!(outbox.room().now_or_never().is_none());
    let batch = batches.next().now_or_never().unwrap().unwrap().unwrap();
    assert_eq!(batch.len(), 1);
    assert!(outbox.room().now_or_never().is_some());

    let half = Bytes::from(vec![0; FRAME_BYTES / 2]);
    for i in 0..3 {
        outbox.push(i, half.clone()).unwrap();
    }
    let batch = batches.next().now_or_never().unwrap().unwrap().unwrap();
    assert_eq!(batch.len(), 2);
    drop(batches);
    assert_eq!(outbox.push(4, half), Err(Refused::Ended));
}

#[test]
fn messages_are_read_as_they_were_written() {
    let question = Question::Raft(append(&["a command".into()]));
    let call = Question::Call(Call::Now { count: 1 });
    let mut frame = [question.encode(1).unwrap(), call.encode(2).unwrap()]
        .concat()
        .into();
    let read = message::decode::<Question>(&mut frame).unwrap().unwrap();
    assert_eq!(format!("{read:?}"), format!("{:?}", (1, question)));
    let read = message::decode::<Question>(&mut frame).unwrap().unwrap();
    assert_eq!(format!("{read:?}"), format!("{:?}", (2, call)));
    assert!(message::decode::<Question>(&mut frame).unwrap().is_none());

    let whole = Answer::Failed.encode(9).unwrap();
    for cut in 1..whole.len() {
        let read = message::decode::<Answer>(&mut whole.slice(..cut));
        assert_eq!(read.unwrap_err(), Malformed);
    }
    let too_long = append(&[vec![0; FRAME_BYTES_MAX].into()]);
    assert!(Question::Raft(too_long).encode(1).is_err());
}
