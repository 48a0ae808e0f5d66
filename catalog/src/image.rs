//! A catalog whose place takes no writes, read as it stands: SQLite writes beside a database with a
//! write-ahead log even to read it. Its pages, and those of the log, become a database in memory.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rusqlite::Connection;

use crate::error::{Fault, io};
use crate::open::beside;

/// How often it is read, where others write to it meanwhile.
const TRIES: usize = 5;

/// The length of the log's own header, and of that of each page in it.
const HEADER: usize = 32;
const FRAME: usize = 24;

/// The magic number of a log; its last bit tells the order of the bytes that are summed.
const MAGIC: u32 = 0x377f_0682;

/// The catalog in memory. What is written to it is lost.
pub(crate) fn read(path: &Path) -> Result<Connection, Fault> {
    for _ in 0..TRIES {
        let before = marks(path)?;
        let pages = fs::read(path).map_err(io("read"))?;
        let log = there(fs::read(beside(path, "-wal")))?.unwrap_or_default();
        if marks(path)? == before {
            return open(with_log(pages, &log));
        }
    }
    Err(Fault::Busy("another process writes to it"))
}

/// Number, length and time of a file.
type Mark = (u64, u64, i64, i64);

/// What changes where somebody writes. A journal that is left would have to be rolled back first.
fn marks(path: &Path) -> Result<Vec<Option<Mark>>, Fault> {
    let mark = |found: Metadata| (found.ino(), found.len(), found.mtime(), found.mtime_nsec());
    let journal = there(fs::metadata(beside(path, "-journal")))?;
    if journal.is_some_and(|found| found.len() > 0) {
        let source = io::Error::other("a journal lies beside it, and cannot be rolled back here");
        return Err(io("read")(source));
    }
    let all = ["", "-wal"].map(|suffix| there(fs::metadata(beside(path, suffix))));
    all.into_iter().map(|found| Ok(found?.map(mark))).collect()
}

fn there<T>(found: io::Result<T>) -> Result<Option<T>, Fault> {
    match found {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        found => found.map(Some).map_err(io("read")),
    }
}

fn open(mut pages: Vec<u8>) -> Result<Connection, Fault> {
    let mut connection = Connection::open_in_memory()?;
    // Read and write version: a database in memory has no write-ahead log.
    if let Some(versions) = pages.get_mut(18..20) {
        versions.fill(1);
    }
    let size = pages.len();
    connection.deserialize_read_exact(c"main", pages.as_slice(), size, false)?;
    Ok(connection)
}

/// The database with what was committed to its log, as SQLite would recover it.
fn with_log(mut pages: Vec<u8>, log: &[u8]) -> Vec<u8> {
    let Some((page, frames)) = frames(log) else { return pages };
    let committed = frames.iter().rposition(|frame| frame.pages_after > 0);
    let Some(last) = committed else { return pages };
    for frame in &frames[..=last] {
        let at = (frame.number as usize - 1) * page;
        if pages.len() < at + page {
            pages.resize(at + page, 0);
        }
        pages[at..at + page].copy_from_slice(frame.content);
    }
    pages.resize(frames[last].pages_after as usize * page, 0);
    pages
}

struct Frame<'a> {
    /// Of the page, from 1.
    number: u32,
    /// The database's size after a commit; 0 for what commits nothing.
    pages_after: u32,
    content: &'a [u8],
}

/// The size of a page, and all frames that are whole and of this log.
fn frames(log: &[u8]) -> Option<(usize, Vec<Frame<'_>>)> {
    let header = log.get(..HEADER)?;
    let (magic, page) = (word(header, 0), word(header, 8) as usize);
    if magic & !1 != MAGIC || !page.is_power_of_two() || !(512..=65_536).contains(&page) {
        return None;
    }
    let big = magic & 1 == 1;
    let mut sum = summed((0, 0), &header[..24], big);
    if sum != (word(header, 24), word(header, 28)) {
        return None;
    }
    let mut found = Vec::new();
    for frame in log[HEADER..].chunks_exact(FRAME + page) {
        let (head, content) = frame.split_at(FRAME);
        sum = summed(summed(sum, &head[..8], big), content, big);
        let is_ours = head[8..16] == header[16..24] && sum == (word(head, 16), word(head, 20));
        if !is_ours || word(head, 0) == 0 {
            break;
        }
        found.push(Frame { number: word(head, 0), pages_after: word(head, 4), content });
    }
    Some((page, found))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |word, byte| (word << 8) | u32::from(*byte))
}

/// SQLite's checksum of a log.
fn summed((mut one, mut two): (u32, u32), bytes: &[u8], big: bool) -> (u32, u32) {
    for pair in bytes.chunks_exact(8) {
        let read = |at| if big { word(pair, at) } else { word(pair, at).swap_bytes() };
        one = one.wrapping_add(read(0)).wrapping_add(two);
        two = two.wrapping_add(read(4)).wrapping_add(one);
    }
    (one, two)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_only_in_the_log_is_read_and_what_was_not_committed_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.db");
        let live = Connection::open(&path).unwrap();
        live.pragma_update(None, "journal_mode", "WAL").unwrap();
        live.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
        live.execute_batch("CREATE TABLE a (x TEXT); INSERT INTO a VALUES ('one')").unwrap();
        live.pragma_update(None, "wal_checkpoint", "TRUNCATE").unwrap();
        let many = "INSERT INTO a SELECT hex(randomblob(400)) FROM generate_series(1, 300)";
        let many = many.replace(
            "generate_series(1, 300)",
            "(WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 300) \
             SELECT i FROM n)",
        );
        live.execute_batch(&many).unwrap();
        let rows = |of: &Connection| -> (i64, String) {
            let text = "SELECT count(*), max(x) FROM a";
            of.query_row(text, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
        };
        let image = read(&path).unwrap();
        assert_eq!((rows(&image), rows(&image).0), (rows(&live), 301));
        let sound: String =
            image.pragma_query_value(None, "integrity_check", |row| row.get(0)).unwrap();
        assert_eq!(sound, "ok");
        // The last commit is torn: SQLite takes none of it, nor do we.
        live.execute_batch("INSERT INTO a VALUES ('last')").unwrap();
        let log = fs::read(beside(&path, "-wal")).unwrap();
        let torn = with_log(fs::read(&path).unwrap(), &log[..log.len() - 1]);
        assert_eq!(rows(&open(torn).unwrap()).0, 301);
        assert_eq!(rows(&read(&path).unwrap()).0, 302);
    }

    #[test]
    fn what_is_no_log_is_passed_over() {
        for log in [&b""[..], &[0; 31], &[7; 4096]] {
            assert_eq!(with_log(vec![1, 2], log), [1, 2]);
        }
    }
}
