//! Prepared statements: parsed once, bound once for each version of the catalog and search path.

use std::sync::Arc;

use parking_lot::Mutex;

use super::run::{self, Runner, output_of};
use crate::bind::tree::{BoundStatement, OutputColumn};
use crate::catalog::desc::CatalogSnapshot;
use crate::error::{SqlError, SqlState};
use crate::parse::{Parsed, Statement};
use crate::types::Oid;

/// The result of binding.
struct Cached {
    version: u64,
    search_path: Arc<[String]>,
    bound: Arc<BoundStatement>,
}

/// A prepared statement.
pub(crate) struct Prepared {
    pub(crate) parsed: Arc<Parsed>,
    /// Types of the parameters.
    pub(crate) params: Vec<Oid>,
    /// Columns of the result.
    pub(crate) output: Option<Arc<[OutputColumn]>>,
    cache: Mutex<Option<Cached>>,
}

/// Whether a statement is the binder's.
pub(crate) fn is_bindable(statement: &Statement) -> bool {
    matches!(
        statement,
        Statement::Query(_) | Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_)
    )
}

impl Prepared {
    /// A statement that is not the binder's; `output` is what it shows.
    pub(crate) fn utility(parsed: Arc<Parsed>, output: Option<Arc<[OutputColumn]>>) -> Self {
        Self {
            parsed,
            params: Vec::new(),
            output,
            cache: Mutex::new(None),
        }
    }

    /// Binds a statement for the first time.
    pub(crate) fn bindable(
        parsed: Arc<Parsed>,
        declared: &[Oid],
        runner: &Runner,
        catalog: &Arc<CatalogSnapshot>,
    ) -> Result<Self, SqlError> {
        let (bound, params) = runner.bind(catalog, &parsed.statement, declared)?;
        let output = output_of(&bound);
        let cached = Cached {
            version: catalog.version,
            search_path: Arc::clone(&runner.values.search_path),
            bound: Arc::new(bound),
        };
        Ok(Self {
            parsed,
            params,
            output,
            cache: Mutex::new(Some(cached)),
        })
    }

    /// The statement as it is bound under this catalog.
    pub(crate) fn bound(
        &self,
        runner: &Runner,
        catalog: &Arc<CatalogSnapshot>,
    ) -> Result<Arc<BoundStatement>, SqlError> {
        let mut cache = self.cache.lock();
        if let Some(cached) = cache.as_ref()
            && cached.version == catalog.version
            && (Arc::ptr_eq(&cached.search_path, &runner.values.search_path)
                || cached.search_path == runner.values.search_path)
        {
            return Ok(Arc::clone(&cached.bound));
        }
        let eval = runner.eval(catalog);
        let (bound, _) = run::bind(
            catalog,
            &runner.values,
            eval.as_ref(),
            &self.parsed.statement,
            &self.params,
        )?;
        let same = match (&self.output, output_of(&bound)) {
            (None, None) => true,
            (Some(a), Some(b)) => {
                a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| a.ty == b.ty)
            }
            _ => false,
        };
        if !same {
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "cached plan must not change result type",
            ));
        }
        let bound = Arc::new(bound);
        *cache = Some(Cached {
            version: catalog.version,
            search_path: Arc::clone(&runner.values.search_path),
            bound: Arc::clone(&bound),
        });
        Ok(bound)
    }
}
