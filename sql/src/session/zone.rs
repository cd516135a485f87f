//! Values of the variable `TimeZone`.

use crate::types::datetime::Zone;

/// Reads a zone: a number of hours east, or a name as [`Zone::full_name`] takes it.
pub(crate) fn parse(text: &str) -> Option<Zone> {
    let text = text.trim();
    if let Ok(hours) = text.parse::<f64>() {
        return (hours.abs() <= 168.0).then(|| Zone::Fixed((hours * 3600.0) as i32));
    }
    if text.eq_ignore_ascii_case("z") {
        return Some(Zone::Named(chrono_tz::UTC));
    }
    Zone::full_name(text)
}

/// The zone as SHOW prints it.
pub(crate) fn spell(zone: &Zone) -> String {
    match zone {
        // A number of hours stays one.
        Zone::Fixed(0) => "<+00>-00".to_owned(),
        zone => zone.name(),
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
        assert_eq!(shown("0").as_deref(), Some("<+00>-00"));
        assert_eq!(shown("utc").as_deref(), Some("UTC"));
        assert_eq!(shown("-3.5").as_deref(), Some("<-03:30>+03:30"));
        assert_eq!(parse("+03:00"), Some(Zone::Fixed(-3 * 3600)));
        assert_eq!(shown("<+03>-03").as_deref(), Some("<+03>-03"));
        assert_eq!(shown("nowhere"), None);
        assert_eq!(shown("Mars/Olympus"), None);
    }
}
