//! What a node shows on its connections, and by what it knows others.
//!
//! TLS 1.3 on all of them, with the certificate of the node on both sides. Nothing is resumed: each
//! connection is proven anew, and there are few of them.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::RwLock;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::client::{
    ClientConfig, Resumption, verify_server_cert_signed_by_trust_anchor,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::server::{
    NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier,
};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{CertificateError, Error, RootCertStore, ServerConfig};

use super::name::NodeName;
use super::pin::Pin;

/// What is spoken inside.
const HTTP2: &[u8] = b"h2";

/// How a node proves itself to others, and wants them to.
#[derive(Clone, Debug, Default)]
pub(crate) enum Credentials {
    /// Not at all.
    #[default]
    Insecure,
    /// It has none yet, and knows from its join token whom it asks for some.
    Joining(Arc<Pin>),
    /// By certificates.
    Member(Arc<Keyring>),
}

/// The certificate that a node shows at this time; none before it has got its first.
#[derive(Debug, Default)]
pub(crate) struct Keyring {
    held: RwLock<Option<Arc<Held>>>,
}

impl Keyring {
    /// Shows that certificate on connections that are made from now on.
    pub(crate) fn install(&self, held: Held) {
        *self.held.write() = Some(Arc::new(held));
    }

    /// What is shown.
    pub(crate) fn held(&self) -> Option<Arc<Held>> {
        self.held.read().clone()
    }
}

/// A certificate with its key, ready for use.
pub(crate) struct Held {
    /// Whom it names.
    pub(crate) name: NodeName,
    chain: [CertificateDer<'static>; 2],
    roots: Arc<RootCertStore>,
    client: Arc<ClientConfig>,
    acceptor: TlsAcceptor,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Held {
    /// A certificate, that of the authority which has signed it, and its key.
    ///
    /// # Errors
    /// A sentence: they do not belong together.
    pub(crate) fn new(
        certificate: CertificateDer<'static>,
        authority: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, String> {
        let name = NodeName::of(&certificate).ok_or("the certificate names no node")?;
        let failed = |e: Error| format!("certificates and key do not belong together: {e}");
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone()).map_err(failed)?;
        let roots = Arc::new(roots);
        let chain = [certificate, authority];
        let own_key = key.clone_key();
        let mut client = client()
            .map_err(failed)?
            .with_root_certificates(Arc::clone(&roots))
            .with_client_auth_cert(chain.to_vec(), key)
            .map_err(failed)?;
        harden(&mut client);
        // Whoever has no certificate may connect as well: it may be a new node. What it is answered
        // is decided where it says what it wants.
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider())
            .allow_unauthenticated()
            .build()
            .map_err(|e| format!("the authority cannot be used: {e}"))?;
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(failed)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.to_vec(), own_key)
            .map_err(failed)?;
        server.alpn_protocols = vec![HTTP2.to_vec()];
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let held = Self {
            name,
            chain,
            roots,
            client: Arc::new(client),
            acceptor: TlsAcceptor::from(Arc::new(server)),
        };
        match held.verify_at(SystemTime::now()) {
            // When it has expired there is still a way to a new one.
            Ok(())
            | Err(Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            )) => Ok(held),
            Err(error) => Err(failed(error)),
        }
    }

    /// For connections to others.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.client)
    }

    /// For connections from others.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.clone()
    }

    /// The certificate of the cluster's authority.
    pub(crate) fn authority(&self) -> &CertificateDer<'static> {
        let [_, authority] = &self.chain;
        authority
    }

    /// Whether the certificate is not valid any more after so long from now.
    pub(crate) fn expires_within(&self, time: Duration) -> bool {
        let then = SystemTime::now().checked_add(time);
        then.is_none_or(|then| self.verify_at(then).is_err())
    }

    fn verify_at(&self, time: SystemTime) -> Result<(), Error> {
        let [certificate, _] = &self.chain;
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(certificate)?,
            &self.roots,
            &[],
            UnixTime::since_unix_epoch(since),
            provider().signature_verification_algorithms.all,
        )
    }
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// How every client of nodes begins.
pub(super) fn client() -> Result<
    tokio_rustls::rustls::ConfigBuilder<ClientConfig, tokio_rustls::rustls::WantsVerifier>,
    Error,
> {
    ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13])
}

/// And ends.
pub(super) fn harden(config: &mut ClientConfig) {
    config.alpn_protocols = vec![HTTP2.to_vec()];
    config.resumption = Resumption::disabled();
    // The name would be sent in the clear, and nobody needs it.
    config.enable_sni = false;
}
