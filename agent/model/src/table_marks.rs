//! What a host remembers of the tables in a dump, to compare the next one with.

use std::collections::BTreeMap;

/// A table, or several whose names differ in their digits alone: the first bytes of a digest of the names of
/// its database and schema, and those of one of its own name, so that no name stands in a catalog as it is.
pub type TableKey = [u8; 16];

/// How many bytes of a [`TableKey`] are those of the schema.
pub const SCHEMA_BYTES: usize = 8;

/// The form of what is written.
const VERSION: u8 = 2;

/// How many bytes are written for a table.
const ROW: usize = 18;

/// What is known of one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TableMark {
    /// It is there.
    pub there: bool,
    /// It has more than 1,000 rows.
    pub large: bool,
    /// It had more than 1,000 rows once and none in a later backup that counts: that tells nothing.
    pub emptied: bool,
    /// It had more than 1,000 rows once and was gone in a later backup that counts: that tells nothing.
    pub gone: bool,
    /// It, its schema or its database has the name of a ransom note.
    pub ransom_note: bool,
    /// In so many backups in a row that count it was large, since it was empty or gone.
    pub calm: u8,
}

impl TableMark {
    /// Whether there is nothing to remember.
    #[must_use]
    pub fn is_plain(self) -> bool {
        self.bits() == 0
    }

    /// Whether it may be empty or gone.
    #[must_use]
    pub fn is_excused(self) -> bool {
        self.emptied || self.gone
    }

    fn bits(self) -> u8 {
        let all = [self.there, self.large, self.emptied, self.gone, self.ransom_note];
        all.iter().rev().fold(0, |bits, set| bits << 1 | u8::from(*set))
    }

    fn of(bits: u8, calm: u8) -> Option<Self> {
        let [there, large, emptied, gone, ransom_note] =
            [1, 2, 4, 8, 16].map(|bit| bits & bit != 0);
        let mark = TableMark { there, large, emptied, gone, ransom_note, calm };
        (mark.bits() == bits && !mark.is_plain()).then_some(mark)
    }
}

/// The tables of one backup of which something is remembered; all others are plain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableMarks(pub BTreeMap<TableKey, TableMark>);

impl TableMarks {
    /// As it is kept: a version, then 18 bytes for each table.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + ROW * self.0.len());
        bytes.push(VERSION);
        for (key, mark) in &self.0 {
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(&[mark.bits(), mark.calm]);
        }
        bytes
    }

    /// Reads what [`encode`](Self::encode) wrote; nothing for anything else, which a newer drctl may
    /// have written.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&VERSION, rest) = bytes.split_first()? else { return None };
        let (rows, rest) = rest.as_chunks::<ROW>();
        let mut marks = BTreeMap::new();
        for row in rows {
            let (key, of_it) = row.split_first_chunk::<16>()?;
            let is_behind = marks.last_key_value().is_none_or(|(last, _)| last < key);
            if !is_behind {
                return None;
            }
            marks.insert(*key, TableMark::of(of_it[0], of_it[1])?);
        }
        rest.is_empty().then_some(TableMarks(marks))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn marks_of_tables_are_read_as_they_were_written(
            all in proptest::collection::btree_map(any::<[u8; 16]>(), (1u8..32, any::<u8>()), 0..20),
            cut in 1usize..ROW,
            flipped in any::<(usize, u8)>(),
        ) {
            let marks = all.iter().map(|(key, (bits, calm))| (*key, TableMark::of(*bits, *calm).unwrap()));
            let marks = TableMarks(marks.collect());
            let mut bytes = marks.encode();
            prop_assert_eq!(TableMarks::decode(&bytes), Some(marks.clone()));
            // What is cut, doubled or of another form is nothing, and never a part of it.
            if bytes.len() > 1 {
                prop_assert_eq!(TableMarks::decode(&bytes[..bytes.len() - cut]), None);
                let twice = [&bytes[..], &bytes[1..]].concat();
                prop_assert_eq!(TableMarks::decode(&twice), None);
            }
            prop_assert_eq!(TableMarks::decode(&bytes[1..]), None);
            let at = flipped.0 % bytes.len();
            bytes[at] ^= flipped.1;
            if let Some(read) = TableMarks::decode(&bytes) {
                prop_assert_eq!(read.encode(), bytes);
            }
        }
    }
}
