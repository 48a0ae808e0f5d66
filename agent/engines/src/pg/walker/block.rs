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
}

/// An entry whose block has not been seen.
#[derive(Debug)]
pub(super) enum Due {
    Table { oid: u32, schema: String, table: String },
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
}

impl Block {
    /// Bytes at the end of a block that are kept: a newline and the end mark with its newlines.
    const TAIL: usize = 8;

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.newlines += bytes.iter().filter(|&&b| b == b'\n').count() as u64;
        let last = &bytes[bytes.len().saturating_sub(Self::TAIL)..];
        if last.len() == Self::TAIL {
            self.tail.clear();
        }
        self.tail.extend_from_slice(last);
        self.tail.drain(..self.tail.len().saturating_sub(Self::TAIL));
    }
}

/// The number of rows in a block that ends with `\.` on a line of its own and empty lines.
///
/// A newline inside a value is written as `\n`, so each row is one line.
pub(super) fn rows_before_terminator(newlines: u64, bytes: u64, tail: &[u8]) -> Option<u64> {
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
