//! The list of records that PostgreSQL itself does not pass: `file<TAB>line<TAB>kind<TAB>why`.
//!
//! `skip` records are not run; `run` records are run for what they change, but do not count.

use std::collections::HashMap;
use std::path::Path;

/// What happens to a listed record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exclusion {
    /// Not run.
    Skip,
    /// Run, not counted.
    Uncounted,
}

/// The records that do not count.
#[derive(Debug, Default)]
pub struct Exclusions {
    by_place: HashMap<(String, usize), Exclusion>,
}

impl Exclusions {
    /// Reads a list.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(path: &Path) -> std::io::Result<Self> {
        Ok(Self::parse(&std::fs::read_to_string(path)?))
    }

    fn parse(text: &str) -> Self {
        let mut by_place = HashMap::new();
        for line in text.lines() {
            let mut fields = line.split('\t');
            if let (Some(file), Some(line), Some(kind)) =
                (fields.next(), fields.next(), fields.next())
                && let Ok(line) = line.parse()
            {
                let kind = if kind == "run" {
                    Exclusion::Uncounted
                } else {
                    Exclusion::Skip
                };
                by_place.insert((file.to_owned(), line), kind);
            }
        }
        Self { by_place }
    }

    pub(super) fn of(&self, file: &str, line: usize) -> Option<Exclusion> {
        self.by_place.get(&(file.to_owned(), line)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_skipped_from_uncounted() {
        let list = Exclusions::parse("a.test\t3\tskip\twhy\nb.test\t4\trun\twhy\n");
        assert_eq!(list.of("a.test", 3), Some(Exclusion::Skip));
        assert_eq!(list.of("b.test", 4), Some(Exclusion::Uncounted));
        assert_eq!(list.of("b.test", 5), None);
    }
}
