//! EXPLAIN (DIST): which nodes do which parts of a statement, in plain words.
//!
//! With ANALYZE also what was measured, and which ranges were asked for keys and rows by this node
//! itself. Parts come in the order in which they are begun.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use pontoon_kv::{Asked, NodeId};

use super::context::ExecContext;
use super::remote::{Account, Measured, SpreadAccount};

/// Numbers of ranges that are written out for one part.
const RANGES_MAX: usize = 8;
/// Parts of a scan, or ranges that were asked, that get a line each.
const LINES_MAX: usize = 40;

/// What there is to tell.
pub(super) struct Told {
    /// This node, where it is one of several.
    me: Option<NodeId>,
    /// Something was run.
    analyzed: bool,
    spreads: Vec<Spread>,
    asked: Vec<Asked>,
    /// Why no other node does a part.
    alone: Option<&'static str>,
}

/// A scan or an aggregate in parts.
struct Spread {
    what: String,
    me: NodeId,
    here: Vec<u64>,
    read_here: u64,
    parts: Vec<Part>,
}

struct Part {
    node: NodeId,
    ranges: Vec<u64>,
    measured: Measured,
}

impl Told {
    /// What an account holds, and which ranges the transaction has asked meanwhile.
    pub(super) fn of(cx: &ExecContext, account: &Account, alone: Option<&'static str>) -> Self {
        Self {
            me: cx.runtime.fellows().map(|fellows| fellows.me),
            analyzed: !account.planned,
            spreads: account.spreads().iter().map(Spread::of).collect(),
            asked: cx.txn.take_asked(),
            alone,
        }
    }
}

/// Why no other node can do a part of a statement that is about to run.
pub(super) fn alone(cx: &ExecContext) -> Option<&'static str> {
    if cx.runtime.fellows().is_none() {
        Some("there is no other node")
    } else if !cx.distribute {
        Some("pontoon.distribute is off")
    } else if cx.txn.has_writes() {
        Some("the transaction has written what other nodes do not know")
    } else {
        None
    }
}

impl Spread {
    fn of(spread: &Arc<SpreadAccount>) -> Self {
        let parts = spread.parts().into_iter().map(|part| Part {
            node: part.node,
            ranges: part.ranges.clone(),
            measured: part.measured(),
        });
        Self {
            what: spread.what.clone(),
            me: spread.me,
            here: spread.here.clone(),
            read_here: spread.read_here(),
            parts: parts.collect(),
        }
    }
}

/// The section.
pub(super) fn lines(told: &Told) -> Vec<String> {
    let mut lines = vec!["Distribution:".to_owned()];
    for spread in &told.spreads {
        lines.push(format!("  {}", spread.what));
        let shown = spread.parts.iter().take(LINES_MAX);
        lines.extend(shown.map(|part| format!("    {}", part_line(part, told.analyzed))));
        lines.extend(more(spread.parts.len(), "parts"));
        if !spread.here.is_empty() || (told.analyzed && spread.read_here > 0) {
            let mut line = format!("    {} (this node): {}", spread.me, ranges(&spread.here));
            if told.analyzed {
                let _ = write!(line, "; {} read", rows(spread.read_here));
            }
            lines.push(line);
        }
    }
    if told.spreads.is_empty() {
        let why = told.alone.map(|why| format!(", as {why}"));
        lines.push(format!("  No parts{}", why.unwrap_or_default()));
    }
    if told.analyzed {
        lines.extend(asked_lines(told));
    }
    lines
}

fn part_line(part: &Part, analyzed: bool) -> String {
    let Measured {
        pages,
        rows: received,
        bytes,
        first,
        last,
        read,
        shuffled,
        instead,
    } = &part.measured;
    let mut line = match part.ranges.is_empty() {
        true => format!("{}: rows shuffled to it", part.node),
        false => format!("{}: {}", part.node, ranges(&part.ranges)),
    };
    if !analyzed {
        return line;
    }
    if let Some(reason) = instead {
        let _ = write!(line, "; done by this node instead: {reason}");
        return line;
    }
    if let (Some((given, bytes)), Some(read), Some(last)) = (shuffled, read, last) {
        let (given, bytes) = (rows(*given), count(*bytes, "byte"));
        let _ = write!(
            line,
            "; {} read; {given} and {bytes} shuffled, the last after {}",
            rows(*read),
            ms(*last)
        );
        return line;
    }
    let Some(first) = first else {
        line.push_str("; not asked, or given up before it answered");
        return line;
    };
    if let Some(read) = read.filter(|_| !part.ranges.is_empty()) {
        let _ = write!(line, "; {} read", rows(read));
    }
    let _ = write!(
        line,
        "; {} and {} came in {}, the first after {}",
        rows(*received),
        count(*bytes, "byte"),
        count(*pages, "page"),
        ms(*first)
    );
    match last {
        Some(last) => {
            let _ = write!(line, ", the last after {}", ms(*last));
        }
        None => line.push_str(", and the rest was given up"),
    }
    line
}

/// What this node has asked by itself, other than what it leads of a scan in parts.
fn asked_lines(told: &Told) -> Vec<String> {
    let own = |asked: &Asked| {
        let mut spreads = told.spreads.iter();
        spreads.any(|spread| asked.leader == Some(spread.me) && spread.here.contains(&asked.range))
    };
    let asked: Vec<&Asked> = told.asked.iter().filter(|asked| !own(asked)).collect();
    if asked.is_empty() {
        return Vec::new();
    }
    let mut lines = vec!["  Asked by this node without parts".to_owned()];
    for asked in asked.iter().take(LINES_MAX) {
        let leader = match asked.leader {
            Some(leader) if told.me.is_none_or(|me| me == leader) => "this node".to_owned(),
            Some(leader) => leader.to_string(),
            None => "a node that is not known".to_owned(),
        };
        let requests = count(asked.requests, "request");
        let mut line = format!("    range {} on {leader}: {requests}", asked.range);
        if asked.rows_received > 0 {
            let bytes = count(asked.bytes_received, "byte");
            let _ = write!(line, "; {} and {bytes} came", rows(asked.rows_received));
        }
        lines.push(line);
    }
    lines.extend(more(asked.len(), "ranges"));
    lines
}

fn more(all: usize, what: &str) -> Option<String> {
    let left = all.checked_sub(LINES_MAX).filter(|left| *left > 0)?;
    Some(format!("    and {left} more {what}"))
}

/// How many ranges, and which.
fn ranges(ranges: &[u64]) -> String {
    if ranges.is_empty() {
        return "no range of its own".to_owned();
    }
    let mut text = count(ranges.len() as u64, "range");
    let shown = ranges.iter().take(RANGES_MAX).map(u64::to_string);
    let _ = write!(text, " ({}", shown.collect::<Vec<_>>().join(", "));
    if ranges.len() > RANGES_MAX {
        let _ = write!(text, " and {} more", ranges.len() - RANGES_MAX);
    }
    text.push(')');
    text
}

fn rows(rows: u64) -> String {
    count(rows, "row")
}

fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn ms(time: Duration) -> String {
    format!("{:.3} ms", time.as_secs_f64() * 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(node: u64, ranges: &[u64], measured: Measured) -> Part {
        Part {
            node: NodeId(node),
            ranges: ranges.to_vec(),
            measured,
        }
    }

    fn told(analyzed: bool) -> Told {
        let came = Measured {
            pages: 2,
            rows: 4_000,
            bytes: 96_512,
            first: Some(Duration::from_micros(3_104)),
            last: Some(Duration::from_micros(7_921)),
            read: Some(5_000),
            shuffled: None,
            instead: None,
        };
        let left = Measured {
            pages: 1,
            rows: 1,
            bytes: 80,
            last: None,
            read: None,
            ..came.clone()
        };
        let refused = Measured {
            instead: Some("it runs too many parts of queries".to_owned()),
            ..Measured::default()
        };
        let many: Vec<u64> = (20..31).collect();
        let spread = Spread {
            what: "Scan of t".to_owned(),
            me: NodeId(1),
            here: vec![7],
            read_here: 12,
            parts: vec![
                part(2, &[4, 5], came),
                part(3, &many, left),
                part(2, &[6], refused),
                part(3, &[9], Measured::default()),
            ],
        };
        let asked = |range, leader: u64, rows| Asked {
            range,
            leader: Some(NodeId(leader)),
            requests: 1 + rows,
            rows_received: rows,
            bytes_received: rows * 40,
        };
        Told {
            me: Some(NodeId(1)),
            analyzed,
            spreads: vec![spread],
            asked: vec![asked(2, 1, 0), asked(3, 2, 3), asked(7, 1, 0)],
            alone: None,
        }
    }

    #[test]
    fn what_was_measured_is_told() {
        let expected = [
            "Distribution:",
            "  Scan of t",
            "    n2: 2 ranges (4, 5); 5000 rows read; 4000 rows and 96512 bytes came in 2 pages, \
             the first after 3.104 ms, the last after 7.921 ms",
            "    n3: 11 ranges (20, 21, 22, 23, 24, 25, 26, 27 and 3 more); 1 row and 80 bytes \
             came in 1 page, the first after 3.104 ms, and the rest was given up",
            "    n2: 1 range (6); done by this node instead: it runs too many parts of queries",
            "    n3: 1 range (9); not asked, or given up before it answered",
            "    n1 (this node): 1 range (7); 12 rows read",
            "  Asked by this node without parts",
            "    range 2 on this node: 1 request",
            "    range 3 on n2: 4 requests; 3 rows and 120 bytes came",
        ];
        assert_eq!(lines(&told(true)), expected);
    }

    #[test]
    fn where_parts_would_run_is_told_without_numbers() {
        let expected = [
            "Distribution:",
            "  Scan of t",
            "    n2: 2 ranges (4, 5)",
            "    n3: 11 ranges (20, 21, 22, 23, 24, 25, 26, 27 and 3 more)",
            "    n2: 1 range (6)",
            "    n3: 1 range (9)",
            "    n1 (this node): 1 range (7)",
        ];
        assert_eq!(lines(&told(false)), expected);
    }

    #[test]
    fn that_there_are_no_parts_is_told() {
        let mut told = told(true);
        told.spreads.clear();
        told.asked.truncate(1);
        told.me = None;
        told.alone = Some("there is no other node");
        let expected = [
            "Distribution:",
            "  No parts, as there is no other node",
            "  Asked by this node without parts",
            "    range 2 on this node: 1 request",
        ];
        assert_eq!(lines(&told), expected);
        told.spreads.clear();
        told.asked = vec![Asked::default(); LINES_MAX + 2];
        assert_eq!(
            lines(&told).last().map(String::as_str),
            Some("    and 2 more ranges")
        );
    }
}
