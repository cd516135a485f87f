//! `D/certs/`: the certificate and the key of a node.
//!
//! ```text
//! ca.crt     certificate of the cluster's authority
//! node.key   private key, for the owner of the directory only (0600)
//! node.crt   certificate of the node; written last, so where it is the others are
//! ```
//!
//! All are PEM. Each file is written whole or not at all, also when the power fails. A key is made
//! once and stays: so a new certificate is one file that changes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::keyring::Held;

const AUTHORITY: &str = "ca.crt";
const CERTIFICATE: &str = "node.crt";
const KEY: &str = "node.key";
/// For the owner only.
const SECRET_MODE: u32 = 0o600;
const PUBLIC_MODE: u32 = 0o644;

/// A directory of certificates. Errors are sentences with the name of the file.
#[derive(Clone, Debug)]
pub(crate) struct CertDir(PathBuf);

impl CertDir {
    /// That of a data directory.
    pub(crate) fn of_data_dir(data_dir: &Path) -> Self {
        Self(data_dir.join("certs"))
    }

    /// That directory.
    pub(crate) fn at(path: &Path) -> Self {
        Self(path.to_path_buf())
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// What lies there; `None` when there is no certificate of a node.
    ///
    /// # Errors
    /// When files are missing beside it, or do not belong together.
    pub(crate) fn load(&self) -> Result<Option<Held>, String> {
        if !self.0.join(CERTIFICATE).exists() {
            return Ok(None);
        }
        let certificate = self.certificate(CERTIFICATE)?;
        let authority = self.certificate(AUTHORITY)?;
        let path = self.0.join(KEY);
        let key = PrivateKeyDer::from_pem_file(&path).map_err(|e| unreadable(&path, &e))?;
        let held = Held::new(certificate, authority, key);
        held.map(Some)
            .map_err(|e| format!("what lies in {} is of no use: {e}", self.0.display()))
    }

    fn certificate(&self, name: &str) -> Result<CertificateDer<'static>, String> {
        let path = self.0.join(name);
        CertificateDer::from_pem_file(&path).map_err(|e| unreadable(&path, &e))
    }

    /// The key of the node; made when there is none.
    pub(crate) fn key(&self) -> Result<KeyPair, String> {
        let path = self.0.join(KEY);
        if path.exists() {
            let key =
                PrivatePkcs8KeyDer::from_pem_file(&path).map_err(|e| unreadable(&path, &e))?;
            let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256);
            return key.map_err(|e| unreadable(&path, &e));
        }
        let key = KeyPair::generate().map_err(|e| format!("cannot make a key: {e}"))?;
        self.write(KEY, "PRIVATE KEY", key.serialized_der(), SECRET_MODE)?;
        Ok(key)
    }

    /// Keeps a certificate for [`Self::key`].
    pub(crate) fn save(
        &self,
        certificate: &CertificateDer<'_>,
        authority: &CertificateDer<'_>,
    ) -> Result<(), String> {
        self.write(AUTHORITY, "CERTIFICATE", authority, PUBLIC_MODE)?;
        self.write(CERTIFICATE, "CERTIFICATE", certificate, PUBLIC_MODE)
    }

    fn write(&self, name: &str, kind: &str, der: &[u8], mode: u32) -> Result<(), String> {
        let path = self.0.join(name);
        let text = pem::encode(&pem::Pem::new(kind, der));
        let written = || -> io::Result<()> {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&self.0)?;
            let new = self.0.join(format!("{name}.new"));
            // What is left of a start that was interrupted may have another mode.
            match fs::remove_file(&new) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            let mut file = File::options()
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.0)?.sync_all()?;
            self.0
                .parent()
                .map_or(Ok(()), |parent| File::open(parent)?.sync_all())
        };
        written().map_err(|e| format!("cannot write {}: {e}", path.display()))
    }
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("cannot read {}: {error}", path.display())
}
