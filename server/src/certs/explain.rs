//! Why no connection came about, in words for whoever runs the nodes.

use std::io;

use tokio_rustls::rustls::{AlertDescription, CertificateError, Error};

/// What a failed handshake means, as what is said of the other side: `it ...`.
pub(crate) fn explain(error: &io::Error) -> String {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>());
    let known = match inner {
        Some(Error::InvalidCertificate(wrong)) => of_certificate(wrong),
        // What an insecure node answers, see rpc::socket.
        Some(Error::AlertReceived(AlertDescription::InsufficientSecurity)) => Some(
            "it was started with --insecure and speaks no TLS, this node without: \
             start both in the same way",
        ),
        Some(Error::AlertReceived(AlertDescription::CertificateExpired)) => Some(
            "the certificate of this node has expired for it: compare the clocks of the machines",
        ),
        Some(Error::AlertReceived(AlertDescription::UnknownCA)) => {
            Some("it belongs to another cluster than this node")
        }
        Some(Error::InvalidMessage(_)) => Some("it is no node that speaks TLS"),
        Some(Error::NoApplicationProtocol) => Some("it is no Pontoon node"),
        Some(_) => None,
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            Some("it closed the connection instead of answering with TLS")
        }
        None => None,
    };
    known.map_or_else(|| error.to_string(), str::to_owned)
}

fn of_certificate(wrong: &CertificateError) -> Option<&'static str> {
    match wrong {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            Some("it belongs to another cluster: its certificate is signed by another authority")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Some("another node answers at its address")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Some(
            "its certificate has expired: look into its log, and compare the clocks of the machines",
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Some("its certificate is not valid yet: compare the clocks of the machines")
        }
        _ => None,
    }
}
