//! PostgreSQL's regular expressions on the `regex` crate: translation of the syntax, a cache of
//! compiled expressions. What that crate cannot do (look-around, back references) is refused.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use crate::error::{SqlError, SqlState};

/// Compiled expressions that a thread keeps.
const CACHE_MAX: usize = 64;

thread_local! {
    static CACHE: RefCell<HashMap<(String, String), Arc<Regex>>> = RefCell::new(HashMap::new());
}

fn invalid(what: &str) -> SqlError {
    SqlError::new(
        SqlState::INVALID_REGULAR_EXPRESSION,
        format!("invalid regular expression: {what}"),
    )
}

/// The compiled form of an expression with PostgreSQL's flags (`g` is the caller's).
pub(super) fn compile(pattern: &str, flags: &str) -> Result<Arc<Regex>, SqlError> {
    let key = (pattern.to_owned(), flags.to_owned());
    if let Some(found) = CACHE.with(|c| c.borrow().get(&key).cloned()) {
        return Ok(found);
    }
    let built = Arc::new(build(pattern, flags)?);
    CACHE.with(|c| {
        let mut cache = c.borrow_mut();
        if cache.len() >= CACHE_MAX {
            cache.clear();
        }
        cache.insert(key, Arc::clone(&built));
    });
    Ok(built)
}

fn build(pattern: &str, flags: &str) -> Result<Regex, SqlError> {
    let (mut insensitive, mut newline_anchor, mut dot_excludes, mut extended, mut literal) =
        (false, false, false, false, false);
    let mut body = pattern;
    let mut all_flags = flags.to_owned();
    // "***=", "***:" and "(?flags)" at the start
    if let Some(rest) = body.strip_prefix("***=") {
        literal = true;
        body = rest;
    } else if let Some(rest) = body.strip_prefix("***:") {
        body = rest;
    }
    if let Some(rest) = body.strip_prefix("(?")
        && let Some((inside, tail)) = rest.split_once(')')
        && !inside.is_empty()
        && inside.bytes().all(|b| b.is_ascii_lowercase())
    {
        all_flags.push_str(inside);
        body = tail;
    }
    for flag in all_flags.chars() {
        match flag {
            'g' | 'e' | 'b' | 't' => {}
            'i' => insensitive = true,
            'c' => insensitive = false,
            'n' | 'm' => (newline_anchor, dot_excludes) = (true, true),
            'p' => (newline_anchor, dot_excludes) = (false, true),
            'w' => (newline_anchor, dot_excludes) = (true, false),
            's' => (newline_anchor, dot_excludes) = (false, false),
            'x' => extended = true,
            'q' => literal = true,
            other => {
                return Err(SqlError::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!("invalid regular expression option: \"{other}\""),
                ));
            }
        }
    }
    let translated = if literal {
        regex::escape(body)
    } else {
        translate(body)?
    };
    RegexBuilder::new(&translated)
        .case_insensitive(insensitive)
        .multi_line(newline_anchor)
        .dot_matches_new_line(!dot_excludes)
        .ignore_whitespace(extended)
        .build()
        .map_err(|e| reason(&e))
}

/// PostgreSQL's words for what is wrong.
fn reason(error: &regex::Error) -> SqlError {
    let text = error.to_string();
    let has = |part: &str| text.contains(part);
    if has("unclosed group") || has("unopened group") {
        invalid("parentheses () not balanced")
    } else if has("unclosed character class") {
        invalid("brackets [] not balanced")
    } else if has("repetition operator missing expression") {
        invalid("quantifier operand invalid")
    } else if has("repetition") || has("quantifier") {
        invalid("invalid repetition count(s)")
    } else if has("character class range") {
        invalid("invalid character range")
    } else if has("escape") {
        invalid("invalid escape \\ sequence")
    } else if has("size limit") {
        invalid("regular expression is too complex")
    } else {
        invalid("invalid syntax")
    }
}

/// Rewrites what PostgreSQL spells differently.
fn translate(pattern: &str) -> Result<String, SqlError> {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                None => return Err(invalid("invalid escape \\ sequence")),
                Some('m') => out.push_str(r"\b{start}"),
                Some('M') => out.push_str(r"\b{end}"),
                Some('y') => out.push_str(r"\b"),
                Some('Y') => out.push_str(r"\B"),
                Some('A') => out.push_str(r"\A"),
                Some('Z') => out.push_str(r"\z"),
                Some('B') => out.push_str(r"\\"),
                Some('b') => out.push_str(r"\x08"),
                Some('e') => out.push_str(r"\x1B"),
                Some('u') => unicode(&mut chars, 4, &mut out)?,
                Some('U') => unicode(&mut chars, 8, &mut out)?,
                Some('1'..='9') => {
                    return Err(SqlError::unsupported(
                        "a back reference in a regular expression",
                    ));
                }
                Some(
                    d @ ('d' | 'D' | 's' | 'S' | 'w' | 'W' | 'n' | 't' | 'r' | 'f' | 'v' | 'a'
                    | 'x'),
                ) => {
                    out.push('\\');
                    out.push(d);
                }
                Some(other) if other.is_ascii_alphanumeric() => {
                    return Err(invalid("invalid escape \\ sequence"));
                }
                Some(other) => out.push_str(&regex::escape(&other.to_string())),
            },
            '[' => bracket(&mut chars, &mut out)?,
            '(' => {
                out.push('(');
                if chars.peek() == Some(&'?') {
                    chars.next();
                    match chars.next() {
                        Some(':') => out.push_str("?:"),
                        Some('=' | '!' | '<') => {
                            return Err(SqlError::unsupported(
                                "look-around in a regular expression",
                            ));
                        }
                        _ => return Err(invalid("quantifier operand invalid")),
                    }
                }
            }
            '{' if !chars.peek().is_some_and(char::is_ascii_digit) => out.push_str("\\{"),
            c => out.push(c),
        }
    }
    Ok(out)
}

fn unicode(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    digits: usize,
    out: &mut String,
) -> Result<(), SqlError> {
    let hex: String = chars.by_ref().take(digits).collect();
    let c = u32::from_str_radix(&hex, 16)
        .ok()
        .and_then(char::from_u32)
        .ok_or_else(|| invalid("invalid escape \\ sequence"))?;
    out.push_str(&regex::escape(&c.to_string()));
    Ok(())
}

/// A bracket expression: `[` is literal inside except in `[:class:]`, `]` first is literal.
fn bracket(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    out: &mut String,
) -> Result<(), SqlError> {
    let unbalanced = || invalid("brackets [] not balanced");
    // word boundaries
    let rest: String = chars.clone().take(6).collect();
    for (form, boundary) in [("[:<:]]", r"\b{start}"), ("[:>:]]", r"\b{end}")] {
        if rest == form {
            out.push_str(boundary);
            for _ in 0..6 {
                chars.next();
            }
            return Ok(());
        }
    }
    out.push('[');
    if chars.peek() == Some(&'^') {
        chars.next();
        out.push('^');
    }
    let mut first = true;
    loop {
        match chars.next().ok_or_else(unbalanced)? {
            ']' if !first => {
                out.push(']');
                return Ok(());
            }
            '[' if matches!(chars.peek(), Some(':')) => {
                let mut class = String::new();
                chars.next();
                loop {
                    match chars.next().ok_or_else(unbalanced)? {
                        ':' if chars.peek() == Some(&']') => break,
                        c => class.push(c),
                    }
                }
                chars.next();
                if !matches!(
                    class.as_str(),
                    "alpha"
                        | "digit"
                        | "alnum"
                        | "upper"
                        | "lower"
                        | "space"
                        | "punct"
                        | "blank"
                        | "cntrl"
                        | "graph"
                        | "print"
                        | "xdigit"
                        | "word"
                ) {
                    return Err(invalid("invalid character class"));
                }
                out.push_str(&match class.as_str() {
                    "alpha" => r"\p{Alphabetic}".to_owned(),
                    "digit" => r"\d".to_owned(),
                    "alnum" => r"\p{Alphabetic}\d".to_owned(),
                    "upper" => r"\p{Uppercase}".to_owned(),
                    "lower" => r"\p{Lowercase}".to_owned(),
                    "space" => r"\s".to_owned(),
                    other => format!("[:{other}:]"),
                });
            }
            '\\' => match chars.next().ok_or_else(unbalanced)? {
                c @ ('d' | 's' | 'w' | 'D' | 'S' | 'W' | 'n' | 't' | 'r' | 'f' | 'v' | 'a'
                | 'x') => {
                    out.push('\\');
                    out.push(c);
                }
                'u' => unicode(chars, 4, out)?,
                c => out.push_str(&regex::escape(&c.to_string())),
            },
            c @ ('[' | ']' | '&' | '~' | '#' | ' ') => {
                out.push('\\');
                out.push(c);
            }
            // a dash at the ends is literal for both
            c => out.push(c),
        }
        first = false;
    }
}

/// Whether the text matches.
pub(super) fn is_match(regex: &Regex, text: &str) -> Result<bool, SqlError> {
    Ok(regex.is_match(text))
}
