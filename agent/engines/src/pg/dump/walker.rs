//! Proves the structure of a dump in custom format while it flows past.
//!
//! The layout is that of `pg_backup_archiver.c` and `pg_backup_custom.c`: a header, a table of
//! contents, then one block for each entry that has data. The end of the file carries no mark of
//! its own, so a dump that was cut between two blocks looks fine to `pg_restore --list`: only the
//! table of contents tells how many blocks there must be.

mod block;
mod blocks;
mod end;
mod field;
mod fold;
mod shape;
mod through;

use std::collections::HashMap;
use std::mem;

use block::{Block, Due, Entry, clamp};
use drctl_model::RowKey;
use field::{DEFINITION_BYTES, Field, Part, Shape};
use fold::Fold;
pub use shape::{Digested, DumpShape, DumpedTable, WalkError};
use through::through;

/// Reads a dump in pieces of any size and remembers only its shape.
///
/// Memory is bounded by the number of tables, not by their size.
#[derive(Debug)]
pub struct DumpWalker {
    field: Field,
    part: Part,
    scratch: Vec<u8>,
    int_bytes: usize,
    offset_bytes: usize,
    entries_left: i64,
    entry: Entry,
    due: HashMap<i64, Due>,
    block: Block,
    at: u64,
    shape: DumpShape,
    /// With which rows are digested, if they are.
    key: Option<RowKey>,
    /// Whether all that the table of contents names is remembered.
    names: bool,
}

impl Default for DumpWalker {
    fn default() -> Self {
        Self::new()
    }
}

impl DumpWalker {
    /// A walker at the first byte of a dump.
    #[must_use]
    pub fn new() -> Self {
        DumpWalker {
            field: Field::Magic,
            part: Part::Raw(11),
            scratch: Vec::new(),
            int_bytes: 4,
            offset_bytes: 8,
            entries_left: 0,
            entry: Entry::default(),
            due: HashMap::new(),
            block: Block::default(),
            at: 0,
            shape: DumpShape::default(),
            key: None,
            names: false,
        }
    }

    /// The same, which digests what it sees.
    #[must_use]
    pub fn with_key(self, key: Option<RowKey>) -> Self {
        DumpWalker { key, ..self }
    }

    /// The same, which remembers all that the table of contents names.
    #[must_use]
    pub fn with_names(self) -> Self {
        DumpWalker { names: true, ..self }
    }

    /// Reads the next bytes.
    ///
    /// # Errors
    /// [`WalkError::Malformed`]; the dump is then not usable and the walker neither.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), WalkError> {
        while let Some(&first) = bytes.first() {
            if self.field == Field::End {
                return Err(self.wrong(format!("byte {first:#04x} after the last block")));
            }
            let taken = match self.whole_chunks(bytes) {
                0 => self.take(bytes),
                taken => taken,
            };
            self.at += taken as u64;
            bytes = &bytes[taken..];
            self.advance()?;
        }
        Ok(())
    }

    /// Takes the pieces of data that lie whole in `bytes`: one for each row, so nearly all there
    /// is. What does not, and the end of the block, goes the long way.
    fn whole_chunks(&mut self, bytes: &[u8]) -> usize {
        if self.field != Field::Chunk
            || !matches!(self.part, Part::Raw(_))
            || !self.scratch.is_empty()
        {
            return 0;
        }
        self.block.add_whole(bytes, 1 + self.int_bytes)
    }

    /// Takes as many bytes as the part in hand can use.
    fn take(&mut self, bytes: &[u8]) -> usize {
        match &mut self.part {
            Part::Raw(wanted) => {
                let n = bytes.len().min(*wanted - self.scratch.len());
                self.scratch.extend_from_slice(&bytes[..n]);
                n
            }
            Part::Text { left, keep } => {
                let n = clamp(bytes.len(), *left);
                let room = keep.saturating_sub(self.scratch.len());
                self.scratch.extend_from_slice(&bytes[..n.min(room)]);
                *left -= n as u64;
                n
            }
            Part::Data { left } => {
                let n = clamp(bytes.len(), *left);
                *left -= n as u64;
                self.block.add(&bytes[..n]);
                n
            }
        }
    }

    /// Goes to the next part or field where the one in hand is complete.
    fn advance(&mut self) -> Result<(), WalkError> {
        match self.part {
            Part::Raw(wanted) if self.scratch.len() == wanted => {
                let raw = mem::take(&mut self.scratch);
                match self.field.layout(self.shape.format, self.offset_bytes) {
                    Shape::Bytes(_) => self.bytes(&raw)?,
                    Shape::Int => {
                        let value = self.int(&raw)?;
                        self.number(value)?;
                    }
                    Shape::Text { keep } => return self.begin_text(&raw, keep),
                    Shape::Data => return self.begin_chunk(&raw),
                }
                self.begin();
            }
            Part::Text { left: 0, .. } => {
                let raw = mem::take(&mut self.scratch);
                self.text(Some(&raw))?;
                self.begin();
            }
            Part::Data { left: 0 } => self.begin(),
            _ => {}
        }
        Ok(())
    }

    fn begin_text(&mut self, raw: &[u8], keep: usize) -> Result<(), WalkError> {
        match self.int(raw)? {
            // -1 stands for no text at all.
            ..=-1 => self.text(None)?,
            0 => self.text(Some(&[]))?,
            left => {
                let kept = self.field == Field::Definition && self.entry.is_kept();
                let keep = if kept { DEFINITION_BYTES + 1 } else { keep };
                self.part = Part::Text { left: left.unsigned_abs(), keep };
                return Ok(());
            }
        }
        self.begin();
        Ok(())
    }

    fn begin_chunk(&mut self, raw: &[u8]) -> Result<(), WalkError> {
        match self.int(raw)? {
            ..=-1 => Err(self.wrong("a piece of data has a negative length")),
            0 => {
                self.end_of_chunks()?;
                self.begin();
                Ok(())
            }
            left => {
                self.part = Part::Data { left: left.unsigned_abs() };
                Ok(())
            }
        }
    }

    /// Makes ready to read the field in hand from its first byte.
    fn begin(&mut self) {
        self.part = match self.field.layout(self.shape.format, self.offset_bytes) {
            Shape::Bytes(n) => Part::Raw(n),
            Shape::Int | Shape::Text { .. } | Shape::Data => Part::Raw(1 + self.int_bytes),
        };
    }

    fn int(&self, raw: &[u8]) -> Result<i64, WalkError> {
        field::int(raw).map_err(|problem| self.wrong(problem))
    }

    fn bytes(&mut self, raw: &[u8]) -> Result<(), WalkError> {
        match self.field {
            Field::Magic => self.magic(raw),
            Field::Compression => self.compression(i64::from(raw[0])),
            Field::Offset => self.end_of_entry(raw),
            _ => {
                self.block = Block { kind: raw[0], ..Block::default() };
                self.field = Field::BlockId;
                Ok(())
            }
        }
    }

    fn magic(&mut self, raw: &[u8]) -> Result<(), WalkError> {
        if &raw[..5] != b"PGDMP" {
            return Err(self.wrong("it does not begin like a dump in custom format"));
        }
        let (format, int_bytes, offset_bytes) = ((raw[5], raw[6]), raw[8], raw[9]);
        if !((1, 14)..=(1, 16)).contains(&format) {
            let (major, minor) = format;
            return Err(self.wrong(format!("archive format {major}.{minor} is not known")));
        }
        if !(1..=8).contains(&int_bytes) || !(1..=8).contains(&offset_bytes) || raw[10] != 1 {
            return Err(self.wrong("the header is not that of a dump in custom format"));
        }
        self.shape.format = format;
        self.int_bytes = int_bytes.into();
        self.offset_bytes = offset_bytes.into();
        self.field = Field::Compression;
        Ok(())
    }

    fn compression(&mut self, method: i64) -> Result<(), WalkError> {
        if method != 0 {
            return Err(self.wrong("it is compressed, so its rows cannot be counted"));
        }
        self.field = Field::Date(0);
        Ok(())
    }

    fn number(&mut self, value: i64) -> Result<(), WalkError> {
        self.field = match self.field {
            Field::Compression => return self.compression(value),
            Field::Date(6) => Field::HeaderText(0),
            Field::Date(n) => Field::Date(n + 1),
            Field::EntryCount => {
                if value < 0 || value > i64::from(i32::MAX) {
                    return Err(self.wrong("the number of entries is impossible"));
                }
                self.entries_left = value;
                self.shape.entries = value.unsigned_abs();
                self.next_entry()
            }
            Field::EntryId => {
                self.entry = Entry { id: value, ..Entry::default() };
                Field::HadDumper
            }
            Field::HadDumper => {
                self.entry.had_dumper = value != 0;
                Field::TableOid
            }
            Field::Section => Field::Definition,
            Field::RelKind => Field::Owner,
            Field::BlockId => return self.begin_block(value),
            // Only LargeObject is left: 0 ends the block, all else is an object's identifier.
            _ if value == 0 => self.next_block(),
            _ => {
                self.shape.large_objects += 1;
                self.block.fold = Fold::object(self.key, value);
                Field::Chunk
            }
        };
        Ok(())
    }

    fn text(&mut self, raw: Option<&[u8]>) -> Result<(), WalkError> {
        let text = || String::from_utf8_lossy(raw.unwrap_or_default()).into_owned();
        self.field = match self.field {
            Field::HeaderText(n) => {
                match n {
                    0 => self.shape.database = text(),
                    1 => self.shape.server = text(),
                    _ => self.shape.pg_dump = text(),
                }
                if n == 2 { Field::EntryCount } else { Field::HeaderText(n + 1) }
            }
            Field::TableOid => Field::Oid,
            Field::Oid => {
                let oid = text().parse();
                self.entry.oid = oid.map_err(|_| self.wrong("an entry has no identifier"))?;
                Field::Tag
            }
            Field::Tag => {
                self.entry.tag = text();
                self.entry.raw.name = raw.unwrap_or_default().to_vec();
                Field::Description
            }
            Field::Description => {
                self.entry.description = text();
                Field::Section
            }
            Field::Definition => {
                let whole = raw.filter(|raw| (1..=DEFINITION_BYTES).contains(&raw.len()));
                let text = whole.and_then(|raw| String::from_utf8(raw.to_vec()).ok());
                self.entry.definition = text;
                self.entry.raw.definition = raw.unwrap_or_default().to_vec();
                Field::Drop
            }
            Field::Drop => Field::Copy,
            Field::Copy => {
                self.entry.copy = text();
                Field::Namespace
            }
            Field::Namespace => {
                self.entry.namespace = text();
                self.entry.raw.schema = raw.unwrap_or_default().to_vec();
                Field::Tablespace
            }
            Field::Tablespace => Field::TableAm,
            Field::TableAm if self.shape.format >= (1, 16) => Field::RelKind,
            Field::TableAm => Field::Owner,
            Field::Owner => Field::WithOids,
            Field::WithOids => Field::Dependency,
            // Only Dependency is left: the list ends with no text.
            _ if raw.is_none() => Field::Offset,
            _ => Field::Dependency,
        };
        Ok(())
    }

    /// Ends an entry with the state of its data: 1 place not known, 2 known, 3 no data.
    fn end_of_entry(&mut self, raw: &[u8]) -> Result<(), WalkError> {
        let has_data = match raw[0] {
            1 | 2 => true,
            3 => false,
            state => return Err(self.wrong(format!("an entry has the data state {state}"))),
        };
        let entry = mem::take(&mut self.entry);
        if entry.is_of_database() {
            let Entry { description, definition, .. } = &entry;
            self.shape.own.push((description.clone(), definition.clone()));
        }
        self.shape.objects += u64::from(entry.makes());
        self.note(&entry);
        if has_data != entry.had_dumper {
            return Err(self.wrong(format!("entry {} contradicts itself", entry.id)));
        }
        if has_data {
            let due = match entry.description.as_str() {
                "TABLE DATA" => Due::Table {
                    oid: entry.oid,
                    through: through(&entry),
                    copy: self.names.then_some(entry.copy),
                    schema: entry.namespace,
                    table: entry.tag,
                },
                "BLOBS" => Due::LargeObjects,
                _ => Due::Other,
            };
            if self.due.insert(entry.id, due).is_some() {
                return Err(self.wrong(format!("entry {} occurs twice", entry.id)));
            }
        }
        self.entries_left -= 1;
        self.field = self.next_entry();
        Ok(())
    }

    fn next_entry(&self) -> Field {
        if self.entries_left > 0 { Field::EntryId } else { self.next_block() }
    }

    fn next_block(&self) -> Field {
        if self.due.is_empty() { Field::End } else { Field::BlockType }
    }

    fn wrong(&self, problem: impl Into<String>) -> WalkError {
        WalkError::Malformed { at: self.at, problem: problem.into() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::block::BLOCK_DATA;

    use super::*;

    const ODD: &[u8] = include_bytes!("../../../tests/data/odd.dump");
    const EMPTY: &[u8] = include_bytes!("../../../tests/data/empty.dump");

    fn walk(pieces: &[&[u8]]) -> Result<DumpShape, WalkError> {
        let mut walker = DumpWalker::new();
        for piece in pieces {
            walker.push(piece)?;
        }
        walker.finish()
    }

    fn rows(shape: &DumpShape) -> Vec<(&str, &str, u64)> {
        let mut rows: Vec<_> =
            shape.tables.values().map(|t| (t.schema.as_str(), t.table.as_str(), t.rows)).collect();
        rows.sort_unstable();
        rows
    }

    #[test]
    fn counts_rows_and_large_objects() {
        let shape = walk(&[ODD]).unwrap();
        let expected = [
            ("Odd \"schema\"", "line\nbreak; -- 'x'", 3),
            ("public", "empty", 0),
            ("public", "measure_1", 2),
            ("public", "measure_2", 0),
            ("public", "no_columns", 2),
            ("public", "terminators", 4),
        ];
        assert_eq!(rows(&shape), expected);
        assert_eq!(shape.large_objects, 2);
        assert_eq!((shape.format, shape.database.as_str()), ((1, 14), "odd"));
        assert_eq!(shape.bytes, ODD.len() as u64);
        assert!(shape.server.starts_with("15."), "{}", shape.server);
    }

    #[test]
    fn a_database_without_tables_is_complete() {
        let shape = walk(&[EMPTY]).unwrap();
        assert!(shape.tables.is_empty() && shape.entries > 0);
        assert_eq!(shape.objects, 0);
    }

    #[test]
    fn whether_a_dump_makes_anything_is_known_from_its_contents() {
        for (dump, makes) in [(ODD, true), (EMPTY, false)] {
            let mut walker = DumpWalker::new();
            assert_eq!(walker.makes(), None);
            walker.push(&dump[..dump.len().min(20)]).unwrap();
            assert_eq!(walker.makes(), None);
            walker.push(&dump[20..]).unwrap();
            assert_eq!(walker.makes(), Some(makes));
        }
    }

    #[test]
    fn every_truncation_is_found() {
        for dump in [ODD, EMPTY] {
            for end in 0..dump.len() {
                let found = walk(&[&dump[..end]]);
                assert!(matches!(found, Err(WalkError::Truncated { .. })), "{end}: {found:?}");
            }
        }
    }

    #[test]
    fn anything_after_the_end_is_found() {
        for dump in [ODD, EMPTY] {
            for more in [&b"\0"[..], b"\n", dump] {
                assert!(matches!(walk(&[dump, more]), Err(WalkError::Malformed { .. })));
            }
        }
    }

    #[test]
    fn later_formats_are_read() {
        // The same archive as a later pg_dump writes it: another byte for the compression, and
        // from 1.16 the kind of relation in each entry.
        for minor in [15, 16] {
            let dump = rewritten(minor);
            let shape = walk(&[&dump]).unwrap();
            assert_eq!(shape.format, (1, minor));
            assert_eq!(rows(&shape), [("s", "t", 1)]);
            for end in 0..dump.len() {
                assert!(walk(&[&dump[..end]]).is_err());
            }
        }
    }

    fn rewritten(minor: u8) -> Vec<u8> {
        fn int(out: &mut Vec<u8>, value: i32) {
            out.push(u8::from(value < 0));
            out.extend(value.unsigned_abs().to_le_bytes());
        }
        fn text(out: &mut Vec<u8>, value: &str) {
            int(out, i32::try_from(value.len()).unwrap());
            out.extend(value.bytes());
        }
        let mut out = b"PGDMP".to_vec();
        out.extend([1, minor, 0, 4, 8, 1, 0]);
        (0..7).for_each(|_| int(&mut out, 0));
        ["db", "17.0", "17.0"].iter().for_each(|t| text(&mut out, t));
        int(&mut out, 1);
        int(&mut out, 7);
        int(&mut out, 1);
        ["0", "16400", "t", "TABLE DATA"].iter().for_each(|t| text(&mut out, t));
        int(&mut out, 3);
        ["", "", "COPY", "s", "", ""].iter().for_each(|t| text(&mut out, t));
        if minor >= 16 {
            int(&mut out, 0);
        }
        ["owner", "false", "6"].iter().for_each(|t| text(&mut out, t));
        int(&mut out, -1);
        out.extend([1, 0, 0, 0, 0, 0, 0, 0, 0]);
        out.push(BLOCK_DATA);
        int(&mut out, 7);
        text(&mut out, "row\n");
        text(&mut out, "\\.\n\n\n");
        int(&mut out, 0);
        out
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(cuts in prop::collection::vec(0..=ODD.len(), 0..40)) {
            let mut cuts = cuts;
            cuts.extend([0, ODD.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &ODD[w[0]..w[1]]).collect();
            prop_assert_eq!(walk(&pieces), walk(&[ODD]));
        }

        #[test]
        fn damage_never_panics(at in 0..ODD.len(), byte: u8) {
            let mut damaged = ODD.to_vec();
            damaged[at] = byte;
            let _ = walk(&[&damaged]);
        }

        #[test]
        fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = walk(&[&ODD[..11], &noise]);
        }
    }
}
