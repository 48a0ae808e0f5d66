//! `restore_command` out of pgBackRest's archive. pgBackRest itself answers an archive that it
//! cannot read with a code that PostgreSQL takes for the end of the log, and delivers a damaged
//! segment that is not compressed: neither gets through here.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use drctl_engines::backrest::{BackRest, Cluster, Got, SegmentFile, SegmentName};
use drctl_model::{Lsn, Timeline, TimelineHistory, WalSegmentSize};

use super::read::{Sha, examine};
use crate::host::{AgentError, private};
use crate::log::{Expected, Fetched};

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
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let write = || {
        let mut file = private::rewrite(Path::new(&part))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    write().with_context(|| format!("write {}", path.display()))
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

/// What a recovering server asks for.
pub(crate) struct Asked<'a> {
    pub(crate) system_id: u64,
    pub(crate) size: WalSegmentSize,
    pub(crate) name: &'a str,
    pub(crate) to: &'a Path,
    /// Where the server keeps the log that it has.
    pub(crate) own: &'a Path,
    pub(crate) expected: &'a [Expected],
    /// The list that a recovery has noted.
    pub(crate) segments: Option<&'a Path>,
}

/// Fetches a file of a cluster's log out of pgBackRest's archive; `else_from` is asked for what is
/// not there, or not whole: drctl's own log beside it.
///
/// # Errors
/// Everything else than an absence that is proven: the server must stop then.
pub(crate) async fn fetch(
    backrest: &BackRest,
    asked: &Asked<'_>,
    else_from: impl AsyncFnOnce() -> Result<Option<Fetched>>,
) -> Result<Fetched> {
    let ours = from_archive(backrest, asked).await;
    if matches!(ours, Ok(Fetched::Delivered)) {
        return ours;
    }
    let beside = else_from().await;
    match (ours, beside) {
        (_, Ok(Some(Fetched::Delivered))) => Ok(Fetched::Delivered),
        (Err(error), _) | (_, Err(error)) => Err(error),
        (Ok(_), Ok(_)) => {
            is_end(backrest, asked).await?;
            Ok(Fetched::Absent)
        }
    }
}

async fn from_archive(backrest: &BackRest, asked: &Asked<'_>) -> Result<Fetched> {
    let Asked { name, to, size, system_id, .. } = *asked;
    let (version, sha1) = match asked.segments {
        Some(path) => noted(path, name).with_context(|| format!("read {}", path.display()))?,
        None => (version(backrest, system_id).await?, None),
    };
    let cluster = Cluster { id: 0, system_id, version };
    let segment = segment(asked)?;
    let last = segment.and_then(|(timeline, _)| Expected::end_of(asked.expected, timeline));
    let known =
        segment.zip(last).map(|((_, start), last)| (last > start).then(|| last.since(start)));
    if known == Some(None) {
        return Ok(Fetched::Absent);
    }
    // PostgreSQL names it below its data directory: pgBackRest would look whether that is the one
    // of its configuration.
    let mut part = std::path::absolute(to).context("find where to write")?.into_os_string();
    part.push(".drctl");
    let part = Path::new(&part);
    let got = backrest.get_segment(Some(&cluster), name, part).await;
    if got.with_context(|| format!("fetch {name} from pgBackRest's archive"))? == Got::Missing {
        return Ok(Fetched::Absent);
    }
    let looked = match segment {
        Some((timeline, start)) => {
            let (path, of) = (part.to_owned(), (timeline, start, size));
            let work = move || examine(&path, of, system_id, sha1);
            tokio::task::spawn_blocking(work).await??.map(drop)
        }
        None => {
            let text = fs::read_to_string(part).context("read the history")?;
            let read = TimelineHistory::parse(history(name)?, &text);
            read.map(drop).map_err(|error| error.to_string())
        }
    };
    if let Err(why) = looked {
        let _ = fs::remove_file(part);
        return Err(AgentError::BadSegment { name: name.to_owned(), why }.into());
    }
    if let Some(known) = known.flatten().filter(|known| *known < size.bytes()) {
        // What comes behind the plan's end is zero, as where nothing was written yet.
        let cut = || {
            let file = fs::OpenOptions::new().write(true).open(part)?;
            file.set_len(known)?;
            file.set_len(size.bytes())
        };
        cut().with_context(|| format!("write {}", part.display()))?;
    }
    let deliver = || File::open(part)?.sync_all().and_then(|()| fs::rename(part, to));
    deliver().with_context(|| format!("write {}", to.display()))?;
    Ok(Fetched::Delivered)
}

/// The version of a cluster, as pgBackRest tells it.
async fn version(backrest: &BackRest, system_id: u64) -> Result<String> {
    let info = backrest.info().await.context("ask pgBackRest of which version the cluster is")?;
    let found = info.clusters.iter().find(|cluster| cluster.system_id == system_id);
    let none = || AgentError::Usage(format!("the stanza has no cluster {system_id}"));
    Ok(found.ok_or_else(none)?.version.clone())
}

fn history(name: &str) -> Result<Timeline> {
    let id = name.strip_suffix(".history").and_then(|id| u32::from_str_radix(id, 16).ok());
    let timeline = id.and_then(Timeline::new);
    Ok(timeline.ok_or_else(|| AgentError::Usage(format!("{name}: no timeline")))?)
}

/// The timeline and the start of a segment that is asked for; nothing for a history.
fn segment(asked: &Asked<'_>) -> Result<Option<(Timeline, Lsn)>> {
    if asked.name.ends_with(".history") {
        return history(asked.name).map(|_| None);
    }
    let parsed = asked.size.parse_file_name(asked.name);
    Ok(Some(parsed.map_err(|error| AgentError::Usage(error.to_string()))?))
}

/// Whether what is absent is the end of the log. A server reads ahead of its target: what no plan
/// needs may be missing there, and it refuses by itself to end before the target. Without a plan
/// nothing at or behind it may be there.
async fn is_end(backrest: &BackRest, asked: &Asked<'_>) -> Result<()> {
    let Some((timeline, start)) = segment(asked)? else { return Ok(()) };
    // A copy brought this part along: the server takes its own.
    if asked.own.join(asked.name).exists() {
        return Ok(());
    }
    let end = start.plus(asked.size.bytes());
    let needed = |e: &Expected| e.timeline == timeline && start.max(e.from) < e.until.min(end);
    let gap = match asked.expected {
        [] => later(backrest, asked, SegmentName::at(timeline, start, asked.size)).await?,
        expected => expected.iter().any(needed),
    };
    match gap {
        true => Err(AgentError::LogGap { timeline, at: start }.into()),
        false => Ok(()),
    }
}

async fn later(backrest: &BackRest, asked: &Asked<'_>, name: SegmentName) -> Result<bool> {
    let stanza = super::StanzaView::look(backrest.clone()).await?;
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
