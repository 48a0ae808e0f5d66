//! Words of a command as a shell takes them.

use std::path::Path;

/// A text as one word, quoted where it has to be.
pub(crate) fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@=+,".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => quoted(text),
    }
}

/// The same, quoted in any case.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A path in a command that the server runs (`archive_command`, `restore_command`): `%` begins words
/// of the server's own, unless it is doubled.
pub(crate) fn server_word(path: &Path) -> String {
    word(&path.display().to_string()).replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(word("2026-03-01T01:12:40Z"), "2026-03-01T01:12:40Z");
        assert_eq!(word("before the mistake"), "'before the mistake'");
        assert_eq!(word("it's"), "'it'\\''s'");
        assert_eq!(word(""), "''");
    }

    #[test]
    fn signs_of_the_server_mean_nothing_in_a_path() {
        let path = Path::new("/etc/5%fee/%p%%/o'clock.toml");
        assert_eq!(server_word(path), "'/etc/5%%fee/%%p%%%%/o'\\''clock.toml'");
    }
}
