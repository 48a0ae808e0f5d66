use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The secret with which the rows of one dump are digested: who does not have it can make no other rows with the
/// same digest. 32 lower-case hexadecimal digits in text.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct RowKey(pub [u8; 16]);

/// The digests of some rows, added up modulo 2^128: the order of the rows does not matter, and one that occurs
/// twice counts twice. 32 lower-case hexadecimal digits in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct RowDigest(u128);

/// A text that is no digest of rows, or no key of such.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a digest of rows, or its key, is 32 lower-case hexadecimal digits")]
pub struct RowDigestError;

/// How many things there are, and the digests of all of them added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Folded {
    /// How many.
    pub count: u64,
    /// Their digests.
    pub digest: RowDigest,
}

/// What a database that was restored from a dump must be equal to, by digests that were made while the dump
/// streamed past.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpDigests {
    /// With which they were made.
    pub key: RowKey,
    /// The rows of each table, in the order in which the tables themselves are listed.
    pub tables: Vec<RowDigest>,
    /// Large objects: the identifier and the bytes of each.
    pub large_objects: Folded,
    /// Sequences: where each stands.
    pub sequences: Folded,
    /// Whatever the table of contents names: kind, schema and name of each.
    pub objects: Folded,
}

impl RowDigest {
    /// Adds the digest of one more row.
    pub fn add(&mut self, one: u128) {
        self.0 = self.0.wrapping_add(one);
    }

    /// Those of both.
    #[must_use]
    pub fn and(self, other: RowDigest) -> RowDigest {
        RowDigest(self.0.wrapping_add(other.0))
    }
}

impl Folded {
    /// Adds one more thing, by its digest.
    pub fn add(&mut self, one: u128) {
        self.count += 1;
        self.digest.add(one);
    }
}

impl fmt::Display for RowDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for RowDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RowKey(withheld)")
    }
}

impl From<RowDigest> for String {
    fn from(digest: RowDigest) -> String {
        digest.to_string()
    }
}

impl From<RowKey> for String {
    fn from(key: RowKey) -> String {
        format!("{:032x}", u128::from_be_bytes(key.0))
    }
}

impl FromStr for RowDigest {
    type Err = RowDigestError;

    fn from_str(text: &str) -> Result<Self, RowDigestError> {
        let is_hex = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match is_hex && text.len() == 32 {
            true => u128::from_str_radix(text, 16).map(RowDigest).map_err(|_| RowDigestError),
            false => Err(RowDigestError),
        }
    }
}

impl TryFrom<String> for RowDigest {
    type Error = RowDigestError;

    fn try_from(text: String) -> Result<Self, RowDigestError> {
        text.parse()
    }
}

impl TryFrom<String> for RowKey {
    type Error = RowDigestError;

    fn try_from(text: String) -> Result<Self, RowDigestError> {
        text.parse().map(|RowDigest(value)| RowKey(value.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter_and_each_row_counts() {
        let of = |rows: &[u128]| {
            let mut digest = RowDigest::default();
            rows.iter().for_each(|row| digest.add(*row));
            digest
        };
        assert_eq!(of(&[1, u128::MAX, 7]), of(&[7, 1, u128::MAX]));
        assert_ne!(of(&[1, 1]), of(&[1]));
        assert_ne!(of(&[5, 5]), of(&[]));
        assert_eq!(of(&[1, 2]).and(of(&[3])), of(&[1, 2, 3]));
    }

    #[test]
    fn text_is_read_as_it_was_written_and_no_other_is() {
        let mut digest = RowDigest::default();
        digest.add(0x0a);
        assert_eq!(digest.to_string(), "0000000000000000000000000000000a");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        let key = RowKey(std::array::from_fn(|i| u8::try_from(i).unwrap()));
        let text = String::from(key);
        assert!(text.starts_with("000102") && !format!("{key:?}").contains("0102"));
        assert_eq!(RowKey::try_from(text), Ok(key));
        for text in ["", "0a", "+000000000000000000000000000000a", &"A".repeat(32)] {
            assert_eq!(text.parse::<RowDigest>(), Err(RowDigestError), "{text}");
        }
    }
}
