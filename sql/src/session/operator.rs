//! What operators ask of the SQL layer over the address of nodes: how keys read, and where ranges shall
//! begin.

use std::sync::Arc;
use std::time::Duration;

use pontoon_kv::{Span, TxnOptions};

use super::api::SideMessage;
use super::engine::{Engine, SessionStart};
use super::eval::{DATABASE, DATABASE_OWNER};
use super::session::Session;
use crate::catalog::desc::CatalogSnapshot;
use crate::error::{SqlError, SqlState};
use crate::parse::Statement;
use crate::pg_catalog::{NamedSpan, name_spans};

/// The catalog is waited for so long; what is asked of a cluster that is not well is answered with
/// the names that are known.
const CATALOG_TIME_MAX: Duration = Duration::from_secs(1);

impl Engine {
    /// Spans of keys as people read them, by the newest catalog that can be read soon.
    ///
    /// # Errors
    /// In plain words.
    pub async fn name_spans(self: &Arc<Self>, spans: &[Span]) -> Result<Vec<NamedSpan>, String> {
        let loaded = tokio::time::timeout(CATALOG_TIME_MAX, self.load_catalog()).await;
        let catalog = match loaded {
            Ok(Ok(catalog)) => catalog,
            _ => self.catalog.latest(),
        };
        let session = self.operator().map_err(|e| told(&e))?;
        let eval = session.output_context();
        Ok(name_spans(spans, &catalog, &*eval))
    }

    /// Runs ALTER TABLE | INDEX ... SPLIT AT or UNSPLIT; returns its notices.
    ///
    /// # Errors
    /// Those of the statement, in plain words; any other statement is one.
    pub async fn reshape(self: &Arc<Self>, statement: &str) -> Result<Vec<String>, String> {
        let notices = self.run_reshape(statement).await;
        let notices = notices.map_err(|e| told(&e))?;
        Ok(notices.iter().map(told).collect())
    }

    async fn run_reshape(self: &Arc<Self>, statement: &str) -> Result<Vec<SqlError>, SqlError> {
        let mut session = self.operator()?;
        let statements = session.split(statement)?;
        let [statement] = statements.as_slice() else {
            return Err(other_statement());
        };
        let Statement::SplitAt(_) = &statement.statement else {
            return Err(other_statement());
        };
        session.run(statement, true).await?;
        session.finish().await?;
        let messages = session.take_messages().into_iter();
        let notices = messages.filter_map(|message| match message {
            SideMessage::Notice(notice) => Some(notice),
            _ => None,
        });
        Ok(notices.collect())
    }

    /// A session of whoever may do everything.
    fn operator(self: &Arc<Self>) -> Result<Session, SqlError> {
        self.session(SessionStart {
            user: DATABASE_OWNER.to_owned(),
            database: DATABASE.to_owned(),
            settings: Vec::new(),
            pid: 0,
        })
    }

    async fn load_catalog(&self) -> Result<Arc<CatalogSnapshot>, SqlError> {
        let options = TxnOptions {
            read_only: true,
            ..TxnOptions::default()
        };
        let txn = self.db.begin(options).await?;
        self.catalog.load(&txn).await
    }
}

fn other_statement() -> SqlError {
    let message = "this is not one statement with SPLIT AT or UNSPLIT";
    SqlError::new(SqlState::SYNTAX_ERROR, message)
}

/// An error or a notice as a few lines.
fn told(notice: &SqlError) -> String {
    let more = [&notice.detail, &notice.hint].into_iter().flatten();
    let lines = more.map(|line| format!("\n{line}"));
    format!("{}{}", notice.message, lines.collect::<String>())
}
