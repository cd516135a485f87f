//! SQL text of definitions, in PostgreSQL's layout.

use super::pretty::pretty;
use crate::catalog::desc::{CheckDesc, ColumnDesc, IndexDesc, IndexKind, TableDesc};
use crate::parse::keywords;

/// An identifier as PostgreSQL prints it.
pub(super) fn quoted(name: &str) -> String {
    keywords::quoted(name).into_owned()
}

/// `schema.name`.
pub(super) fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quoted(schema), quoted(name))
}

/// What pg_attrdef shows of a column: DEFAULT or the generation expression. An identity column has
/// none.
pub(super) fn default_text(column: &ColumnDesc) -> Option<&str> {
    if column.identity.is_some() {
        return None;
    }
    column.generated.as_deref().or(column.default.as_deref())
}

/// The query of a view as pg_get_viewdef gives it.
pub(super) fn view_definition(view: &TableDesc) -> String {
    let text = view.view.as_deref().unwrap_or("").trim();
    let text = text.strip_suffix(';').unwrap_or(text);
    format!(" {text};")
}

fn column_name(table: &TableDesc, position: usize) -> String {
    table
        .columns
        .get(position)
        .map(|c| quoted(&c.name))
        .unwrap_or_default()
}

/// A key column of an index with what differs from the default.
pub(super) fn index_column(table: &TableDesc, index: &IndexDesc, i: usize) -> Option<String> {
    let Some(key) = index.columns.get(i) else {
        let position = index.include.get(i.checked_sub(index.columns.len())?)?;
        return Some(column_name(table, *position));
    };
    let mut text = column_name(table, key.column);
    if key.descending {
        text.push_str(" DESC");
        if !key.nulls_first {
            text.push_str(" NULLS LAST");
        }
    } else if key.nulls_first {
        text.push_str(" NULLS FIRST");
    }
    Some(text)
}

fn included(table: &TableDesc, index: &IndexDesc) -> String {
    if index.include.is_empty() {
        return String::new();
    }
    let names: Vec<String> = index
        .include
        .iter()
        .map(|i| column_name(table, *i))
        .collect();
    format!(" INCLUDE ({})", names.join(", "))
}

/// CREATE INDEX.
pub(super) fn index_definition(table: &TableDesc, index: &IndexDesc, name: &str) -> String {
    let keys: Vec<String> = (0..index.columns.len())
        .filter_map(|i| index_column(table, index, i))
        .collect();
    format!(
        "CREATE {}INDEX {} ON {} USING btree ({}){}{}",
        if index.is_unique() { "UNIQUE " } else { "" },
        quoted(&index.name),
        name,
        keys.join(", "),
        included(table, index),
        if index.nulls_not_distinct {
            " NULLS NOT DISTINCT"
        } else {
            ""
        },
    )
}

/// The constraint that an index enforces.
pub(super) fn key_constraint(table: &TableDesc, index: &IndexDesc) -> String {
    let keys: Vec<String> = index
        .columns
        .iter()
        .map(|c| column_name(table, c.column))
        .collect();
    let what = match (index.kind, index.nulls_not_distinct) {
        (IndexKind::Primary, _) => "PRIMARY KEY",
        (_, true) => "UNIQUE NULLS NOT DISTINCT",
        (_, false) => "UNIQUE",
    };
    format!("{what} ({}){}", keys.join(", "), included(table, index))
}

/// A CHECK; operators stand in parentheses in its canonical text already, and in its pretty form
/// where they must.
pub(super) fn check_constraint(check: &CheckDesc, is_pretty: bool) -> String {
    let valid = if check.not_valid { " NOT VALID" } else { "" };
    if is_pretty {
        format!("CHECK ({}){valid}", pretty(&check.expr))
    } else {
        format!("CHECK ({}){valid}", check.expr)
    }
}

/// `expr` with parentheses around it, unless they are there.
pub(super) fn parenthesized(expr: &str) -> String {
    if is_wrapped(expr) {
        expr.to_owned()
    } else {
        format!("({expr})")
    }
}

/// Whether the first parenthesis closes at the end.
fn is_wrapped(expr: &str) -> bool {
    if !expr.starts_with('(') || !expr.ends_with(')') {
        return false;
    }
    let mut depth = 0usize;
    let mut quote = None;
    for (i, c) in expr.char_indices() {
        match (quote, c) {
            (Some(q), _) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '(') => depth += 1,
            (None, ')') => {
                depth = depth.saturating_sub(1);
                if depth == 0 && i + 1 < expr.len() {
                    return false;
                }
            }
            (None, _) => {}
        }
    }
    depth == 0
}

/// How the names of types go on that have more words than one.
const TYPE_WORDS: &[&str] = &[" varying", " precision", " with", " time", " zone"];

/// Positions of the columns that an expression names, in the order in which it does. Works on the
/// canonical text of an expression of one table: every identifier in it that is a column's name is
/// that column, unless it belongs to the type behind `::`.
pub(super) fn columns_named(table: &TableDesc, expr: &str) -> Vec<usize> {
    let mut names = Vec::new();
    let mut in_type = false;
    let mut chars = expr.char_indices().peekable();
    while let Some((start, c)) = chars.next() {
        match c {
            ':' => {
                in_type |= expr.get(start..).is_some_and(|rest| rest.starts_with("::"));
                continue;
            }
            ' ' => continue,
            '(' | ')' | '0'..='9' if in_type => continue,
            '\'' => while chars.next_if(|(_, c)| *c != '\'').is_some() {},
            '"' => {
                let mut name = String::new();
                while let Some((_, c)) = chars.next_if(|(_, c)| *c != '"') {
                    name.push(c);
                }
                names.push(name);
            }
            c if c.is_alphabetic() || c == '_' => {
                let mut end = start + c.len_utf8();
                while let Some((i, c)) = chars.next_if(|(_, c)| c.is_alphanumeric() || *c == '_') {
                    end = i + c.len_utf8();
                }
                if in_type {
                    // Only a type of several words goes on behind its first.
                    let rest = expr.get(end..).unwrap_or_default();
                    let rest = rest.trim_start_matches(|c: char| "()0123456789".contains(c));
                    in_type = TYPE_WORDS.iter().any(|word| rest.starts_with(word));
                    continue;
                }
                names.push(expr.get(start..end).unwrap_or_default().to_owned());
                continue;
            }
            _ => {
                in_type = false;
                continue;
            }
        }
        in_type = false;
        chars.next();
    }
    let mut positions = Vec::new();
    for name in names {
        let column = table.live_columns().find(|(_, c)| c.name == name);
        if let Some((position, _)) = column.filter(|(p, _)| !positions.contains(p)) {
            positions.push(position);
        }
    }
    positions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parentheses() {
        assert_eq!(parenthesized("(a) > (b)"), "((a) > (b))");
        assert_eq!(parenthesized("(a > ')')"), "(a > ')')");
    }

    #[test]
    fn checks() {
        let mut check = CheckDesc {
            oid: crate::types::Oid(1),
            name: "c".to_owned(),
            expr: "(a > 0)".to_owned(),
            not_valid: false,
        };
        assert_eq!(check_constraint(&check, false), "CHECK ((a > 0))");
        check.not_valid = true;
        assert_eq!(check_constraint(&check, true), "CHECK (a > 0) NOT VALID");
    }
}
