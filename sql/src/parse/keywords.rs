//! PostgreSQL 15's keywords (kwlist.h): which words may name what, and how identifiers are quoted
//! because of them. One table, for the parser, for the text of definitions and for
//! `pg_get_keywords`.

use std::borrow::Cow;
use std::sync::LazyLock;

/// What a keyword may name without quotes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Category {
    /// Anything.
    Unreserved,
    /// Columns and tables, not functions or types.
    ColumnName,
    /// Functions and types, not columns or tables.
    TypeFunction,
    /// Nothing.
    Reserved,
}

/// A keyword.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keyword {
    /// The word, in lower case.
    pub(crate) word: &'static str,
    /// What it may name.
    pub(crate) category: Category,
    /// Whether it labels an output column without AS.
    pub(crate) bare_label: bool,
}

/// Word, category as pg_get_keywords codes it, whether it is a bare label; sorted by word.
const TABLE: &str = include_str!("keywords.tsv");

static KEYWORDS: LazyLock<Vec<Keyword>> = LazyLock::new(|| {
    let keyword = |line: &'static str| {
        let mut fields = line.split('\t');
        let word = fields.next()?;
        let category = match fields.next()? {
            "U" => Category::Unreserved,
            "C" => Category::ColumnName,
            "T" => Category::TypeFunction,
            _ => Category::Reserved,
        };
        Some(Keyword {
            word,
            category,
            bare_label: fields.next()? == "t",
        })
    };
    TABLE.lines().filter_map(keyword).collect()
});

/// All keywords by their word.
pub(crate) fn all() -> &'static [Keyword] {
    &KEYWORDS
}

fn find(word: &str) -> Option<&'static Keyword> {
    let at = KEYWORDS.binary_search_by(|k| k.word.cmp(word)).ok()?;
    KEYWORDS.get(at)
}

/// What a word may name; any other word than a keyword may name anything.
fn category(word: &str) -> Category {
    find(word).map_or(Category::Unreserved, |k| k.category)
}

/// Whether the word is reserved.
pub(crate) fn is_reserved(word: &str) -> bool {
    category(word) == Category::Reserved
}

/// Whether the word may name a column or table.
pub(crate) fn is_column_name(word: &str) -> bool {
    matches!(category(word), Category::Unreserved | Category::ColumnName)
}

/// Whether the word may name a function or type.
pub(crate) fn is_function_name(word: &str) -> bool {
    matches!(
        category(word),
        Category::Unreserved | Category::TypeFunction
    )
}

/// Whether the word may label an output column without AS.
pub(crate) fn is_bare_label(word: &str) -> bool {
    find(word).is_none_or(|k| k.bare_label)
}

/// An identifier as PostgreSQL prints it: quoted if it would not be read back as it is.
pub(crate) fn quoted(name: &str) -> Cow<'_, str> {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && category(name) == Category::Unreserved;
    if plain {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(format!("\"{}\"", name.replace('"', "\"\"")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_read_and_found() {
        assert_eq!(all().len(), TABLE.lines().count());
        assert!(all().is_sorted_by(|a, b| a.word < b.word));
        for k in all() {
            assert_eq!(find(k.word).map(|k| k.category), Some(k.category));
        }
    }

    #[test]
    fn categories() {
        assert!(is_reserved("select") && !is_column_name("select") && !is_bare_label("as"));
        assert!(is_column_name("between") && !is_function_name("between"));
        assert!(!is_column_name("left") && is_function_name("left"));
        assert!(is_column_name("name") && is_function_name("no_keyword"));
    }

    #[test]
    fn identifiers() {
        assert_eq!(quoted("a_1"), "a_1");
        assert_eq!(quoted("abort"), "abort");
        assert_eq!(quoted("Mixed \"Case\""), "\"Mixed \"\"Case\"\"\"");
        for name in ["select", "int", "1a", "a$", "", "ä"] {
            assert_eq!(quoted(name), format!("\"{name}\""));
        }
    }
}
