//! Figures as people read them.

/// Bytes for people: `5.6 GiB`.
#[must_use]
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A number with thousands set apart: `1 234 567`.
#[must_use]
pub(crate) fn number(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A number of things: `1 table`, `2 tables`.
#[must_use]
pub(crate) fn count(count: u64, thing: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{} {thing}{ending}", number(count))
}

/// A span of time for people: `3 h 12 min`, `42 s`, `0.3 s`.
#[must_use]
pub(crate) fn span(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "shown only")]
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..=9 => format!("{:.1} s", seconds.max(0.0)),
        10..=119 => format!("{whole} s"),
        120..=7199 => format!("{} min", whole / 60),
        7200..=172_799 => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {} h", whole / 86_400, whole % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_true() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(6_012_954_214), "5.6 GiB");
        assert_eq!(number(0), "0");
        assert_eq!(number(1_234_567), "1 234 567");
        assert_eq!(span(0.34), "0.3 s");
        assert_eq!(span(11_520.0), "3 h 12 min");
        assert_eq!(span(f64::from(86_400 * 3)), "3 d 0 h");
    }
}
