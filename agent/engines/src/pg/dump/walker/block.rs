use super::field::int;
use super::fold::Fold;
use super::shape::DumpedTable;

/// A block of the rows of one table, or of anything else that `COPY` carries.
pub(super) const BLOCK_DATA: u8 = 1;
/// A block of large objects.
pub(super) const BLOCK_BLOBS: u8 = 3;

/// An entry of the table of contents while it is read.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) id: i64,
    pub(super) had_dumper: bool,
    pub(super) oid: u32,
    pub(super) tag: String,
    pub(super) description: String,
    pub(super) namespace: String,
    pub(super) definition: Option<String>,
    /// The beginning of the statement that loads its rows.
    pub(super) copy: String,
    /// Schema, name and statement as they are written, in whatever encoding that is.
    pub(super) raw: Raw,
}

#[derive(Debug, Default)]
pub(super) struct Raw {
    pub(super) schema: Vec<u8>,
    pub(super) name: Vec<u8>,
    pub(super) definition: Vec<u8>,
}

impl Entry {
    /// Whether it is about the database itself, which is made before anything is loaded into it.
    pub(super) fn is_of_database(&self) -> bool {
        match self.description.as_str() {
            "DATABASE" | "DATABASE PROPERTIES" => true,
            "ACL" | "COMMENT" | "SECURITY LABEL" => self.tag.starts_with("DATABASE "),
            _ => false,
        }
    }

    /// Whether its statement is kept: one about the database itself, which is run by us, and one that says where
    /// a sequence stands, which is digested.
    pub(super) fn is_kept(&self) -> bool {
        self.is_of_database() || self.description == super::blocks::SEQUENCE
    }

    /// Whether it makes something that a database holds afterwards, and that is looked for in one
    /// that must be empty: privileges, comments and settings are not.
    pub(super) fn makes(&self) -> bool {
        match self.description.as_str() {
            "SCHEMA" => self.tag != "public",
            "TABLE" | "VIEW" | "MATERIALIZED VIEW" | "SEQUENCE" | "FOREIGN TABLE" | "TYPE"
            | "DOMAIN" | "FUNCTION" | "PROCEDURE" | "AGGREGATE" | "OPERATOR"
            | "OPERATOR FAMILY" | "OPERATOR CLASS" | "COLLATION" | "CONVERSION" | "EXTENSION"
            | "PUBLICATION" | "BLOB" | "BLOBS" | "BLOB METADATA" => true,
            other => other.starts_with("TEXT SEARCH "),
        }
    }
}

/// An entry whose block has not been seen.
#[derive(Debug)]
pub(super) enum Due {
    Table {
        oid: u32,
        schema: String,
        table: String,
        through: Option<(String, String)>,
        copy: Option<String>,
    },
    LargeObjects,
    Other,
}

/// The block that is being read.
#[derive(Debug, Default)]
pub(super) struct Block {
    pub(super) kind: u8,
    pub(super) due: Option<Due>,
    pub(super) newlines: u64,
    pub(super) bytes: u64,
    pub(super) tail: Vec<u8>,
    pub(super) fold: Fold,
}

impl Block {
    /// Bytes at the end of a block that are kept: a newline and the end mark with its newlines.
    const TAIL: usize = 8;

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.newlines += newlines(bytes);
        self.fold.push(bytes);
        self.keep_tail(bytes);
    }

    /// Adds the pieces that lie whole in `bytes`, one behind the other, each after its length of
    /// `head_bytes`; gives how many bytes that were. The piece of length 0 at the end is not one.
    ///
    /// The newlines are counted over all of it at once, which is many times faster than one piece
    /// after the other; those in the lengths are taken off again.
    pub(super) fn add_whole(&mut self, bytes: &[u8], head_bytes: usize) -> usize {
        let mut pieces = Pieces::default();
        let mut at = 0;
        while let Some((head, data)) = bytes[at..].split_at_checked(head_bytes) {
            let length = int(head).ok().and_then(|length| usize::try_from(length).ok());
            let Some(length) = length.filter(|length| (1..=data.len()).contains(length)) else {
                break;
            };
            pieces.note(at + head_bytes, length, head);
            self.fold.push(&data[..length]);
            at += head_bytes + length;
        }
        self.bytes += pieces.bytes;
        self.newlines += newlines(&bytes[..at]) - pieces.newlines_in_lengths;
        for (start, length) in pieces.last.into_iter().filter(|(_, length)| *length > 0) {
            self.keep_tail(&bytes[start..start + length]);
        }
        at
    }

    /// Ends the block: the rows of its table, if it is one.
    pub(super) fn end(self) -> Result<Option<(u32, DumpedTable)>, String> {
        let Some(Due::Table { oid, schema, table, through, copy }) = self.due else {
            return Ok(None);
        };
        let digest = self.fold.digest();
        match rows_before_terminator(self.newlines, self.bytes, &self.tail) {
            Some(rows) => {
                Ok(Some((oid, DumpedTable { schema, table, rows, digest, through, copy })))
            }
            None => Err(format!("the rows of {schema}.{table} have no end mark")),
        }
    }

    fn keep_tail(&mut self, bytes: &[u8]) {
        let last = &bytes[bytes.len().saturating_sub(Self::TAIL)..];
        self.tail.extend_from_slice(last);
        self.tail.drain(..self.tail.len().saturating_sub(Self::TAIL));
    }
}

/// Pieces of data that lie whole in one buffer.
#[derive(Debug, Default)]
struct Pieces {
    bytes: u64,
    newlines_in_lengths: u64,
    /// Start and length of the last ones, oldest first: none is empty, so they hold the tail.
    last: [(usize, usize); Block::TAIL],
}

impl Pieces {
    fn note(&mut self, start: usize, length: usize, head: &[u8]) {
        self.bytes += length as u64;
        self.newlines_in_lengths += head.iter().map(|&b| u64::from(b == b'\n')).sum::<u64>();
        self.last.rotate_left(1);
        self.last[Block::TAIL - 1] = (start, length);
    }
}

fn newlines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// The number of rows in a block that ends with `\.` on a line of its own and empty lines.
///
/// A newline inside a value is written as `\n`, so each row is one line.
fn rows_before_terminator(newlines: u64, bytes: u64, tail: &[u8]) -> Option<u64> {
    let empty = tail.iter().rev().take_while(|&&b| b == b'\n').count();
    let mark = tail[..tail.len() - empty].strip_suffix(b"\\.")?;
    let alone = match mark.last() {
        Some(&before) => before == b'\n',
        None => bytes == tail.len() as u64,
    };
    (alone && empty > 0).then(|| newlines - empty as u64)
}

/// How many of the bytes at hand belong to what is left.
pub(super) fn clamp(have: usize, left: u64) -> usize {
    usize::try_from(left).map_or(have, |left| have.min(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_mark_stands_alone() {
        let cases: &[(&[u8], Option<u64>)] = &[
            (b"\\.\n\n\n", Some(0)),
            (b"a\n\\.\n\n\n", Some(1)),
            (b"\n\n\\.\n\n\n", Some(2)),
            (b"a\nb\n\\.\n", Some(2)),
            (b"a\\.\n\n\n", None),
            (b"aaaaaaaaaaaaaaaa\\.\n\n\n", None),
            (b"a\n\\.", None),
            (b"a\n", None),
            (b"", None),
        ];
        for (data, rows) in cases {
            let mut block = Block::default();
            for byte in *data {
                block.add(&[*byte]);
            }
            let found = rows_before_terminator(block.newlines, block.bytes, &block.tail);
            assert_eq!(found, *rows, "{}", data.escape_ascii());
        }
    }
}
