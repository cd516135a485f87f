//! The names in certificates.
//!
//! ```text
//! n3.00000000deadbeef.pontoon     node 3 of a cluster
//! node.00000000deadbeef.pontoon   some node of it, whichever answers at an address
//! ```
//!
//! A certificate has both. They are names of DNS in form only: nobody looks them up, so that nodes
//! may change their addresses.

use pontoon_raft::NodeId;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};

/// A node of a cluster, as its certificate names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NodeName {
    /// The node.
    pub(crate) node: NodeId,
    /// Its cluster.
    pub(crate) cluster: u64,
}

impl NodeName {
    /// The name of this node and no other.
    pub(super) fn own(self) -> String {
        format!("{}.{:016x}.pontoon", self.node, self.cluster)
    }

    /// The name that all nodes of the cluster have.
    pub(super) fn common(self) -> String {
        format!("node.{:016x}.pontoon", self.cluster)
    }

    /// Reads [`Self::own`].
    fn parse(name: &str) -> Option<Self> {
        let (node, rest) = name.strip_prefix('n')?.split_once('.')?;
        let cluster = rest.strip_suffix(".pontoon")?;
        let read = Self {
            node: NodeId(node.parse().ok()?),
            cluster: u64::from_str_radix(cluster, 16).ok()?,
        };
        // One spelling, as names are compared elsewhere too.
        (read.own() == name).then_some(read)
    }

    /// Whom a certificate names. Whether it may be believed is another question.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
        certificate.valid_dns_names().find_map(Self::parse)
    }

    /// What the certificate of whoever is called must be valid for: the node, or, when it has no
    /// number, any of the cluster.
    pub(crate) fn expected(self) -> Option<ServerName<'static>> {
        let name = match self.node {
            NodeId(0) => self.common(),
            _ => self.own(),
        };
        ServerName::try_from(name).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_were_written() {
        for (node, cluster) in [(1, 0), (3, 0xdead_beef), (u64::MAX, u64::MAX)] {
            let name = NodeName {
                node: NodeId(node),
                cluster,
            };
            assert_eq!(NodeName::parse(&name.own()), Some(name));
            assert!(name.expected().is_some());
            assert_eq!(NodeName::parse(&name.common()), None);
        }
        for other in [
            "n03.00000000deadbeef.pontoon",
            "n3.deadbeef.pontoon",
            "n3.00000000DEADBEEF.pontoon",
            "n3.00000000deadbeef.example",
            "3.00000000deadbeef.pontoon",
            "n3",
            "",
        ] {
            assert_eq!(NodeName::parse(other), None, "{other}");
        }
    }
}
