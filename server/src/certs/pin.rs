//! How a new node knows the cluster that it joins: by the fingerprint in its token.
//!
//! Invariant: the handshake ends only if the certificate that the other side shows is signed by an
//! authority of that fingerprint, and the other side has its key. So nothing is said to anybody
//! else, the secret of the token least of all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_rustls::rustls::client::ClientConfig;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::{
    CryptoProvider, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::keyring::{client, harden, provider};
use super::token::JoinToken;

/// A client that trusts one authority, of which it knows the fingerprint.
#[derive(Debug)]
pub(crate) struct Pin {
    config: Arc<ClientConfig>,
    verifier: Arc<Verifier>,
}

impl Pin {
    /// To the cluster of a token.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn new(token: JoinToken) -> Result<Self, String> {
        let verifier = Arc::new(Verifier {
            token,
            provider: provider(),
            met_another: AtomicBool::new(false),
        });
        let mut config = client()
            .map_err(|e| e.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as _)
            .with_no_client_auth();
        harden(&mut config);
        Ok(Self {
            config: Arc::new(config),
            verifier,
        })
    }

    /// For connections to the cluster.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// Whether a node was met that is of another cluster than the token.
    pub(crate) fn met_another(&self) -> bool {
        self.verifier.met_another.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Verifier {
    token: JoinToken,
    provider: Arc<CryptoProvider>,
    met_another: AtomicBool,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let authority = intermediates.iter().find(|shown| self.token.is_of(shown));
        let Some(authority) = authority else {
            self.met_another.store(true, Ordering::Relaxed);
            return Err(CertificateError::UnknownIssuer.into());
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone())?;
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &roots,
            &[],
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
