//! The certificate authority of a cluster.
//!
//! Invariant: its encoding is kept in the system range and nowhere else; what lies in the
//! directories of nodes is its certificate, without the key.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use super::name::NodeName;

/// How long the certificate of a node is valid.
pub(super) const NODE_LIFETIME: Duration = Duration::from_secs(365 * DAY_SECS);
/// How long that of an authority is: nobody renews it.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(100 * 365 * DAY_SECS);
/// Certificates are valid from so long before they were made: clocks of machines differ.
const CLOCKS_DIFFER_MAX: Duration = Duration::from_secs(DAY_SECS);
const DAY_SECS: u64 = 24 * 3_600;

/// The format of the encoding.
const FORMAT: u8 = 1;

/// The public half of a node's key: a point of P-256, uncompressed.
pub(crate) struct PublicKey(pub(super) Vec<u8>);

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// What signs the certificates of a cluster.
pub(crate) struct Authority {
    cluster: u64,
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

/// Behind the byte of the format.
#[derive(Serialize, Deserialize)]
struct Encoded {
    cluster: u64,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Authority {
    /// A new one for a cluster.
    ///
    /// # Errors
    /// A sentence; only if the system has no randomness.
    pub(crate) fn found(cluster: u64) -> Result<Self, String> {
        let failed = |e| format!("cannot make a certificate authority: {e}");
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = params_of(cluster);
        (params.not_before, params.not_after) = lifetime(after(AUTHORITY_LIFETIME));
        let certificate = params.self_signed(&key).map_err(failed)?;
        Ok(Self {
            cluster,
            certificate: certificate.der().clone(),
            key,
        })
    }

    /// What is kept of it.
    pub(crate) fn encode(&self) -> Result<Bytes, String> {
        let encoded = Encoded {
            cluster: self.cluster,
            certificate: self.certificate.to_vec(),
            key: self.key.serialized_der().to_vec(),
        };
        let encoded = postcard::to_extend(&encoded, vec![FORMAT]);
        encoded.map(Bytes::from).map_err(|e| e.to_string())
    }

    /// Reads what was kept.
    ///
    /// # Errors
    /// A sentence that tells nothing of the key.
    pub(crate) fn decode(stored: &[u8]) -> Result<Self, String> {
        let damaged = || "the certificate authority of the cluster cannot be read".to_owned();
        let Some((&FORMAT, rest)) = stored.split_first() else {
            return Err(damaged());
        };
        let encoded: Encoded = postcard::from_bytes(rest).map_err(|_| damaged())?;
        let key = PrivatePkcs8KeyDer::from(encoded.key);
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256);
        Ok(Self {
            cluster: encoded.cluster,
            certificate: encoded.certificate.into(),
            key: key.map_err(|_| damaged())?,
        })
    }

    /// Its certificate, which everybody may see.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// A certificate for a node of the cluster that has shown to have the key.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn certify(
        &self,
        node: pontoon_raft::NodeId,
        key: &PublicKey,
    ) -> Result<CertificateDer<'static>, String> {
        self.certify_until(node, key, after(NODE_LIFETIME))
    }

    /// [`Self::certify`] until another time.
    pub(super) fn certify_until(
        &self,
        node: pontoon_raft::NodeId,
        key: &PublicKey,
        until: SystemTime,
    ) -> Result<CertificateDer<'static>, String> {
        let failed = |e| format!("cannot sign a certificate: {e}");
        let name = NodeName {
            node,
            cluster: self.cluster,
        };
        let names = vec![name.own(), name.common()];
        let mut params = CertificateParams::new(names).map_err(failed)?;
        params.distinguished_name = titled(&name.own());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = lifetime(until);
        let own = params_of(self.cluster);
        let issuer = Issuer::from_params(&own, &self.key);
        let certificate = params.signed_by(key, &issuer).map_err(failed)?;
        Ok(certificate.der().clone())
    }
}

/// What the authority of a cluster is, but for its key and its time.
fn params_of(cluster: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    // Of its own for each cluster, so that a foreign certificate is known by its issuer.
    params.distinguished_name = titled(&format!("Pontoon cluster {cluster:016x}"));
    // It signs nodes, and no other authorities.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn titled(title: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, title);
    name
}

fn after(time: Duration) -> SystemTime {
    let now = SystemTime::now();
    now.checked_add(time).unwrap_or(now)
}

fn lifetime(until: SystemTime) -> (OffsetDateTime, OffsetDateTime) {
    let now = SystemTime::now();
    let from = now.checked_sub(CLOCKS_DIFFER_MAX).unwrap_or(now);
    (from.into(), until.into())
}
