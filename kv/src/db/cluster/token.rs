//! What lets new nodes in where nodes have certificates: join tokens, and the certificate authority
//! of the cluster.
//!
//! A token is kept as a hash of its secret. Invariant: a token lets one node in; the transaction
//! that writes the node down removes it, and notes it beside the birth of the node. So that node,
//! and no other, may ask again with the same token if the answer was lost, for as long as the token
//! would have been valid.
//!
//! The authority is bytes that the layer above makes and reads; nothing here knows what they mean.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::cluster::{Answer, Candidate, TokenHash, decode_row, encode_row};
use crate::db::cluster::join::going_down;
use crate::db::node::Node;
use crate::error::Error;
use crate::keys;
use crate::range::Refusal;
use crate::txn::{ScanOptions, Span, Txn, TxnOptions};

/// No token is valid for longer.
const TTL_MS_MAX: u64 = 30 * 24 * 3_600 * 1_000;
/// Tokens that may wait to be used.
const TOKENS_MAX: usize = 1_000;
/// How often it is tried to write while others write the same.
const ATTEMPTS_MAX: usize = 16;

/// A token that may be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Unused {
    /// Until then, in milliseconds of the cluster's time.
    until_ms: u64,
}

/// A token that was used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Used {
    token: TokenHash,
    /// Until then the same node may repeat itself.
    until_ms: u64,
}

impl Node {
    /// The certificate authority of the cluster, if it has one.
    ///
    /// # Errors
    /// When the system range does not answer.
    pub async fn authority(&self) -> Result<Option<Bytes>, Error> {
        let txn = self.own_txn(TxnOptions::default()).await?;
        let txn = txn.ok_or_else(going_down)?;
        let stored = txn.get(&keys::authority_key()).await;
        txn.rollback().await;
        stored
    }

    /// Makes what is proposed the certificate authority of the cluster, unless it has one. Returns
    /// the one it has.
    ///
    /// # Errors
    /// When the system range does not answer.
    pub async fn found_authority(&self, proposed: Bytes) -> Result<Bytes, Error> {
        let key = Bytes::from(keys::authority_key());
        for _ in 0..ATTEMPTS_MAX {
            let txn = self.own_txn(TxnOptions::default()).await?;
            let txn = txn.ok_or_else(going_down)?;
            if let Some(stored) = txn.get(&key).await? {
                txn.rollback().await;
                return Ok(stored);
            }
            txn.put(key.clone(), proposed.clone())?;
            match txn.commit().await {
                Ok(_) => return Ok(proposed),
                Err(error) if error.is_retryable() => {}
                Err(error) => return Err(error),
            }
        }
        Err(busy())
    }

    /// Lets a new node in that has the secret of a join token; the caller has hashed it.
    ///
    /// # Errors
    /// When the system range does not answer; a token that is not valid is an answer.
    pub async fn admit_by_token(
        &self,
        candidate: Candidate,
        token: &TokenHash,
    ) -> Result<Answer, Refusal> {
        self.admit(candidate, Some(token)).await
    }

    /// Keeps a join token, and forgets those that have expired.
    pub(super) async fn keep_token(&self, token: &TokenHash, ttl_ms: u64) -> Result<(), Error> {
        for _ in 0..ATTEMPTS_MAX {
            let txn = self.own_txn(TxnOptions::default()).await?;
            let txn = txn.ok_or_else(going_down)?;
            let now_ms = txn.start_timestamp().millis();
            let waiting = sweep(&txn, keys::join_token_span(), |stored| {
                Ok(decode_row::<Unused>(stored)?.until_ms <= now_ms)
            });
            if waiting.await? >= TOKENS_MAX {
                let message = format!("{TOKENS_MAX} join tokens wait to be used already");
                return Err(Error::Unavailable { message });
            }
            let used = sweep(&txn, keys::let_in_span(), |stored| {
                Ok(decode_row::<Used>(stored)?.until_ms <= now_ms)
            });
            used.await?;
            let until_ms = now_ms.saturating_add(ttl_ms.min(TTL_MS_MAX));
            let row = encode_row(&Unused { until_ms })?;
            txn.put(keys::join_token_key(token).into(), row)?;
            match txn.commit().await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_retryable() => {}
                Err(error) => return Err(error),
            }
        }
        Err(busy())
    }
}

/// Whether the token lets the node of that birth in. If so, the transaction uses it up.
pub(super) async fn use_token(txn: &Txn, token: &TokenHash, birth: u64) -> Result<bool, Error> {
    // The cluster's own time: no clock of a node counts.
    let now_ms = txn.start_timestamp().millis();
    let (unused, used) = (keys::join_token_key(token), keys::let_in_key(birth));
    let (unused, used) = (Bytes::from(unused), Bytes::from(used));
    if let Some(stored) = txn.get(&unused).await? {
        let Unused { until_ms } = decode_row(&stored)?;
        if until_ms <= now_ms {
            return Ok(false);
        }
        let token = *token;
        txn.delete(unused)?;
        txn.put(used, encode_row(&Used { token, until_ms })?)?;
        return Ok(true);
    }
    // It may be the node that the token has let in, and has not heard so.
    let Some(stored) = txn.get(&used).await? else {
        return Ok(false);
    };
    let used: Used = decode_row(&stored)?;
    Ok(same(&used.token, token) && now_ms < used.until_ms)
}

/// Compares all bytes, however early they differ: how long it takes tells nothing.
fn same(a: &TokenHash, b: &TokenHash) -> bool {
    a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

/// Removes the rows of a span that are over. Returns how many are left.
async fn sweep(
    txn: &Txn,
    span: Span,
    is_over: impl Fn(&[u8]) -> Result<bool, Error>,
) -> Result<usize, Error> {
    let mut scan = txn.scan(span, ScanOptions::default());
    let (mut over, mut left) = (Vec::new(), 0);
    while let Some(batch) = scan.next_batch().await? {
        for (key, stored) in batch.iter() {
            if is_over(stored)? {
                over.push(Bytes::copy_from_slice(key));
            } else {
                left += 1;
            }
        }
    }
    over.into_iter().try_for_each(|key| txn.delete(key))?;
    Ok(left)
}

fn busy() -> Error {
    Error::Unavailable {
        message: "too much is written to the cluster's own rows at this moment".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pontoon_raft::{NodeId, Place, StoreId};

    use super::*;
    use crate::cluster::{Denial, Joined, NodeRow, NodeState};
    use crate::db::{DbConfig, start_in_memory};

    const TOKEN: TokenHash = [7; 32];
    const HOUR_MS: u64 = 3_600_000;

    async fn node() -> Arc<Node> {
        start_in_memory(DbConfig::default(), None).await.unwrap()
    }

    fn born(birth: u64) -> Candidate {
        Candidate {
            row: NodeRow {
                birth,
                ..NodeRow::default()
            },
        }
    }

    async fn ask(node: &Node, birth: u64, token: &TokenHash) -> Result<NodeId, Denial> {
        match node.admit_by_token(born(birth), token).await.unwrap() {
            Answer::Joined(Joined { node, .. }) => Ok(node),
            Answer::Denied(denial) => Err(denial),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_token_lets_one_node_in_however_often_it_asks() {
        let node = node().await;
        assert_eq!(ask(&node, 1, &TOKEN).await, Err(Denial::Token));
        node.keep_token(&TOKEN, HOUR_MS).await.unwrap();
        assert_eq!(ask(&node, 1, &[8; 32]).await, Err(Denial::Token));
        let first = ask(&node, 1, &TOKEN).await.unwrap();
        assert_eq!(ask(&node, 1, &TOKEN).await, Ok(first));
        assert_eq!(ask(&node, 2, &TOKEN).await, Err(Denial::Token));
        // Another token gives the same node the same number.
        node.keep_token(&[9; 32], HOUR_MS).await.unwrap();
        assert_eq!(ask(&node, 1, &[9; 32]).await, Ok(first));
        assert_eq!(ask(&node, 1, &TOKEN).await, Err(Denial::Token));
    }

    #[tokio::test]
    async fn a_token_expires() {
        let node = node().await;
        node.keep_token(&TOKEN, 0).await.unwrap();
        assert_eq!(ask(&node, 1, &TOKEN).await, Err(Denial::Token));
        // The next one takes its place.
        node.keep_token(&[8; 32], HOUR_MS).await.unwrap();
        let txn = node.own_txn(TxnOptions::default()).await.unwrap().unwrap();
        let key = Bytes::from(keys::join_token_key(&TOKEN));
        assert_eq!(txn.get(&key).await.unwrap(), None);
    }

    #[tokio::test]
    async fn only_one_of_two_that_ask_at_once_is_let_in() {
        let node = node().await;
        node.keep_token(&TOKEN, HOUR_MS).await.unwrap();
        let (one, two) = tokio::join!(ask(&node, 1, &TOKEN), ask(&node, 2, &TOKEN));
        assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    }

    #[tokio::test]
    async fn who_has_left_or_belongs_elsewhere_is_not_let_in() {
        let node = node().await;
        let gone = NodeRow {
            birth: 5,
            place: Place {
                node: NodeId(4),
                store: StoreId(4),
            },
            state: NodeState::Gone,
            ..NodeRow::default()
        };
        node.write_rows(std::slice::from_ref(&gone)).await.unwrap();
        node.keep_token(&TOKEN, HOUR_MS).await.unwrap();
        assert_eq!(ask(&node, 5, &TOKEN).await, Err(Denial::Gone(NodeId(4))));
        let row = NodeRow { birth: 6, ..gone };
        let answer = node.admit_by_token(Candidate { row }, &TOKEN).await;
        assert!(matches!(answer, Ok(Answer::Denied(Denial::Foreign))));
        // Neither has used the token up.
        assert_eq!(ask(&node, 7, &TOKEN).await, Ok(NodeId(5)));
    }

    #[tokio::test]
    async fn the_first_authority_stays() {
        let node = node().await;
        assert_eq!(node.authority().await.unwrap(), None);
        for proposed in ["first", "second"] {
            let stored = node.found_authority(proposed.into()).await.unwrap();
            assert_eq!(stored, "first");
        }
        assert_eq!(node.authority().await.unwrap(), Some("first".into()));
    }
}
