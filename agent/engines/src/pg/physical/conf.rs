//! Text of PostgreSQL's configuration: lines as its own reader takes them (`guc-file.l`), and values
//! written so that it reads what is meant.

/// A value as it stands behind `=`: whatever is in it, it ends where it ends.
#[must_use]
pub fn quoted(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 2);
    text.push('\'');
    for one in value.chars() {
        match one {
            '\'' => text.push_str("''"),
            '\\' => text.push_str("\\\\"),
            // A line ends where the string does not.
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            one => text.push(one),
        }
    }
    text.push('\'');
    text
}

/// A line that sets a value, with its end.
pub(crate) fn line(name: &str, value: &str) -> String {
    format!("{name} = {}\n", quoted(value))
}

/// What a line sets, in lower case: a comment or an empty line sets nothing.
pub(crate) fn name(line: &str) -> Option<String> {
    let line = line.trim_start();
    let end = line.find(|c: char| c == '=' || c == '\'' || c == '#' || c.is_whitespace());
    let name = &line[..end.unwrap_or(line.len())];
    (!name.is_empty()).then(|| name.to_ascii_lowercase())
}

/// What a line sets to what.
pub(crate) fn setting(line: &str) -> Option<(String, String)> {
    let name = name(line)?;
    let rest = line.trim_start()[name.len()..].trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
    let value = match rest.strip_prefix('\'') {
        Some(quoted) => unquoted(quoted),
        None => rest.split(|c: char| c == '#' || c.is_whitespace()).next()?.to_owned(),
    };
    Some((name, value))
}

/// What stands between apostrophes, the first of which was read, as `DeescapeQuotedString` reads it.
fn unquoted(text: &str) -> String {
    let (mut value, mut rest) = (String::new(), text.chars().peekable());
    while let Some(one) = rest.next() {
        match one {
            '\'' if rest.next_if_eq(&'\'').is_some() => value.push('\''),
            '\'' => break,
            '\\' => match rest.next() {
                Some('b') => value.push('\u{8}'),
                Some('f') => value.push('\u{c}'),
                Some('n') => value.push('\n'),
                Some('r') => value.push('\r'),
                Some('t') => value.push('\t'),
                Some(digit) if digit.is_digit(8) => {
                    let mut number = digit.to_digit(8).unwrap_or_default();
                    for _ in 0..2 {
                        let Some(more) = rest.peek().and_then(|c| c.to_digit(8)) else { break };
                        number = number * 8 + more;
                        rest.next();
                    }
                    value.push(char::from(u8::try_from(number & 0xff).unwrap_or_default()));
                }
                Some(other) => value.push(other),
                None => break,
            },
            one => value.push(one),
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_read_as_the_server_reads_them() {
        for (line, name, value) in [
            ("work_mem = 5MB # much", "work_mem", "5MB"),
            (" Archive_Command='it''s %p'", "archive_command", "it's %p"),
            ("data_directory\t'/srv/a b'  # here", "data_directory", "/srv/a b"),
            ("x = 'a\\'b\\\\c\\101\\n'", "x", "a'b\\cA\n"),
            ("include 'x.conf'", "include", "x.conf"),
            ("my.own = on", "my.own", "on"),
        ] {
            assert_eq!(setting(line), Some((name.to_owned(), value.to_owned())), "{line}");
        }
        for line in ["", "  ", "# work_mem = 5MB", "\t#x"] {
            assert_eq!(setting(line), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read(
            value in proptest::collection::vec(any::<char>(), 0..40),
            more in "[ -~]{0,9}",
        ) {
            let value: String = value.into_iter().filter(|one| *one != '\0').collect();
            let text = line("recovery_target_name", &value);
            prop_assert_eq!(text.matches('\n').count(), 1);
            let name = "recovery_target_name".to_owned();
            prop_assert_eq!(setting(&text), Some((name, value)));
            // Those that decide are tried more often: apostrophes and backslashes, side by side.
            let hard = format!("\\'{more}'\\{more}\\");
            prop_assert_eq!(setting(&line("x", &hard)), Some(("x".to_owned(), hard)));
        }
    }
}
