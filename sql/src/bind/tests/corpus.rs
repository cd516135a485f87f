//! Binds every statement of test files in sqllogictest form; run where `PONTOON_BIND_CORPUS` names a
//! folder of them. Prints what fails to bind although it is expected to work, most frequent first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::fixture::Fixture;

struct Record {
    sql: String,
    /// None: must work.
    error: Option<String>,
}

fn records(path: &Path, out: &mut Vec<Record>) {
    let Ok(text) = std::fs::read_to_string(path) else {
        return;
    };
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(other) = line.strip_prefix("include ")
            && let Some(folder) = path.parent()
        {
            records(&folder.join(other.trim()), out);
        }
        let error = if let Some(rest) = line.strip_prefix("statement error") {
            let state = rest.trim().trim_matches(['(', ')']).to_owned();
            Some(state)
        } else if line.starts_with("statement") || line.starts_with("query") {
            None
        } else {
            continue;
        };
        let mut sql = String::new();
        for l in lines.by_ref() {
            if l.is_empty() || l == "----" {
                break;
            }
            sql.push_str(l);
            sql.push('\n');
        }
        out.push(Record { sql, error });
    }
}

fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    let mut entries: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
    entries.sort();
    for e in entries {
        if e.is_dir() && !e.ends_with("prelude") {
            files(&e, out);
        } else if e.extension().is_some_and(|x| x == "slt" || x == "test") {
            out.push(e);
        }
    }
}

#[test]
fn corpus() {
    let Ok(folder) = std::env::var("PONTOON_BIND_CORPUS") else {
        return;
    };
    let mut paths = Vec::new();
    if Path::new(&folder).is_file() {
        paths.push(PathBuf::from(&folder));
    }
    files(Path::new(&folder), &mut paths);
    let mut failures: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let (mut total, mut good) = (0usize, 0usize);
    for path in paths {
        let mut all = Vec::new();
        records(&path, &mut all);
        let mut f = Fixture::new("");
        for r in all {
            total += 1;
            let attempt = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                crate::parse::split(&r.sql)
                    .and_then(|parsed| parsed.iter().try_for_each(|p| f.run(&p.statement)))
            }));
            let result = attempt.unwrap_or_else(|_| Err(crate::SqlError::internal("panic")));
            match (result, &r.error) {
                (Ok(()), _) => good += 1,
                (Err(e), Some(state)) if e.state.code() == state => good += 1,
                (Err(e), expected) => {
                    let key = format!(
                        "{} {}{}",
                        e.state.code(),
                        e.message,
                        expected
                            .as_ref()
                            .map_or(String::new(), |s| format!(" (expected {s})"))
                    );
                    let slot = failures.entry(key).or_insert_with(|| {
                        (
                            0,
                            format!("{}: {}", path.display(), r.sql.trim().replace('\n', " ")),
                        )
                    });
                    slot.0 += 1;
                }
            }
        }
    }
    let mut list: Vec<_> = failures.into_iter().collect();
    list.sort_by_key(|(_, (n, _))| std::cmp::Reverse(*n));
    println!("{good} of {total} bind as expected");
    for (message, (n, example)) in list.iter().take(400) {
        let example: String = example.chars().take(260).collect();
        println!("{n:5} {message}\n        {example}");
    }
}
