use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// A text that is no identifier of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {kind}: {rule}")]
pub struct IdError {
    kind: &'static str,
    text: String,
    rule: &'static str,
}

impl IdError {
    pub(crate) fn new(kind: &'static str, text: &str, rule: &'static str) -> Self {
        IdError { kind, text: shown(text, 80), rule }
    }
}

/// A foreign text as people may see it: its first `chars` characters, those escaped that a
/// terminal would obey. What comes from a bucket may be long or hostile.
#[must_use]
pub fn shown(text: &str, chars: usize) -> String {
    escape(text.chars().take(chars), |_| false, |c| c.escape_default().to_string())
}

/// Whether a text is one line of 1 to so many characters, none of which a terminal would obey.
pub(crate) fn is_line(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.chars().count()) && !text.contains(is_obeyed)
}

/// Text of several lines as people may see it: whole, line ends and tabs as they are, every other
/// character escaped that a terminal would obey.
#[must_use]
pub fn printable(text: &str) -> String {
    escape(text.chars(), |c| matches!(c, '\n' | '\t'), |c| c.escape_default().to_string())
}

/// Text whose control characters are those of whoever prints it, such as colours: every other character
/// escaped that a terminal would obey.
#[must_use]
pub fn seen(text: &str) -> String {
    escape(text.chars(), char::is_control, |c| c.escape_default().to_string())
}

/// One JSON document as people may see it too: equal to any parser, and without a character that
/// a terminal would obey.
#[must_use]
pub fn printable_json(text: &str) -> String {
    // Control characters below U+0020 stand in no string of JSON.
    let as_text = |c: char| {
        let mut units = [0; 2];
        c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect()
    };
    escape(text.chars(), |c| c < ' ', as_text)
}

fn escape(
    text: impl Iterator<Item = char>,
    keep: fn(char) -> bool,
    as_text: fn(char) -> String,
) -> String {
    let mut shown = String::new();
    for c in text {
        if is_obeyed(c) && !keep(c) { shown += &as_text(c) } else { shown.push(c) }
    }
    shown
}

/// Whether a terminal does something else with it than draw it: moves, colours, turns the
/// direction of writing, draws nothing at all.
fn is_obeyed(c: char) -> bool {
    c.is_control() || is_unseen(c)
}

fn is_unseen(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

/// The sum of numbers that somebody else wrote: the greatest number where it would not fit.
#[must_use]
pub fn total(numbers: impl IntoIterator<Item = u64>) -> u64 {
    numbers.into_iter().fold(0, u64::saturating_add)
}

macro_rules! text_id {
    ($name:ident) => {
        impl $name {
            /// The identifier as it stands in object keys.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }
    };
}
pub(crate) use text_id;

/// A protected database or cluster; the unit of permission in the bucket.
///
/// `a-z`, `0-9` and `-`, 1 to 63 characters, beginning and ending with a letter or digit: safe in
/// an object key, a file name and a unit name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct SourceId(String);
text_id!(SourceId);

impl FromStr for SourceId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if is_label(text) {
            return Ok(SourceId(text.to_owned()));
        }
        Err(IdError::new(
            "source name",
            text,
            "1 to 63 of a-z, 0-9 and -, beginning and ending with a letter or digit",
        ))
    }
}

fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// One attempt at a backup: `YYYYMMDDTHHMMSSZ-` and 16 hexadecimal digits.
///
/// Sorts by the time at which the attempt began (clock of the host). Never used twice, so that
/// two attempts never write under one key.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct BackupId(String);
text_id!(BackupId);

impl BackupId {
    /// The identifier of an attempt that begins `at`; `random` keeps two hosts apart.
    ///
    /// The upper 20 of its 64 bits are the microseconds of `at`, so that two attempts within one
    /// second sort by time too.
    #[must_use]
    pub fn new(at: Timestamp, random: u64) -> Self {
        BackupId(stamped(at, random))
    }

    /// When the attempt began, to the second (clock of the host); the earliest time, if the name holds no date.
    #[must_use]
    pub fn begun(&self) -> Timestamp {
        let read = DateTime::strptime("%Y%m%dT%H%M%SZ", &self.0[..16]);
        let begun = read.and_then(|at| at.to_zoned(TimeZone::UTC));
        begun.map_or(Timestamp::MIN, |at| at.timestamp())
    }
}

fn stamped(at: Timestamp, random: u64) -> String {
    let at = at.to_zoned(TimeZone::UTC);
    let stamp = at.strftime("%Y%m%dT%H%M%SZ");
    let micros = u64::from(at.subsec_nanosecond().unsigned_abs()) / 1000;
    let word = micros << 44 | random & ((1 << 44) - 1);
    format!("{stamp}-{word:016x}")
}

impl FromStr for BackupId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        match is_stamped(text) {
            true => Ok(BackupId(text.to_owned())),
            false => Err(IdError::new("backup id", text, STAMPED)),
        }
    }
}

const STAMPED: &str = "YYYYMMDDTHHMMSSZ- and 16 hexadecimal digits";

fn is_stamped(text: &str) -> bool {
    text.len() == 33
        && text.bytes().enumerate().all(|(at, b)| match at {
            8 => b == b'T',
            15 => b == b'Z',
            16 => b == b'-',
            0..=14 => b.is_ascii_digit(),
            _ => matches!(b, b'0'..=b'9' | b'a'..=b'f'),
        })
}

/// One restore drill; built like a [`BackupId`], of the time at which it began.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct DrillId(String);
text_id!(DrillId);

impl DrillId {
    /// The identifier of a drill that begins `at`; `random` keeps two hosts apart.
    #[must_use]
    pub fn new(at: Timestamp, random: u64) -> Self {
        DrillId(stamped(at, random))
    }
}

impl FromStr for DrillId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        match is_stamped(text) {
            true => Ok(DrillId(text.to_owned())),
            false => Err(IdError::new("drill id", text, STAMPED)),
        }
    }
}

/// One stream of a backup: a dump per database, the globals.
///
/// Built like a [`SourceId`]. Says nothing of the database's name, which only the sealed part of
/// the manifest tells.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct StreamId(String);
text_id!(StreamId);

impl StreamId {
    /// The stream of roles and tablespaces.
    #[must_use]
    pub fn globals() -> Self {
        StreamId("globals".to_owned())
    }

    /// The archive of a cluster's data directory.
    #[must_use]
    pub fn base() -> Self {
        StreamId("base".to_owned())
    }

    /// The archive of a tablespace.
    #[must_use]
    pub fn tablespace(oid: u32) -> Self {
        StreamId(format!("t{oid}"))
    }

    /// The server's own list of a base backup's files.
    #[must_use]
    pub fn listing() -> Self {
        StreamId("manifest".to_owned())
    }

    /// All of a source in one archive.
    #[must_use]
    pub fn archive() -> Self {
        StreamId("archive".to_owned())
    }

    /// The stream of the database that was dumped as the `index`th, from 0.
    #[must_use]
    pub fn database(index: usize) -> Self {
        StreamId(format!("d{index}"))
    }
}

impl FromStr for StreamId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if is_label(text) {
            return Ok(StreamId(text.to_owned()));
        }
        Err(IdError::new("stream name", text, "1 to 63 of a-z, 0-9 and -"))
    }
}

/// What an engine calls a note of a lineage of its log: 1 to 63 of `a-z`, `0-9`, `-`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct NoteName(String);
text_id!(NoteName);

impl NoteName {
    /// The history of a timeline.
    #[must_use]
    pub fn history() -> Self {
        NoteName("history".to_owned())
    }
}

impl FromStr for NoteName {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if is_label(text) {
            return Ok(NoteName(text.to_owned()));
        }
        Err(IdError::new("name of a note", text, "1 to 63 of a-z, 0-9 and -"))
    }
}

/// A repository: one bucket (or prefix of it) with one marker. 32 hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct RepositoryId(String);
text_id!(RepositoryId);

impl RepositoryId {
    /// The identifier made of 128 random bits.
    #[must_use]
    pub fn new(random: u128) -> Self {
        RepositoryId(format!("{random:032x}"))
    }
}

impl FromStr for RepositoryId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if is_128_bits(text) {
            return Ok(RepositoryId(text.to_owned()));
        }
        Err(IdError::new("repository id", text, "32 lower-case hexadecimal digits"))
    }
}

fn is_128_bits(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// An audit log of a host, from its first entry on.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct AuditLogId(String);
text_id!(AuditLogId);

impl AuditLogId {
    /// The identifier made of 128 random bits.
    #[must_use]
    pub fn new(random: u128) -> Self {
        AuditLogId(format!("{random:032x}"))
    }
}

impl FromStr for AuditLogId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        match is_128_bits(text) {
            true => Ok(AuditLogId(text.to_owned())),
            false => Err(IdError::new("audit log id", text, "32 lower-case hexadecimal digits")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_tells_when_it_began() {
        for second in [0, 1_800_000_000, 253_402_207_200] {
            let at = Timestamp::from_second(second).unwrap();
            assert_eq!(BackupId::new(at, 7).begun(), at);
        }
        let odd: BackupId = "20261399T009900Z-0123456789abcdef".parse().unwrap();
        assert_eq!(odd.begun(), Timestamp::MIN);
    }

    #[test]
    fn source_names() {
        let long = "a".repeat(63);
        let longer = "a".repeat(64);
        let cases = [
            ("shop", true),
            ("shop-2", true),
            ("0", true),
            (long.as_str(), true),
            (longer.as_str(), false),
            ("", false),
            ("-shop", false),
            ("shop-", false),
            ("Shop", false),
            ("shop/../x", false),
            ("shop.x", false),
            ("größe", false),
        ];
        for (text, good) in cases {
            assert_eq!(text.parse::<SourceId>().is_ok(), good, "{text}");
        }
    }

    #[test]
    fn backup_ids_sort_by_time() {
        let early = BackupId::new("2026-03-01T23:59:59Z".parse().unwrap(), u64::MAX);
        let late = BackupId::new("2026-03-02T00:00:00Z".parse().unwrap(), 0);
        assert!(early < late);
        assert_eq!(early.as_str(), "20260301T235959Z-00000fffffffffff");
        let later = BackupId::new("2026-03-01T23:59:59.000001Z".parse().unwrap(), 0);
        let latest = BackupId::new("2026-03-01T23:59:59.999999Z".parse().unwrap(), u64::MAX);
        assert!(early < later && later < latest && latest < late);
        assert_eq!(latest.as_str(), "20260301T235959Z-f423ffffffffffff");
        assert_eq!(early.as_str().parse(), Ok(early));
    }

    #[test]
    fn hostile_ids_are_refused_and_shown_bounded() {
        let text = format!("{}\n", "../".repeat(1000));
        let error = text.parse::<BackupId>().unwrap_err().to_string();
        assert!(error.len() < 300 && !error.contains('\n'), "{error}");
        assert_eq!(shown("Größe\u{1b}[2J\u{202e}", 80), "Größe\\u{1b}[2J\\u{202e}");
        assert_eq!(shown("abc", 2), "ab");
        assert_eq!(printable("a\n\tb\r\u{9b}2J"), "a\n\tb\\r\\u{9b}2J");
        assert_eq!(printable("bounded \u{2026}"), "bounded \u{2026}");
        let document = "{\"a\\n\": \"\u{9b}2J\u{202e}\u{2026}\"}";
        assert_eq!(printable_json(document), "{\"a\\n\": \"\\u009b2J\\u202e\u{2026}\"}");
        assert_eq!(total([1, 2]), 3);
        assert_eq!(total([u64::MAX, 1]), u64::MAX);
    }
}
