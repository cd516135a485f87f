//! Certificates of nodes: who signs them, where they lie, what is made of them for TLS, and the join
//! tokens by which new nodes get theirs.
//!
//! ```text
//! CertDir (D/certs) --load--> Keyring --configurations of TLS--> rpc::socket
//!     ^                          ^
//!     '------save------ certificate <--sign-- Authority (a row of the system range)
//! ```
//!
//! A cluster has one certificate authority. Its key is a row of the system range, so that any node
//! can sign and none is needed for it. A certificate names its node and the cluster ([`NodeName`]);
//! both ends of a connection show theirs. A new node has none yet: it has a [`JoinToken`], by whose
//! fingerprint it knows the authority before it says anything, and by whose secret it is let in.
//!
//! Nothing here knows sockets or messages. Certificates are made by rcgen and checked by rustls;
//! neither names nor signatures are compared by hand.

mod authority;
mod directory;
mod explain;
mod keyring;
mod name;
mod pin;
mod renew;
mod request;
mod token;

#[cfg(test)]
pub(crate) mod tests;

pub(crate) use authority::Authority;
pub(crate) use directory::CertDir;
pub(crate) use explain::explain;
pub(crate) use keyring::{Credentials, Held, Keyring};
pub(crate) use name::NodeName;
pub(crate) use pin::Pin;
pub(crate) use renew::{certify, keep_valid};
pub(crate) use request::SigningRequest;
pub(crate) use token::JoinToken;
