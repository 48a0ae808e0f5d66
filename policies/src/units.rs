use std::time::Duration;

use serde::Serializer;

const DURATION_UNITS: &[(&str, u64)] =
    &[("w", 604_800), ("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];

const SIZE_UNITS: &[(&str, u64)] =
    &[("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Why a text is no duration or size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnitError {
    #[error("a number and a unit are needed")]
    Shape,
    #[error("the unit is missing")]
    NoUnit,
    #[error("the unit is unknown")]
    UnknownUnit,
    #[error("the units must go from large to small, each at most once")]
    Order,
    #[error("the number is too large")]
    TooLarge,
}

/// Reads a duration such as `30s`, `5m`, `26h`, `30d`, `6w` or `1h30m`.
///
/// A day is 24 hours, a week 7 days. There are no months: their length differs.
pub(crate) fn duration(text: &str) -> Result<Duration, UnitError> {
    let mut rest = text;
    let mut total: u64 = 0;
    let mut smallest = u64::MAX;
    while !rest.is_empty() || smallest == u64::MAX {
        let (count, after) = split_number(rest)?;
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let factor = factor(&after[..end], DURATION_UNITS)?;
        if factor >= smallest {
            return Err(UnitError::Order);
        }
        smallest = factor;
        total = count
            .checked_mul(factor)
            .and_then(|part| total.checked_add(part))
            .ok_or(UnitError::TooLarge)?;
        rest = &after[end..];
    }
    Ok(Duration::from_secs(total))
}

/// Reads a size in bytes such as `16MiB`: `B`, `KiB`, `MiB` or `GiB`.
pub(crate) fn size(text: &str) -> Result<u64, UnitError> {
    let (count, unit) = split_number(text)?;
    count.checked_mul(factor(unit, SIZE_UNITS)?).ok_or(UnitError::TooLarge)
}

fn split_number(text: &str) -> Result<(u64, &str), UnitError> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if digits.is_empty() {
        return Err(UnitError::Shape);
    }
    Ok((digits.parse().map_err(|_| UnitError::TooLarge)?, rest))
}

fn factor(unit: &str, units: &[(&str, u64)]) -> Result<u64, UnitError> {
    if unit.is_empty() {
        return Err(UnitError::NoUnit);
    }
    let found = units.iter().find(|(name, _)| *name == unit);
    found.map(|(_, factor)| *factor).ok_or(UnitError::UnknownUnit)
}

/// The duration as one would write it: the largest unit that divides it.
pub(crate) fn show_duration(seconds: u64) -> String {
    show(seconds, DURATION_UNITS)
}

/// The size as one would write it: the largest unit that divides it.
pub(crate) fn show_size(bytes: u64) -> String {
    show(bytes, SIZE_UNITS)
}

fn show(value: u64, units: &[(&str, u64)]) -> String {
    let fits = |(_, factor): &&(&str, u64)| value >= *factor && value.is_multiple_of(*factor);
    let (name, factor) = units.iter().find(fits).or(units.last()).copied().unwrap_or(("", 1));
    format!("{}{name}", value / factor)
}

pub(crate) fn as_seconds<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(value.as_secs())
}

pub(crate) fn as_optional_seconds<S: Serializer>(
    value: &Option<Duration>,
    to: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => to.serialize_some(&value.as_secs()),
        None => to.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let cases = [
            ("30s", Ok(30)),
            ("5m", Ok(300)),
            ("26h", Ok(93_600)),
            ("30d", Ok(2_592_000)),
            ("6w", Ok(3_628_800)),
            ("1h30m", Ok(5_400)),
            ("0s", Ok(0)),
            ("", Err(UnitError::Shape)),
            ("h", Err(UnitError::Shape)),
            ("-1h", Err(UnitError::Shape)),
            ("30", Err(UnitError::NoUnit)),
            ("1h30", Err(UnitError::NoUnit)),
            ("3y", Err(UnitError::UnknownUnit)),
            ("5M", Err(UnitError::UnknownUnit)),
            ("1 h", Err(UnitError::UnknownUnit)),
            ("1.5h", Err(UnitError::UnknownUnit)),
            ("5m1h", Err(UnitError::Order)),
            ("1h1h", Err(UnitError::Order)),
            ("99999999999999999999s", Err(UnitError::TooLarge)),
            ("9999999999999999999w", Err(UnitError::TooLarge)),
        ];
        for (text, expected) in cases {
            assert_eq!(duration(text).map(|d| d.as_secs()), expected, "{text}");
        }
    }

    #[test]
    fn sizes() {
        let cases = [
            ("16MiB", Ok(16 << 20)),
            ("1KiB", Ok(1024)),
            ("7B", Ok(7)),
            ("1GiB", Ok(1 << 30)),
            ("16", Err(UnitError::NoUnit)),
            ("16MB", Err(UnitError::UnknownUnit)),
            ("MiB", Err(UnitError::Shape)),
            ("99999999999999999GiB", Err(UnitError::TooLarge)),
        ];
        for (text, expected) in cases {
            assert_eq!(size(text), expected, "{text}");
        }
    }

    #[test]
    fn shown_as_written() {
        assert_eq!(show_duration(86_400), "1d");
        assert_eq!(show_duration(5_400), "90m");
        assert_eq!(show_duration(0), "0s");
        assert_eq!(show_size(16 << 20), "16MiB");
        assert_eq!(show_size(1_000), "1000B");
    }
}
