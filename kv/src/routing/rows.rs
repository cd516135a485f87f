//! [`Rows`]: the rows of a part of a span, from this node's store or from a page that another node
//! has sent.

use bytes::Bytes;

use crate::error::Error;
use crate::mvcc::VersionScan;

/// Rows in the order of a scan.
pub(crate) enum Rows {
    /// Read as they are asked for.
    Store(VersionScan),
    /// Read before.
    Page {
        /// What is left of it.
        rows: std::vec::IntoIter<(Bytes, Bytes)>,
        /// A key that was passed has a newer version.
        met_newer: bool,
    },
}

impl Rows {
    /// Whether a key that was passed so far has a version newer than the scan reads.
    pub(crate) fn met_newer(&self) -> bool {
        match self {
            Self::Store(rows) => rows.met_newer(),
            Self::Page { met_newer, .. } => *met_newer,
        }
    }

    /// What another node has sent of it and was not passed yet.
    pub(crate) fn received(&self) -> Vec<(&[u8], &Bytes)> {
        match self {
            Self::Store(_) => Vec::new(),
            Self::Page { rows, .. } => {
                let rows = rows.as_slice().iter();
                rows.map(|(key, value)| (key.as_ref(), value)).collect()
            }
        }
    }

    /// Hands rows to `visit` until it says false; returns whether there may be more.
    pub(crate) fn for_each(
        &mut self,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<bool, Error> {
        match self {
            Self::Store(rows) => rows.for_each(visit),
            Self::Page { rows, .. } => {
                for (key, value) in rows.by_ref() {
                    if !visit(&key, &value) {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }

    /// The next row.
    pub(crate) fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, Error> {
        match self {
            Self::Store(rows) => rows.next(),
            Self::Page { rows, .. } => Ok(rows.next()),
        }
    }
}
