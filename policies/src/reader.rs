use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::{Report, did_you_mean, show};
use crate::keys::{Key, Kind, home_of, synonym};
use crate::secret::{self, SecretRef, inline_secret, sounds_secret};
use crate::units;

type Value<'a> = &'a Spanned<DeValue<'a>>;

/// A string of the configuration, and where it stands.
pub(crate) struct Text<'a> {
    pub(crate) value: &'a str,
    pub(crate) span: Range<usize>,
}

/// Reads one table by its list of keys and reports everything that does not fit.
///
/// A reading method gives `None` when the key is absent without a default, or when its value was
/// refused; then the mistake is in the report.
pub(crate) struct Reader<'a> {
    /// `None`: an optional table that is not there.
    pub(crate) table: Option<&'a DeTable<'a>>,
    /// The table itself, or the one it would be in.
    pub(crate) span: Range<usize>,
    keys: &'static [Key],
    pub(crate) report: &'a Report<'a>,
}

impl<'a> Reader<'a> {
    /// Reads a table; keys that it may not hold are reported here.
    pub(crate) fn new(
        table: &'a DeTable<'a>,
        span: Range<usize>,
        keys: &'static [Key],
        report: &'a Report<'a>,
    ) -> Self {
        for (name, value) in table {
            if !keys.iter().any(|key| key.name == name.get_ref()) {
                unknown(name, value, keys, report);
            }
        }
        Reader { table: Some(table), span, keys, report }
    }

    fn key(&self, name: &str) -> Option<&'static Key> {
        let found = self.keys.iter().find(|key| key.name == name);
        debug_assert!(found.is_some(), "`{name}` is in no table of keys");
        found
    }

    /// Whether the key is written, with whatever value.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// Where the key's value stands; the table when there is none.
    pub(crate) fn span_of(&self, name: &str) -> Range<usize> {
        self.value(name).map_or_else(|| self.span.clone(), Spanned::span)
    }

    /// Where the key itself stands; the table when it is not there.
    pub(crate) fn span_of_key(&self, name: &str) -> Range<usize> {
        let entry = self.table.and_then(|table| table.get_key_value(name));
        entry.map_or_else(|| self.span.clone(), |(key, _)| key.span())
    }

    fn value(&self, name: &str) -> Option<Value<'a>> {
        self.table?.get(name)
    }

    /// The value of a key; reports one that must be there and is not.
    fn wanted(&self, key: &Key) -> Option<Value<'a>> {
        let value = self.value(key.name);
        if value.is_none() && key.required {
            let message = format!("missing key `{}`", key.name);
            self.report.advise(&self.span, message, key.about);
        }
        value
    }

    fn refuse(&self, key: &Key, value: Value<'_>) {
        let message = format!(
            "`{}` must be {}, not {}",
            key.name,
            expected(key.kind),
            found(value.get_ref())
        );
        self.report.error(&value.span(), message);
    }

    /// A default, which is written in our own tables.
    fn default<T: FromStr>(key: &Key) -> Option<T> {
        key.default.and_then(|text| text.parse().ok())
    }

    fn string(&self, key: &'static Key) -> Option<Text<'a>> {
        let Some(value) = self.wanted(key) else {
            return key.default.map(|value| Text { value, span: self.span.clone() });
        };
        match value.get_ref() {
            DeValue::String(text) => Some(Text { value: text, span: value.span() }),
            _ => {
                self.refuse(key, value);
                None
            }
        }
    }

    /// A string that is neither empty nor holds control characters.
    pub(crate) fn text(&self, name: &str) -> Option<Text<'a>> {
        let text = self.string(self.key(name)?)?;
        self.is_plain(&text).then_some(text)
    }

    fn is_plain(&self, text: &Text<'_>) -> bool {
        if text.value.is_empty() {
            self.report.error(&text.span, "the value must not be empty");
        } else if text.value.chars().any(char::is_control) {
            self.report.error(&text.span, "a control character is not allowed here");
        } else {
            return true;
        }
        false
    }

    /// One of the strings that the key allows.
    pub(crate) fn choice(&self, name: &str) -> Option<&'static str> {
        let key = self.key(name)?;
        let Kind::Choice(allowed) = key.kind else { return None };
        let text = self.string(key)?;
        let found = allowed.iter().find(|choice| **choice == text.value);
        if found.is_none() {
            let message = format!("`{}` is no value of `{name}`", show(text.value));
            let advice = did_you_mean(text.value, allowed.iter().copied())
                .unwrap_or_else(|| format!("write one of {}", allowed.join(", ")));
            self.report.advise(&text.span, message, advice);
        }
        found.copied()
    }

    /// `true` or `false`.
    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        let key = self.key(name)?;
        let Some(value) = self.wanted(key) else { return Self::default(key) };
        if let DeValue::Boolean(flag) = value.get_ref() {
            return Some(*flag);
        }
        self.refuse(key, value);
        None
    }

    /// A whole number within the key's bounds.
    pub(crate) fn number<T: TryFrom<u64> + FromStr>(&self, name: &str) -> Option<T> {
        let key = self.key(name)?;
        let Kind::Number { min, max } = key.kind else { return None };
        let Some(value) = self.wanted(key) else { return Self::default(key) };
        let DeValue::Integer(number) = value.get_ref() else {
            self.refuse(key, value);
            return None;
        };
        let number = u64::from_str_radix(number.as_str(), number.radix());
        match number.ok().filter(|number| (min..=max).contains(number)) {
            Some(number) => T::try_from(number).ok(),
            None => {
                self.report.error(&value.span(), format!("`{name}` must be {min} to {max}"));
                None
            }
        }
    }

    /// A duration within the key's bounds.
    pub(crate) fn duration(&self, name: &str) -> Option<Duration> {
        let key = self.key(name)?;
        let Kind::Duration { min, max } = key.kind else { return None };
        let text = self.string(key)?;
        let bounds = Bounds { range: min..=max, show: units::show_duration, example: "90m" };
        let read = units::duration(text.value).map(|duration| duration.as_secs());
        self.bounded(name, &text, read, &bounds).map(Duration::from_secs)
    }

    /// A size in bytes within the key's bounds.
    pub(crate) fn size<T: TryFrom<u64>>(&self, name: &str) -> Option<T> {
        let key = self.key(name)?;
        let Kind::Size { min, max } = key.kind else { return None };
        let text = self.string(key)?;
        let bounds = Bounds { range: min..=max, show: units::show_size, example: "16MiB" };
        self.bounded(name, &text, units::size(text.value), &bounds)?.try_into().ok()
    }

    fn bounded(
        &self,
        name: &str,
        text: &Text<'_>,
        read: Result<u64, units::UnitError>,
        bounds: &Bounds,
    ) -> Option<u64> {
        let shown = show(text.value);
        match read {
            Ok(value) if bounds.range.contains(&value) => return Some(value),
            Ok(_) => {
                let (min, max) = (bounds.range.start(), bounds.range.end());
                let (min, max) = ((bounds.show)(*min), (bounds.show)(*max));
                self.report.error(&text.span, format!("`{name}` must be {min} to {max}"));
            }
            Err(error) => {
                let message = format!("`{shown}` is no value of `{name}`: {error}");
                let advice = format!("write for example \"{}\"", bounds.example);
                self.report.advise(&text.span, message, advice);
            }
        }
        None
    }

    /// An absolute path.
    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        let text = self.string(self.key(name)?)?;
        absolute(name, text.value, &text.span, self.report)
    }

    /// An array of strings, each neither empty nor with control characters.
    pub(crate) fn texts(&self, name: &str) -> Option<Vec<Text<'a>>> {
        let key = self.key(name)?;
        let value = self.wanted(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            self.refuse(key, value);
            return None;
        };
        let mut texts = Vec::new();
        let mut good = true;
        for item in items {
            match item.get_ref() {
                DeValue::String(text) => {
                    let text = Text { value: text, span: item.span() };
                    good &= self.is_plain(&text);
                    texts.push(text);
                }
                _ => {
                    self.refuse(key, item);
                    good = false;
                }
            }
        }
        // Checks of the whole list would only repeat what is wrong with a part.
        good.then_some(texts)
    }

    /// An array of strings and tables: the strings, and readers of the tables.
    pub(crate) fn signers(&self, name: &str) -> Option<Vec<Result<Reader<'a>, Text<'a>>>> {
        let key = self.key(name)?;
        let Kind::Signers(keys) = key.kind else { return None };
        let value = self.wanted(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            self.refuse(key, value);
            return None;
        };
        let mut found = Vec::new();
        for item in items {
            match item.get_ref() {
                DeValue::String(text) => {
                    let text = Text { value: text, span: item.span() };
                    if self.is_plain(&text) {
                        found.push(Err(text));
                    }
                }
                DeValue::Table(table) => {
                    found.push(Ok(Reader::new(table, item.span(), keys, self.report)));
                }
                _ => self.refuse(key, item),
            }
        }
        Some(found)
    }

    /// A reference to a secret.
    pub(crate) fn secret(&self, name: &str) -> Option<SecretRef> {
        let key = self.key(name)?;
        let value = self.wanted(key)?;
        match value.get_ref() {
            DeValue::String(_) => inline_secret(name, &value.span(), self.report),
            DeValue::Table(table) => {
                return secret::reference(name, table, &value.span(), self.report);
            }
            _ => self.refuse(key, value),
        }
        None
    }

    /// A table; an empty one when it is absent and may be.
    pub(crate) fn section(&self, name: &str) -> Option<Reader<'a>> {
        let key = self.key(name)?;
        let Kind::Section(keys) = key.kind else { return None };
        match self.wanted(key) {
            Some(value) => self.open(key, value, keys),
            None if key.required => None,
            None => {
                Some(Reader { table: None, span: self.span.clone(), keys, report: self.report })
            }
        }
    }

    /// The tables under freely chosen names, with where each name stands.
    pub(crate) fn named(&self, name: &str) -> BTreeMap<&'a str, (Range<usize>, Reader<'a>)> {
        let mut readers = BTreeMap::new();
        let Some(key) = self.key(name) else { return readers };
        let Kind::Named(keys) = key.kind else { return readers };
        let Some(value) = self.wanted(key) else { return readers };
        let DeValue::Table(table) = value.get_ref() else {
            self.refuse(key, value);
            return readers;
        };
        for (label, value) in table {
            if let Some(reader) = self.open(key, value, keys) {
                readers.insert(label.get_ref().as_ref(), (label.span(), reader));
            }
        }
        readers
    }

    fn open(&self, key: &Key, value: Value<'a>, keys: &'static [Key]) -> Option<Reader<'a>> {
        if let DeValue::Table(table) = value.get_ref() {
            return Some(Reader::new(table, value.span(), keys, self.report));
        }
        self.refuse(key, value);
        None
    }
}

struct Bounds {
    range: RangeInclusive<u64>,
    show: fn(u64) -> String,
    example: &'static str,
}

fn unknown(name: &Spanned<Cow<'_, str>>, value: Value<'_>, keys: &[Key], report: &Report<'_>) {
    let text = name.get_ref().as_ref();
    if sounds_secret(text) && value.get_ref().is_str() {
        let message = format!("secret written inline in `{}`, an unknown key", show(text));
        return report.advise(&value.span(), message, secret::ADVICE);
    }
    let ours = keys.iter().map(|key| key.name);
    let synonym = synonym(text).filter(|ours| keys.iter().any(|key| key.name == *ours));
    let advice = synonym
        .map(|found| format!("did you mean `{found}`?"))
        .or_else(|| did_you_mean(text, ours))
        .or_else(|| home_of(text).map(|home| format!("it belongs {home}")));
    report.push(&name.span(), format!("unknown key `{}`", show(text)), advice);
}

/// The path, when it begins at the root; the text is not shown, for it could be a secret.
pub(crate) fn absolute(
    name: &str,
    text: &str,
    span: &Range<usize>,
    report: &Report<'_>,
) -> Option<PathBuf> {
    if text.starts_with('/') && !text.contains('\0') {
        return Some(PathBuf::from(text));
    }
    report.advise(span, format!("`{name}` must be an absolute path"), "begin it with `/`");
    None
}

fn expected(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Choice(_) => "a string",
        Kind::Flag => "true or false",
        Kind::Number { .. } => "a whole number",
        Kind::Duration { .. } => "a duration such as \"30s\" or \"26h\"",
        Kind::Size { .. } => "a size such as \"16MiB\"",
        Kind::Path => "an absolute path",
        Kind::Secret => "a reference such as { file = \"/path\" }",
        Kind::Texts => "an array of strings",
        Kind::Signers(_) => "an array of keys",
        Kind::Section(_) | Kind::Named(_) => "a table",
    }
}

fn found(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
