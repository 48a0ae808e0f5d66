//! Words of a command as a shell takes them.

use std::path::Path;

use drctl_model::shown;

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

/// A text as one word for bash, which people may see: what a terminal would obey is written as bytes.
pub(crate) fn bash_word(text: &str) -> String {
    let one = |c: char| {
        let mut bytes = [0; 4];
        let text: &str = c.encode_utf8(&mut bytes);
        match c {
            '\\' | '\'' => format!("\\{c}"),
            _ if shown(text, 1) == text => text.to_owned(),
            _ => text.bytes().map(|byte| format!("\\x{byte:02x}")).collect(),
        }
    };
    match shown(text, usize::MAX) == text {
        true => quoted(text),
        false => format!("$'{}'", text.chars().map(one).collect::<String>()),
    }
}

/// A text as one word that people see and paste, whoever chose it.
pub(crate) fn paste_word(text: &str) -> String {
    match shown(text, usize::MAX) == text {
        true => word(text),
        false => bash_word(text),
    }
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
    fn what_a_terminal_would_obey_is_written_as_bytes() {
        assert_eq!(bash_word("/a b"), "'/a b'");
        for text in ["/a\nrm 'x'", "/\u{202e}b\\", "\u{61c}"] {
            let word = bash_word(text);
            assert_eq!(shown(&word, usize::MAX), word);
            let mut bash = std::process::Command::new("bash");
            let said = bash.arg("-c").arg(format!("printf %s {word}")).output().unwrap();
            assert_eq!(said.stdout, text.as_bytes(), "{word}");
        }
    }

    #[test]
    fn signs_of_the_server_mean_nothing_in_a_path() {
        let path = Path::new("/etc/5%fee/%p%%/o'clock.toml");
        assert_eq!(server_word(path), "'/etc/5%%fee/%%p%%%%/o'\\''clock.toml'");
    }
}
