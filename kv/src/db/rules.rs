//! Placement rules as they are stored.

use crate::error::Error;
use crate::keys;
use crate::placement::{Rule, Rules};
use crate::txn::{ScanOptions, Txn};

/// The rules of all tables.
pub(super) async fn rules(txn: &Txn) -> Result<Rules, Error> {
    let mut scan = txn.scan(keys::placement_rule_span(), ScanOptions::default());
    let mut found = Vec::new();
    while let Some(batch) = scan.next_batch().await? {
        for (key, stored) in batch.iter() {
            found.push((keys::decode_placement_rule_key(key)?, Rule::decode(stored)?));
        }
    }
    Ok(found.into_iter().collect())
}
