//! Nodes with certificates: who is answered, who is refused and in which words, and that nobody can
//! hold up the others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pontoon_kv::cluster::{
    Answer as CallAnswer, Call, Candidate, NodeRow, NodeState, NodeStatus, Secret, View,
};
use pontoon_kv::routing::{PeerError, Peers, Whom};
use pontoon_raft::{NodeId, Place, StoreId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::Code;

use super::class::Class;
use super::handshake::{Hello, Identity};
use super::message::{self, Answer, Question};
use super::tests::{
    CLUSTER, LONG, ME, NOTICED, PEER, Served, network_of, now, now_at_last, raw_with, reason,
};
use crate::certs::tests::{an_hour_ago, member, member_until};
use crate::certs::{Authority, CertDir, Credentials, JoinToken, NodeName, Pin, SigningRequest};

fn identity(credentials: Credentials, node: NodeId) -> Identity {
    let identity = Identity::at(String::new(), credentials);
    identity.set(CLUSTER, node);
    identity
}

/// A node of the cluster of an authority.
fn serving(authority: &Authority, node: NodeId) -> Served {
    Served::showing("127.0.0.1:0", identity(member(authority, node), node))
}

/// How a caller without a certificate connects, who knows the authority.
fn stranger(authority: &Authority) -> Credentials {
    let token = JoinToken::draw(authority.certificate()).unwrap();
    Credentials::Joining(Arc::new(Pin::new(token).unwrap()))
}

fn hello(from: NodeId) -> Hello {
    Hello::new(
        &identity(Credentials::Insecure, from),
        NodeId(0),
        Class::Data,
    )
}

fn question(call: Call) -> Vec<Bytes> {
    vec![Question::Call(call).encode(1).unwrap()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_talk() {
    let authority = Authority::found(CLUSTER).unwrap();
    let peer = serving(&authority, PEER);
    let me = identity(member(&authority, ME), ME);
    let network = network_of(&peer.address, me);
    assert!(matches!(now(&network).await, Ok(CallAnswer::Now(_))));
    let by_address = Whom::Address(peer.address.clone());
    let answer = network.call(by_address, Call::Now { count: 1 }).await;
    assert!(matches!(answer, Ok(CallAnswer::Now(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_certificate_one_can_ask_to_join_and_nothing_else() {
    let authority = Authority::found(CLUSTER).unwrap();
    let peer = serving(&authority, PEER);
    let stranger = stranger(&authority);

    let claims = raw_with(&peer.address, &stranger, hello(ME), vec![]).await;
    let status = claims.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(
        status.message(),
        "the caller says that it is n1, and shows no certificate"
    );

    let asked = question(Call::Now { count: 1 });
    let mut answers = raw_with(&peer.address, &stranger, hello(NodeId(0)), asked)
        .await
        .unwrap();
    let status = answers.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);

    // What it says is short.
    let call = |bytes| Call::JoinByToken {
        candidate: Candidate {
            row: NodeRow::default(),
        },
        secret: Secret(vec![0; bytes].into()),
        request: Bytes::new(),
    };
    let mut answers = raw_with(
        &peer.address,
        &stranger,
        hello(NodeId(0)),
        question(call(20)),
    )
    .await
    .unwrap();
    let mut answer = answers.message().await.unwrap().unwrap();
    let answer = message::decode::<Answer>(&mut answer).unwrap();
    // The handler of these tests lets nobody in, but it was asked.
    assert!(matches!(answer, Some((1, Answer::Call(Err(_))))));
    let long = question(call(100_000));
    let mut answers = raw_with(&peer.address, &stranger, hello(NodeId(0)), long)
        .await
        .unwrap();
    assert!(answers.message().await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_watches_shows_a_certificate_of_the_cluster() {
    let authority = Authority::found(CLUSTER).unwrap();
    let peer = serving(&authority, PEER);
    let watch = async |credentials: Credentials| {
        let topics = vec!["settings".to_owned()];
        let request = super::watch::Request { topics, since: 0 };
        super::watch::watch(&peer.address, &credentials, request).await
    };
    let mut pages = watch(member(&authority, ME)).await.unwrap();
    assert_eq!(pages.message().await.unwrap().unwrap().revision, 1);
    for other in [stranger(&authority), Credentials::Insecure] {
        let status = watch(other).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
    }
    // One that was decommissioned is told so.
    let left = NodeStatus {
        row: NodeRow {
            place: Place {
                node: ME,
                store: StoreId(ME.0),
            },
            state: NodeState::Gone,
            ..NodeRow::default()
        },
        alive: false,
        stopping: false,
        usage: Default::default(),
        replicas: 0,
        leads: 0,
    };
    peer.book.learn(View {
        revision: (1, 1),
        nodes: vec![left],
        ..View::default()
    });
    let status = watch(member(&authority, ME)).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_another_cluster_is_refused() {
    let (ours, theirs) = (
        Authority::found(CLUSTER).unwrap(),
        Authority::found(CLUSTER + 1).unwrap(),
    );
    // Of the same number, as if somebody had copied it.
    let forged = Authority::found(CLUSTER).unwrap();
    let peer = serving(&ours, PEER);
    for other in [&theirs, &forged] {
        let me = identity(member(other, ME), ME);
        let error = reason(now(&network_of(&peer.address, me)).await.unwrap_err());
        assert_eq!(
            error,
            "n2: it belongs to another cluster: its certificate is signed by another authority"
        );
    }

    // One that does not mind whom it has reached, and shows what it has.
    for other in [&theirs, &forged] {
        let folder = tempfile::tempdir().unwrap();
        let directory = CertDir::at(folder.path());
        let key = directory.key().unwrap();
        let asked = SigningRequest::write(&key, b"").unwrap();
        let public = SigningRequest::check(&asked, b"").unwrap();
        let certificate = other.certify(ME, &public).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(ours.certificate().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], PrivateKeyDer::from(key))
            .unwrap();
        let socket = TcpStream::connect(&peer.address).await.unwrap();
        let name = NodeName {
            node: PEER,
            cluster: CLUSTER,
        };
        let expected = name.expected().unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        // The other side has looked at it only when this one is done.
        let refused = async {
            let mut stream = connector.connect(expected, socket).await?;
            stream
                .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
                .await?;
            stream.read_u8().await
        };
        let error = tokio::time::timeout(LONG, refused)
            .await
            .unwrap()
            .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("fatal alert"), "{text}");
    }
    let me = identity(member(&ours, ME), ME);
    now(&network_of(&peer.address, me)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_who_its_certificate_says() {
    let authority = Authority::found(CLUSTER).unwrap();
    // Where another node answers, nothing is said.
    let other = serving(&authority, NodeId(3));
    let me = identity(member(&authority, ME), ME);
    let error = reason(now(&network_of(&other.address, me)).await.unwrap_err());
    assert_eq!(error, "n2: another node answers at its address");

    // Nor is a node heard that says to be another.
    let peer = serving(&authority, PEER);
    let me = identity(member(&authority, ME), NodeId(5));
    let error = reason(now(&network_of(&peer.address, me)).await.unwrap_err());
    assert_eq!(
        error,
        "n2: the caller says that it is n5, and its certificate that it is n1"
    );
    assert_eq!(peer.book.address(NodeId(5)), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secure_and_insecure_nodes_tell_each_other_apart() {
    let authority = Authority::found(CLUSTER).unwrap();
    let secure = serving(&authority, PEER);
    let me = identity(Credentials::Insecure, ME);
    let error = reason(now(&network_of(&secure.address, me)).await.unwrap_err());
    assert!(
        error.starts_with("n2: this node talks to others by TLS only")
            && error.contains("--insecure")
            && error.contains("pontoon node token"),
        "{error}"
    );

    let insecure = Served::showing("127.0.0.1:0", identity(Credentials::Insecure, PEER));
    for credentials in [member(&authority, ME), stranger(&authority)] {
        let me = identity(credentials, ME);
        let error = reason(now(&network_of(&insecure.address, me)).await.unwrap_err());
        assert!(
            error.starts_with("n2: it was started with --insecure and speaks no TLS"),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_that_have_expired_are_refused() {
    let authority = Authority::found(CLUSTER).unwrap();
    let expired = |node| member_until(&authority, node, an_hour_ago());
    let peer = Served::showing("127.0.0.1:0", identity(expired(PEER), PEER));
    let me = identity(member(&authority, ME), ME);
    let error = reason(now(&network_of(&peer.address, me)).await.unwrap_err());
    assert!(
        error.starts_with("n2: its certificate has expired"),
        "{error}"
    );

    let peer = serving(&authority, PEER);
    let me = identity(expired(ME), ME);
    assert!(now(&network_of(&peer.address, me)).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_left_is_heard_no_more() {
    let authority = Authority::found(CLUSTER).unwrap();
    let peer = serving(&authority, PEER);
    let me = || identity(member(&authority, ME), ME);
    let network = network_of(&peer.address, me());
    now(&network).await.unwrap();
    let row = NodeRow {
        place: Place {
            node: ME,
            store: StoreId(1),
        },
        state: NodeState::Gone,
        ..NodeRow::default()
    };
    peer.book.learn(View {
        revision: (1, 1),
        nodes: vec![NodeStatus {
            row,
            alive: false,
            stopping: false,
            usage: Default::default(),
            replicas: 0,
            leads: 0,
        }],
        ..View::default()
    });
    // On the stream that it has too.
    let refused = async {
        loop {
            // At first it may only hear that the stream has ended.
            if let Err(PeerError::Unreachable { reason }) = now(&network).await
                && reason.contains("n1 has left the cluster for good")
            {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, refused).await.unwrap();
    let error = reason(now(&network_of(&peer.address, me())).await.unwrap_err());
    assert_eq!(error, "n2: n1 has left the cluster for good");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_finish_its_handshake_holds_up_nobody() {
    let authority = Authority::found(CLUSTER).unwrap();
    let peer = serving(&authority, PEER);
    let mut held = Vec::new();
    for begun in [
        &[][..],
        &[0x16],
        &[0x16, 3, 1, 0x40, 0],
        &[0x16, 3, 1, 0, 5, 1, 2, 3, 4, 5],
    ] {
        for _ in 0..40 {
            let mut socket = TcpStream::connect(&peer.address).await.unwrap();
            socket.write_all(begun).await.unwrap();
            held.push(socket);
        }
    }
    let start = Instant::now();
    let network = network_of(&peer.address, identity(member(&authority, ME), ME));
    now_at_last(&network).await;
    assert!(start.elapsed() < Duration::from_secs(2).min(NOTICED));
    // And is let go.
    for socket in &mut held {
        let mut rest = Vec::new();
        // Closed or reset.
        let closed = tokio::time::timeout(LONG, socket.read_to_end(&mut rest)).await;
        let _ = closed.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_another_cluster_is_shown_to_nobody() {
    let (ours, theirs) = (
        Authority::found(CLUSTER).unwrap(),
        Authority::found(CLUSTER).unwrap(),
    );
    let peer = serving(&ours, PEER);
    let token = JoinToken::draw(theirs.certificate()).unwrap();
    let pin = Arc::new(Pin::new(token).unwrap());
    let me = identity(Credentials::Joining(Arc::clone(&pin)), NodeId(0));
    assert!(!pin.met_another());
    reason(now(&network_of(&peer.address, me)).await.unwrap_err());
    assert!(pin.met_another());
}
