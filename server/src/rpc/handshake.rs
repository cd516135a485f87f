//! Who talks to whom: what a caller says of itself when it opens a stream, and whether the other
//! side will hear it.
//!
//! A node never takes messages that are meant for another one (an address may have passed to a node
//! of another cluster, or to a successor with an empty store) nor such that it would read wrongly.
//! Where nodes have certificates, a caller is believed only what its certificate says too.

use std::sync::atomic::{AtomicU64, Ordering};

use pontoon_kv::cluster::Book;
use pontoon_raft::NodeId;
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::class::Class;
use super::socket::Proof;
use crate::certs::Credentials;

/// The version of the encoding. Nodes talk to each other only when theirs are the same.
pub(super) const PROTOCOL: u32 = 5;

const PROTOCOL_KEY: &str = "pontoon-protocol";
const CLUSTER_KEY: &str = "pontoon-cluster";
const FROM_KEY: &str = "pontoon-from";
const TO_KEY: &str = "pontoon-to";
const CLASS_KEY: &str = "pontoon-class";
const RPC_KEY: &str = "pontoon-rpc";

/// Which node this is; a new one learns it only when it has joined.
#[derive(Debug, Default)]
pub(crate) struct Identity {
    cluster: AtomicU64,
    node: AtomicU64,
    /// Where others reach it, empty where nobody does.
    rpc: String,
    /// How it proves who it is.
    credentials: Credentials,
}

impl Identity {
    /// A node that others reach at `rpc`, `host:port`; who it is is not known yet.
    pub(crate) fn at(rpc: String, credentials: Credentials) -> Self {
        Self {
            rpc,
            credentials,
            ..Self::default()
        }
    }

    /// How it proves who it is, and wants others to.
    pub(crate) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// A node of a cluster; both numbers are 0 as long as they are not known.
    #[cfg(test)]
    pub(crate) fn new(cluster: u64, node: NodeId) -> Self {
        Self {
            cluster: AtomicU64::new(cluster),
            node: AtomicU64::new(node.0),
            ..Self::default()
        }
    }

    /// The node has joined. Streams that are open stay open.
    pub(crate) fn set(&self, cluster: u64, node: NodeId) {
        self.node.store(node.0, Ordering::Release);
        self.cluster.store(cluster, Ordering::Release);
    }

    /// The cluster, 0 if it is not known yet.
    pub(crate) fn cluster(&self) -> u64 {
        self.cluster.load(Ordering::Acquire)
    }

    /// The node, 0 if it is not known yet.
    pub(crate) fn node(&self) -> NodeId {
        NodeId(self.node.load(Ordering::Acquire))
    }
}

/// What a caller says of itself, as the metadata of a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Hello {
    /// The version of its encoding.
    pub(super) protocol: u32,
    /// Its cluster, 0 if it has none yet.
    pub(super) cluster: u64,
    /// Itself, 0 if it has no number yet.
    pub(super) from: NodeId,
    /// Whom it means to call, 0 if it knows no more than an address.
    pub(super) to: NodeId,
    /// What it will send.
    pub(super) class: Class,
    /// Where it is reached, empty if it is not; it may be elsewhere than before.
    pub(super) rpc: String,
}

impl Hello {
    /// What this node says to another.
    pub(super) fn new(identity: &Identity, to: NodeId, class: Class) -> Self {
        Self {
            protocol: PROTOCOL,
            cluster: identity.cluster(),
            from: identity.node(),
            to,
            class,
            rpc: identity.rpc.clone(),
        }
    }

    /// Writes it into the metadata of a stream.
    pub(super) fn write(&self, metadata: &mut MetadataMap) {
        metadata.insert(PROTOCOL_KEY, self.protocol.into());
        metadata.insert(CLUSTER_KEY, self.cluster.into());
        metadata.insert(FROM_KEY, self.from.0.into());
        metadata.insert(TO_KEY, self.to.0.into());
        metadata.insert(
            CLASS_KEY,
            tonic::metadata::MetadataValue::from_static(self.class.name()),
        );
        // What is no text of HTTP is no address either.
        if let Ok(rpc) = self.rpc.parse()
            && !self.rpc.is_empty()
        {
            metadata.insert(RPC_KEY, rpc);
        }
    }

    /// Reads it, if the caller speaks as this node does.
    ///
    /// # Errors
    /// A status that says in plain words what is wrong.
    pub(super) fn read(metadata: &MetadataMap) -> Result<Self, Status> {
        // First, for with another version the rest may mean something else.
        let protocol = number(metadata, PROTOCOL_KEY)?;
        if protocol != u64::from(PROTOCOL) {
            return Err(Status::failed_precondition(format!(
                "this node speaks protocol {PROTOCOL}, the caller {protocol}: \
                 upgrade one of them to the version of the other"
            )));
        }
        let class = text(metadata, CLASS_KEY)?;
        Ok(Self {
            protocol: PROTOCOL,
            cluster: number(metadata, CLUSTER_KEY)?,
            from: NodeId(number(metadata, FROM_KEY)?),
            to: NodeId(number(metadata, TO_KEY)?),
            class: Class::from_name(class).ok_or_else(|| missing(CLASS_KEY))?,
            rpc: text(metadata, RPC_KEY).unwrap_or_default().to_owned(),
        })
    }

    /// Whether the caller has reached whom it means.
    ///
    /// # Errors
    /// A status that says in plain words what is wrong.
    pub(super) fn check(&self, here: &Identity) -> Result<(), Status> {
        let (cluster, node) = (here.cluster(), here.node());
        if self.cluster != 0 && cluster != 0 && self.cluster != cluster {
            return Err(Status::failed_precondition(format!(
                "this node belongs to cluster {cluster}, the caller to cluster {}",
                self.cluster
            )));
        }
        if self.to.0 == 0 || self.to == node {
            return Ok(());
        }
        let wanted = self.to;
        Err(Status::failed_precondition(if node.0 == 0 {
            format!("this node has not joined yet, the caller wants {wanted}")
        } else {
            format!("this node is {node}, the caller wants {wanted}")
        }))
    }
}

/// Whether a caller may say what it says of itself, and to whom it may say anything.
///
/// Invariant: who passes with a number has proven to be the node of that number, where nodes have
/// certificates.
///
/// # Errors
/// A status that says in plain words what is wrong.
pub(super) fn check_proof(
    hello: &Hello,
    proof: Proof,
    here: &Identity,
    book: &Book,
) -> Result<Standing, Status> {
    if let Credentials::Insecure = here.credentials() {
        return Ok(Standing::Member);
    }
    let name = match proof {
        Proof::Node(name) => name,
        // It can say one thing, and says so by its number which is none.
        Proof::Nothing if hello.from.0 == 0 => return Ok(Standing::Stranger),
        Proof::Nothing => {
            return Err(Status::unauthenticated(format!(
                "the caller says that it is {}, and shows no certificate",
                hello.from
            )));
        }
        Proof::Plain => {
            return Err(Status::failed_precondition(
                "this node talks to others by TLS only, and the caller was started with \
                 --insecure: start it without; a new node needs a join token, which \
                 `pontoon node token` prints on the machine of a node that runs",
            ));
        }
    };
    if name.cluster != here.cluster() {
        return Err(Status::permission_denied(
            "the certificate of the caller is one of another cluster",
        ));
    }
    if name.node != hello.from {
        return Err(Status::permission_denied(format!(
            "the caller says that it is {}, and its certificate that it is {}",
            hello.from, name.node
        )));
    }
    if book.is_gone(name.node) {
        return Err(gone(name.node));
    }
    Ok(Standing::Member)
}

/// What a node is told that was decommissioned.
pub(super) fn gone(node: NodeId) -> Status {
    Status::permission_denied(format!("{node} has left the cluster for good"))
}

/// What a caller may ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// Anything.
    Member,
    /// To be let in by a join token, and nothing else.
    Stranger,
}

fn text<'a>(metadata: &'a MetadataMap, key: &str) -> Result<&'a str, Status> {
    let value = metadata.get(key).and_then(|value| value.to_str().ok());
    value.ok_or_else(|| missing(key))
}

fn number(metadata: &MetadataMap, key: &str) -> Result<u64, Status> {
    text(metadata, key)?.parse().map_err(|_| missing(key))
}

fn missing(key: &str) -> Status {
    Status::invalid_argument(format!("the caller does not say what its {key} is"))
}
