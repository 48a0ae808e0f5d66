//! The time zone of the machine: what `TZ` says must be one.

use std::path::Path;

use drctl_model::shown;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Where the system's zone stands.
const SYSTEM: &str = "/etc/localtime";

/// The machine's time zone.
///
/// # Errors
/// In words, where `TZ` names none: C libraries take UTC then, without a word.
pub(crate) fn here() -> Result<TimeZone, String> {
    match std::env::var_os("TZ") {
        Some(name) => {
            let name = name.to_string_lossy();
            named(&name)
                .ok_or_else(|| format!("TZ is `{}`, which names no time zone", shown(&name, 60)))
        }
        // As every program shows times then.
        None if !Path::new(SYSTEM).exists() => Ok(TimeZone::UTC),
        None => {
            TimeZone::try_system().map_err(|_| format!("{SYSTEM} is no time zone that can be read"))
        }
    }
}

/// The same, to show times in: UTC where it is none.
pub(crate) fn shown_in() -> TimeZone {
    here().unwrap_or(TimeZone::UTC)
}

/// A moment in UTC and in the machine's own time zone.
pub(crate) fn both(at: Timestamp) -> String {
    let here = at.to_zoned(shown_in());
    format!("{at} ({})", here.strftime("%Y-%m-%d %H:%M:%S %Z"))
}

/// What a value of `TZ` means (POSIX.1, 8.3): a zone's name, a file of one, or a rule. A rule for
/// summer time must say when that is: without, every system has other days in mind.
fn named(text: &str) -> Option<TimeZone> {
    let text = text.strip_prefix(':').unwrap_or(text);
    if text.is_empty() {
        return Some(TimeZone::UTC);
    }
    if text.starts_with('/') {
        return TimeZone::tzif(text, &std::fs::read(text).ok()?).ok();
    }
    let zone = TimeZone::get(text).or_else(|_| TimeZone::posix(text)).ok()?;
    (!zone.is_unknown()).then_some(zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_no_zone_is_not_taken_for_utc() {
        for text in
            ["CET-1CEST", "Europe/Berln", "Europe", "x", "/nonexistent", "+01:00", "Etc/Unknown"]
        {
            assert!(named(text).is_none(), "{text}");
        }
        let at: jiff::Timestamp = "2026-07-01T00:00:00Z".parse().unwrap();
        let hours = |text: &str| named(text).map(|zone| zone.to_offset(at).seconds() / 3600);
        for (text, expected) in [
            ("", 0),
            ("UTC", 0),
            ("UTC0", 0),
            ("Europe/Berlin", 2),
            (":Europe/Berlin", 2),
            ("EST5", -5),
            ("CET-1CEST,M3.5.0,M10.5.0/3", 2),
        ] {
            assert_eq!(hours(text), Some(expected), "{text}");
        }
    }
}
