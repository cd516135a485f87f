//! `to_char` and `to_number` on numbers.

use crate::error::{SqlError, SqlState};
use crate::types::body::Args;
use crate::types::datum::Datum;
use crate::types::numeric::Numeric;
use crate::types::oid::{Oid, PgType};
use crate::types::typmod;

fn syntax(message: &str) -> SqlError {
    SqlError::new(SqlState::SYNTAX_ERROR, message.to_owned())
}

#[derive(Clone, PartialEq, Debug)]
enum Mark {
    Nine,
    Zero,
    Point,
    Group,
    Literal(char),
    Sign,
    Minus,
    Plus,
    Either,
    Ordinal(bool),
    Currency,
}

#[derive(Default)]
struct Template {
    marks: Vec<Mark>,
    fill: bool,
    angle: bool,
    roman: Option<bool>,
    scientific: bool,
    shift: usize,
    integer: usize,
    fraction: usize,
    zero_start: Option<usize>,
}

fn cut(text: &str) -> Result<Template, SqlError> {
    let mut out = Template::default();
    let mut rest = text;
    let mut point = false;
    let mut shifted = false;
    while let Some(c) = rest.chars().next() {
        let upper: String = rest
            .chars()
            .take(4)
            .collect::<String>()
            .to_ascii_uppercase();
        let (mark, length) = if upper.starts_with("EEEE") {
            out.scientific = true;
            (None, 4)
        } else if upper.starts_with("FM") {
            out.fill = true;
            (None, 2)
        } else if upper.starts_with("PR") {
            out.angle = true;
            (None, 2)
        } else if upper.starts_with("RN") {
            out.roman = Some(c == 'R');
            (None, 2)
        } else if upper.starts_with("MI") {
            (Some(Mark::Minus), 2)
        } else if upper.starts_with("PL") {
            (Some(Mark::Plus), 2)
        } else if upper.starts_with("SG") {
            (Some(Mark::Either), 2)
        } else if upper.starts_with("TH") {
            (Some(Mark::Ordinal(c == 'T')), 2)
        } else if c == '"' {
            let tail = rest.get(1..).unwrap_or("");
            let end = tail.find('"').unwrap_or(tail.len());
            out.marks
                .extend(tail.get(..end).unwrap_or("").chars().map(Mark::Literal));
            rest = tail.get(end + 1..).unwrap_or("");
            continue;
        } else {
            let mark = match c.to_ascii_uppercase() {
                '9' | '0' => {
                    let digit = if point || shifted {
                        &mut out.fraction
                    } else {
                        &mut out.integer
                    };
                    if shifted {
                        out.shift += 1;
                    } else {
                        *digit += 1;
                    }
                    if c == '0' && !point && out.zero_start.is_none() {
                        out.zero_start = Some(out.integer);
                    }
                    if c == '0' { Mark::Zero } else { Mark::Nine }
                }
                '.' | 'D' => {
                    if point {
                        return Err(syntax("multiple decimal points"));
                    }
                    point = true;
                    Mark::Point
                }
                ',' | 'G' => Mark::Group,
                'S' => Mark::Sign,
                'L' => Mark::Currency,
                'V' => {
                    shifted = true;
                    rest = rest.get(1..).unwrap_or("");
                    continue;
                }
                'B' => {
                    rest = rest.get(1..).unwrap_or("");
                    continue;
                }
                _ => Mark::Literal(c),
            };
            (Some(mark), c.len_utf8())
        };
        out.marks.extend(mark);
        rest = rest.get(length..).unwrap_or("");
    }
    if out.shift > 0 {
        out.integer += out.shift;
    }
    Ok(out)
}

fn roman(value: i64, upper: bool, fill: bool) -> String {
    const PARTS: [(i64, &str); 13] = [
        (1000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ];
    let mut out = String::new();
    if !(1..4000).contains(&value) {
        out = "#".repeat(15);
    } else {
        let mut rest = value;
        for (n, letters) in PARTS {
            while rest >= n {
                out.push_str(letters);
                rest -= n;
            }
        }
    }
    let out = if upper { out } else { out.to_lowercase() };
    if fill { out } else { format!("{out:>15}") }
}

fn numeric(value: &Datum) -> Result<Numeric, SqlError> {
    let args = std::slice::from_ref(value);
    Ok(match value {
        Datum::Float4(v) => Numeric::from_f64(f64::from(*v), 6),
        Datum::Float8(v) => Numeric::from_f64(*v, 15),
        _ => args.numeric(0)?,
    })
}

/// `to_char(number, template)`.
pub(super) fn write(value: &Datum, text: &str) -> Result<String, SqlError> {
    let template = cut(text)?;
    let number = numeric(value)?;
    if let Some(upper) = template.roman {
        let whole = match value {
            Datum::Float4(v) => f64::from(*v).round_ties_even() as i64,
            Datum::Float8(v) => v.round_ties_even() as i64,
            _ => number.round(0).to_i64().unwrap_or(0),
        };
        return Ok(roman(whole, upper, template.fill));
    }
    if template.scientific {
        return Ok(scientific(&number, &template));
    }
    let shifted = number.scaled_by_ten(template.shift as i32);
    let rounded = shifted.rescale(template.fraction as u16);
    // a float that rounds to zero keeps its sign, a numeric does not
    let float = matches!(value, Datum::Float4(_) | Datum::Float8(_));
    let negative = number.signum() < 0 && (float || rounded.signum() < 0);
    let mut digits = String::new();
    rounded.abs().write(&mut digits);
    let (integer, fraction) = match digits.split_once('.') {
        Some((i, f)) => (i.to_owned(), f.to_owned()),
        None => (digits, String::new()),
    };
    let integer = if integer == "0" {
        String::new()
    } else {
        integer
    };
    let overflow = integer.len() > template.integer || !number.is_finite();
    Ok(lay_out(&template, &integer, &fraction, negative, overflow))
}

/// Fills the digits into the marks.
fn lay_out(
    template: &Template,
    integer: &str,
    fraction: &str,
    negative: bool,
    overflow: bool,
) -> String {
    let mut out = String::new();
    let pad = template.integer.saturating_sub(integer.len());
    let zero_from = template.zero_start.map_or(usize::MAX, |z| z - 1);
    let has_sign = template
        .marks
        .iter()
        .any(|m| matches!(m, Mark::Sign | Mark::Minus | Mark::Plus | Mark::Either));
    let first_digit = template
        .marks
        .iter()
        .position(|m| matches!(m, Mark::Nine | Mark::Zero | Mark::Point));
    let sign_after = template.marks.iter().position(|m| *m == Mark::Sign) > first_digit;
    let leading_sign = template.marks.contains(&Mark::Sign) && !sign_after;
    let mut sign_text = if template.angle {
        if negative { "<" } else { " " }
    } else if leading_sign {
        if negative { "-" } else { "+" }
    } else if has_sign {
        ""
    } else if negative {
        "-"
    } else {
        " "
    };
    if template.fill && sign_text == " " {
        sign_text = "";
    }
    // digits after the point that FM keeps: up to the last 0 of the template or nonzero digit
    let kept_fraction = kept(template, fraction);
    let mut position = 0;
    let mut fraction_at = 0;
    let mut started = false;
    let mut sign_written = sign_text.is_empty();
    for mark in &template.marks {
        match mark {
            Mark::Nine | Mark::Zero if position < template.integer => {
                let digit = if position >= pad {
                    integer
                        .as_bytes()
                        .get(position - pad)
                        .map(|b| char::from(*b))
                } else if position >= zero_from {
                    Some('0')
                } else if position + 1 == template.integer && !has_fraction(template) {
                    Some('0')
                } else {
                    None
                };
                match digit {
                    Some(d) => {
                        if !sign_written {
                            out.push_str(sign_text);
                            sign_written = true;
                        }
                        started = true;
                        out.push(if overflow { '#' } else { d });
                    }
                    None if overflow => {
                        if !sign_written {
                            out.push_str(sign_text);
                            sign_written = true;
                        }
                        out.push('#');
                    }
                    None if !template.fill => out.push(' '),
                    None => {}
                }
                position += 1;
            }
            Mark::Nine | Mark::Zero => {
                let digit = fraction
                    .as_bytes()
                    .get(fraction_at)
                    .map_or('0', |b| char::from(*b));
                if !template.fill || fraction_at < kept_fraction {
                    out.push(if overflow { '#' } else { digit });
                }
                fraction_at += 1;
            }
            Mark::Point => {
                if !sign_written {
                    out.push_str(sign_text);
                    sign_written = true;
                }
                out.push('.');
            }
            Mark::Group => {
                if started || overflow {
                    out.push(',');
                } else if !template.fill {
                    out.push(' ');
                }
            }
            Mark::Literal(c) => out.push(*c),
            Mark::Sign if sign_after => out.push(if negative { '-' } else { '+' }),
            Mark::Sign => {}
            Mark::Minus => {
                if negative {
                    out.push('-');
                } else if !template.fill {
                    out.push(' ');
                }
            }
            Mark::Plus => {
                if !negative {
                    out.push('+');
                } else if !template.fill {
                    out.push(' ');
                }
            }
            Mark::Either => out.push(if negative { '-' } else { '+' }),
            Mark::Ordinal(upper) => {
                if !negative && !overflow && fraction.is_empty() {
                    let text = if integer.is_empty() { "0" } else { integer };
                    out.push_str(ordinal(text, *upper));
                }
            }
            Mark::Currency => out.push(if template.fill { '$' } else { ' ' }),
        }
    }
    if template.angle {
        if negative {
            out.push('>');
        } else if !template.fill {
            out.push(' ');
        }
    }
    out
}

fn has_fraction(template: &Template) -> bool {
    template.fraction > 0
}

fn kept(template: &Template, fraction: &str) -> usize {
    let mut at = 0;
    let mut last = 0;
    let mut seen_point = false;
    for mark in &template.marks {
        match mark {
            Mark::Point => seen_point = true,
            Mark::Zero if seen_point => {
                at += 1;
                last = at;
            }
            Mark::Nine if seen_point => {
                at += 1;
                if fraction.as_bytes().get(at - 1).is_some_and(|b| *b != b'0') {
                    last = at;
                }
            }
            _ => {}
        }
    }
    last
}

fn ordinal(digits: &str, upper: bool) -> &'static str {
    let teens = digits.len() > 1 && digits.as_bytes().iter().rev().nth(1) == Some(&b'1');
    let (low, high) = match digits.as_bytes().last() {
        Some(b'1') if !teens => ("st", "ST"),
        Some(b'2') if !teens => ("nd", "ND"),
        Some(b'3') if !teens => ("rd", "RD"),
        _ => ("th", "TH"),
    };
    if upper { high } else { low }
}

fn scientific(number: &Numeric, template: &Template) -> String {
    if !number.is_finite() {
        return "#".repeat(template.integer + template.fraction + 6);
    }
    let mut digits = String::new();
    number.abs().write(&mut digits);
    let value: f64 = digits.parse().unwrap_or(0.0);
    let text = format!("{:.*e}", template.fraction, value);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if number.signum() < 0 {
        "-"
    } else if template.fill {
        ""
    } else {
        " "
    };
    format!(
        "{sign}{mantissa}e{}{:02}",
        if exponent < 0 { '-' } else { '+' },
        exponent.abs()
    )
}

/// `to_number(text, template)`.
pub(super) fn read(text: &str, template: &str) -> Result<Numeric, SqlError> {
    let template = cut(template)?;
    let mut digits = String::new();
    let mut negative = false;
    let mut chars = text.chars().peekable();
    let mut point = false;
    let skip_sign = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>, negative: &mut bool| {
        while let Some(c) = chars.peek().copied() {
            match c {
                '-' | '<' => *negative = true,
                '+' | ' ' => {}
                _ => break,
            }
            chars.next();
        }
    };
    skip_sign(&mut chars, &mut negative);
    for mark in &template.marks {
        match mark {
            Mark::Nine | Mark::Zero => {
                // whatever stands in the place of a digit takes that place
                match chars.peek().copied() {
                    Some('.') if template.marks.contains(&Mark::Point) => {}
                    Some('-' | '<') => {
                        negative = true;
                        chars.next();
                    }
                    Some(c) => {
                        if c.is_ascii_digit() {
                            digits.push(c);
                        }
                        chars.next();
                    }
                    None => {}
                }
            }
            Mark::Point => {
                if chars.peek() == Some(&'.') {
                    chars.next();
                    if !point {
                        digits.push('.');
                    }
                    point = true;
                }
            }
            Mark::Group => {
                if chars.peek() == Some(&',') {
                    chars.next();
                }
            }
            Mark::Literal(_) | Mark::Currency => {
                if chars.peek().is_some_and(|c| !c.is_ascii_digit()) {
                    chars.next();
                }
            }
            Mark::Sign | Mark::Minus | Mark::Either | Mark::Plus => {
                if chars.peek() == Some(&'-') {
                    negative = true;
                    chars.next();
                } else if chars.peek() == Some(&'+') {
                    chars.next();
                }
            }
            Mark::Ordinal(_) => {
                chars.next();
                chars.next();
            }
        }
    }
    if digits.is_empty() || digits == "." {
        return Err(crate::types::fault::invalid_input("numeric", text.trim()));
    }
    let scale = digits
        .split_once('.')
        .map_or(0, |(_, f)| f.len().min(template.fraction));
    let ty = PgType::with_typmod(
        Oid::NUMERIC,
        typmod::numeric((template.integer + scale) as i32, scale as i32),
    );
    let value = match typmod::apply(Datum::Numeric(Numeric::parse(&digits)?), ty, true)? {
        Datum::Numeric(v) => v,
        _ => return Ok(Numeric::ZERO),
    };
    let value = if template.shift > 0 {
        value.scaled_by_ten(-(template.shift as i32))
    } else {
        value
    };
    Ok(if negative { value.neg() } else { value })
}
