//! Storage parameters, and what else is said of how a table is stored.

use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::cursor::{Cursor, Parse, raise};
use super::statement::StorageOption;
use super::table::refuse;
use crate::error::{SqlError, SqlState};

/// `WITH (...)`, `WITHOUT OIDS`, `ON COMMIT`, `TABLESPACE`, `USING`.
pub(super) fn storage_options(p: &mut Parser<'_>) -> Parse<Vec<StorageOption>> {
    let mut out = Vec::new();
    loop {
        if p.eat(&["without", "oids"]) {
            continue;
        }
        if p.at(&["with"]) && matches!(p.ahead(1), Token::LParen) {
            p.advance_token();
            out = parenthesized(p)?;
        } else if p.eat(&["using"]) {
            let method = p.column_id()?;
            if method.value != "heap" {
                return Err(raise(&SqlError::new(
                    SqlState::UNDEFINED_OBJECT,
                    format!("access method \"{}\" does not exist", method.value),
                )));
            }
        } else if p.at(&["tablespace"]) {
            return refuse(p, "TABLESPACE");
        } else if p.at(&["on", "commit"]) {
            return refuse(p, "ON COMMIT");
        } else {
            return Ok(out);
        }
    }
}

/// Options of an index, or of the one behind a constraint.
pub(super) fn index_options(p: &mut Parser<'_>) -> Parse<Vec<StorageOption>> {
    let mut out = Vec::new();
    if p.at(&["with"]) && matches!(p.ahead(1), Token::LParen) {
        p.advance_token();
        out = parenthesized(p)?;
    }
    if p.at(&["using", "index", "tablespace"]) {
        return refuse(p, "TABLESPACE");
    }
    Ok(out)
}

/// `(fillfactor = 70, ...)`.
pub(super) fn parenthesized(p: &mut Parser<'_>) -> Parse<Vec<StorageOption>> {
    p.parens(|p| p.commas(storage_option))
}

fn storage_option(p: &mut Parser<'_>) -> Parse<StorageOption> {
    let mut name = p.label()?.value;
    if p.consume_token(&Token::Period) {
        name = format!("{name}.{}", p.label()?.value);
    }
    if !p.consume_token(&Token::Eq) {
        return Ok(StorageOption { name, value: None });
    }
    let sign = if p.consume_token(&Token::Minus) {
        "-"
    } else {
        ""
    };
    let value = match p.next_token().token {
        Token::Number(number, _) => format!("{sign}{number}"),
        Token::Word(word) if sign.is_empty() => word.value,
        Token::SingleQuotedString(text) if sign.is_empty() => text,
        _ => {
            p.prev_token();
            return p.unexpected();
        }
    };
    Ok(StorageOption {
        name,
        value: Some(value),
    })
}
