//! What a new node asks a certificate for: its public key, and a proof that it has the private one.
//!
//! ```text
//! request = 1, public key (65), signature (DER) by it over: context, SHA-256 of the secret, public key
//! ```
//!
//! Of PKCS #10 this is what is used: the name in the certificate is the cluster's to give, and all
//! else that such a request may ask for would be ignored. Nor does reading it take a parser of X.509.

use bytes::Bytes;
use rcgen::{KeyPair, SigningKey};
use ring::digest::{SHA256, digest};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

use super::authority::PublicKey;

const FORMAT: u8 = 1;
/// Bytes of a point of P-256, uncompressed.
const KEY_BYTES: usize = 65;
/// What is signed is good for nothing else.
const CONTEXT: &[u8] = b"pontoon: a node asks for a certificate, 1\0";

/// See the module.
pub(crate) struct SigningRequest;

impl SigningRequest {
    /// A request of whoever has the key and the secret of a join token.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn write(key: &KeyPair, secret: &[u8]) -> Result<Bytes, String> {
        let public = key.public_key_raw();
        let signature = key
            .sign(&signed(public, secret))
            .map_err(|e| format!("cannot sign with the key of this node: {e}"))?;
        Ok([&[FORMAT], public, &signature].concat().into())
    }

    /// The public key, if whoever asks has the private one. The secret is that which came along.
    pub(crate) fn check(request: &[u8], secret: &[u8]) -> Option<PublicKey> {
        let (&FORMAT, rest) = request.split_first()? else {
            return None;
        };
        let (public, signature) = rest.split_at_checked(KEY_BYTES)?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, public)
            .verify(&signed(public, secret), signature)
            .ok()?;
        Some(PublicKey(public.to_vec()))
    }
}

fn signed(public: &[u8], secret: &[u8]) -> Vec<u8> {
    [CONTEXT, digest(&SHA256, secret).as_ref(), public].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_has_the_key_gets_a_certificate_for_it() {
        let key = KeyPair::generate().unwrap();
        let request = SigningRequest::write(&key, b"secret").unwrap();
        let read = SigningRequest::check(&request, b"secret").unwrap();
        assert_eq!(read.0, key.public_key_raw());
        assert!(SigningRequest::check(&request, b"another").is_none());
        for at in 0..request.len() {
            let mut changed = request.to_vec();
            changed[at] ^= 1;
            assert!(SigningRequest::check(&changed, b"secret").is_none(), "{at}");
            assert!(SigningRequest::check(&request[..at], b"secret").is_none());
        }
        // The key of another under a signature of one's own.
        let other = KeyPair::generate().unwrap();
        let mut stolen = request.to_vec();
        stolen[1..=KEY_BYTES].copy_from_slice(other.public_key_raw());
        assert!(SigningRequest::check(&stolen, b"secret").is_none());
    }
}
