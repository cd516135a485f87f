//! Certificates as nodes hold them: what belongs together, what has expired, and what is kept.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use pontoon_raft::NodeId;
use rcgen::KeyPair;

use super::authority::{Authority, NODE_LIFETIME, PublicKey};
use super::directory::CertDir;
use super::keyring::{Credentials, Held, Keyring};
use super::name::NodeName;

const HOUR: Duration = Duration::from_secs(3_600);

fn public(key: &KeyPair) -> PublicKey {
    PublicKey(key.public_key_raw().to_vec())
}

/// A time that has passed, and not just now.
pub(crate) fn an_hour_ago() -> SystemTime {
    SystemTime::now() - HOUR
}

/// A certificate that is valid until then.
pub(crate) fn held_until(authority: &Authority, node: NodeId, until: SystemTime) -> Held {
    let key = KeyPair::generate().unwrap();
    let certificate = authority.certify_until(node, &public(&key), until).unwrap();
    Held::new(certificate, authority.certificate().clone(), key.into()).unwrap()
}

/// What a node shows whose certificate is valid until then.
pub(crate) fn member_until(authority: &Authority, node: NodeId, until: SystemTime) -> Credentials {
    let keyring = Keyring::default();
    keyring.install(held_until(authority, node, until));
    Credentials::Member(keyring.into())
}

/// What a node shows.
pub(crate) fn member(authority: &Authority, node: NodeId) -> Credentials {
    member_until(authority, node, SystemTime::now() + NODE_LIFETIME)
}

#[test]
fn a_certificate_names_its_node_and_its_time() {
    let authority = Authority::found(7).unwrap();
    let held = held_until(&authority, NodeId(3), SystemTime::now() + NODE_LIFETIME);
    let name = NodeName {
        node: NodeId(3),
        cluster: 7,
    };
    assert_eq!(held.name, name);
    assert!(!held.expires_within(NODE_LIFETIME - HOUR));
    assert!(held.expires_within(NODE_LIFETIME + HOUR));
    // One that has expired can be read, as there is a way to another.
    let expired = held_until(&authority, NodeId(3), an_hour_ago());
    assert!(expired.expires_within(Duration::ZERO));
}

#[test]
fn what_does_not_belong_together_is_not_held() {
    let (one, two) = (Authority::found(7).unwrap(), Authority::found(7).unwrap());
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let certificate = one.certify(NodeId(3), &public(&key)).unwrap();
    let hold = |authority: &Authority, key: &KeyPair| {
        let key = KeyPair::try_from(key.serialized_der()).unwrap();
        let authority = authority.certificate().clone();
        Held::new(certificate.clone(), authority, key.into())
    };
    assert!(hold(&one, &key).is_ok());
    let error = hold(&one, &other).unwrap_err();
    assert!(error.contains("do not belong together"), "{error}");
    // Of the same name, and another key.
    let error = hold(&two, &key).unwrap_err();
    assert!(error.contains("do not belong together"), "{error}");
    // A node signs nobody.
    let authority = one.certificate().clone();
    let error = Held::new(authority.clone(), authority, key.into()).unwrap_err();
    assert_eq!(error, "the certificate names no node");
}

#[test]
fn an_authority_signs_after_it_was_kept() {
    let authority = Authority::found(7).unwrap();
    let stored = authority.encode().unwrap();
    let kept = Authority::decode(&stored).unwrap();
    assert_eq!(kept.certificate(), authority.certificate());
    let key = KeyPair::generate().unwrap();
    let certificate = kept.certify(NodeId(2), &public(&key)).unwrap();
    assert!(Held::new(certificate, authority.certificate().clone(), key.into()).is_ok());
    for cut in 0..stored.len() {
        assert!(Authority::decode(&stored[..cut]).is_err(), "{cut}");
    }
}

#[test]
fn files_are_private_and_whole() {
    let folder = tempfile::tempdir().unwrap();
    let directory = CertDir::of_data_dir(folder.path());
    assert!(directory.load().unwrap().is_none());
    let key = directory.key().unwrap();
    // Made once; and without a certificate there is nothing to hold yet.
    assert_eq!(
        directory.key().unwrap().serialized_der(),
        key.serialized_der()
    );
    assert!(directory.load().unwrap().is_none());
    let authority = Authority::found(7).unwrap();
    let certificate = authority.certify(NodeId(4), &public(&key)).unwrap();
    directory
        .save(&certificate, authority.certificate())
        .unwrap();
    let held = directory.load().unwrap().unwrap();
    assert_eq!(held.name.node, NodeId(4));
    assert_eq!(held.authority(), authority.certificate());
    let mode = |name: &str| {
        let file = directory.path().join(name);
        std::fs::metadata(file).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode("node.key"), 0o600);
    std::fs::remove_file(directory.path().join("node.key")).unwrap();
    let error = directory.load().unwrap_err();
    assert!(error.contains("node.key"), "{error}");
    std::fs::write(directory.path().join("node.crt"), "nothing").unwrap();
    assert!(directory.load().unwrap_err().contains("node.crt"));
}
