//! Text forms of the simple types.

use crate::error::{SqlError, SqlState};
use crate::types::fault::{invalid_input, text_out_of_range};

/// Input of the integer types: digits with a sign, space around allowed.
pub fn parse_integer(text: &str, ty: &str, min: i64, max: i64) -> Result<i64, SqlError> {
    let trimmed = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
    let digits = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid_input(ty, text));
    }
    match trimmed.parse::<i64>() {
        Ok(v) if (min..=max).contains(&v) => Ok(v),
        _ => Err(text_out_of_range(text, ty)),
    }
}

/// Input of `float8` (and of `float4` by its name).
pub fn parse_float(text: &str, ty: &str) -> Result<f64, SqlError> {
    let trimmed = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
    let unsigned = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
    let negative = trimmed.starts_with('-');
    match unsigned.as_bytes().first() {
        Some(b'0'..=b'9' | b'.') => {}
        _ => {
            let signed = |v: f64| if negative { -v } else { v };
            return match unsigned.to_ascii_lowercase().as_str() {
                "nan" => Ok(f64::NAN),
                "infinity" | "inf" => Ok(signed(f64::INFINITY)),
                _ => Err(invalid_input(ty, text)),
            };
        }
    }
    let value = if ty == "real" {
        trimmed.parse::<f32>().map(f64::from)
    } else {
        trimmed.parse::<f64>()
    }
    .map_err(|_| invalid_input(ty, text))?;
    let nonzero = unsigned
        .split(['e', 'E'])
        .next()
        .is_some_and(|m| m.bytes().any(|b| (b'1'..=b'9').contains(&b)));
    if value.is_infinite() || (value == 0.0 && nonzero) {
        return Err(SqlError::new(
            SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
            format!("\"{text}\" is out of range for type {ty}"),
        ));
    }
    Ok(value)
}

/// Input of `bool`.
pub fn parse_bool(text: &str) -> Result<bool, SqlError> {
    let word = text.trim().to_ascii_lowercase();
    let prefix = |of: &str, min: usize| word.len() >= min && of.starts_with(&word);
    if word == "1" || word == "on" || prefix("true", 1) || prefix("yes", 1) {
        Ok(true)
    } else if word == "0" || prefix("off", 2) || prefix("false", 1) || prefix("no", 1) {
        Ok(false)
    } else {
        Err(invalid_input("boolean", text))
    }
}

/// Input of `uuid`.
pub fn parse_uuid(text: &str) -> Result<[u8; 16], SqlError> {
    let bad = || invalid_input("uuid", text);
    let body = match text.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}').ok_or_else(bad)?,
        None => text,
    };
    let mut out = [0u8; 16];
    let mut bytes = body.bytes().peekable();
    for (i, byte) in out.iter_mut().enumerate() {
        if i > 0 && i % 2 == 0 && bytes.peek() == Some(&b'-') {
            bytes.next();
        }
        let mut digit = || {
            bytes
                .next()
                .and_then(|b| char::from(b).to_digit(16))
                .map(|d| d as u8)
                .ok_or_else(bad)
        };
        *byte = digit()? * 16 + digit()?;
    }
    if bytes.next().is_some() {
        Err(bad())
    } else {
        Ok(out)
    }
}

/// Output of `uuid`.
pub fn write_uuid(value: &[u8; 16], out: &mut String) {
    for (i, byte) in value.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        push_hex(*byte, out);
    }
}

/// Two lower-case digits.
pub(crate) fn push_hex(byte: u8, out: &mut String) {
    for digit in [byte >> 4, byte & 15] {
        out.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
    }
}

/// Input of `bytea`, hex or escape form.
pub fn parse_bytea(text: &str) -> Result<Vec<u8>, SqlError> {
    let bad = |message: String| SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message);
    if let Some(hex) = text.strip_prefix("\\x") {
        let mut out = Vec::with_capacity(hex.len() / 2);
        let mut chars = hex.chars().filter(|c| !c.is_ascii_whitespace());
        let digit = |c: char| {
            c.to_digit(16)
                .ok_or_else(|| bad(format!("invalid hexadecimal digit: \"{c}\"")))
        };
        while let Some(high) = chars.next() {
            let high = digit(high)?;
            let Some(low) = chars.next() else {
                return Err(bad(
                    "invalid hexadecimal data: odd number of digits".to_owned()
                ));
            };
            out.push((high * 16 + digit(low)?) as u8);
        }
        return Ok(out);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while let Some(&b) = bytes.get(i) {
        if b != b'\\' {
            out.push(b);
            i += 1;
            continue;
        }
        match (bytes.get(i + 1), bytes.get(i + 2), bytes.get(i + 3)) {
            (Some(b'\\'), ..) => {
                out.push(b'\\');
                i += 2;
            }
            (Some(a @ b'0'..=b'3'), Some(b @ b'0'..=b'7'), Some(c @ b'0'..=b'7')) => {
                out.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                i += 4;
            }
            _ => {
                return Err(SqlError::new(
                    SqlState::INVALID_TEXT_REPRESENTATION,
                    "invalid input syntax for type bytea",
                ));
            }
        }
    }
    Ok(out)
}

/// Output of `bytea`, hex form.
pub fn write_bytea(value: &[u8], out: &mut String) {
    out.reserve(2 + value.len() * 2);
    out.push_str("\\x");
    for byte in value {
        push_hex(*byte, out);
    }
}

/// Output of `float8`: the shortest digits that read back as the same value.
pub fn write_float8(v: f64, out: &mut String) {
    if !special(v, out) {
        let mut buffer = ryu::Buffer::new();
        lay_out(buffer.format_finite(v), 15, out);
    }
}

/// Output of `float4`.
pub fn write_float4(v: f32, out: &mut String) {
    if !special(f64::from(v), out) {
        let mut buffer = ryu::Buffer::new();
        lay_out(buffer.format_finite(v), 6, out);
    }
}

fn special(v: f64, out: &mut String) -> bool {
    if v.is_nan() {
        out.push_str("NaN");
    } else if v.is_infinite() {
        out.push_str(if v > 0.0 { "Infinity" } else { "-Infinity" });
    } else if v == 0.0 {
        out.push_str(if v.is_sign_negative() { "-0" } else { "0" });
    } else {
        return false;
    }
    true
}

/// Brings ryu's text into PostgreSQL's layout: plain between 1e-4 and 10^limit.
fn lay_out(text: &str, limit: i32, out: &mut String) {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match text.split_once('e') {
        Some((m, e)) => (m, e.parse::<i32>().unwrap_or(0)),
        None => (text, 0),
    };
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = if fraction == "0" { "" } else { fraction };
    let mut digits = [0u8; 40];
    let mut length = 0;
    for b in integer.bytes().chain(fraction.bytes()) {
        if let Some(slot) = digits.get_mut(length) {
            *slot = b;
            length += 1;
        }
    }
    let all = digits.get(..length).unwrap_or(&[]);
    let zeros = all.iter().take_while(|b| **b == b'0').count();
    let point = integer.len() as i32 - zeros as i32 + exponent;
    let significant = all.get(zeros..).unwrap_or(&[]);
    let tail = significant.iter().rev().take_while(|b| **b == b'0').count();
    let significant = significant.get(..significant.len() - tail).unwrap_or(&[]);
    let shown = std::str::from_utf8(significant).unwrap_or("");
    if negative {
        out.push('-');
    }
    let exponent = point - 1;
    if exponent < -4 || exponent >= limit {
        let (first, rest) = shown.split_at_checked(1).unwrap_or((shown, ""));
        out.push_str(first);
        if !rest.is_empty() {
            out.push('.');
            out.push_str(rest);
        }
        out.push_str(if exponent < 0 { "e-" } else { "e+" });
        if exponent.abs() < 10 {
            out.push('0');
        }
        out.push_str(itoa::Buffer::new().format(exponent.abs()));
    } else if point <= 0 {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', (-point) as usize));
        out.push_str(shown);
    } else {
        let point = point as usize;
        if shown.len() <= point {
            out.push_str(shown);
            out.extend(std::iter::repeat_n('0', point - shown.len()));
        } else {
            let (integer, fraction) = shown.split_at_checked(point).unwrap_or((shown, ""));
            out.push_str(integer);
            out.push('.');
            out.push_str(fraction);
        }
    }
}
