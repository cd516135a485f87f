//! The context of all tests that need no session: a fixed clock, a zone, a catalog of at most one
//! relation.

use super::datetime::Zone;
use super::datum::Datum;
use super::oid::Oid;
use super::registry::{CatalogLookup, EvalContext};
use crate::error::{SqlError, SqlState};

/// Knows the time, which is always the same, and what it is given.
pub(crate) struct Fixed {
    pub(crate) zone: Zone,
    /// The relation that every name of one means, with its name in the schema public.
    pub(crate) relation: Option<(Oid, &'static str)>,
    /// The one variable and its value.
    pub(crate) setting: Option<(&'static str, &'static str)>,
}

impl Fixed {
    /// Knows nothing but the time, in UTC.
    pub(crate) const UTC: Self = Self::in_zone(Zone::UTC);

    /// Knows nothing but the time, in a zone.
    pub(crate) const fn in_zone(zone: Zone) -> Self {
        Self {
            zone,
            relation: None,
            setting: None,
        }
    }
}

impl EvalContext for Fixed {
    fn transaction_time(&self) -> i64 {
        1_700_000_000_123_456
    }
    fn statement_time(&self) -> i64 {
        self.transaction_time()
    }
    fn clock_time(&self) -> i64 {
        self.transaction_time()
    }
    fn time_zone(&self) -> Zone {
        self.zone
    }
    fn setting(&self, name: &str) -> Option<String> {
        let (known, value) = self.setting?;
        (name == known).then(|| value.to_owned())
    }
    fn set_setting(&self, _: &str, value: &str, _: bool) -> Result<String, SqlError> {
        Ok(value.to_owned())
    }
    fn sequence_next(&self, _: Oid) -> Result<i64, SqlError> {
        Ok(1)
    }
    fn sequence_current(&self, _: Option<Oid>) -> Result<i64, SqlError> {
        Ok(1)
    }
    fn sequence_set(&self, _: Oid, value: i64, _: bool) -> Result<i64, SqlError> {
        Ok(value)
    }
    fn catalog(&self) -> &dyn CatalogLookup {
        self
    }
    fn current_user(&self) -> &str {
        "postgres"
    }
    fn current_database(&self) -> &str {
        "postgres"
    }
    fn backend_pid(&self) -> i32 {
        1
    }
    fn random_u64(&self) -> u64 {
        42
    }
    fn check_cancelled(&self) -> Result<(), SqlError> {
        Ok(())
    }
    fn sleep(&self, _: i64) -> Result<(), SqlError> {
        Ok(())
    }
}

impl CatalogLookup for Fixed {
    fn relation_oid(&self, _: Option<&str>, _: &str) -> Option<Oid> {
        self.relation.map(|(oid, _)| oid)
    }
    fn relation_name(&self, _: Oid) -> Option<(String, String, bool)> {
        let (_, name) = self.relation?;
        Some(("public".to_owned(), name.to_owned(), true))
    }
    fn schema_oid(&self, _: &str) -> Option<Oid> {
        None
    }
    fn schema_name(&self, _: Oid) -> Option<String> {
        None
    }
    fn search_path(&self, _: bool) -> Vec<String> {
        vec!["public".to_owned()]
    }
    fn describe(&self, function: &str, _: &[Datum]) -> Result<Datum, SqlError> {
        Err(SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!("{function} in tests"),
        ))
    }
}
