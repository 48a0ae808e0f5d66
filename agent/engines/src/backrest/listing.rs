//! What lies in a stanza's archive, read from the JSON of `pgbackrest repo-ls`.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

use drctl_model::{Lsn, LsnError, Timeline, WalSegmentSize};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::bounded::Bounded;
use super::info::InfoError;

/// The most clusters that a stanza has had, and the longest name of one's archive (`15-1`), in bytes.
const MOST_CLUSTERS: usize = 1_000;
const LONGEST_ID: usize = 64;

/// The file without which a stanza has no archive.
const ARCHIVE_INFO: &str = "archive.info";

/// The most files of an archive that are looked at: 80 TB of WAL in segments of 16 MB.
const MOST_FILES: usize = 5_000_000;

/// All that lies in a stanza's archive in one repository.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ArchiveListing {
    /// The archive of each cluster that the stanza has had, the oldest first.
    pub archives: Vec<ClusterArchive>,
}

/// The WAL of one cluster in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterArchive {
    /// What the directory is called: `15-1`.
    pub id: String,
    /// PostgreSQL's major version.
    pub version: String,
    /// The cluster's number in the stanza.
    pub database_id: u32,
    /// The segments, by name; one that is there with two contents, twice.
    pub segments: Vec<SegmentFile>,
    /// Segments that a timeline ended in the middle of: never served as the whole one.
    pub partials: Vec<SegmentName>,
    /// The timelines whose history is there.
    pub histories: Vec<Timeline>,
    /// How many files are none of these.
    pub others: u64,
}

/// A segment in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentFile {
    /// Which one it is.
    pub name: SegmentName,
    /// The SHA-1 of its plain bytes, by which pgBackRest tells contents apart.
    pub sha1: [u8; 20],
    /// Its bytes in the repository.
    pub bytes: u64,
    /// When it was written there.
    pub written: Timestamp,
}

/// The name of a segment: timeline, and the two numbers of its place in the WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    /// Its timeline.
    pub timeline: Timeline,
    /// The upper 32 bits of its position, and its number below them.
    place: u64,
}

impl SegmentName {
    /// Reads 24 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<SegmentName> {
        let upper = |byte: u8| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte);
        if text.len() != 24 || !text.bytes().all(upper) {
            return None;
        }
        let timeline = Timeline::new(u32::from_str_radix(&text[..8], 16).ok()?)?;
        Some(SegmentName { timeline, place: u64::from_str_radix(&text[8..], 16).ok()? })
    }

    /// The segment that begins at a position.
    #[must_use]
    pub fn at(timeline: Timeline, start: Lsn, size: WalSegmentSize) -> SegmentName {
        let (number, per_id) = (start.0 / size.bytes(), (1u64 << 32) / size.bytes());
        SegmentName { timeline, place: ((number / per_id) << 32) | (number % per_id) }
    }

    /// Where it begins.
    ///
    /// # Errors
    /// [`LsnError`] for one that cannot be with segments of this size.
    pub fn start(self, size: WalSegmentSize) -> Result<Lsn, LsnError> {
        let (id, number, per_id) =
            (self.place >> 32, self.place & 0xffff_ffff, (1u64 << 32) / size.bytes());
        match number < per_id {
            true => Ok(Lsn((id * per_id + number) * size.bytes())),
            // Says what is wrong in the words of the model.
            false => size.parse_file_name(&self.to_string()).map(|(_, start)| start),
        }
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}{:016X}", self.timeline.id(), self.place)
    }
}

/// A file's place in a listing, taken apart.
enum Found {
    Segment(SegmentName, [u8; 20]),
    Partial(SegmentName),
    History(Timeline),
    Other,
}

impl ArchiveListing {
    /// Reads the JSON of `repo-ls --recurse` of a stanza's archive as it comes.
    ///
    /// # Errors
    /// [`InfoError`] for a text of another form; also where the stanza's own file is not listed:
    /// of a directory that is not there (not mounted, say) an empty list comes, and status 0.
    pub fn read(text: impl Read) -> Result<ArchiveListing, InfoError> {
        let mut from = serde_json::Deserializer::from_reader(Bounded::new(text));
        let parsed = from.deserialize_map(Listing).and_then(|found| from.end().map(|()| found));
        let (found, has_info) =
            parsed.map_err(|error| InfoError::new(format!("its JSON cannot be read: {error}")))?;
        if !has_info {
            return Err(InfoError::new(format!(
                "there is no {ARCHIVE_INFO}: the stanza does not exist, or the repository is not \
                 mounted"
            )));
        }
        let mut archives: Vec<ClusterArchive> = found.into_values().collect();
        archives.sort_by_key(|archive| archive.database_id);
        for archive in &mut archives {
            if !archive.segments.is_sorted() {
                archive.segments.sort_unstable();
            }
            archive.partials.sort_unstable();
            archive.histories.sort_unstable();
        }
        Ok(ArchiveListing { archives })
    }

    /// The archive of a cluster, by its number in the stanza.
    #[must_use]
    pub fn of(&self, database_id: u32) -> Option<&ClusterArchive> {
        self.archives.iter().find(|archive| archive.database_id == database_id)
    }
}

impl ClusterArchive {
    fn new(id: &str) -> Option<ClusterArchive> {
        let (version, number) = id.rsplit_once('-').filter(|_| id.len() <= LONGEST_ID)?;
        if !version.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return None;
        }
        Some(ClusterArchive {
            id: id.to_owned(),
            version: version.to_owned(),
            database_id: number.parse().ok()?,
            segments: Vec::new(),
            partials: Vec::new(),
            histories: Vec::new(),
            others: 0,
        })
    }

    /// Whether a segment is there, whole.
    #[must_use]
    pub fn has(&self, name: SegmentName) -> bool {
        self.segments.binary_search_by_key(&name, |segment| segment.name).is_ok()
    }

    /// The last segment of all of a timeline.
    #[must_use]
    pub fn last_of(&self, timeline: Timeline) -> Option<SegmentName> {
        let end = self.segments.partition_point(|segment| segment.name.timeline <= timeline);
        let last = self.segments[..end].last()?.name;
        (last.timeline == timeline).then_some(last)
    }
}

/// Takes a file's path below the archive's directory apart. `NAME-SHA1[.ext]`, with `.partial`
/// behind the name of a partial segment; `TTTTTTTT.history`.
fn classify(path: &str) -> Found {
    let file = path.rsplit('/').next().unwrap_or(path);
    if let Some(digits) = file.strip_suffix(".history").filter(|digits| digits.len() == 8) {
        let timeline = u32::from_str_radix(digits, 16).ok().and_then(Timeline::new);
        return timeline.map_or(Found::Other, Found::History);
    }
    let Some(name) = file.get(..24).and_then(SegmentName::parse) else { return Found::Other };
    let rest = &file[24..];
    let (is_partial, rest) = match rest.strip_prefix(".partial") {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let sha1 = rest.strip_prefix('-').and_then(|rest| rest.get(..40)).and_then(sha1);
    match (sha1, is_partial) {
        (Some(sha1), false) if is_extension(&rest[41..]) => Found::Segment(name, sha1),
        (Some(_), true) => Found::Partial(name),
        _ => Found::Other,
    }
}

/// What may stand behind a segment's digest: how it is compressed. While it is being written
/// there is more (`.pgbackrest.tmp`).
fn is_extension(text: &str) -> bool {
    matches!(text, "" | ".gz" | ".bz2" | ".lz4" | ".zst")
}

fn sha1(digits: &str) -> Option<[u8; 20]> {
    let mut bytes = [0; 20];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = u8::try_from((digit(0)? << 4) | digit(1)?).ok()?;
    }
    Some(bytes)
}

/// Reads the one flat object that the listing is, entry after entry.
struct Listing;

impl<'de> Visitor<'de> for Listing {
    type Value = (BTreeMap<String, ClusterArchive>, bool);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with an entry for each file")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut archives, mut has_info, mut files) = (BTreeMap::new(), false, 0);
        while let Some(path) = map.next_key::<String>()? {
            let entry: Entry = map.next_value()?;
            files += 1;
            if files > MOST_FILES {
                return Err(serde::de::Error::custom(format!(
                    "it lists more than {MOST_FILES} files, and drctl looks at no more"
                )));
            }
            has_info |= path == ARCHIVE_INFO;
            let id = path.split('/').next().unwrap_or_default();
            if !archives.contains_key(id) {
                if archives.len() >= MOST_CLUSTERS {
                    let text = format!("more than {MOST_CLUSTERS} clusters");
                    return Err(serde::de::Error::custom(text));
                }
                let Some(archive) = ClusterArchive::new(id) else { continue };
                archives.insert(id.to_owned(), archive);
            }
            if let Some(archive) = archives.get_mut(id) {
                archive.note(&path, &entry);
            }
        }
        Ok((archives, has_info))
    }
}

impl ClusterArchive {
    fn note(&mut self, path: &str, entry: &Entry) {
        if entry.kind != Kind::File {
            return;
        }
        match classify(path) {
            Found::Segment(name, sha1) => {
                let written = Timestamp::from_second(entry.time).unwrap_or_default();
                self.segments.push(SegmentFile { name, sha1, bytes: entry.size, written });
            }
            Found::Partial(name) => self.partials.push(name),
            Found::History(timeline) => self.histories.push(timeline),
            Found::Other => self.others += 1,
        }
    }
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: Kind,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    time: i64,
}

#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    File,
    Path,
    #[serde(other)]
    Other,
}
