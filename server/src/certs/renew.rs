//! A node's certificate over the years: the first one of a cluster, and each next one.
//!
//! Every node may read the authority of the cluster, so that a node signs its own renewals. It needs
//! a majority of the system range for that and nobody in particular.

use std::sync::Arc;
use std::time::Duration;

use pontoon_kv::Db;
use tokio::sync::watch;

use super::authority::{Authority, NODE_LIFETIME, PublicKey};
use super::directory::CertDir;
use super::keyring::{Held, Keyring};

/// A certificate is renewed when less than this is left of its time.
const RENEW_BEFORE: Duration = Duration::from_secs(NODE_LIFETIME.as_secs() / 3);
/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(24 * 3_600);
/// And when it could not be renewed.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Sees to it that a node which has opened its store has a certificate to show.
///
/// # Errors
/// A sentence that says what to do.
pub(crate) async fn certify(
    db: &Db,
    cluster: u64,
    directory: &CertDir,
    keyring: &Keyring,
) -> Result<(), String> {
    let node = db.node().id();
    let what = match keyring.held() {
        Some(held) if (held.name.node, held.name.cluster) != (node, cluster) => {
            return Err(format!(
                "the certificate in {} is that of {}, and the store beside it that of {node}: \
                 they belong to different nodes; bring back the one that belongs there",
                directory.path().display(),
                held.name.node
            ));
        }
        Some(held) if held.expires_within(Duration::ZERO) => "an expired certificate",
        Some(_) => return Ok(()),
        None => "no certificate",
    };
    // A node that is alone can do it by itself; one that needs others is not heard by them.
    renew(db, cluster, directory, keyring).await.map_err(|error| {
        format!(
            "{node} has {what} in {}, and cannot make one without the other nodes ({error})\n\
             Run `pontoon node token` on the machine of a node that runs, and start this one with \
             --join HOST:PORT of that node and --join-token TOKEN: it keeps its number and its data.",
            directory.path().display()
        )
    })
}

/// Signs a certificate for this node with the authority of the cluster, which is made if there is
/// none.
async fn renew(
    db: &Db,
    cluster: u64,
    directory: &CertDir,
    keyring: &Keyring,
) -> Result<(), String> {
    let node = db.node();
    let stored = match node.authority().await.map_err(|e| e.to_string())? {
        Some(stored) => stored,
        None => {
            let proposed = Authority::found(cluster)?.encode()?;
            let founded = node.found_authority(proposed).await;
            founded.map_err(|e| e.to_string())?
        }
    };
    let authority = Authority::decode(&stored)?;
    let key = directory.key()?;
    let public = PublicKey(key.public_key_raw().to_vec());
    let certificate = authority.certify(node.id(), &public)?;
    directory.save(&certificate, authority.certificate())?;
    let authority = authority.certificate().clone();
    keyring.install(Held::new(certificate, authority, key.into())?);
    tracing::info!(node = %node.id(), "this node has a new certificate");
    Ok(())
}

/// Renews the certificate of a node in time, until shutdown.
pub(crate) async fn keep_valid(
    db: Db,
    cluster: u64,
    directory: CertDir,
    keyring: Arc<Keyring>,
    mut shutdown: watch::Receiver<bool>,
) {
    loop {
        let due = |held: Arc<Held>| held.expires_within(RENEW_BEFORE);
        let mut pause = LOOK_EVERY;
        if keyring.held().is_none_or(due)
            && let Err(error) = renew(&db, cluster, &directory, &keyring).await
        {
            pause = AGAIN_AFTER;
            let expired = keyring
                .held()
                .is_none_or(|held| held.expires_within(Duration::ZERO));
            if expired {
                tracing::error!(%error, "the certificate of this node has expired and cannot be \
                    renewed: give the node a new one with --join and --join-token");
            } else {
                tracing::warn!(%error, "the certificate of this node could not be renewed yet");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = shutdown.wait_for(|down| *down) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use pontoon_raft::NodeId;

    use super::*;
    use crate::certs::tests::{an_hour_ago, held_until};

    /// Longer than anything here should take.
    const LONG: Duration = Duration::from_secs(60);

    /// A node that has its first certificate.
    async fn certified() -> (tempfile::TempDir, Db, CertDir, Arc<Keyring>, Authority) {
        let (folder, db) = (tempfile::tempdir().unwrap(), Db::in_memory());
        let (directory, keyring) = (CertDir::of_data_dir(folder.path()), Arc::default());
        certify(&db, 7, &directory, &keyring).await.unwrap();
        let stored = db.node().authority().await.unwrap().unwrap();
        let authority = Authority::decode(&stored).unwrap();
        (folder, db, directory, keyring, authority)
    }

    #[tokio::test]
    async fn the_first_node_signs_for_itself() {
        let (_folder, db, directory, keyring, authority) = certified().await;
        let held = keyring.held().unwrap();
        assert_eq!((held.name.node, held.name.cluster), (db.node().id(), 7));
        assert_eq!(held.authority(), authority.certificate());
        // Whoever comes later finds the same authority, and what was kept.
        let kept = directory.load().unwrap().unwrap();
        assert_eq!(kept.authority(), authority.certificate());
        certify(&db, 7, &directory, &keyring).await.unwrap();
        assert!(Arc::ptr_eq(&held, &keyring.held().unwrap()));
    }

    #[tokio::test]
    async fn a_certificate_is_renewed_before_it_expires() {
        let (_folder, db, directory, keyring, authority) = certified().await;
        let hour = Duration::from_secs(3_600);
        let node = db.node().id();
        for (left, renewed) in [(RENEW_BEFORE + hour, false), (RENEW_BEFORE - hour, true)] {
            keyring.install(held_until(&authority, node, SystemTime::now() + left));
            let before = keyring.held().unwrap();
            let (shutdown, watched) = watch::channel(false);
            let running = tokio::spawn(keep_valid(
                db.clone(),
                7,
                directory.clone(),
                Arc::clone(&keyring),
                watched,
            ));
            let changed = async {
                while Arc::ptr_eq(&before, &keyring.held().unwrap()) {
                    tokio::task::yield_now().await;
                }
            };
            if renewed {
                tokio::time::timeout(LONG, changed).await.unwrap();
            }
            shutdown.send(true).unwrap();
            running.await.unwrap();
            let held = keyring.held().unwrap();
            assert_eq!(!Arc::ptr_eq(&before, &held), renewed);
        }
        assert!(
            !directory
                .load()
                .unwrap()
                .unwrap()
                .expires_within(RENEW_BEFORE)
        );
    }

    #[tokio::test]
    async fn one_that_has_expired_is_replaced_by_a_node_that_is_alone() {
        let (_folder, db, directory, keyring, authority) = certified().await;
        keyring.install(held_until(&authority, db.node().id(), an_hour_ago()));
        certify(&db, 7, &directory, &keyring).await.unwrap();
        assert!(!keyring.held().unwrap().expires_within(LONG));
        // And that of another node is not used.
        keyring.install(held_until(&authority, NodeId(5), SystemTime::now() + LONG));
        let error = certify(&db, 7, &directory, &keyring).await.unwrap_err();
        assert!(error.contains("is that of n5"), "{error}");
    }
}
