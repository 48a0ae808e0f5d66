use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Lsn, LsnError, Position};

/// A position in the log of any engine: the number that its own position has.
///
/// Written as in keys: 16 hexadecimal digits, in lower case.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct LogAt(pub u64);

impl LogAt {
    /// The one that is written so; nothing for any other text.
    #[must_use]
    pub fn read(text: &str) -> Option<LogAt> {
        digits(text, 16).map(LogAt)
    }
}

/// A number of so many lower-case hexadecimal digits.
pub(crate) fn digits(text: &str, width: usize) -> Option<u64> {
    let right = text.len() == width && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    right.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

impl fmt::Display for LogAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for LogAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Position for LogAt {
    fn of(number: u64) -> LogAt {
        LogAt(number)
    }

    fn number(self) -> u64 {
        self.0
    }
}

impl From<Lsn> for LogAt {
    fn from(lsn: Lsn) -> LogAt {
        LogAt(lsn.0)
    }
}

impl From<LogAt> for Lsn {
    fn from(at: LogAt) -> Lsn {
        Lsn(at.0)
    }
}

impl From<LogAt> for String {
    fn from(at: LogAt) -> String {
        at.to_string()
    }
}

impl TryFrom<String> for LogAt {
    type Error = LsnError;

    fn try_from(text: String) -> Result<LogAt, LsnError> {
        LogAt::read(&text).ok_or_else(|| LsnError::new("position of 16 hexadecimal digits", &text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_written_as_in_keys() {
        for (at, text) in [(0, "0000000000000000"), (0x16_b374_d848, "00000016b374d848")] {
            assert_eq!(LogAt(at).to_string(), text);
            assert_eq!(LogAt::read(text), Some(LogAt(at)));
        }
        for wrong in ["", "0/10", "16", "00000016B374D848", "00000016b374d8480"] {
            assert_eq!(LogAt::read(wrong), None, "{wrong}");
        }
    }
}
