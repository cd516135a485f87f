//! Checks of a history.

use std::collections::{BTreeMap, BTreeSet};

use crate::sim::clients::{ACCOUNTS, CATALOG, End, FUNDS, REGISTERS, Record, What};
use crate::timestamp::Timestamp;

/// Checks everything that can be checked without the cluster.
pub(super) fn check(history: &[Record]) -> Result<(), String> {
    real_time(history)?;
    (0..REGISTERS).try_for_each(|register| explained(history, register))?;
    inserted_once(history)?;
    for record in history
        .iter()
        .filter(|record| matches!(record.end, End::Done(_)))
    {
        match record.what {
            What::Total { total, accounts }
                if total != ACCOUNTS * FUNDS || accounts != ACCOUNTS =>
            {
                return Err(format!("the bank does not add up: {record:?}"));
            }
            What::OnCall { people: 0 } => return Err(format!("nobody is on call: {record:?}")),
            _ => {}
        }
    }
    Ok(())
}

/// What ended before another began has a timestamp that is not larger; and a smaller one when the
/// earlier wrote.
fn real_time(history: &[Record]) -> Result<(), String> {
    let done: Vec<(&Record, Timestamp)> = history
        .iter()
        .filter_map(|record| match record.end {
            End::Done(at) => Some((record, at)),
            _ => None,
        })
        .collect();
    let mut by_begin = done.clone();
    by_begin.sort_by_key(|(record, _)| record.began);
    let mut by_end = done;
    by_end.sort_by_key(|(record, _)| record.ended);
    let mut ended = by_end.into_iter().peekable();
    let mut newest: Option<(&Record, Timestamp)> = None;
    for (record, at) in by_begin {
        while let Some(before) = ended.next_if(|(other, _)| other.ended < record.began) {
            if newest.is_none_or(|(_, at)| at < before.1) {
                newest = Some(before);
            }
        }
        if let Some((before, then)) = newest
            && then >= at
        {
            return Err(format!(
                "timestamps against real time: {before:?} before {record:?}"
            ));
        }
    }
    Ok(())
}

/// A key that is inserted where there is none is inserted once.
fn inserted_once(history: &[Record]) -> Result<(), String> {
    let mut by_key = BTreeMap::new();
    for record in history {
        if let (What::Insert { key, there: false }, End::Done(_)) = (&record.what, record.end)
            && let Some(other) = by_key.insert(*key, record)
        {
            return Err(format!("inserted twice: {other:?} and {record:?}"));
        }
    }
    Ok(())
}

/// The operations on a register, in the order of their timestamps, explain every read. A write
/// whose outcome is unknown may take effect at any moment, once.
fn explained(history: &[Record], register: u64) -> Result<(), String> {
    let mut events: BTreeMap<(Timestamp, u64), &Record> = BTreeMap::new();
    let mut possible: BTreeSet<u64> = BTreeSet::new();
    for record in history {
        let of = match record.what {
            What::Write { register, .. }
            | What::Read { register, .. }
            | What::Swap { register, .. } => register,
            What::Rest { .. } => CATALOG,
            _ => continue,
        };
        if of != register {
            continue;
        }
        match (record.end, &record.what) {
            (End::Done(at), _) => {
                events.insert((at, record.began), record);
            }
            (End::Unknown, What::Write { value, .. } | What::Swap { value, .. }) => {
                possible.insert(*value);
            }
            _ => {}
        }
    }
    let mut current = 0;
    for (_, record) in events {
        let (seen, next) = match record.what {
            What::Read { value, .. } | What::Rest { version: value, .. } => (Some(value), None),
            What::Write { value, .. } => (None, Some(value)),
            What::Swap { old, value, .. } => (Some(old), Some(value)),
            _ => (None, None),
        };
        if let Some(seen) = seen
            && seen != current
        {
            if !possible.remove(&seen) {
                return Err(format!(
                    "register {register} holds {current}, yet {record:?}"
                ));
            }
            current = seen;
        }
        current = next.unwrap_or(current);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(what: What, began: u64, ended: u64, end: End) -> Record {
        Record {
            what,
            began,
            ended,
            end,
        }
    }

    fn done(at: u64) -> End {
        End::Done(Timestamp(at))
    }

    fn write(value: u64) -> What {
        What::Write { register: 0, value }
    }

    fn read(value: u64) -> What {
        What::Read { register: 0, value }
    }

    #[test]
    fn a_good_history_passes() {
        let history = [
            record(write(1), 0, 3, done(10)),
            record(read(1), 4, 5, done(20)),
            record(write(2), 1, 9, End::Unknown),
            record(read(2), 6, 7, done(30)),
            record(read(2), 8, 10, done(40)),
            record(write(7), 8, 10, End::Failed),
        ];
        assert_eq!(check(&history), Ok(()));
    }

    #[test]
    fn bad_histories_are_found() {
        let histories = [
            // Lost.
            vec![
                record(write(1), 0, 1, done(10)),
                record(read(0), 2, 3, done(20)),
            ],
            // Stale: its timestamp lies before a write that was acknowledged before it began.
            vec![
                record(write(1), 0, 1, done(10)),
                record(read(0), 2, 3, done(5)),
            ],
            // From nowhere.
            vec![
                record(write(7), 0, 1, End::Failed),
                record(read(7), 2, 3, done(5)),
            ],
            // An unknown write that takes effect twice.
            vec![
                record(write(7), 0, 1, End::Unknown),
                record(read(7), 2, 3, done(5)),
                record(write(8), 4, 5, done(6)),
                record(read(7), 6, 7, done(7)),
            ],
            vec![record(
                What::Total {
                    total: 499,
                    accounts: 5,
                },
                0,
                1,
                done(1),
            )],
            vec![record(What::OnCall { people: 0 }, 0, 1, done(1))],
        ];
        for history in histories {
            assert!(check(&history).is_err(), "{history:?}");
        }
    }
}
