//! Names of types as PostgreSQL's grammar has them. Every type becomes a `DataType::Custom` of its
//! (possibly qualified) pg_type name with the modifiers as texts, or an array of one.

use sqlparser::ast::{ArrayElemTypeDef, DataType, Ident, ObjectName, ObjectNamePart};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::cursor::{Cursor, Parse};
use super::keywords;

fn named(name: &str, like: &Ident, modifiers: Vec<String>) -> DataType {
    let ident = Ident {
        value: name.to_owned(),
        quote_style: None,
        span: like.span,
    };
    let schema = Ident {
        value: "pg_catalog".to_owned(),
        quote_style: None,
        span: like.span,
    };
    DataType::Custom(
        ObjectName(vec![
            ObjectNamePart::Identifier(schema),
            ObjectNamePart::Identifier(ident),
        ]),
        modifiers,
    )
}

/// `(n, m)` after a type; empty if there is none.
fn modifiers(p: &mut Parser<'_>) -> Parse<Vec<String>> {
    if !matches!(p.peek_token_ref().token, Token::LParen) {
        return Ok(Vec::new());
    }
    p.parens(|p| p.commas(modifier))
}

fn modifier(p: &mut Parser<'_>) -> Parse<String> {
    match &p.peek_token_ref().token {
        Token::Word(w) => {
            let text = w.value.clone();
            p.advance_token();
            Ok(text)
        }
        Token::SingleQuotedString(_) => p.string(),
        _ => {
            let negative = p.consume_token(&Token::Minus);
            match p.eat_number() {
                Some(n) => Ok(if negative { format!("-{n}") } else { n }),
                None => p.unexpected(),
            }
        }
    }
}

/// WITH / WITHOUT TIME ZONE.
fn with_zone(p: &mut Parser<'_>) -> Parse<bool> {
    if p.at(&["with", "time"]) {
        p.need(&["with", "time", "zone"])?;
        return Ok(true);
    }
    if p.at(&["without", "time"]) {
        p.need(&["without", "time", "zone"])?;
    }
    Ok(false)
}

/// The fields after INTERVAL, as `day to second`.
pub(crate) fn interval_fields(p: &mut Parser<'_>) -> Parse<Option<String>> {
    const FIELDS: [&str; 6] = ["year", "month", "day", "hour", "minute", "second"];
    let first = match p.word() {
        Some(w) if FIELDS.contains(&w) => w.to_owned(),
        _ => return Ok(None),
    };
    p.advance_token();
    let mut out = first;
    if p.at(&["to"]) && p.word_at(1).is_some_and(|w| FIELDS.contains(&w)) {
        p.advance_token();
        out.push_str(" to ");
        out.push_str(p.word().unwrap_or(""));
        p.advance_token();
    }
    if out.ends_with("second") && matches!(p.peek_token_ref().token, Token::LParen) {
        let precision = modifiers(p)?;
        out = format!("{out}({})", precision.join(","));
    }
    Ok(Some(out))
}

/// A type without its array bounds.
pub(crate) fn simple_type(p: &mut Parser<'_>) -> Parse<DataType> {
    let token = p.peek_token_ref().clone();
    let Token::Word(w) = &token.token else {
        return p.unexpected();
    };
    let first = w.to_ident(token.span);
    if w.quote_style.is_none() {
        let known = match w.value.as_str() {
            "int" | "integer" => Some("int4"),
            "smallint" => Some("int2"),
            "bigint" => Some("int8"),
            "real" => Some("float4"),
            "boolean" => Some("bool"),
            _ => None,
        };
        if let Some(name) = known {
            p.advance_token();
            return Ok(named(name, &first, Vec::new()));
        }
        match w.value.as_str() {
            "double" if p.word_at(1) == Some("precision") => {
                p.need(&["double", "precision"])?;
                return Ok(named("float8", &first, Vec::new()));
            }
            "float" => {
                p.advance_token();
                let m = modifiers(p)?;
                let bits: i64 = m.first().and_then(|m| m.parse().ok()).unwrap_or(53);
                return match bits {
                    1..=24 => Ok(named("float4", &first, Vec::new())),
                    25..=53 => Ok(named("float8", &first, Vec::new())),
                    n => {
                        let text = if n < 1 {
                            "precision for type float must be at least 1 bit"
                        } else {
                            "precision for type float must be less than 54 bits"
                        };
                        Err(super::cursor::raise(&crate::error::SqlError::new(
                            crate::error::SqlState::INVALID_PARAMETER_VALUE,
                            text,
                        )))
                    }
                };
            }
            "numeric" | "decimal" | "dec" => {
                p.advance_token();
                let m = modifiers(p)?;
                return Ok(named("numeric", &first, m));
            }
            "varchar" => {
                p.advance_token();
                let m = modifiers(p)?;
                return Ok(named("varchar", &first, m));
            }
            "character" | "char" | "nchar" | "national" => {
                if p.eat(&["national"]) && !p.at(&["character"]) && !p.at(&["char"]) {
                    return p.unexpected();
                }
                p.advance_token();
                let varying = p.eat(&["varying"]);
                let mut m = modifiers(p)?;
                if varying {
                    return Ok(named("varchar", &first, m));
                }
                if m.is_empty() {
                    m.push("1".to_owned());
                }
                return Ok(named("bpchar", &first, m));
            }
            "bit" => {
                p.advance_token();
                let varying = p.eat(&["varying"]);
                let m = modifiers(p)?;
                return Ok(named(if varying { "varbit" } else { "bit" }, &first, m));
            }
            "timestamp" | "time" => {
                let base = w.value.clone();
                p.advance_token();
                let m = modifiers(p)?;
                let zone = with_zone(p)?;
                let name = match (base.as_str(), zone) {
                    ("timestamp", true) => "timestamptz",
                    ("timestamp", false) => "timestamp",
                    (_, true) => "timetz",
                    (_, false) => "time",
                };
                return Ok(named(name, &first, m));
            }
            "interval" => {
                p.advance_token();
                let mut m = modifiers(p)?;
                if m.is_empty()
                    && let Some(fields) = interval_fields(p)?
                {
                    m.push(fields);
                }
                return Ok(named("interval", &first, m));
            }
            word if keywords::is_reserved(word) => return p.unexpected(),
            _ => {}
        }
    }
    let mut parts = vec![ObjectNamePart::Identifier(p.label()?)];
    while p.consume_token(&Token::Period) {
        parts.push(ObjectNamePart::Identifier(p.label()?));
    }
    let m = modifiers(p)?;
    Ok(DataType::Custom(ObjectName(parts), m))
}

/// A type.
pub(crate) fn type_name(p: &mut Parser<'_>) -> Parse<DataType> {
    if p.at(&["setof"]) {
        return p.unexpected();
    }
    let mut ty = simple_type(p)?;
    loop {
        if p.consume_token(&Token::LBracket) {
            let length = p.eat_number().and_then(|n| n.parse().ok());
            if !p.consume_token(&Token::RBracket) {
                return p.unexpected();
            }
            ty = DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(ty), length));
        } else if p.at(&["array"]) {
            p.advance_token();
            if p.consume_token(&Token::LBracket) {
                let _length = p.eat_number();
                if !p.consume_token(&Token::RBracket) {
                    return p.unexpected();
                }
            }
            return Ok(DataType::Array(ArrayElemTypeDef::SquareBracket(
                Box::new(ty),
                None,
            )));
        } else {
            return Ok(ty);
        }
    }
}
