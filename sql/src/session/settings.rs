//! The variables of one session: three layers (start of the session, session, transaction) of
//! copy-on-write values, so that a transaction or savepoint takes its changes back by restoring
//! two pointers.

use std::collections::BTreeMap;
use std::sync::Arc;

use pontoon_kv::IsolationLevel;

use super::known::VARIABLES;
use super::variables::{self, Changeable, Variable};
use super::zone;
use crate::error::{SqlError, SqlState};
use crate::types::datetime::Zone;

/// Values of all variables, with those that statements need at hand already read.
#[derive(Clone, Debug)]
pub(crate) struct Values {
    /// Canonical values that are not the defaults, by PostgreSQL's spelling of the name.
    changed: BTreeMap<String, String>,
    /// `TimeZone`.
    pub(crate) time_zone: Zone,
    /// `statement_timeout`, 0 for none.
    pub(crate) statement_timeout_ms: u64,
    /// `lock_timeout`, 0 for none.
    pub(crate) lock_timeout_ms: u64,
    /// `idle_in_transaction_session_timeout`, 0 for none.
    pub(crate) idle_timeout_ms: u64,
    /// `default_transaction_isolation`.
    pub(crate) isolation: IsolationLevel,
    /// `default_transaction_read_only`.
    pub(crate) read_only: bool,
    /// `search_path`, split.
    pub(crate) search_path: Arc<[String]>,
    /// `pontoon.broadcast_max`, in bytes.
    pub(crate) broadcast_max: usize,
    /// `pontoon.distribute`.
    pub(crate) distribute: bool,
    /// `pontoon.fast_path`.
    pub(crate) fast_path: bool,
    /// Lowest severity that `client_min_messages` lets pass: notices, warnings.
    pub(crate) notices: bool,
    /// See `notices`.
    pub(crate) warnings: bool,
}

impl Default for Values {
    fn default() -> Self {
        let mut values = Self {
            changed: BTreeMap::new(),
            time_zone: Zone::Fixed(0),
            statement_timeout_ms: 0,
            lock_timeout_ms: 0,
            idle_timeout_ms: 0,
            isolation: IsolationLevel::Serializable,
            read_only: false,
            search_path: Arc::from([]),
            broadcast_max: 0,
            distribute: true,
            fast_path: true,
            notices: true,
            warnings: true,
        };
        for variable in VARIABLES {
            values.derive(variable, variable.default);
        }
        values
    }
}

impl Values {
    /// The canonical value of a variable, `None` if there is none of that name.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        match variables::find(name) {
            Some(variable) => Some(
                self.changed
                    .get(variable.name)
                    .map_or(variable.default, String::as_str),
            ),
            None => self
                .changed
                .get(&name.to_ascii_lowercase())
                .map(String::as_str),
        }
    }

    /// The value as SHOW prints it.
    pub(crate) fn show(&self, name: &str) -> Option<String> {
        match variables::find(name) {
            Some(variable) => self
                .value(variable.name)
                .map(|v| variables::show(variable, v)),
            None => self.value(name).map(str::to_owned),
        }
    }

    fn put(&mut self, variable: &Variable, canonical: String) {
        self.derive(variable, &canonical);
        if canonical == variable.default {
            self.changed.remove(variable.name);
        } else {
            self.changed.insert(variable.name.to_owned(), canonical);
        }
    }

    /// Keeps the values that statements need at hand.
    fn derive(&mut self, variable: &Variable, canonical: &str) {
        let number = || canonical.parse().unwrap_or(0);
        match variable.name {
            "TimeZone" => {
                self.time_zone = zone::parse(canonical).unwrap_or(Zone::Fixed(0));
            }
            "statement_timeout" => self.statement_timeout_ms = number(),
            "lock_timeout" => self.lock_timeout_ms = number(),
            "idle_in_transaction_session_timeout" => self.idle_timeout_ms = number(),
            "default_transaction_isolation" => self.isolation = isolation(canonical),
            "default_transaction_read_only" => self.read_only = canonical == "on",
            "search_path" => {
                self.search_path = variables::split_names(canonical).unwrap_or_default().into();
            }
            "pontoon.broadcast_max" => {
                let bytes = number().saturating_mul(1_024);
                self.broadcast_max = usize::try_from(bytes).unwrap_or(usize::MAX);
            }
            "pontoon.distribute" => self.distribute = canonical == "on",
            "pontoon.fast_path" => self.fast_path = canonical == "on",
            "client_min_messages" => {
                self.notices = !matches!(canonical, "warning" | "error");
                self.warnings = canonical != "error";
            }
            _ => {}
        }
    }
}

/// The isolation level of that name; READ UNCOMMITTED is READ COMMITTED, as in PostgreSQL.
pub(crate) fn isolation(name: &str) -> IsolationLevel {
    match name {
        "read committed" | "read uncommitted" => IsolationLevel::ReadCommitted,
        "repeatable read" => IsolationLevel::RepeatableRead,
        _ => IsolationLevel::Serializable,
    }
}

/// The name of an isolation level.
pub(crate) fn isolation_name(level: IsolationLevel) -> &'static str {
    match level {
        IsolationLevel::ReadCommitted => "read committed",
        IsolationLevel::RepeatableRead => "repeatable read",
        IsolationLevel::Serializable => "serializable",
    }
}

/// The layers, as a savepoint remembers them.
#[derive(Clone, Debug)]
pub(crate) struct SavedSettings {
    session: Arc<Values>,
    current: Arc<Values>,
}

/// The variables of a session.
#[derive(Debug)]
pub(crate) struct Settings {
    /// What RESET returns to.
    start: Arc<Values>,
    /// What holds after the transaction.
    session: Arc<Values>,
    /// What holds now: SET LOCAL changes only this.
    current: Arc<Values>,
    /// Reported variables that changed since they were last taken.
    reports: Vec<&'static str>,
}

impl Settings {
    /// The values at the start of a session: the defaults and what the client asked for.
    pub(crate) fn new(start: &[(String, String)]) -> Result<Self, SqlError> {
        let values = Arc::new(Values::default());
        let mut settings = Self {
            start: Arc::clone(&values),
            session: Arc::clone(&values),
            current: values,
            reports: Vec::new(),
        };
        for (name, value) in start {
            settings.assign(name, Some(value), false, true)?;
        }
        settings.start = Arc::clone(&settings.session);
        settings.reports.clear();
        Ok(settings)
    }

    /// What holds now.
    pub(crate) fn current(&self) -> &Arc<Values> {
        &self.current
    }

    /// SET, SET LOCAL and RESET (no value). `starting`: the connection is being made.
    pub(crate) fn assign(
        &mut self,
        name: &str,
        value: Option<&str>,
        local: bool,
        starting: bool,
    ) -> Result<(), SqlError> {
        let Some(variable) = variables::find(name) else {
            return self.assign_custom(name, value, local);
        };
        let fixed = |what: &str| {
            SqlError::new(
                SqlState::CANT_CHANGE_RUNTIME_PARAM,
                format!("parameter \"{}\" cannot be {what}", variable.name),
            )
        };
        match variable.changeable {
            Changeable::User => {}
            Changeable::Start if starting => {}
            Changeable::Start => return Err(fixed("set after connection start")),
            Changeable::Internal => return Err(fixed("changed")),
            Changeable::Restart => {
                return Err(fixed("changed without restarting the server"));
            }
            Changeable::Reload => return Err(fixed("changed now")),
        }
        let canonical = match value {
            Some(value) => variables::check(variable, value)?,
            None => self
                .start
                .value(variable.name)
                .unwrap_or(variable.default)
                .to_owned(),
        };
        let before = self.current.value(variable.name).map(str::to_owned);
        if before.as_deref() == Some(&canonical)
            && (local || self.session.value(variable.name) == Some(&canonical))
        {
            return Ok(());
        }
        Arc::make_mut(&mut self.current).put(variable, canonical.clone());
        if local {
        } else if variable.changeable == Changeable::User || starting {
            Arc::make_mut(&mut self.session).put(variable, canonical);
        }
        if variable.reported {
            self.report(variable.name);
        }
        Ok(())
    }

    /// A variable with a dot in its name that nobody defined: any text.
    fn assign_custom(
        &mut self,
        name: &str,
        value: Option<&str>,
        local: bool,
    ) -> Result<(), SqlError> {
        let folded = name.to_ascii_lowercase();
        let word = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$')
        };
        if !folded.contains('.') || !folded.split('.').all(word) {
            return Err(variables::unrecognized(name));
        }
        let put = |values: &mut Arc<Values>| {
            let changed = &mut Arc::make_mut(values).changed;
            match value {
                Some(value) => changed.insert(folded.clone(), value.to_owned()),
                None => changed.insert(folded.clone(), String::new()),
            };
        };
        put(&mut self.current);
        if !local {
            put(&mut self.session);
        }
        Ok(())
    }

    fn report(&mut self, name: &'static str) {
        if !self.reports.contains(&name) {
            self.reports.push(name);
        }
    }

    /// RESET ALL.
    pub(crate) fn reset_all(&mut self) {
        self.session = Arc::clone(&self.start);
        self.replace_current(Arc::clone(&self.start));
    }

    /// The layers as they are now.
    pub(crate) fn save(&self) -> SavedSettings {
        SavedSettings {
            session: Arc::clone(&self.session),
            current: Arc::clone(&self.current),
        }
    }

    /// Back to what was saved (a transaction or savepoint was rolled back).
    pub(crate) fn restore(&mut self, saved: &SavedSettings) {
        self.session = Arc::clone(&saved.session);
        self.replace_current(Arc::clone(&saved.current));
    }

    /// The transaction has committed: local values end.
    pub(crate) fn end_transaction(&mut self) {
        if !Arc::ptr_eq(&self.session, &self.current) {
            self.replace_current(Arc::clone(&self.session));
        }
    }

    fn replace_current(&mut self, values: Arc<Values>) {
        if Arc::ptr_eq(&values, &self.current) {
            return;
        }
        for variable in VARIABLES.iter().filter(|v| v.reported) {
            if values.value(variable.name) != self.current.value(variable.name) {
                self.report(variable.name);
            }
        }
        self.current = values;
    }

    /// The reported variables that changed, with their values.
    pub(crate) fn take_reports(&mut self) -> Vec<(&'static str, String)> {
        std::mem::take(&mut self.reports)
            .into_iter()
            .map(|name| (name, self.current.show(name).unwrap_or_default()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_values_end_with_the_transaction() {
        let mut settings = Settings::new(&[("application_name".into(), "app".into())]).unwrap();
        let show = |s: &Settings, n: &str| s.current().show(n).unwrap();
        settings
            .assign("timezone", Some("europe/paris"), false, false)
            .unwrap();
        let saved = settings.save();
        settings
            .assign("work_mem", Some("1GB"), true, false)
            .unwrap();
        assert_eq!(show(&settings, "work_mem"), "1GB");
        settings.end_transaction();
        assert_eq!(show(&settings, "work_mem"), "4MB");
        settings
            .assign("TimeZone", Some("UTC"), false, false)
            .unwrap();
        settings.restore(&saved);
        assert_eq!(show(&settings, "timezone"), "Europe/Paris");
        assert_eq!(
            settings.take_reports(),
            vec![("TimeZone", "Europe/Paris".to_owned())]
        );
        settings
            .assign("application_name", None, false, false)
            .unwrap();
        assert_eq!(show(&settings, "application_name"), "app");
    }

    #[test]
    fn refused_names() {
        let mut settings = Settings::new(&[]).unwrap();
        let error = settings
            .assign("nonsense", Some("1"), false, false)
            .unwrap_err();
        assert_eq!(error.state, SqlState::UNDEFINED_OBJECT);
        let error = settings
            .assign("server_version", Some("1"), false, false)
            .unwrap_err();
        assert_eq!(error.state, SqlState::CANT_CHANGE_RUNTIME_PARAM);
        settings.assign("my.own", Some("x"), false, false).unwrap();
        assert_eq!(settings.current().show("MY.own").as_deref(), Some("x"));
    }
}
