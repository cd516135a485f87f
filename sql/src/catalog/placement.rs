//! The placement rule that the storage parameters of a table make.

use pontoon_kv::cluster::Rule;

use super::desc::TableDesc;

/// The parameter: replicas of each range.
pub(crate) const REPLICAS: &str = "replicas";
/// The parameter: which nodes may hold one.
pub(crate) const PLACEMENT: &str = "placement";
/// The parameter: which of those should lead.
pub(crate) const LEADERS: &str = "leaders";

/// What is wanted of the replicas of a table; `None` where no parameter says anything of it.
///
/// Values were checked when they were set.
pub(crate) fn rule_of(table: &TableDesc) -> Option<Rule> {
    let rule = Rule {
        replicas: table.option(REPLICAS).and_then(|n| n.parse().ok()),
        constraint: table.option(PLACEMENT).and_then(|text| text.parse().ok()),
        leaders: table.option(LEADERS).and_then(|text| text.parse().ok()),
    };
    (rule != Rule::default()).then_some(rule)
}
