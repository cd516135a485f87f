//! Join tokens: what an operator carries from a node of the cluster to a new one.
//!
//! ```text
//! pt1-<SHA-256 of the authority's certificate, hex>-<secret, hex>
//! ```
//!
//! By the fingerprint the new node knows whom it talks to before it sends the secret.

use std::fmt;
use std::str::FromStr;

use pontoon_kv::cluster::TokenHash;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use tokio_rustls::rustls::pki_types::CertificateDer;

/// The kind of token.
const KIND: &str = "pt1";
const FINGERPRINT_BYTES: usize = 32;
/// Too many to be guessed by anybody who has to ask a node each time.
const SECRET_BYTES: usize = 20;

/// Lets one new node into a cluster.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct JoinToken {
    fingerprint: [u8; FINGERPRINT_BYTES],
    secret: [u8; SECRET_BYTES],
}

impl JoinToken {
    /// A new one for the cluster of an authority.
    ///
    /// # Errors
    /// A sentence; only if the system has no randomness.
    pub(crate) fn draw(authority: &CertificateDer<'_>) -> Result<Self, String> {
        let mut secret = [0; SECRET_BYTES];
        SystemRandom::new()
            .fill(&mut secret)
            .map_err(|_| "the system has no random numbers for a join token".to_owned())?;
        Ok(Self {
            fingerprint: sha256(authority),
            secret,
        })
    }

    /// Whether this is the authority of the cluster that the token is for.
    pub(crate) fn is_of(&self, authority: &CertificateDer<'_>) -> bool {
        self.fingerprint == sha256(authority)
    }

    /// What lets a node in. To be sent to a node of the cluster, and to be shown to nobody.
    pub(crate) fn secret(&self) -> &[u8] {
        &self.secret
    }

    /// What the cluster keeps of a secret: it is long and drawn by chance, so that a plain hash
    /// tells nothing about it.
    pub(crate) fn hash(secret: &[u8]) -> TokenHash {
        sha256(secret)
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    // Both have that length.
    for (to, from) in hash.iter_mut().zip(digest(&SHA256, bytes).as_ref()) {
        *to = *from;
    }
    hash
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(KIND)?;
        for part in [&self.fingerprint[..], &self.secret[..]] {
            f.write_str("-")?;
            part.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinToken(..)")
    }
}

impl FromStr for JoinToken {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.trim().strip_prefix(KIND);
        let parts = parts.and_then(|rest| rest.strip_prefix('-')?.split_once('-'));
        let token = parts.and_then(|(fingerprint, secret)| {
            Some(Self {
                fingerprint: bytes(fingerprint)?,
                secret: bytes(secret)?,
            })
        });
        // Not a word of it is repeated: it may be a good one with a letter missing.
        token.ok_or_else(|| {
            "this is no whole join token: copy all of what `pontoon node token` has printed, \
             which begins with pt1-"
                .to_owned()
        })
    }
}

fn bytes<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let digits: Option<Vec<u8>> = hex.chars().map(digit).collect();
    let digits = digits.filter(|digits| digits.len() == 2 * N)?;
    let mut read = [0; N];
    for (to, pair) in read.iter_mut().zip(digits.chunks_exact(2)) {
        *to = pair.iter().fold(0, |byte, digit| (byte << 4) | digit);
    }
    Some(read)
}

fn digit(digit: char) -> Option<u8> {
    digit
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_as_they_were_written() {
        let authority = CertificateDer::from(vec![1, 2, 3]);
        let token = JoinToken::draw(&authority).unwrap();
        let text = token.to_string();
        assert_eq!(text.len(), 3 + 1 + 64 + 1 + 40);
        assert_eq!(text.parse(), Ok(token.clone()));
        assert_eq!(format!(" {text}\n").parse(), Ok(token.clone()));
        assert!(token.is_of(&authority));
        assert!(!token.is_of(&CertificateDer::from(vec![1, 2, 4])));
        assert_ne!(JoinToken::draw(&authority).unwrap(), token);
        for cut in 0..text.len() {
            let error = text[..cut].parse::<JoinToken>().unwrap_err();
            assert!(error.contains("pontoon node token"));
            let long = format!("{}0{}", &text[..cut], &text[cut..]);
            assert!(long.parse::<JoinToken>().is_err(), "{long}");
        }
        for wrong in [text.replace("pt1", "pt2"), text.replace('-', "_")] {
            assert!(wrong.parse::<JoinToken>().is_err(), "{wrong}");
        }
        assert!(
            format!("pt1-{}-{}", "é".repeat(32), "g".repeat(40))
                .parse::<JoinToken>()
                .is_err()
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let token = JoinToken::draw(&CertificateDer::from(vec![])).unwrap();
        assert_eq!(format!("{token:?}"), "JoinToken(..)");
        assert_ne!(JoinToken::hash(token.secret()), JoinToken::hash(&[]));
    }
}
