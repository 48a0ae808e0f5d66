//! pgBackRest's configuration as text: whether a stanza is in it, and what is written for a new one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What stands in the first line of every file that drctl writes for pgBackRest.
const MARK: &str = "# Written by drctl for the source";

/// What stands in place of a passphrase where people can see it.
const HIDDEN: &str = "(the passphrase)";

/// A key and its value.
pub(super) type Setting = (String, String);

/// What a configuration says in a section; nothing where it has none of this name. As pgBackRest
/// reads it: `#` and `;` begin comments at the start of a line alone.
pub(super) fn section(text: &str, name: &str) -> Option<BTreeMap<String, String>> {
    let mut found = None;
    let mut here = false;
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(title) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            here = title == name;
            if here {
                found.get_or_insert_with(BTreeMap::new);
            }
            continue;
        }
        if let (true, Some((key, value)), Some(found)) = (here, line.split_once('='), &mut found) {
            found.insert(key.trim().to_owned(), value.trim().to_owned());
        }
    }
    found
}

/// Reads `KEY=VALUE`, an option of pgBackRest for the stanza.
///
/// # Errors
/// What is wrong, in words; a secret is not repeated.
pub(super) fn setting(text: &str) -> Result<Setting, String> {
    let (key, value) = text.split_once('=').ok_or("an option is written as KEY=VALUE")?;
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if key.is_empty() || !key.bytes().all(word) {
        return Err("an option's name is of a-z, 0-9 and -".to_owned());
    }
    let secret = ["pass", "secret", "token", "-key", "sas"];
    if secret.iter().any(|word| key.contains(word)) && !key.ends_with("-type") {
        return Err(format!(
            "`{key}` is a secret, and others see arguments: put it into pgBackRest's configuration \
             by hand, the passphrase into cipher_pass"
        ));
    }
    if value.trim().is_empty() || value.chars().any(char::is_control) {
        return Err(format!("`{key}` has no value"));
    }
    Ok((key.to_owned(), value.trim().to_owned()))
}

/// That each value is read as it is written: pgBackRest has no quotes, and a value ends with its line,
/// without the space around it.
///
/// # Errors
/// Which one is not, in words; values are not repeated.
pub(super) fn fit(settings: &[Setting]) -> Result<(), String> {
    let odd = |value: &str| value.trim() != value || value.chars().any(char::is_control);
    match settings.iter().find(|(_, value)| odd(value)) {
        None => Ok(()),
        Some((key, _)) => Err(format!(
            "`{key}` begins or ends with a space, or holds a line break, which pgBackRest's \
             configuration cannot express: nothing was written"
        )),
    }
}

/// A file for one stanza.
pub(super) fn render(source: &str, stanza: &str, settings: &[Setting]) -> String {
    let mut text = format!(
        "{MARK} `{source}`, once: it is not changed again. pgBackRest reads it.\n\n[{stanza}]\n"
    );
    for (key, value) in settings {
        // Writing into a string does not fail.
        let _ = writeln!(text, "{key}={value}");
    }
    text
}

/// The same without the passphrase, for people.
pub(super) fn shown(settings: &[Setting]) -> Vec<Setting> {
    let show = |(key, value): &Setting| {
        let value = if key.ends_with("-cipher-pass") { HIDDEN } else { value };
        (key.clone(), value.to_owned())
    };
    settings.iter().map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_read_as_pgbackrest_does() {
        let text = "# x\n[global]\nrepo1-path=/a # b\n\n[shop]\n;pg1-path=/no\npg1-path = /data\n\
                    [shop:backup]\npg1-path=/other\n[shop]\npg1-port=5433\n";
        let shop = section(text, "shop").unwrap();
        assert_eq!((shop["pg1-path"].as_str(), shop["pg1-port"].as_str()), ("/data", "5433"));
        assert_eq!(section(text, "global").unwrap()["repo1-path"], "/a # b");
        assert_eq!(section(text, "sho"), None);
        assert_eq!(section("[shop]", "shop"), Some(BTreeMap::new()));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let settings = [
            setting("pg1-path=/var/lib/data").unwrap(),
            ("repo1-cipher-pass".to_owned(), "hunter2".to_owned()),
        ];
        let text = render("shop", "main", &settings);
        assert_eq!(section(&text, "main").unwrap()["repo1-cipher-pass"], "hunter2");
        let seen = render("shop", "main", &shown(&settings));
        assert!(!seen.contains("hunter2") && seen.contains("pg1-path=/var/lib/data"), "{seen}");
    }

    #[test]
    fn what_would_be_read_otherwise_is_not_written() {
        let fits = |value: &str| fit(&[("pg1-path".to_owned(), value.to_owned())]).is_ok();
        assert!(fits("/var/lib/it's \\ 100%"));
        for value in ["/a\nrepo1-path=/b", " /a", "/a ", "/a\r"] {
            assert!(!fits(value), "{value:?}");
        }
    }

    #[test]
    fn secrets_and_nonsense_are_no_options() {
        assert!(setting("repo1-cipher-type=aes-256-cbc").is_ok());
        assert!(setting("repo1-s3-key-type=auto").is_ok());
        for text in [
            "repo1-cipher-pass=hunter2",
            "repo1-s3-key=hunter2",
            "repo1-s3-key-secret=hunter2",
            "repo1-s3-token=hunter2",
            "hunter2",
            "a\nb=hunter2",
            "log-path=",
            "x=hunter2\n[global]",
        ] {
            let said = setting(text).unwrap_err();
            assert!(!said.contains("hunter2"), "{said}");
        }
    }
}
