//! Numbers for new objects. A node takes blocks of them in transactions of their own, so a number
//! is never given twice, not even when the transaction that asked for it is rolled back.

use parking_lot::Mutex;
use pontoon_kv::{Db, TxnOptions};

use super::desc::FIRST_USER_OID;
use super::rows;
use crate::error::{SqlError, SqlState};
use crate::types::Oid;

/// How many numbers a node takes at once.
const BLOCK: u32 = 64;
/// How often taking a block is tried when other nodes take theirs at the same time.
const ATTEMPTS_MAX: u32 = 20;

/// Gives numbers.
#[derive(Default)]
pub(crate) struct OidAllocator {
    block: Mutex<std::ops::Range<u32>>,
}

impl OidAllocator {
    /// The next number.
    pub(crate) async fn next(&self, db: &Db) -> Result<Oid, SqlError> {
        loop {
            if let Some(oid) = self.block.lock().next() {
                return Ok(Oid(oid));
            }
            let fresh = take_block(db).await?;
            let mut block = self.block.lock();
            if block.is_empty() {
                *block = fresh;
            }
        }
    }
}

async fn take_block(db: &Db) -> Result<std::ops::Range<u32>, SqlError> {
    let key = rows::oid_key();
    let mut attempt = 0;
    loop {
        let txn = db.begin(TxnOptions::default()).await?;
        let start = match txn.get(&key).await? {
            Some(bytes) => rows::decode_u32(&bytes)?,
            None => FIRST_USER_OID,
        };
        let end = start.checked_add(BLOCK).ok_or_else(|| {
            SqlError::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                "there are no object numbers left",
            )
        })?;
        txn.put(key.clone(), end.to_be_bytes().to_vec().into())?;
        match txn.commit().await {
            Ok(_) => return Ok(start..end),
            // A block that was perhaps taken is simply not used.
            Err(e) if (e.is_retryable() || e.is_ambiguous()) && attempt < ATTEMPTS_MAX => {
                attempt += 1;
            }
            Err(e) => return Err(e.into()),
        }
    }
}
