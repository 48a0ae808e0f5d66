//! `restore_command` out of pgBackRest's archive. pgBackRest itself answers an archive that it
//! cannot read with a code that PostgreSQL takes for the end of the WAL, and delivers a damaged
//! segment that is not compressed: neither gets through here.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use drctl_engines::backrest::{BackRest, Cluster, Got, Info, SegmentFile, SegmentName};
use drctl_model::{TimelineHistory, WalSegmentSize};
use tokio::sync::OnceCell;

use super::read::{Sha, examine};
use crate::engine::wal::{Fetched, LogFile, LogRequest};
use crate::host::{AgentError, private};

/// What a list of segments begins with; behind it stands the cluster's version.
const HEAD: &str = "drctl-segments 1 ";

/// The length of its first line, and of each that follows: a name, a blank, a digest, a line end.
const LINE: usize = 66;

/// Notes which segments there are, and by which digests they are known, for the recovering
/// server's own command.
///
/// # Errors
/// The file system's.
pub(crate) fn note_segments(path: &Path, version: &str, segments: &[SegmentFile]) -> Result<()> {
    let mut text = format!("{:<1$}\n", format!("{HEAD}{version}"), LINE - 1);
    for segment in segments {
        let digest: String = segment.sha1.iter().map(|byte| format!("{byte:02x}")).collect();
        text += &format!("{} {digest}\n", segment.name);
    }
    private::store(path, text).with_context(|| format!("write {}", path.display()))
}

/// The version of the cluster, and the digest of a segment, as they were noted.
fn noted(path: &Path, name: &str) -> std::io::Result<(String, Option<Sha>)> {
    let odd = || std::io::Error::new(ErrorKind::InvalidData, "it is no list of segments");
    let mut file = File::open(path)?;
    let lines = file.metadata()?.len() / LINE as u64;
    let mut line = |at: u64| -> std::io::Result<String> {
        let mut bytes = vec![0; LINE];
        file.seek(SeekFrom::Start(at.saturating_mul(LINE as u64)))?;
        file.read_exact(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| odd())
    };
    let version = line(0)?.strip_prefix(HEAD).ok_or_else(odd)?.trim().to_owned();
    let (mut low, mut high) = (1, lines);
    while low < high {
        let middle = low.midpoint(high);
        if line(middle)?.as_str() < name {
            low = middle.saturating_add(1);
        } else {
            high = middle;
        }
    }
    let found = if low < lines { Some(line(low)?) } else { None };
    let digits = found.as_deref().and_then(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let digest = match digits {
        Some(digits) => Some(sha(digits.trim_end()).ok_or_else(odd)?),
        None => None,
    };
    Ok((version, digest))
}

fn sha(digits: &str) -> Option<Sha> {
    let mut sha = [0; 20];
    if digits.len() != 40 || !digits.is_ascii() {
        return None;
    }
    for (at, byte) in sha.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    Some(sha)
}

/// Fetches a file of a cluster's WAL out of pgBackRest's archive, whose `segments` a recovery may
/// have noted; `else_from` is asked for what is not there, or not whole: drctl's own WAL beside it.
///
/// # Errors
/// Everything else than an absence that is proven: the server must stop then.
pub(crate) async fn fetch(
    backrest: &BackRest,
    asked: &LogRequest<'_>,
    segments: Option<&Path>,
    else_from: impl AsyncFnOnce() -> Result<Option<Fetched>>,
) -> Result<Fetched> {
    let info = OnceCell::new();
    let ours = from_archive((backrest, &info), asked, segments).await;
    if matches!(ours, Ok(Fetched::Delivered)) {
        return ours;
    }
    let beside = else_from().await;
    match (ours, beside) {
        (_, Ok(Some(Fetched::Delivered))) => Ok(Fetched::Delivered),
        (Err(error), _) | (_, Err(error)) => Err(error),
        (Ok(_), Ok(_)) => {
            is_end((backrest, &info), asked).await?;
            Ok(Fetched::Absent)
        }
    }
}

/// pgBackRest, and what it says of the stanza, once it was asked.
type Asked<'a> = (&'a BackRest, &'a OnceCell<Info>);

async fn from_archive(
    (backrest, info): Asked<'_>,
    asked: &LogRequest<'_>,
    segments: Option<&Path>,
) -> Result<Fetched> {
    let LogRequest { name, to, size, system_id, .. } = *asked;
    let (version, sha1) = match segments {
        Some(path) => noted(path, name).with_context(|| format!("read {}", path.display()))?,
        None => (version((backrest, info), system_id).await?, None),
    };
    let cluster = Cluster { id: 0, system_id, version };
    let file = asked.file()?;
    let until = match file {
        LogFile::Segment(timeline, start) => match asked.given_until(timeline, start) {
            Some(until) => until.since(start),
            None => return Ok(Fetched::Absent),
        },
        LogFile::History(_) => size.bytes(),
    };
    // PostgreSQL names it below its data directory: pgBackRest would look whether that is the one
    // of its configuration.
    let mut part = std::path::absolute(to).context("find where to write")?.into_os_string();
    part.push(".drctl");
    let part = PathBuf::from(part);
    let got = backrest.get_segment(Some(&cluster), name, &part).await;
    if got.with_context(|| format!("fetch {name} from pgBackRest's archive"))? == Got::Missing {
        return Ok(Fetched::Absent);
    }
    let (name, to) = (name.to_owned(), to.to_owned());
    let work = move || {
        if let Err(why) = look(&part, file, (size, system_id), sha1)? {
            let _ = fs::remove_file(&part);
            return Err(AgentError::BadSegment { name, why }.into());
        }
        give(&part, &to, until, size).with_context(|| format!("write {}", to.display()))
    };
    tokio::task::spawn_blocking(work).await.context("a task was given up")??;
    Ok(Fetched::Delivered)
}

/// Whether what came is the file that was asked for; in words what it is otherwise.
fn look(
    part: &Path,
    file: LogFile,
    (size, system_id): (WalSegmentSize, u64),
    sha1: Option<Sha>,
) -> Result<Result<(), String>> {
    Ok(match file {
        LogFile::Segment(timeline, start) => {
            examine(part, (timeline, start, size), system_id, sha1)?.map(drop)
        }
        LogFile::History(timeline) => {
            let text = fs::read_to_string(part).context("read the history")?;
            let read = TimelineHistory::parse(timeline, &text);
            read.map(drop).map_err(|error| error.to_string())
        }
    })
}

/// Under its name only when it is on the disk; what comes behind the plan's end is zero, as where nothing
/// was written yet.
fn give(part: &Path, to: &Path, until: u64, size: WalSegmentSize) -> std::io::Result<()> {
    let file = fs::OpenOptions::new().write(true).open(part)?;
    if until < size.bytes() {
        file.set_len(until)?;
        file.set_len(size.bytes())?;
    }
    file.sync_all()?;
    fs::rename(part, to)
}

/// The version of a cluster, as pgBackRest tells it.
async fn version((backrest, info): Asked<'_>, system_id: u64) -> Result<String> {
    let info = info.get_or_try_init(|| backrest.info()).await;
    let info = info.context("ask pgBackRest of which version the cluster is")?;
    let found = info.clusters.iter().find(|cluster| cluster.system_id == system_id);
    let none = || AgentError::Usage(format!("the stanza has no cluster {system_id}"));
    Ok(found.ok_or_else(none)?.version.clone())
}

/// An error unless what is absent is the end of the WAL.
async fn is_end(of: Asked<'_>, asked: &LogRequest<'_>) -> Result<()> {
    let LogFile::Segment(timeline, start) = asked.file()? else { return Ok(()) };
    let own = asked.has_own();
    let is_open = asked.expected.is_empty() && !own;
    let name = SegmentName::at(timeline, start, asked.size);
    let later = is_open && later(of, asked, name).await?;
    asked.decide((timeline, start), start, own, later)?;
    Ok(())
}

async fn later(
    (backrest, info): Asked<'_>,
    asked: &LogRequest<'_>,
    name: SegmentName,
) -> Result<bool> {
    let stanza = super::StanzaView::look(backrest.clone(), info.get().cloned()).await?;
    let last = stanza.archive(asked.system_id).and_then(|of| of.last_of(name.timeline));
    Ok(last.is_some_and(|last| last >= name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_found_in_the_list_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("segments");
        let segment = |n: u32| SegmentFile {
            name: SegmentName::parse(&format!("00000001000000000000{n:04X}")).unwrap(),
            sha1: [u8::try_from(n).unwrap(); 20],
            bytes: 1,
            written: jiff::Timestamp::UNIX_EPOCH,
        };
        for count in [0, 1, 2, 5, 64] {
            let all: Vec<SegmentFile> = (0..count).map(|n| segment(n * 2 + 1)).collect();
            note_segments(&path, "15", &all).unwrap();
            for n in 0..count * 2 + 2 {
                let name = format!("00000001000000000000{n:04X}");
                let there = n % 2 == 1 && n < count * 2;
                let digest = there.then(|| [u8::try_from(n).unwrap(); 20]);
                assert_eq!(noted(&path, &name).unwrap(), ("15".to_owned(), digest), "{count} {n}");
            }
        }
        fs::write(&path, "x".repeat(LINE * 3)).unwrap();
        assert!(noted(&path, "000000010000000000000001").is_err());
    }
}
