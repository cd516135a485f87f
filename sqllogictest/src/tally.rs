//! Counts failures by what caused them, so that the most frequent cause stands first.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// One failed record.
#[derive(Debug, Clone)]
pub struct Failure {
    /// `file:line`.
    pub place: String,
    /// The statement.
    pub sql: String,
    /// The cause with everything specific taken out; failures with equal keys are counted together.
    pub key: String,
    /// What was expected and what came.
    pub detail: String,
}

impl Failure {
    /// A failure whose key is made from the text of an error or mismatch.
    pub fn new(place: String, sql: &str, cause: &str, detail: String) -> Self {
        Self {
            place,
            sql: sql.to_owned(),
            key: generalised(cause),
            detail,
        }
    }
}

/// What happened to the counted records of one file.
#[derive(Debug, Clone, Default)]
pub struct FileResult {
    /// The file's name below its suite.
    pub name: String,
    /// Records that count.
    pub counted: usize,
    /// Records that passed.
    pub passed: usize,
    /// The failed ones.
    pub failures: Vec<Failure>,
    /// Wall time in ms.
    pub elapsed_ms: u128,
    /// The server was lost or the file given up: the rest of its records failed unseen.
    pub broken: Option<String>,
}

/// The results of a whole suite.
#[derive(Debug, Default)]
pub struct Tally {
    /// Files in the order they ran.
    pub files: Vec<FileResult>,
}

impl Tally {
    /// Records that count.
    pub fn counted(&self) -> usize {
        self.files.iter().map(|file| file.counted).sum()
    }

    /// Records that passed.
    pub fn passed(&self) -> usize {
        self.files.iter().map(|file| file.passed).sum()
    }

    /// Passed in per cent of counted; 100 when nothing counts.
    pub fn rate(&self) -> f64 {
        percent(self.passed(), self.counted())
    }

    /// One line a file.
    pub fn file_table(&self) -> String {
        let mut out = String::new();
        for file in &self.files {
            let note = file
                .broken
                .as_deref()
                .map(|why| format!("  {why}"))
                .unwrap_or_default();
            let _ = writeln!(
                out,
                "{:>6} of {:>6}  {:>6.2} %  {:>7.1} s  {}{note}",
                file.passed,
                file.counted,
                percent(file.passed, file.counted),
                file.elapsed_ms as f64 / 1000.0,
                file.name,
            );
        }
        out
    }

    /// The most frequent causes with one example each.
    pub fn causes(&self, most: usize) -> String {
        let mut groups: BTreeMap<&str, (usize, &Failure)> = BTreeMap::new();
        for failure in self.files.iter().flat_map(|file| &file.failures) {
            groups.entry(&failure.key).or_insert((0, failure)).0 += 1;
        }
        let mut ordered: Vec<_> = groups.into_iter().collect();
        ordered.sort_by(|a, b| b.1.0.cmp(&a.1.0).then(a.0.cmp(b.0)));
        let mut out = String::new();
        for (key, (count, example)) in ordered.iter().take(most) {
            let _ = writeln!(out, "{count:>6}  {key}");
            let _ = writeln!(
                out,
                "        {}  {}",
                example.place,
                shortened(&example.sql, 160)
            );
        }
        if ordered.len() > most {
            let _ = writeln!(out, "        and {} rarer causes", ordered.len() - most);
        }
        out
    }
}

/// `part` in per cent of `whole`; 100 when the whole is empty.
pub fn percent(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        100.0
    } else {
        part as f64 * 100.0 / whole as f64
    }
}

/// The text on one line, cut to a number of characters.
pub fn shortened(text: &str, most: usize) -> String {
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if flat.chars().count() <= most {
        return flat;
    }
    let mut cut: String = flat.chars().take(most).collect();
    cut.push('…');
    cut
}

/// Replaces quoted names and numbers, so that equal causes look equal.
fn generalised(text: &str) -> String {
    let mut out = String::new();
    let mut letters = text.lines().next().unwrap_or_default().chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                let name: String = letters.by_ref().take_while(|c| *c != '"').collect();
                // The system's own names say what is missing; a test's names say nothing.
                let shown = if name.starts_with("pg_") {
                    name.as_str()
                } else {
                    "…"
                };
                let _ = write!(out, "\"{shown}\"");
            }
            '0'..='9' if !out.ends_with(|c: char| c.is_alphanumeric()) => {
                let mut number = letter.to_string();
                while let Some(digit) = letters.next_if(|c| c.is_alphanumeric() || *c == '.') {
                    number.push(digit);
                }
                // A SQLSTATE names the cause; any other number is an accident.
                let keep = number.len() == 5 && number.chars().all(|c| c.is_ascii_alphanumeric());
                out.push_str(if keep { &number } else { "N" });
            }
            other => out.push(other),
        }
    }
    shortened(&out, 200)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_causes_get_equal_keys() {
        let a = generalised("42P01: relation \"t1\" does not exist at 17");
        let b = generalised("42P01: relation \"other\" does not exist at 9");
        assert_eq!(a, b);
        assert_eq!(a, "42P01: relation \"…\" does not exist at N");
    }

    #[test]
    fn the_most_frequent_cause_stands_first() {
        let failure = |cause: &str| Failure::new("f:1".to_owned(), "s", cause, String::new());
        let tally = Tally {
            files: vec![FileResult {
                failures: vec![failure("rare"), failure("often 1"), failure("often 2")],
                counted: 4,
                passed: 1,
                ..FileResult::default()
            }],
        };
        assert!(tally.causes(5).trim_start().starts_with("2  often N"));
        assert!((tally.rate() - 25.0).abs() < f64::EPSILON);
    }
}
