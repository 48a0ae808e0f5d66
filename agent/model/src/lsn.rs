use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Position;

/// A byte position in PostgreSQL's write-ahead log (`pg_lsn`), counted from the beginning of time.
///
/// Written as PostgreSQL does: the upper and lower 32 bits in hexadecimal, `16/B374D848`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Lsn(pub u64);

/// A text that is no LSN, timeline or WAL file name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {kind}")]
pub struct LsnError {
    kind: &'static str,
    text: String,
}

impl LsnError {
    pub(crate) fn new(kind: &'static str, text: &str) -> Self {
        LsnError { kind, text: crate::shown(text, 80) }
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff))
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Lsn {
    type Err = LsnError;

    fn from_str(text: &str) -> Result<Self, LsnError> {
        let wrong = || LsnError::new("LSN (two hexadecimal numbers, as in 16/B374D848)", text);
        let (upper, lower) = text.split_once('/').ok_or_else(wrong)?;
        let half = |digits: &str| match hexadecimal(digits) && digits.len() <= 8 {
            true => u64::from_str_radix(digits, 16).map_err(|_| wrong()),
            false => Err(wrong()),
        };
        Ok(Lsn(half(upper)? << 32 | half(lower)?))
    }
}

impl From<Lsn> for String {
    fn from(lsn: Lsn) -> String {
        lsn.to_string()
    }
}

impl TryFrom<String> for Lsn {
    type Error = LsnError;

    fn try_from(text: String) -> Result<Self, LsnError> {
        text.parse()
    }
}

impl Position for Lsn {
    fn of(number: u64) -> Lsn {
        Lsn(number)
    }

    fn number(self) -> u64 {
        self.0
    }
}

impl Lsn {
    /// The position so many bytes further on; the last one there is where that would not fit.
    #[must_use]
    pub fn plus(self, bytes: u64) -> Lsn {
        Lsn(self.0.saturating_add(bytes))
    }

    /// Bytes from `earlier` to here; 0 where it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Lsn) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A timeline of a PostgreSQL cluster: a history of its own after each point-in-time recovery or
/// promotion. From 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "u32", try_from = "u32")]
pub struct Timeline(u32);

impl Timeline {
    /// The first timeline of every cluster.
    pub const FIRST: Timeline = Timeline(1);

    /// Timeline `id`; none has the number 0.
    #[must_use]
    pub fn new(id: u32) -> Option<Timeline> {
        (id > 0).then_some(Timeline(id))
    }

    /// Its number.
    #[must_use]
    pub fn id(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl From<Timeline> for u32 {
    fn from(timeline: Timeline) -> u32 {
        timeline.0
    }
}

impl TryFrom<u32> for Timeline {
    type Error = LsnError;

    fn try_from(id: u32) -> Result<Self, LsnError> {
        Timeline::new(id).ok_or_else(|| LsnError::new("timeline", "0"))
    }
}

/// The size of a cluster's WAL segment files in bytes (`initdb --wal-segsize`): a power of two
/// from 1 MiB to 1 GiB, 16 MiB unless chosen otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "u64", try_from = "u64")]
pub struct WalSegmentSize(u64);

impl Default for WalSegmentSize {
    fn default() -> Self {
        WalSegmentSize(16 << 20)
    }
}

impl From<WalSegmentSize> for u64 {
    fn from(size: WalSegmentSize) -> u64 {
        size.0
    }
}

impl TryFrom<u64> for WalSegmentSize {
    type Error = LsnError;

    fn try_from(bytes: u64) -> Result<Self, LsnError> {
        WalSegmentSize::new(bytes)
            .ok_or_else(|| LsnError::new("WAL segment size", &bytes.to_string()))
    }
}

impl WalSegmentSize {
    /// Segments of so many bytes, where PostgreSQL can have such.
    #[must_use]
    pub fn new(bytes: u64) -> Option<WalSegmentSize> {
        let possible = bytes.is_power_of_two() && (1 << 20..=1 << 30).contains(&bytes);
        possible.then_some(WalSegmentSize(bytes))
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// Where the segment begins that holds `lsn`.
    #[must_use]
    pub fn start_of(self, lsn: Lsn) -> Lsn {
        Lsn(lsn.0 & !(self.0 - 1))
    }

    /// The name of the file that holds `lsn`: timeline, upper 32 bits and segment therein, eight
    /// hexadecimal digits each (`XLogFileName` in `xlog_internal.h`).
    #[must_use]
    pub fn file_name(self, timeline: Timeline, lsn: Lsn) -> String {
        let segment = lsn.0 / self.0;
        let per_id = (1u64 << 32) / self.0;
        format!("{:08X}{:08X}{:08X}", timeline.0, segment / per_id, segment % per_id)
    }

    /// The timeline and the start of the segment file `name`.
    ///
    /// # Errors
    /// [`LsnError`] for a name of another form, or of a segment that cannot be with this size.
    pub fn parse_file_name(self, name: &str) -> Result<(Timeline, Lsn), LsnError> {
        let wrong = || LsnError::new("name of a WAL segment", name);
        if name.len() != 24 || !hexadecimal(name) {
            return Err(wrong());
        }
        let part = |at: usize| u64::from_str_radix(&name[at..at + 8], 16).map_err(|_| wrong());
        let timeline = u32::try_from(part(0)?).ok().and_then(Timeline::new).ok_or_else(wrong)?;
        let (id, segment, per_id) = (part(8)?, part(16)?, (1u64 << 32) / self.0);
        if segment >= per_id {
            return Err(wrong());
        }
        Ok((timeline, Lsn((id * per_id + segment) * self.0)))
    }
}

fn hexadecimal(digits: &str) -> bool {
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_written_as_postgresql_does() {
        let cases = [
            ("0/0", Some(0)),
            ("16/B374D848", Some(0x16_B374_D848)),
            ("FFFFFFFF/FFFFFFFF", Some(u64::MAX)),
            ("1/2000000", Some(0x1_0200_0000)),
            ("", None),
            ("16", None),
            ("/", None),
            ("1/", None),
            ("1/+2", None),
            ("1/123456789", None),
            ("g/0", None),
        ];
        for (text, value) in cases {
            assert_eq!(text.parse().ok(), value.map(Lsn), "{text}");
            if let Some(value) = value {
                assert_eq!(Lsn(value).to_string(), text);
            }
        }
    }

    #[test]
    fn file_names_and_positions_fit_each_other() {
        let sixteen = WalSegmentSize::default();
        let two = Timeline::new(2).unwrap();
        assert_eq!(sixteen.file_name(two, Lsn(0x1_0200_0001)), "000000020000000100000002");
        let (timeline, start) = sixteen.parse_file_name("000000020000000100000002").unwrap();
        assert_eq!((timeline, start), (two, Lsn(0x1_0200_0000)));
        for bytes in [1 << 20, 16 << 20, 1 << 30] {
            let size = WalSegmentSize::new(bytes).unwrap();
            for n in [0, 1, 255, 256, 4096, 1 << 20] {
                let start = Lsn(n * bytes);
                let name = size.file_name(two, start);
                assert_eq!(size.parse_file_name(&name), Ok((two, start)), "{name}");
                assert_eq!(size.start_of(start.plus(bytes - 1)), start);
            }
        }
        for name in ["", "00000002.history", "000000000000000100000002", "000000020000000100000100"]
        {
            assert!(sixteen.parse_file_name(name).is_err(), "{name}");
        }
        assert_eq!(WalSegmentSize::new(3 << 20), None);
        assert_eq!(WalSegmentSize::new(2 << 30), None);
    }
}
