//! Why a node could not start or had to stop, in sentences that say what to do.

use std::path::PathBuf;

use pontoon_sql::SqlError;

/// A reason to end the process with an error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Arguments or configuration do not make sense; a whole sentence.
    #[error("{0}")]
    Usage(String),
    /// The directory cannot be made or opened.
    #[error("cannot use the data directory {}: {reason}\n{advice}", path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
        /// What to do.
        advice: &'static str,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {reason}\n{advice}")]
    Listen {
        /// The address.
        address: String,
        /// What is wrong.
        reason: String,
        /// What to do.
        advice: String,
    },
    /// The node has no certificate that it could show to others; a whole sentence.
    #[error("{0}")]
    Certificates(String),
    /// The cluster does not let the node in.
    #[error("cannot join the cluster: {0}")]
    Join(String),
    /// The store does not open.
    #[error("cannot open the store in {}: {source}", path.display())]
    Store {
        /// The data directory.
        path: PathBuf,
        /// What the store says.
        source: pontoon_kv::Error,
    },
    /// The catalog does not open.
    #[error("cannot open the database in {}: {source}", path.display())]
    Catalog {
        /// The data directory.
        path: PathBuf,
        /// What the SQL layer says.
        source: SqlError,
    },
    /// The tables of the demo could not be made.
    #[error("cannot make the demo tables: {0}")]
    Demo(SqlError),
}
