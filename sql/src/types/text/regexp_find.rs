//! The regexp_* functions and substring by regular expression.

use std::sync::Arc;

use regex::Regex;

use crate::error::SqlError;
use crate::types::array::ArrayValue;
use crate::types::body::{Args, Scalar, Set, Value};
use crate::types::datum::Datum;
use crate::types::fault::invalid_parameter;
use crate::types::oid::Oid;
use crate::types::registry::EvalContext;

use super::basic::char_count;
use super::regexp::compile;

fn texts(items: Vec<Datum>) -> Datum {
    Datum::Array(Arc::new(ArrayValue::vector(Oid::TEXT, items)))
}

/// The flags of an argument, without `g`, and whether `g` was there.
fn flags(a: &[Datum], i: usize) -> Result<(String, bool), SqlError> {
    if i >= a.len() {
        return Ok((String::new(), false));
    }
    let text = a.text(i)?;
    Ok((text.replace('g', ""), text.contains('g')))
}

fn no_global(global: bool, function: &str) -> Result<(), SqlError> {
    if global {
        return Err(invalid_parameter(format!(
            "{function}() does not support the \"global\" option"
        )));
    }
    Ok(())
}

/// The groups of a match, or the whole match if there are none.
fn groups(regex: &Regex, found: &regex::Captures<'_>) -> Vec<Datum> {
    let first = usize::from(regex.captures_len() > 1);
    (first..regex.captures_len())
        .map(|i| {
            found
                .get(i)
                .map_or(Datum::Null, |m| Datum::text(m.as_str()))
        })
        .collect()
}

/// The byte offset of a character position from 1.
fn start_offset(text: &str, start: i64) -> Result<usize, SqlError> {
    positive(start, "start")?;
    Ok(text.char_indices().nth((start - 1) as usize).map_or(
        text.len() + usize::from(start as usize > char_count(text) + 1),
        |(i, _)| i,
    ))
}

fn positive(v: i64, name: &str) -> Result<(), SqlError> {
    if v < 1 {
        return Err(invalid_parameter(format!(
            "invalid value for parameter \"{name}\": {v}"
        )));
    }
    Ok(())
}

fn regexp_match(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let (flags, global) = flags(a, 2)?;
    if global {
        return Err(
            invalid_parameter("regexp_match() does not support the \"global\" option")
                .with_hint("Use the regexp_matches function instead."),
        );
    }
    let regex = compile(a.text(1)?, &flags)?;
    Ok(regex
        .captures(a.text(0)?)
        .map_or(Datum::Null, |m| texts(groups(&regex, &m))))
}
fn regexp_matches(_: &dyn EvalContext, a: &[Datum]) -> Result<Vec<Vec<Datum>>, SqlError> {
    if a.iter().any(Datum::is_null) {
        return Ok(Vec::new());
    }
    let (flags, global) = flags(a, 2)?;
    let regex = compile(a.text(1)?, &flags)?;
    let limit = if global { usize::MAX } else { 1 };
    Ok(regex
        .captures_iter(a.text(0)?)
        .take(limit)
        .map(|m| vec![texts(groups(&regex, &m))])
        .collect())
}

/// A replacement with `\1`, `\&` and `\\`.
fn expand(template: &str, found: &regex::Captures<'_>, out: &mut String) {
    let mut chars = template.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('&') => out.push_str(found.get(0).map_or("", |m| m.as_str())),
            Some(d @ '1'..='9') => {
                let i = d as usize - '0' as usize;
                out.push_str(found.get(i).map_or("", |m| m.as_str()));
            }
            Some('\\') => out.push('\\'),
            Some(other) => {
                out.push('\\');
                out.push(other);
            }
            None => out.push('\\'),
        }
    }
}

/// Replaces the `nth` match (0: all) from a byte offset on.
fn replace(regex: &Regex, text: &str, template: &str, from: usize, nth: usize) -> String {
    let mut out = String::new();
    let mut last = 0;
    if from > text.len() {
        return text.to_owned();
    }
    let mut at = from;
    let mut count = 0;
    while at <= text.len()
        && let Some(found) = regex.captures_at(text, at)
        && let Some(whole) = found.get(0)
    {
        count += 1;
        if nth == 0 || count == nth {
            out.push_str(text.get(last..whole.start()).unwrap_or(""));
            expand(template, &found, &mut out);
            last = whole.end();
        }
        if count == nth {
            break;
        }
        at = if whole.end() > whole.start() {
            whole.end()
        } else {
            let step = text.get(whole.end()..).and_then(|t| t.chars().next());
            whole.end() + step.map_or(1, char::len_utf8)
        };
    }
    out.push_str(text.get(last..).unwrap_or(""));
    out
}
fn regexp_replace(_: &dyn EvalContext, a: &[Datum]) -> Value {
    if let Some(flag) = a.datum(3).as_str()
        && flag.bytes().next().is_some_and(|b| b.is_ascii_digit())
    {
        return Err(invalid_parameter(format!(
            "invalid regular expression option: \"{}\"",
            flag.chars().next().unwrap_or(' ')
        ))
        .with_hint(
            "If you meant to use regexp_replace() with a start parameter, cast the fourth \
             argument to integer explicitly.",
        ));
    }
    let (flags, global) = flags(a, 3)?;
    let regex = compile(a.text(1)?, &flags)?;
    Ok(Datum::text(replace(
        &regex,
        a.text(0)?,
        a.text(2)?,
        0,
        usize::from(!global),
    )))
}
/// `regexp_replace(text, pattern, replacement, start, n, flags)`
fn regexp_replace_at(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let text = a.text(0)?;
    let from = start_offset(text, a.int(3)?)?;
    let (flags, global) = flags(a, 5)?;
    let nth = if a.len() > 4 {
        a.int(4)?
    } else {
        i64::from(!global)
    };
    if nth < 0 {
        return Err(invalid_parameter(format!(
            "invalid value for parameter \"n\": {nth}"
        )));
    }
    let regex = compile(a.text(1)?, &flags)?;
    Ok(Datum::text(replace(
        &regex,
        text,
        a.text(2)?,
        from,
        nth as usize,
    )))
}

/// The pieces between matches; empty matches at the ends of a piece do not split.
fn pieces(regex: &Regex, text: &str) -> Vec<Datum> {
    let mut out = Vec::new();
    let mut last = 0;
    for found in regex.find_iter(text) {
        if found.end() == found.start() && (found.start() == text.len() || found.start() == last) {
            continue;
        }
        out.push(Datum::text(text.get(last..found.start()).unwrap_or("")));
        last = found.end();
    }
    out.push(Datum::text(text.get(last..).unwrap_or("")));
    out
}
fn split_pieces(a: &[Datum], function: &str) -> Result<Vec<Datum>, SqlError> {
    let (flags, global) = flags(a, 2)?;
    no_global(global, function)?;
    Ok(pieces(&*compile(a.text(1)?, &flags)?, a.text(0)?))
}
fn split_to_array(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(texts(split_pieces(a, "regexp_split_to_array")?))
}
fn split_to_table(_: &dyn EvalContext, a: &[Datum]) -> Result<Vec<Vec<Datum>>, SqlError> {
    if a.iter().any(Datum::is_null) {
        return Ok(Vec::new());
    }
    let pieces = split_pieces(a, "regexp_split_to_table")?;
    Ok(pieces.into_iter().map(|p| vec![p]).collect())
}

/// `substring(text from pattern)`
fn substring(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let regex = compile(a.text(1)?, "")?;
    let group = usize::from(regex.captures_len() > 1);
    Ok(regex
        .captures(a.text(0)?)
        .and_then(|m| m.get(group))
        .map_or(Datum::Null, |m| Datum::text(m.as_str())))
}
/// `substring(text similar pattern escape e)`
fn substring_similar(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    let escaped = super::pattern::similar_to_escape(cx, a.get(1..).unwrap_or(&[]))?;
    substring(cx, &[a.datum(0).clone(), escaped])
}

fn regexp_like(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let (flags, global) = flags(a, 2)?;
    no_global(global, "regexp_like")?;
    Ok(Datum::Bool(
        compile(a.text(1)?, &flags)?.is_match(a.text(0)?),
    ))
}
fn regexp_count(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let text = a.text(0)?;
    let from = if a.len() > 2 {
        start_offset(text, a.int(2)?)?
    } else {
        0
    };
    let (flags, global) = flags(a, 3)?;
    no_global(global, "regexp_count")?;
    let regex = compile(a.text(1)?, &flags)?;
    let rest = text.get(from..);
    Ok(Datum::Int4(
        rest.map_or(0, |t| regex.find_iter(t).count()) as i32
    ))
}

/// Checks the start and the number of the match, which come before the other arguments.
fn positions(a: &[Datum]) -> Result<(), SqlError> {
    if a.len() > 2 {
        positive(a.int(2)?, "start")?;
    }
    if a.len() > 3 {
        positive(a.int(3)?, "n")?;
    }
    Ok(())
}

/// The nth match from a position; the group's start and end.
fn nth_match(
    a: &[Datum],
    flag_at: usize,
    group: usize,
    function: &str,
) -> Result<Option<(usize, usize)>, SqlError> {
    let text = a.text(0)?;
    let from = if a.len() > 2 {
        start_offset(text, a.int(2)?)?
    } else {
        0
    };
    let nth = if a.len() > 3 { a.int(3)? } else { 1 };
    positive(nth, "n")?;
    let (flags, global) = flags(a, flag_at)?;
    no_global(global, function)?;
    let regex = compile(a.text(1)?, &flags)?;
    let Some(rest) = text.get(from..) else {
        return Ok(None);
    };
    Ok(regex
        .captures_iter(rest)
        .nth((nth - 1) as usize)
        .and_then(|m| m.get(group).map(|g| (g.start() + from, g.end() + from))))
}
fn regexp_substr(_: &dyn EvalContext, a: &[Datum]) -> Value {
    positions(a)?;
    let group = if a.len() > 5 { a.int(5)? } else { 0 };
    if group < 0 {
        return Err(invalid_parameter(format!(
            "invalid value for parameter \"subexpr\": {group}"
        )));
    }
    let found = nth_match(a, 4, group as usize, "regexp_substr")?;
    Ok(found
        .and_then(|(from, to)| a.text(0).ok()?.get(from..to).map(Datum::text))
        .unwrap_or_default())
}
fn regexp_instr(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let end = if a.len() > 4 { a.int(4)? } else { 0 };
    positions(a)?;
    if !(0..=1).contains(&end) {
        return Err(invalid_parameter(format!(
            "invalid value for parameter \"endoption\": {end}"
        )));
    }
    let group = if a.len() > 6 { a.int(6)? } else { 0 };
    if group < 0 {
        return Err(invalid_parameter(format!(
            "invalid value for parameter \"subexpr\": {group}"
        )));
    }
    let text = a.text(0)?;
    Ok(Datum::Int4(
        match nth_match(a, 5, group as usize, "regexp_instr")? {
            Some((from, to)) => {
                let at = if end == 1 { to } else { from };
                char_count(text.get(..at).unwrap_or("")) as i32 + 1
            }
            None => 0,
        },
    ))
}

pub(super) const SCALARS: &[Scalar] = &[
    ("regexp_match", regexp_match),
    ("regexp_match_no_flags", regexp_match),
    ("textregexreplace", regexp_replace),
    ("textregexreplace_noopt", regexp_replace),
    ("textregexreplace_extended", regexp_replace_at),
    ("textregexreplace_extended_no_flags", regexp_replace_at),
    ("textregexreplace_extended_no_n", regexp_replace_at),
    ("regexp_split_to_array", split_to_array),
    ("regexp_split_to_array_no_flags", split_to_array),
    ("textregexsubstr", substring),
    ("sql_2074", substring_similar),
    ("regexp_like", regexp_like),
    ("regexp_like_no_flags", regexp_like),
    ("regexp_count", regexp_count),
    ("regexp_count_no_start", regexp_count),
    ("regexp_count_no_flags", regexp_count),
    ("regexp_substr", regexp_substr),
    ("regexp_substr_no_start", regexp_substr),
    ("regexp_substr_no_n", regexp_substr),
    ("regexp_substr_no_flags", regexp_substr),
    ("regexp_substr_no_subexpr", regexp_substr),
    ("regexp_instr", regexp_instr),
    ("regexp_instr_no_start", regexp_instr),
    ("regexp_instr_no_n", regexp_instr),
    ("regexp_instr_no_endoption", regexp_instr),
    ("regexp_instr_no_flags", regexp_instr),
    ("regexp_instr_no_subexpr", regexp_instr),
];

pub(super) const SETS: &[Set] = &[
    ("regexp_matches", regexp_matches, &[]),
    ("regexp_matches_no_flags", regexp_matches, &[]),
    ("regexp_split_to_table", split_to_table, &[]),
    ("regexp_split_to_table_no_flags", split_to_table, &[]),
];
