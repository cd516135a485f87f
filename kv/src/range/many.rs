//! Reads of several keys in one request.
//!
//! What is answered is the beginning of what was asked: it ends before a key that is refused, unless
//! that is the first. So an intent in the way of one key costs one request more, and not all others.

use bytes::Bytes;

use super::replica::{Refusal, Replica};
use crate::timestamp::Timestamp;

impl Replica {
    /// [`Self::get`] of the first of `keys`, one at least if there are any; none more once the values
    /// have `bytes_max` bytes.
    pub async fn get_many(
        &self,
        keys: &[Bytes],
        at: Timestamp,
        bytes_max: usize,
    ) -> Result<Vec<Option<Bytes>>, Refusal> {
        let (mut values, mut bytes) = (Vec::with_capacity(keys.len()), 0);
        for key in keys {
            let value = match self.try_get(key, at) {
                Some(value) => value.map_err(Refusal::from),
                None => self.get(key, at).await,
            };
            match value {
                Ok(value) => {
                    bytes += value.as_ref().map_or(0, Bytes::len);
                    values.push(value);
                }
                Err(refusal) if values.is_empty() => return Err(refusal),
                Err(_) => break,
            }
            if bytes >= bytes_max {
                break;
            }
        }
        Ok(values)
    }

    /// [`Self::last_written`] of the first of `keys`, one at least if there are any.
    pub async fn last_written_many(
        &self,
        keys: &[Bytes],
        upto: Timestamp,
    ) -> Result<Vec<Option<Timestamp>>, Refusal> {
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            match self.last_written(key, upto).await {
                Ok(written) => found.push(written),
                Err(refusal) if found.is_empty() => return Err(refusal),
                Err(_) => break,
            }
        }
        Ok(found)
    }
}
