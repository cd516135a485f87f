//! Values of the variable `TimeZone`.

use std::str::FromStr;

use crate::types::datetime::Zone;

/// Reads a zone: a name of the time zone database in any case, a number of hours, or an offset
/// (`+03:00` counts west of Greenwich as POSIX has it, like in PostgreSQL).
pub(crate) fn parse(text: &str) -> Option<Zone> {
    let text = text.trim();
    if let Ok(hours) = text.parse::<f64>() {
        return (hours.abs() <= 168.0).then(|| Zone::Fixed((hours * 3600.0) as i32));
    }
    if text.eq_ignore_ascii_case("z") || text.eq_ignore_ascii_case("utc") {
        return Some(Zone::Named(chrono_tz::UTC));
    }
    if let Ok(zone) = chrono_tz::Tz::from_str(text) {
        return Some(Zone::Named(zone));
    }
    let named = chrono_tz::TZ_VARIANTS
        .iter()
        .find(|z| z.name().eq_ignore_ascii_case(text));
    if let Some(zone) = named {
        return Some(Zone::Named(*zone));
    }
    posix(text)
}

/// `<+03>-03`, `UTC+3`, `+03:30`: letters or a bracketed name, then an offset counted west.
fn posix(text: &str) -> Option<Zone> {
    let rest = match text.strip_prefix('<') {
        Some(tail) => tail.split_once('>')?.1,
        None => text.trim_start_matches(|c: char| c.is_ascii_alphabetic()),
    };
    let (sign, digits) = match rest.split_at_checked(1)? {
        ("+", d) => (-1, d),
        ("-", d) => (1, d),
        _ => (-1, rest),
    };
    let mut seconds = 0;
    let mut unit = 3600;
    for part in digits.splitn(3, ':') {
        if part.is_empty() || part.len() > 3 {
            return None;
        }
        seconds += part.parse::<i32>().ok().filter(|n| *n >= 0)? * unit;
        unit /= 60;
    }
    (seconds <= 168 * 3600).then_some(Zone::Fixed(sign * seconds))
}

/// The zone as SHOW prints it.
pub(crate) fn spell(zone: &Zone) -> String {
    match zone {
        Zone::Named(zone) => zone.name().to_owned(),
        Zone::Fixed(seconds) => {
            let (east, west) = if *seconds < 0 { ('-', '+') } else { ('+', '-') };
            let minutes = seconds.abs() / 60;
            let tail = match minutes % 60 {
                0 => String::new(),
                m => format!(":{m:02}"),
            };
            let hours = minutes / 60;
            format!("<{east}{hours:02}{tail}>{west}{hours:02}{tail}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        let shown = |text: &str| parse(text).map(|z| spell(&z));
        assert_eq!(shown("europe/berlin").as_deref(), Some("Europe/Berlin"));
        assert_eq!(shown("3").as_deref(), Some("<+03>-03"));
        assert_eq!(shown("-3.5").as_deref(), Some("<-03:30>+03:30"));
        assert_eq!(parse("+03:00"), Some(Zone::Fixed(-3 * 3600)));
        assert_eq!(shown("<+03>-03").as_deref(), Some("<+03>-03"));
        assert_eq!(shown("nowhere"), None);
        assert_eq!(shown("Mars/Olympus"), None);
    }
}
