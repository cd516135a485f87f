//! Rows that a client keeps and reads again through what has changed since: they must be what a
//! scan of the same transaction finds.

use std::collections::BTreeMap;

use crate::error::Error;
use crate::range::Watch;
use crate::timestamp::Timestamp;
use crate::txn::{Key, ScanOptions, Span, Txn, Value};

/// The rows of a span as of the beginning of a watch.
pub(super) struct Kept {
    watch: Watch,
    rows: BTreeMap<Key, Value>,
}

/// Reads a span by what is kept, which is made anew when it does not serve.
pub(super) async fn read(
    kept: &mut Option<Kept>,
    txn: &Txn,
    span: &Span,
) -> Result<BTreeMap<Key, Value>, Error> {
    if let Some(kept) = kept
        && let Some(keys) = txn.changes(&kept.watch, span).await?
    {
        let mut rows = kept.rows.clone();
        for key in keys {
            match txn.get(&key).await? {
                Some(value) => rows.insert(key, value),
                None => rows.remove(&key),
            };
        }
        return Ok(rows);
    }
    let watch = txn.watch(span);
    let (rows, met_newer) = scan(txn, span).await?;
    *kept = watch.filter(|_| !met_newer).map(|watch| Kept {
        watch,
        rows: rows.clone(),
    });
    Ok(rows)
}

async fn scan(txn: &Txn, span: &Span) -> Result<(BTreeMap<Key, Value>, bool), Error> {
    let mut scan = txn.scan(span.clone(), ScanOptions::default());
    let mut rows = BTreeMap::new();
    while let Some(batch) = scan.next_batch().await? {
        let copied = |bytes: &[u8]| Value::copy_from_slice(bytes);
        rows.extend(
            batch
                .iter()
                .map(|(key, value)| (copied(key), copied(value))),
        );
    }
    Ok((rows, scan.met_newer()))
}

/// Reads a span both ways in one transaction; the error of the outer result says how they differ.
pub(super) async fn compare(
    kept: &mut Option<Kept>,
    txn: &Txn,
    span: &Span,
) -> Result<Result<(), String>, Error> {
    let by_kept = read(kept, txn, span).await?;
    let (by_scan, _) = scan(txn, span).await?;
    let at: Timestamp = txn.read_timestamp();
    Ok(if by_kept == by_scan {
        Ok(())
    } else {
        Err(format!(
            "at {at} kept rows with their changes are {by_kept:?}, a scan finds {by_scan:?}"
        ))
    })
}
