//! `pontoon range`: looks at the ranges of a cluster and changes them, over the address by which its
//! nodes reach each other.
//!
//! What ranges there are is known to the coordinator; the names of tables and indexes are those of
//! the SQL layer of the node that is asked, and left out where that cannot say them. Changes are made
//! by the coordinator, to the members that a range had when it was looked at.

use std::time::Duration;

use pontoon_kv::cluster::{Answer, Call, Overview, RangeReport, RangeWish, Wanted};
use pontoon_kv::{NodeId, Span, keys, placement};
use pontoon_sql::pg_catalog::NamedSpan;

use super::contact::{Contact, LOOK_EVERY, block_on, number, say};
use super::range_args::{RangeAction, RangeCommand, Splittable};
use crate::admin::ranges;
use crate::node::Failure;
use crate::rpc::{Operated, Operation};

/// How long the names of tables are waited for.
const NAMES_TIME_MAX: Duration = Duration::from_secs(5);
/// A range whose leader has just changed is not reported for a moment: it is looked for so often.
const LOOKS_MAX: usize = 6;
/// And again after this.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Runs the command and prints what comes of it.
pub(super) fn run(command: &RangeCommand) -> Result<(), Failure> {
    block_on(execute(command))
}

async fn execute(command: &RangeCommand) -> Result<(), Failure> {
    let asked = Contact::new(&command.contact)?;
    match &command.what {
        RangeAction::Ls { table } => asked.list_ranges(table.as_deref()).await,
        RangeAction::Status { range } => asked.show_range(*range).await,
        RangeAction::Split { of, at } => {
            asked.reshape(statement(of, "SPLIT AT", at)).await?;
            say(&format!(
                "ranges begin there from now on: {}\n",
                at.join("; ")
            ));
            Ok(())
        }
        RangeAction::Unsplit { of, all: true, .. } => {
            asked.reshape(statement(of, "UNSPLIT ALL", &[])).await
        }
        RangeAction::Unsplit { of, at, .. } => asked.reshape(statement(of, "UNSPLIT AT", at)).await,
        RangeAction::Merge { range } => asked.merge(*range).await,
        RangeAction::Move { range, from, to } => {
            asked.move_replica(*range, number(from)?, number(to)?).await
        }
        RangeAction::Lead { range, node } => {
            let node = number(node)?;
            let overview = asked.look_at_ranges().await?;
            let report = find(&overview, *range)?;
            asked.want(&overview, report, Wanted::Lead(node)).await?;
            say(&format!("{node} leads range {range}\n"));
            Ok(())
        }
    }
}

/// A statement that splits, or takes that back.
fn statement(of: &Splittable, what: &str, at: &[String]) -> String {
    let (kind, name) = match (&of.table, &of.index) {
        (Some(table), _) => ("TABLE", table.as_str()),
        (None, index) => ("INDEX", index.as_deref().unwrap_or_default()),
    };
    let rows = at.iter().map(|values| format!("({values})"));
    let rows: Vec<_> = rows.collect();
    match rows.is_empty() {
        true => format!("ALTER {kind} {name} {what}"),
        false => format!("ALTER {kind} {name} {what} VALUES {}", rows.join(", ")),
    }
}

fn find(overview: &Overview, range: u64) -> Result<&RangeReport, Failure> {
    let mut ranges = overview.ranges.iter();
    let found = ranges.find(|report| report.descriptor.range == range);
    found.ok_or_else(|| {
        Failure::Usage(format!(
            "no node leads a range {range}: there is none, or too few of its replicas are there; \
             `pontoon range ls` shows the ranges"
        ))
    })
}

/// The keys of which nobody reports a range.
fn gaps(overview: &Overview) -> Vec<Span> {
    let mut gaps = Vec::new();
    let mut from = keys::system_span().start;
    for range in &overview.ranges {
        let Span { start, end } = &range.descriptor.span;
        if from < *start {
            gaps.push(Span {
                start: from.clone(),
                end: start.clone(),
            });
        }
        from = from.max(end.clone());
    }
    let end = keys::user_span().end;
    if from < end {
        gaps.push(Span { start: from, end });
    }
    gaps
}

impl Contact {
    /// How people read spans; without the names of tables where the node cannot say them.
    async fn names(&self, spans: Vec<Span>) -> (Vec<NamedSpan>, Option<String>) {
        let operation = Operation::Name(spans.clone());
        let unknown = match self.operate(operation, NAMES_TIME_MAX).await {
            Ok(Operated::Named(named)) if named.len() == spans.len() => return (named, None),
            Ok(_) => "it gives an odd answer".to_owned(),
            Err(reason) => reason,
        };
        (spans.iter().map(ranges::unnamed).collect(), Some(unknown))
    }

    /// The cluster as it is, with all of its ranges if these can be seen soon.
    async fn look_at_ranges(&self) -> Result<Overview, Failure> {
        for _ in 1..LOOKS_MAX {
            let overview = self.look().await?;
            if gaps(&overview).is_empty() {
                return Ok(overview);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        self.look().await
    }

    async fn list_ranges(&self, table: Option<&str>) -> Result<(), Failure> {
        let overview = self.look_at_ranges().await?;
        let gaps = gaps(&overview);
        let spans = overview.ranges.iter();
        let spans = spans.map(|range| range.descriptor.span.clone());
        let (mut named, unknown) = self.names(spans.chain(gaps).collect()).await;
        let missing = named.split_off(overview.ranges.len());
        match (table, &unknown) {
            (Some(_), Some(reason)) => {
                let message = format!("the node does not say where tables are: {reason}");
                return Err(Failure::Usage(message));
            }
            (None, Some(reason)) => say(&format!("names of tables are not known: {reason}\n\n")),
            (_, None) => {}
        }
        let wanted = |of: &NamedSpan| {
            table.is_none_or(|wanted| of.tables.iter().any(|table| table == wanted))
        };
        let shown = overview.ranges.iter().zip(&named);
        let shown: Vec<_> = shown.filter(|(_, named)| wanted(named)).collect();
        let missing: Vec<_> = missing.iter().filter(|named| wanted(named)).collect();
        if let (Some(table), true) = (table, shown.is_empty() && missing.is_empty()) {
            return Err(Failure::Usage(format!(
                "there is no table {table:?}; `pontoon range ls` shows the tables that ranges hold \
                 (with their schemas, but for public)"
            )));
        }
        say(&ranges::list(&overview, &shown));
        for NamedSpan { start, end, .. } in missing {
            say(&format!(
                "\nno node leads the keys from {start} to {end}: too few of their replicas are \
                 there\n"
            ));
        }
        Ok(())
    }

    async fn show_range(&self, range: u64) -> Result<(), Failure> {
        let overview = self.look_at_ranges().await?;
        let report = find(&overview, range)?;
        let (named, _) = self.names(vec![report.descriptor.span.clone()]).await;
        let named = named.first().ok_or_else(|| self.odd())?;
        say(&ranges::status(&overview, report, named));
        Ok(())
    }

    /// Has the coordinator change a range, if its members are those that were seen.
    async fn want(
        &self,
        overview: &Overview,
        range: &RangeReport,
        what: Wanted,
    ) -> Result<(), Failure> {
        let wish = Call::WantRange(RangeWish {
            range: range.descriptor.range,
            membership: range.membership.position,
            what,
        });
        match self.ask_coordinator(overview, wish).await? {
            Some(Answer::Done) => Ok(()),
            Some(_) => Err(self.odd()),
            None => Err(Failure::Usage(
                "another node coordinates at this moment; try it again".to_owned(),
            )),
        }
    }

    async fn merge(&self, range: u64) -> Result<(), Failure> {
        let overview = self.look_at_ranges().await?;
        let right = find(&overview, range)?;
        let start = &right.descriptor.span.start;
        let mut ranges = overview.ranges.iter();
        let left = ranges.find(|left| left.descriptor.span.end == *start);
        let left = left.ok_or_else(|| {
            Failure::Usage(match start.is_empty() {
                true => format!("there is no range before range {range}"),
                false => format!("no node leads the range before range {range}"),
            })
        })?;
        self.want(&overview, left, Wanted::Absorb(range)).await?;
        let left = left.descriptor.range;
        say(&format!("range {range} is a part of range {left}\n"));
        Ok(())
    }

    /// Has a replica moved, telling how far it is.
    async fn move_replica(&self, range: u64, from: NodeId, to: NodeId) -> Result<(), Failure> {
        let overview = self.look_at_ranges().await?;
        let report = find(&overview, range)?;
        let wanted = Wanted::Move { from, to };
        self.want(&overview, report, wanted).await?;
        let mut said = String::new();
        loop {
            let overview = self.look().await?;
            if let Ok(report) = find(&overview, range) {
                if placement::is_fulfilled(report, (from, to)) {
                    break;
                }
                let now = ranges::progress(report, to);
                if now != said {
                    say(&now);
                    said = now;
                }
                if !overview.moves.iter().any(|begun| begun.range == range) {
                    return Err(Failure::Usage(format!(
                        "the move was given up: the log of {} says why, and `pontoon range status \
                         {range}` how the range is",
                        overview.view.coordinator
                    )));
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        say(&format!(
            "range {range} has its replica on {to}, and none on {from} any more\n"
        ));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_put_together() {
        let of = Splittable {
            table: Some("s.t".to_owned()),
            index: None,
        };
        let at = ["1, 'a'".to_owned(), "2".to_owned()];
        assert_eq!(
            statement(&of, "SPLIT AT", &at),
            "ALTER TABLE s.t SPLIT AT VALUES (1, 'a'), (2)"
        );
        let of = Splittable {
            table: None,
            index: Some("i".to_owned()),
        };
        assert_eq!(
            statement(&of, "UNSPLIT ALL", &[]),
            "ALTER INDEX i UNSPLIT ALL"
        );
    }
}
