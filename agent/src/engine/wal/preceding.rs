//! Log follows log by its content: what lies right before a piece is bound to it when it is written,
//! and compared with what the bucket has there.

use std::fs::Metadata;
use std::io::Read as _;

use anyhow::Result;
use drctl_engines::pg::wal::WalWalker;
use drctl_model::{
    Digest, Holds, LogPiece, LogPlace, Lsn, Timeline, WalPart, WalPlace, WalSegmentSize,
};
use drctl_store::layout;
use sha2::{Digest as _, Sha256};

use super::files::{Files, LogFile};
use crate::host::AgentError;
use crate::log::LogStore;
use crate::repository::faults::{is_bad_manifest, is_missing};

/// How much of a file is read at a time.
const READ: usize = 256 << 10;

/// How many timelines before its own are tried for the segment before one.
const ANCESTORS: u32 = 16;

/// What the bucket has right before a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// The whole segment, and the piece follows it as far as both tell.
    There,
    /// Nothing that could be compared.
    Unknown,
}

/// What is known of a file of `pg_wal` by its name, as it is now, without reading it.
pub(super) type Known<'a> = &'a dyn Fn(&str, &Metadata) -> Option<Digest>;

/// The SHA-256 of the whole segment before one that lies in `pg_wal`, where it still lies there as it
/// was written: nothing is bound to bytes that are no log. One that is `known` is not read.
pub(super) fn digest_before(
    files: &Files,
    timeline: Timeline,
    start: Lsn,
    size: WalSegmentSize,
    known: Known<'_>,
) -> Option<Digest> {
    let mut walker = None;
    digest_proven((files, timeline, start, size), known, |before, bytes| {
        let new = || WalWalker::new(timeline, before, size);
        walker.get_or_insert_with(new).feed(bytes).is_ok()
    })
}

/// The same of bytes that `prove` believes, from the segment's start on.
fn digest_proven(
    (files, timeline, start, size): (&Files, Timeline, Lsn, WalSegmentSize),
    known: Known<'_>,
    prove: impl FnMut(Lsn, &[u8]) -> bool,
) -> Option<Digest> {
    let before = Lsn(start.0.checked_sub(size.bytes())?);
    let (name, file) = file_before(files, timeline, start, size)?;
    if let Some(digest) = known(&name, &file.metadata().ok()?) {
        return Some(digest);
    }
    digest_of(file, before, size, prove)
}

/// The segment before one, where it lies there: at a promotion it is the ancestor's.
pub(super) fn file_before(
    files: &Files,
    timeline: Timeline,
    start: Lsn,
    size: WalSegmentSize,
) -> Option<(String, LogFile)> {
    let before = Lsn(start.0.checked_sub(size.bytes())?);
    let least = timeline.id().saturating_sub(ANCESTORS).max(1);
    let timelines = (least..=timeline.id()).rev().filter_map(Timeline::new);
    let mut names = timelines.map(|timeline| size.file_name(timeline, before));
    names.find_map(|name| files.open(&name).ok().map(|file| (name, file)))
}

fn digest_of(
    mut file: LogFile,
    start: Lsn,
    size: WalSegmentSize,
    mut prove: impl FnMut(Lsn, &[u8]) -> bool,
) -> Option<Digest> {
    let whole = file.metadata().ok()?.len() == size.bytes();
    let (mut hash, mut buffer, mut first) = (Sha256::new(), vec![0; READ], whole);
    let mut left = usize::try_from(size.bytes()).ok()?;
    while left > 0 {
        let n = left.min(READ);
        file.read_exact(&mut buffer[..n]).ok()?;
        // `xlp_pageaddr`: a file under this name that was not written to yet has another one's log.
        let address = buffer.get(8..16)?.try_into().ok().map(u64::from_le_bytes);
        if first && address != Some(start.0) {
            return None;
        }
        first = false;
        if !prove(start, &buffer[..n]) {
            return None;
        }
        hash.update(&buffer[..n]);
        left -= n;
    }
    whole.then(|| Digest(hash.finalize().into()))
}

impl LogStore {
    /// Whether a whole segment follows the log that the bucket has right before it.
    ///
    /// # Errors
    /// [`AgentError::OtherHistory`] where it follows other log; the store's.
    pub(super) async fn compare_before(&self, place: &LogPlace, holds: &Holds) -> Result<Before> {
        let Some((WalPlace { system_id, timeline, part: WalPart::Range { start, .. } }, size)) =
            place.wal().zip(holds.segment_size())
        else {
            return Ok(Before::Unknown);
        };
        let Some(from) = start.0.checked_sub(size.bytes()).map(Lsn) else {
            return Ok(Before::Unknown);
        };
        if size.start_of(start) != start {
            return Ok(Before::Unknown);
        }
        let before = LogPlace::of_wal((system_id, timeline), (from, start));
        let head = match self.head_where(&before, |head| !differs(head, holds)).await {
            Err(error) if is_missing(&error) || is_bad_manifest(&error) => {
                return Ok(Before::Unknown);
            }
            head => head?,
        };
        if differs(&head, holds) {
            return Err(self.other_history(&head));
        }
        Ok(Before::There)
    }

    /// That the bucket's log was written by somebody whose log is not ours.
    pub(super) fn other_history(&self, theirs: &LogPiece) -> anyhow::Error {
        AgentError::OtherHistory {
            key: layout::piece(&self.source, &theirs.place).to_string(),
            host: theirs.host.clone(),
            written: theirs.written,
        }
        .into()
    }
}

/// Whether a whole segment is not what a piece right behind it follows.
pub(super) fn differs(before: &LogPiece, holds: &Holds) -> bool {
    if let Some(digest) = holds.before {
        return digest != before.plain_sha256;
    }
    // Without the bytes, the positions: the first record names the one before it. One that goes over
    // the end belongs to neither.
    let Some(((_, follows), (last, next))) = holds.first_record.zip(before.holds.last_record)
    else {
        return false;
    };
    follows < next && follows != last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_segment_before_is_read_as_it_was_written() {
        let (folder, size) = (tempfile::tempdir().unwrap(), WalSegmentSize::new(1 << 20).unwrap());
        let two = Timeline::new(2).unwrap();
        let start = Lsn(5 << 20);
        let digest_before = |files: &Files, timeline, start, size| {
            digest_proven((files, timeline, start, size), &|_, _| None, |_, _| true)
        };
        let at = |timeline, n: u64| folder.path().join(size.file_name(timeline, Lsn(n << 20)));
        let own = Files::beside(&at(two, 5));
        assert_eq!(digest_before(&own, two, start, size), None);
        let mut bytes = vec![7; 1 << 20];
        bytes[8..16].copy_from_slice(&(4u64 << 20).to_le_bytes());
        std::fs::write(at(Timeline::FIRST, 4), &bytes).unwrap();
        let expected = Some(drctl_store::digest(&bytes));
        assert_eq!(digest_before(&own, two, start, size), expected, "the ancestor's");
        let nothing: Known<'_> = &|_, _| None;
        assert_eq!(super::digest_before(&own, two, start, size, nothing), None, "it is no WAL");
        // What was pushed is known, and not read again.
        let name = size.file_name(Timeline::FIRST, Lsn(4 << 20));
        let pushed = Digest([9; 32]);
        let known: Known<'_> =
            &|asked, file| (asked == name && file.len() == 1 << 20).then_some(pushed);
        assert_eq!(super::digest_before(&own, two, start, size, known), Some(pushed));
        // One that was made ready for later, and holds what it held before.
        bytes[8..16].copy_from_slice(&(1u64 << 20).to_le_bytes());
        std::fs::write(at(two, 4), &bytes).unwrap();
        assert_eq!(digest_before(&own, two, start, size), None);
        assert_eq!(digest_before(&own, two, Lsn(0), size), None);
    }
}
