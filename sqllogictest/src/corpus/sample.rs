//! Which records of a large suite are run when time is short.
//!
//! The choice depends on the number of queries in each file only, so it is the same on every
//! machine. Statements are always run: later queries need what they made.

use super::record::{Kind, Record};

/// Queries of each file that a sample keeps at least (or all, if there are fewer).
const QUERIES_PER_FILE_MIN: usize = 100;

/// How many queries each file may run, when all files together may run about `budget`.
pub(super) fn quotas(queries: &[usize], budget: usize) -> Vec<usize> {
    let total: usize = queries.iter().sum();
    queries
        .iter()
        .map(|count| {
            let share = (count * budget).div_ceil(total.max(1));
            share.max(QUERIES_PER_FILE_MIN).min(*count)
        })
        .collect()
}

/// Marks the records to run: every statement, and `quota` queries spread evenly over the file.
pub(super) fn chosen(records: &[Record], quota: usize) -> Vec<bool> {
    let queries = records.iter().filter(|record| is_query(record)).count();
    let mut seen = 0_usize;
    records
        .iter()
        .map(|record| {
            if !is_query(record) {
                return true;
            }
            // Chosen where the running total of quota/queries passes a whole number.
            let before = seen * quota / queries.max(1);
            seen += 1;
            seen * quota / queries.max(1) > before
        })
        .collect()
}

pub(super) fn is_query(record: &Record) -> bool {
    matches!(record.kind, Kind::Query { .. })
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse_text;
    use super::*;

    #[test]
    fn small_files_are_run_whole() {
        assert_eq!(quotas(&[10, 4000, 6000], 1000), [10, 400, 600]);
        assert_eq!(quotas(&[300, 9700], 100), [100, 100]);
    }

    #[test]
    fn exactly_the_quota_is_chosen_and_every_statement() {
        let text = "statement ok\nS\n\n".to_owned() + &"query I\nQ\n----\n1\n\n".repeat(7);
        let records = parse_text(&text, "t", &|_| Ok(Vec::new())).unwrap();
        let marks = chosen(&records, 3);
        assert!(marks[0]);
        assert_eq!(marks.iter().skip(1).filter(|mark| **mark).count(), 3);
        assert!(chosen(&records, 7).iter().all(|mark| *mark));
    }
}
