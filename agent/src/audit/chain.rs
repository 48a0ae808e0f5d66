//! Whether the entries of an audit log follow each other, and where they first do not: pure.

use std::collections::BTreeMap;

use drctl_model::{AuditEntry, AuditLogId, Digest, MAX_AUDIT_LINE, MAX_AUDIT_SEQ, NO_ENTRY};
use drctl_store::digest;

/// What a healing entry names the lines by that were cut.
pub(super) const CUT: &str = "cut_sha256";

/// So many of these digests are named one by one.
const NAMED: usize = 50;

/// What is wrong at a place of an audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum BreakKind {
    /// An entry is not what it was.
    Altered,
    /// Entries are gone from between others.
    Removed,
    /// Entries stand in another order.
    Reordered,
    /// The last entries are gone.
    Cut,
    /// Another entry has the number of one that is in the bucket.
    Fork,
    /// No key that is trusted here has signed it.
    Signature,
}

impl BreakKind {
    /// The word for it.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            BreakKind::Altered => "altered",
            BreakKind::Removed => "removed",
            BreakKind::Reordered => "reordered",
            BreakKind::Cut => "cut",
            BreakKind::Fork => "fork",
            BreakKind::Signature => "signature",
        }
    }
}

/// A place at which an audit log is not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Break {
    /// The first entry that it concerns.
    pub(crate) seq: u64,
    /// What is wrong.
    pub(crate) kind: BreakKind,
    /// For people.
    pub(crate) text: String,
}

impl Break {
    pub(super) fn new(seq: u64, kind: BreakKind, text: impl Into<String>) -> Self {
        Break { seq, kind, text: text.into() }
    }
}

/// An entry as its line says it.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    /// The entry.
    pub(crate) entry: AuditEntry,
    /// Its line, without its end.
    pub(crate) line: String,
    /// The digest of the line.
    pub(crate) sha256: Digest,
    /// Where behind the begin of what was read its line ends.
    pub(crate) end: usize,
}

impl Link {
    /// The entry that a line is; nothing for any other.
    pub(super) fn read(line: &[u8], end: usize) -> Option<Self> {
        if line.len() > MAX_AUDIT_LINE {
            return None;
        }
        let entry: AuditEntry = serde_json::from_slice(line).ok()?;
        // Nobody can go on behind the highest number.
        if !(1..MAX_AUDIT_SEQ).contains(&entry.seq) {
            return None;
        }
        let line = String::from_utf8(line.to_vec()).ok()?;
        Some(Link { entry, sha256: digest(line.as_bytes()), line, end })
    }
}

/// Up to where a log was read: what comes next must follow this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct At {
    /// The log, where it is known.
    pub(crate) log: Option<AuditLogId>,
    /// The number of the last entry; 0 before the first one.
    pub(crate) seq: u64,
    /// Its digest.
    pub(crate) head: Digest,
}

impl At {
    /// Before the first entry.
    #[must_use]
    pub(crate) fn begin() -> Self {
        At { log: None, seq: 0, head: NO_ENTRY }
    }

    /// At an entry.
    #[must_use]
    pub(crate) fn of(link: &Link) -> Self {
        At { log: Some(link.entry.log.clone()), seq: link.entry.seq, head: link.sha256 }
    }
}

/// What lines of an audit log come to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Walked {
    /// The entries up to the first break.
    pub(crate) links: Vec<Link>,
    /// Lines that a process began and did not end, which a later entry names: after which entry.
    pub(crate) healed: Vec<u64>,
    /// Whether the last line was begun and not ended.
    pub(crate) unfinished: bool,
    /// Whether that is no whole entry.
    pub(crate) is_cut: bool,
    /// The first break.
    pub(crate) broken: Option<Break>,
}

/// Lines, and where each ends. Whether the last one has an end, too.
fn lines(text: &[u8]) -> (Vec<(&[u8], usize)>, bool) {
    let (mut found, mut begin) = (Vec::new(), 0);
    for end in text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at) {
        found.push((&text[begin..end], end + 1));
        begin = end + 1;
    }
    let is_open = begin < text.len();
    if is_open {
        found.push((&text[begin..], text.len()));
    }
    (found, is_open)
}

/// Walks over the lines of a log that follow `at`.
#[must_use]
pub(crate) fn walk(text: &[u8], at: At) -> Walked {
    let (lines, is_open) = lines(text);
    let read: Vec<Result<Link, &[u8]>> =
        lines.iter().map(|(line, end)| Link::read(line, *end).ok_or(*line)).collect();
    let (mut walked, mut at, mut odd) = (Walked::default(), at, Vec::new());
    for (index, found) in read.iter().enumerate() {
        let link = match found {
            Ok(link) => link,
            Err(line) => {
                odd.push(digest(line));
                continue;
            }
        };
        if !odd.is_empty() {
            if !heals(&link.entry, &odd) {
                let text = format!("where entry {} belongs stands a line that is none", at.seq + 1);
                walked.broken = Some(Break::new(at.seq + 1, BreakKind::Altered, text));
                return walked;
            }
            walked.healed.push(at.seq);
            odd.clear();
        }
        let later = || read[index + 1..].iter().flatten().map(|link| link.entry.seq);
        if let Some(found) = judged(&at, link, later) {
            walked.broken = Some(found);
            return walked;
        }
        at = At::of(link);
        walked.links.push(link.clone());
    }
    // What is cut at the end is healed by whoever writes next.
    walked.is_cut = !odd.is_empty();
    walked.unfinished = is_open || walked.is_cut;
    walked
}

/// Whether an entry says of exactly these lines that they were cut.
fn heals(entry: &AuditEntry, odd: &[Digest]) -> bool {
    entry.details.get(CUT).is_some_and(|named| *named == joined(odd))
}

/// Digests as an entry names them: one by one, and very many by one digest of all, so that the entry stays
/// short.
pub(super) fn joined(all: &[Digest]) -> String {
    let texts: Vec<String> = all.iter().map(ToString::to_string).collect();
    let text = texts.join(" ");
    match all.len() {
        0..=NAMED => text,
        many => format!("{many} lines: {}", digest(text.as_bytes())),
    }
}

/// What speaks against an entry as the one that follows.
fn judged<I: Iterator<Item = u64>>(at: &At, link: &Link, later: impl Fn() -> I) -> Option<Break> {
    let (next, entry) = (at.seq + 1, &link.entry);
    if at.log.as_ref().is_some_and(|log| *log != entry.log) {
        let text = format!("where entry {next} belongs stands one of the log {}", entry.log);
        return Some(Break::new(next, BreakKind::Altered, text));
    }
    match (entry.seq == next, entry.prev == at.head) {
        (true, true) => None,
        (true, false) if at.seq == 0 => {
            let text = "entry 1 says that there was one before it";
            Some(Break::new(1, BreakKind::Altered, text))
        }
        (true, false) => {
            let text =
                format!("entry {} is not the one that entry {next} was written after", at.seq);
            Some(Break::new(at.seq, BreakKind::Altered, text))
        }
        (false, true) => {
            let text = format!("entry {next} has the number {}", entry.seq);
            Some(Break::new(next, BreakKind::Altered, text))
        }
        (false, false) if entry.seq < next || later().any(|seq| seq == next) => {
            let text = format!("entry {} stands where entry {next} belongs", entry.seq);
            Some(Break::new(next, BreakKind::Reordered, text))
        }
        (false, false) => {
            let last = entry.seq - 1;
            let which = if last == next {
                format!("entry {next} is")
            } else {
                format!("entries {next}-{last} are")
            };
            Some(Break::new(next, BreakKind::Removed, format!("{which} gone")))
        }
    }
}

/// Where a local log first differs from what is signed of it; nothing where it has all of that.
#[must_use]
pub(crate) fn differs(local: &[Link], signed: &[Link]) -> Option<Break> {
    let known: BTreeMap<u64, Digest> =
        local.iter().map(|link| (link.entry.seq, link.sha256)).collect();
    let last = local.last().map_or(0, |link| link.entry.seq);
    for link in signed {
        let seq = link.entry.seq;
        match known.get(&seq) {
            Some(sha256) if *sha256 == link.sha256 => {}
            Some(_) => {
                let text = format!("the local entry {seq} is another one than the signed one");
                return Some(Break::new(seq, BreakKind::Fork, text));
            }
            None if seq > last => {
                let end = signed.last().map_or(seq, |link| link.entry.seq);
                let text = format!(
                    "the local log ends with entry {last}, and entries up to {end} are signed"
                );
                return Some(Break::new(seq, BreakKind::Cut, text));
            }
            None => {
                let text = format!("entry {seq} is gone from the local log");
                return Some(Break::new(seq, BreakKind::Removed, text));
            }
        }
    }
    None
}

/// The end of a log, as whoever writes on it needs it.
#[derive(Debug, Clone, Default)]
pub(super) struct Tail {
    /// The last entry.
    pub(super) last: Option<Link>,
    /// The digests of the lines behind it that are no entries.
    pub(super) odd: Vec<Digest>,
    /// Whether the last line has no end.
    pub(super) is_open: bool,
}

impl Tail {
    /// Of whole lines, but for the last one.
    pub(super) fn of(text: &[u8]) -> Self {
        let (lines, is_open) = lines(text);
        let mut tail = Tail { is_open, ..Tail::default() };
        for (line, end) in lines.iter().rev() {
            if let Some(link) = Link::read(line, *end) {
                tail.last = Some(link);
                break;
            }
            tail.odd.insert(0, digest(line));
        }
        tail
    }
}

#[cfg(test)]
mod tests {
    use drctl_model::{AUDIT_VERSION, AuditActor, AuditOutcome, MAX_AUDIT_LINE};
    use jiff::Timestamp;

    use super::*;

    fn entry(seq: u64, prev: Digest) -> AuditEntry {
        AuditEntry {
            v: AUDIT_VERSION,
            log: AuditLogId::new(1),
            seq,
            prev,
            at: Timestamp::UNIX_EPOCH,
            host: "db1".to_owned(),
            actor: AuditActor {
                uid: 0,
                account: "root".to_owned(),
                process: Some(1),
                socket: false,
            },
            verb: "backup".to_owned(),
            outcome: AuditOutcome::Begun,
            act: format!("{seq:016x}"),
            source: Some("shop".to_owned()),
            object: None,
            config: None,
            details: BTreeMap::new(),
        }
    }

    /// A log of so many entries, as its lines.
    fn log(count: u64) -> Vec<String> {
        let (mut lines, mut prev) = (Vec::new(), NO_ENTRY);
        for seq in 1..=count {
            let line = serde_json::to_string(&entry(seq, prev)).unwrap();
            prev = digest(line.as_bytes());
            lines.push(line);
        }
        lines
    }

    fn text(lines: &[String]) -> Vec<u8> {
        lines.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect()
    }

    fn first(lines: &[String]) -> Option<(u64, BreakKind)> {
        walk(&text(lines), At::begin()).broken.map(|found| (found.seq, found.kind))
    }

    fn links(lines: &[String]) -> Vec<Link> {
        walk(&text(lines), At::begin()).links
    }

    #[test]
    fn each_kind_of_break_is_named_where_it_first_shows() {
        let good = log(9);
        assert_eq!(first(&good), None);
        assert_eq!(links(&good).len(), 9);
        let changed = |change: &dyn Fn(&mut Vec<String>)| {
            let mut lines = good.clone();
            change(&mut lines);
            first(&lines)
        };
        let altered = changed(&|lines| lines[4] = lines[4].replace("root", "shop"));
        assert_eq!(altered, Some((5, BreakKind::Altered)));
        let garbage = changed(&|lines| lines[4] = "{}".to_owned());
        assert_eq!(garbage, Some((5, BreakKind::Altered)));
        let renumbered = changed(&|lines| lines[4] = lines[4].replace("\"seq\":5", "\"seq\":8"));
        assert_eq!(renumbered, Some((5, BreakKind::Altered)));
        let beyond = format!("\"seq\":{}", u64::MAX);
        let beyond = changed(&|lines| lines[8] = lines[8].replace("\"seq\":9", &beyond));
        assert_eq!(beyond, None, "a line that is none, to be named by the next entry");
        let removed = changed(&|lines| drop(lines.drain(3..5)));
        assert_eq!(removed, Some((4, BreakKind::Removed)));
        let beheaded = changed(&|lines| drop(lines.remove(0)));
        assert_eq!(beheaded, Some((1, BreakKind::Removed)));
        let swapped = changed(&|lines| lines.swap(3, 4));
        assert_eq!(swapped, Some((4, BreakKind::Reordered)));
        let twice = changed(&|lines| lines.insert(4, lines[3].clone()));
        assert_eq!(twice, Some((5, BreakKind::Reordered)));
        let other = changed(&|lines| {
            let stranger =
                AuditEntry { log: AuditLogId::new(2), ..entry(5, digest(lines[3].as_bytes())) };
            lines[4] = serde_json::to_string(&stranger).unwrap();
        });
        assert_eq!(other, Some((5, BreakKind::Altered)));
    }

    #[test]
    fn what_only_the_signed_entries_tell_is_named_too() {
        let good = log(9);
        let signed = links(&good[..7]);
        assert_eq!(differs(&links(&good), &signed), None);
        let found = |lines: &[String]| differs(&links(lines), &signed).map(|at| (at.seq, at.kind));
        assert_eq!(found(&good[..7]), None);
        assert_eq!(found(&good[..5]), Some((6, BreakKind::Cut)));
        assert_eq!(found(&[]), Some((1, BreakKind::Cut)));
        // Whoever writes all of it anew makes a chain that is whole, and another one.
        let (mut forged, mut prev) = (good[..4].to_vec(), digest(good[3].as_bytes()));
        for seq in 5..=9 {
            let other = AuditEntry { verb: "nothing".to_owned(), ..entry(seq, prev) };
            forged.push(serde_json::to_string(&other).unwrap());
            prev = digest(forged[forged.len() - 1].as_bytes());
        }
        assert_eq!(first(&forged), None);
        assert_eq!(found(&forged), Some((5, BreakKind::Fork)));
    }

    #[test]
    fn a_line_that_was_cut_is_told_by_the_entry_behind_it() {
        let good = log(3);
        let cut = good[2][..40].to_owned();
        let mut bytes = text(&good[..2]);
        bytes.extend(cut.as_bytes());
        let walked = walk(&bytes, At::begin());
        assert!(walked.unfinished && walked.broken.is_none() && walked.links.len() == 2);
        let tail = Tail::of(&bytes);
        assert_eq!(tail.last.map(|link| link.entry.seq), Some(2));
        assert!(tail.is_open && tail.odd == [digest(cut.as_bytes())]);
        let mut healing = entry(3, digest(good[1].as_bytes()));
        healing.details.insert(CUT.to_owned(), joined(&tail.odd));
        let healed =
            [good[0].clone(), good[1].clone(), cut, serde_json::to_string(&healing).unwrap()];
        let walked = walk(&text(&healed), At::begin());
        assert_eq!((walked.links.len(), walked.healed), (3, vec![2]), "{:?}", walked.broken);
        // Only exactly what it names.
        let other = [healed[0].clone(), healed[1].clone(), "x".to_owned(), healed[3].clone()];
        assert_eq!(first(&other), Some((3, BreakKind::Altered)));
        // However many they are, the entry that names them is one.
        let junk: Vec<String> = (0..1_000).map(|n| format!("junk {n}")).collect();
        let tail = Tail::of(&text(&[&good[..2], &junk[..]].concat()));
        let named = joined(&tail.odd);
        assert!(tail.odd.len() == 1_000 && named.len() < MAX_AUDIT_LINE / 2, "{named}");
        healing.details.insert(CUT.to_owned(), named);
        let last = [serde_json::to_string(&healing).unwrap()];
        let walked = walk(&text(&[&good[..2], &junk[..], &last[..]].concat()), At::begin());
        assert_eq!((walked.links.len(), walked.healed), (3, vec![2]), "{:?}", walked.broken);
        // A line that lacks nothing but its end is an entry.
        let whole = text(&good);
        let tail = Tail::of(&whole[..whole.len() - 1]);
        assert_eq!((tail.last.map(|link| link.entry.seq), tail.is_open), (Some(3), true));
    }
}
