//! Storage parameters: which there are, the values they take, and how a table keeps them.
//!
//! PostgreSQL's say how pages are filled and when they are vacuumed. They are checked, kept and shown,
//! since dumps and tools set them, and have no effect: Pontoon has neither. `replicas`, `placement`
//! and `leaders` are a placement rule ([`crate::catalog::placement`]).

use pontoon_kv::cluster::Constraint;
use pontoon_kv::placement::lacking;

use super::execute::Ddl;
use crate::catalog::desc::{Relation, TableDesc};
use crate::catalog::placement::{LEADERS, PLACEMENT, REPLICAS, rule_of};
use crate::error::{Severity, SqlError, SqlState};
use crate::parse::statement::StorageOption;
use crate::session::variables::parse_bool;

/// The values that a parameter takes.
#[derive(Clone, Copy)]
enum Kind {
    Boolean,
    Integer(i64, i64),
    Real(f64, f64),
    OnOffAuto,
    /// An odd number: an even one survives the loss of no more replicas than the odd one below it.
    Replicas,
    /// `region=eu,zone=a`.
    Place,
}

/// The most replicas of a range that a table may want.
const REPLICAS_MAX: i64 = 7;
const INT_MAX: i64 = i32::MAX as i64;
/// The namespace of the tables for large values that PostgreSQL makes, and that Pontoon has not.
const TOAST: &str = "toast.";

/// The parameters of tables.
const OF_TABLES: &[(&str, Kind)] = &[
    (REPLICAS, Kind::Replicas),
    (PLACEMENT, Kind::Place),
    (LEADERS, Kind::Place),
    ("fillfactor", Kind::Integer(10, 100)),
    ("parallel_workers", Kind::Integer(0, 1_024)),
    ("toast_tuple_target", Kind::Integer(128, 8_160)),
    ("user_catalog_table", Kind::Boolean),
    ("autovacuum_analyze_scale_factor", Kind::Real(0.0, 100.0)),
    ("autovacuum_analyze_threshold", Kind::Integer(0, INT_MAX)),
    ("autovacuum_enabled", Kind::Boolean),
    (
        "autovacuum_freeze_max_age",
        Kind::Integer(100_000, 2_000_000_000),
    ),
    ("autovacuum_freeze_min_age", Kind::Integer(0, 1_000_000_000)),
    (
        "autovacuum_freeze_table_age",
        Kind::Integer(0, 2_000_000_000),
    ),
    (
        "autovacuum_multixact_freeze_max_age",
        Kind::Integer(10_000, 2_000_000_000),
    ),
    (
        "autovacuum_multixact_freeze_min_age",
        Kind::Integer(0, 1_000_000_000),
    ),
    (
        "autovacuum_multixact_freeze_table_age",
        Kind::Integer(0, 2_000_000_000),
    ),
    ("autovacuum_vacuum_cost_delay", Kind::Real(0.0, 100.0)),
    ("autovacuum_vacuum_cost_limit", Kind::Integer(1, 10_000)),
    (
        "autovacuum_vacuum_insert_scale_factor",
        Kind::Real(0.0, 100.0),
    ),
    (
        "autovacuum_vacuum_insert_threshold",
        Kind::Integer(-1, INT_MAX),
    ),
    ("autovacuum_vacuum_scale_factor", Kind::Real(0.0, 100.0)),
    ("autovacuum_vacuum_threshold", Kind::Integer(0, INT_MAX)),
    ("log_autovacuum_min_duration", Kind::Integer(-1, INT_MAX)),
    ("vacuum_index_cleanup", Kind::OnOffAuto),
    ("vacuum_truncate", Kind::Boolean),
];

/// The parameters of indexes.
const OF_INDEXES: &[(&str, Kind)] = &[
    ("fillfactor", Kind::Integer(10, 100)),
    ("deduplicate_items", Kind::Boolean),
];

fn invalid(message: String) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

impl Kind {
    /// Fails unless it takes this value of that parameter.
    fn check(self, name: &str, value: &str) -> Result<(), SqlError> {
        let wrong = |kind| {
            invalid(format!(
                "invalid value for {kind}option \"{name}\": {value}"
            ))
        };
        let bounds = |holds: bool, from: String, to: String| match holds {
            true => Ok(()),
            false => Err(
                invalid(format!("value {value} out of bounds for option \"{name}\""))
                    .with_detail(format!("Valid values are between \"{from}\" and \"{to}\".")),
            ),
        };
        match self {
            Self::Boolean => match parse_bool(value) {
                Some(_) => Ok(()),
                None => Err(wrong("boolean ")),
            },
            Self::Integer(from, to) => {
                let number: i64 = value.trim().parse().map_err(|_| wrong("integer "))?;
                bounds(
                    (from..=to).contains(&number),
                    from.to_string(),
                    to.to_string(),
                )
            }
            Self::Real(from, to) => {
                let number: f64 = value.trim().parse().map_err(|_| wrong("floating point "))?;
                let shown = |bound| format!("{bound:.6}");
                bounds((from..=to).contains(&number), shown(from), shown(to))
            }
            Self::OnOffAuto if value == "auto" || parse_bool(value).is_some() => Ok(()),
            Self::OnOffAuto => {
                Err(wrong("enum ").with_detail("Valid values are \"on\", \"off\", and \"auto\"."))
            }
            Self::Replicas => {
                Self::Integer(1, REPLICAS_MAX).check(name, value)?;
                match value.trim().parse::<i64>() {
                    Ok(number) if number % 2 == 1 => Ok(()),
                    _ => Err(wrong("").with_detail(
                        "An even number of replicas survives the loss of no more of them than the \
                         odd number below it.",
                    )),
                }
            }
            Self::Place => match value.parse::<Constraint>() {
                Ok(_) => Ok(()),
                Err(error) => Err(wrong("").with_detail(format!("{error}."))),
            },
        }
    }
}

/// Fails unless all of these are among the known parameters, with values that they take.
fn check(options: &[StorageOption], known: &[(&str, Kind)]) -> Result<(), SqlError> {
    for (n, StorageOption { name, value }) in options.iter().enumerate() {
        let of_toast = name.strip_prefix(TOAST);
        if let (None, Some((namespace, _))) = (of_toast, name.split_once('.')) {
            let message = format!("unrecognized parameter namespace \"{namespace}\"");
            return Err(invalid(message));
        }
        let plain = of_toast.unwrap_or(name);
        let kind = known.iter().find(|(known, _)| *known == plain);
        let kind = kind.filter(|_| of_toast.is_none_or(of_toast_too));
        let Some((_, kind)) = kind else {
            return Err(invalid(format!("unrecognized parameter \"{plain}\"")));
        };
        if options.iter().take(n).any(|before| before.name == *name) {
            return Err(invalid(format!(
                "parameter \"{plain}\" specified more than once"
            )));
        }
        kind.check(plain, value.as_deref().unwrap_or("true"))?;
    }
    Ok(())
}

fn of_toast_too(name: &str) -> bool {
    name.contains("vacuum") && !name.contains("analyze")
}

/// Options of a new table as it keeps them.
pub(crate) fn of_new_table(options: &[StorageOption]) -> Result<Vec<String>, SqlError> {
    let mut kept = Vec::with_capacity(options.len());
    for option in options {
        // From when rows could have numbers.
        if option.name == "oids" {
            match parse_bool(option.value.as_deref().unwrap_or("true")) {
                Some(false) => continue,
                _ => {
                    return Err(SqlError::new(
                        SqlState::FEATURE_NOT_SUPPORTED,
                        "tables declared WITH OIDS are not supported",
                    ));
                }
            }
        }
        kept.push(option.clone());
    }
    check(&kept, OF_TABLES)?;
    Ok(changed(&[], &kept))
}

/// Fails unless an index can have these.
pub(crate) fn check_index(options: &[StorageOption]) -> Result<(), SqlError> {
    check(options, OF_INDEXES)
}

/// `kept` after `set` was set.
fn changed(kept: &[String], set: &[StorageOption]) -> Vec<String> {
    let mut kept = without(kept, set);
    let set = set.iter().filter(|option| !option.name.starts_with(TOAST));
    kept.extend(set.map(|StorageOption { name, value }| {
        let value = value.as_deref().unwrap_or("true");
        format!("{name}={value}")
    }));
    kept
}

/// `kept` without those of these names.
fn without(kept: &[String], names: &[StorageOption]) -> Vec<String> {
    let stays = |option: &&String| {
        let name = option.split_once('=').map_or("", |(name, _)| name);
        !names.iter().any(|option| option.name == name)
    };
    kept.iter().filter(stays).cloned().collect()
}

/// The error for a relation that can have no parameters here.
fn optionless(relation: &Relation, action: &str) -> SqlError {
    if let Relation::View(_) = relation {
        return SqlError::unsupported("an option of a view");
    }
    let name = relation.name();
    SqlError::new(
        SqlState::WRONG_OBJECT_TYPE,
        format!("ALTER action {action} cannot be performed on relation \"{name}\""),
    )
    .with_detail(format!(
        "This operation is not supported for {}s.",
        relation.word()
    ))
}

impl Ddl {
    /// ALTER ... SET (...).
    pub(crate) fn set_options(
        &mut self,
        relation: &Relation,
        options: &[StorageOption],
    ) -> Result<(), SqlError> {
        match relation {
            Relation::Table(table) => {
                check(options, OF_TABLES)?;
                let mut new = TableDesc::clone(table);
                new.options = changed(&table.options, options);
                let ruled = rule_of(&new) != rule_of(table);
                let table = self.change.put_table(new)?;
                if ruled {
                    self.warn_of_places(&table);
                }
                Ok(())
            }
            Relation::Index(..) => check_index(options),
            other => Err(optionless(other, "SET")),
        }
    }

    /// ALTER ... RESET (...).
    pub(crate) fn reset_options(
        &mut self,
        relation: &Relation,
        options: &[StorageOption],
    ) -> Result<(), SqlError> {
        if options.iter().any(|option| option.value.is_some()) {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                "RESET must not include values for parameters",
            ));
        }
        match relation {
            Relation::Table(table) => {
                let mut new = TableDesc::clone(table);
                new.options = without(&table.options, options);
                self.change.put_table(new).map(|_| ())
            }
            Relation::Index(..) => Ok(()),
            other => Err(optionless(other, "RESET")),
        }
    }

    /// Warns when no nodes can do what the placement rule of a table wants: they may come.
    pub(crate) fn warn_of_places(&mut self, table: &TableDesc) {
        let nodes = self.engine().db.node().view().nodes;
        let lacking = rule_of(table).and_then(|rule| lacking(&rule, &nodes));
        // A node that has just been started knows of nobody yet, not even of itself.
        let Some(lacking) = lacking.filter(|_| !nodes.is_empty()) else {
            return;
        };
        let message = format!(
            "the placement rule of table \"{}\" cannot be satisfied now",
            table.name
        );
        let state = SqlState::SUCCESSFUL_COMPLETION;
        let warning = SqlError::notice(Severity::Warning, state, message);
        self.notices.push(
            warning
                .with_detail(format!("{lacking}."))
                .with_hint("It is followed as soon as there are nodes for it."),
        );
    }
}
