use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::shown;

/// The most names that stand in one sentence.
const NAMED: usize = 20;

/// What belongs to a source and lies outside of what a backup of it copies, as its server told when it
/// was backed up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Outside {
    /// All that was found.
    pub items: Vec<OutsideItem>,
    /// What could not be asked for, and why, in words for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}

/// One thing that lies outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutsideItem {
    /// What it is, by its engine's own name: of the setting that names a file, for instance.
    pub what: String,
    /// Where it lies on the server's host; nothing for what is no file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// How long its content is, where the backup holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Its content, where the backup holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<FileContent>,
    /// Why the backup does not hold it, in words for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// The content of a small file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileContent {
    /// As text, where it is UTF-8.
    Text(String),
    /// In hexadecimal digits.
    Hex(String),
}

impl FileContent {
    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes).map_or_else(
            |error| {
                let mut text = String::new();
                for byte in error.as_bytes() {
                    let _ = write!(text, "{byte:02x}");
                }
                FileContent::Hex(text)
            },
            FileContent::Text,
        )
    }

    /// Its bytes; nothing where the digits are none.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        let text = match self {
            FileContent::Text(text) => return Some(text.as_bytes().to_vec()),
            FileContent::Hex(text) => text.as_bytes(),
        };
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|n| u8::try_from(n).ok());
        let (pairs, rest) = text.as_chunks::<2>();
        let pair = |[high, low]: &[u8; 2]| Some(digit(*high)? << 4 | digit(*low)?);
        rest.is_empty().then(|| pairs.iter().map(pair).collect()).flatten()
    }
}

impl OutsideItem {
    /// One that the backup holds.
    #[must_use]
    pub fn held(what: &str, path: String, content: Vec<u8>) -> Self {
        OutsideItem {
            what: what.to_owned(),
            path: Some(path),
            bytes: Some(content.len() as u64),
            content: Some(FileContent::of(content)),
            missing: None,
        }
    }

    /// One that the backup does not hold, and why.
    #[must_use]
    pub fn missing(what: &str, path: Option<String>, why: impl Into<String>) -> Self {
        let (what, missing) = (what.to_owned(), Some(why.into()));
        OutsideItem { what, path, bytes: None, content: None, missing }
    }

    /// Its name for people.
    #[must_use]
    pub fn name(&self) -> String {
        let what = shown(&self.what, 50);
        match &self.path {
            Some(path) => format!("{} ({what})", shown(path, 200)),
            None => what,
        }
    }
}

impl Outside {
    /// What the backup holds of it, and its content.
    pub fn held(&self) -> impl Iterator<Item = (&OutsideItem, &FileContent)> {
        self.items.iter().filter_map(|item| Some((item, item.content.as_ref()?)))
    }

    /// What the backup does not hold, for people: the names of one reason together, with it.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let mut all: Vec<(&str, Vec<String>)> = Vec::new();
        for item in self.items.iter().filter(|item| item.bytes.is_none()) {
            let why = item.missing.as_deref().unwrap_or("the backup does not say why");
            match all.iter_mut().find(|(other, _)| *other == why) {
                Some((_, names)) => names.push(item.name()),
                None => all.push((why, vec![item.name()])),
            }
        }
        let sentence = |(why, names): &(&str, Vec<String>)| {
            let more = names.len().saturating_sub(NAMED);
            let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
            let names = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
            format!("{names}{rest}: {}", shown(why, 300))
        };
        all.iter().map(sentence).collect()
    }

    /// What an operator should know of a backup: what it does not hold, and what is not known.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let (missing, mut notes) = (self.missing(), Vec::new());
        if !missing.is_empty() {
            notes.push(format!(
                "no backup holds these, keep them elsewhere: {}",
                missing.join("; ")
            ));
        }
        if !self.unknown.is_empty() {
            let unknown: Vec<String> = self.unknown.iter().map(|one| shown(one, 500)).collect();
            notes.push(format!(
                "it is not known which files of the server lie outside of its data directory, and they may be \
                 in no backup: {}",
                unknown.join("; ")
            ));
        }
        notes
    }

    /// The same without any content, to be shown.
    #[must_use]
    pub fn without_content(&self) -> Self {
        let mut bare = self.clone();
        bare.items.iter_mut().for_each(|item| item.content = None);
        bare
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_come_back() {
        for bytes in [&b""[..], b"a = 'b'\n", b"caf\xe9\0\xff"] {
            let content = FileContent::of(bytes.to_vec());
            let text = serde_json::to_string(&content).unwrap();
            let back: FileContent = serde_json::from_str(&text).unwrap();
            assert_eq!(back.bytes().as_deref(), Some(bytes), "{text}");
        }
        for odd in ["a", "0g", "é0"] {
            assert_eq!(FileContent::Hex(odd.to_owned()).bytes(), None, "{odd}");
        }
    }

    #[test]
    fn what_is_missing_is_named_once_for_each_reason() {
        let closed = |what, path: &str| {
            OutsideItem::missing(what, Some(path.to_owned()), "the role may not read it")
        };
        let outside = Outside {
            items: vec![
                OutsideItem::held("rules", "/etc/a".to_owned(), b"a = 1\n".to_vec()),
                closed("names", "/etc/b"),
                OutsideItem::missing("roles", None, "globals = false"),
                closed("map", "/etc/c"),
            ],
            unknown: vec!["the rest".to_owned()],
        };
        let missing = outside.missing();
        assert_eq!(missing.len(), 2, "{missing:?}");
        assert_eq!(missing[0], "/etc/b (names), /etc/c (map): the role may not read it");
        assert_eq!(missing[1], "roles: globals = false");
        assert_eq!(outside.held().count(), 1);
        assert_eq!(outside.without_content().held().count(), 0);
        assert_eq!(outside.without_content().missing().len(), 2);
        assert_eq!(outside.notes().len(), 2);
        assert_eq!(Outside::default().notes(), [""; 0]);
    }
}
