//! Where things lie in the bucket. Keys are derived from validated identifiers only.

use std::str::FromStr;

use drctl_model::{
    AuditLogId, BackupId, DrillId, HostId, IndexPlace, Lineage, LogAt, LogPart, LogPlace,
    MAX_AUDIT_SEQ, MAX_BEAT, MAX_STATEMENT, SourceId, StreamId,
};
use object_store::path::Path;

/// The marker's key.
#[must_use]
pub fn marker() -> Path {
    Path::from("drctl-repo.json")
}

/// Where all sources lie.
#[must_use]
pub fn sources() -> Path {
    Path::from("s")
}

/// Where the backups of a source lie.
#[must_use]
pub fn backups(source: &SourceId) -> Path {
    Path::from(format!("s/{source}/b"))
}

/// Where everything of one backup lies.
#[must_use]
pub fn backup(source: &SourceId, backup: &BackupId) -> Path {
    Path::from(format!("s/{source}/b/{backup}"))
}

/// Where everything of one stream lies.
#[must_use]
pub fn stream(source: &SourceId, backup: &BackupId, stream: &StreamId) -> Path {
    Path::from(format!("s/{source}/b/{backup}/{stream}"))
}

/// The key of a backup's manifest.
#[must_use]
pub fn manifest(source: &SourceId, backup: &BackupId) -> Path {
    Path::from(format!("s/{source}/b/{backup}/manifest.json"))
}

/// The key of segment `n`.
#[must_use]
pub fn segment(source: &SourceId, backup: &BackupId, stream: &StreamId, n: u64) -> Path {
    Path::from(format!("s/{source}/b/{backup}/{stream}/{n:06}.zst.age"))
}

/// The key of page `n` of a stream's segment list.
#[must_use]
pub fn page(source: &SourceId, backup: &BackupId, stream: &StreamId, n: u64) -> Path {
    Path::from(format!("s/{source}/b/{backup}/{stream}/p{n:06}.json"))
}

/// Where the log of a source lies.
#[must_use]
pub fn logs(source: &SourceId) -> Path {
    Path::from(format!("s/{source}/l"))
}

/// Where the log of one lineage of a source lies.
#[must_use]
pub fn lineage(source: &SourceId, of: &Lineage) -> Path {
    Path::from(format!("s/{source}/l/{of}"))
}

/// The key of a piece of log: its positions have fixed widths, so that keys sort as the log runs, and
/// what the engine notes beside it comes behind all of them.
#[must_use]
pub fn piece(source: &SourceId, place: &LogPlace) -> Path {
    let lineage = lineage(source, &place.lineage);
    match &place.part {
        LogPart::Range { start, end } => Path::from(format!("{lineage}/{start}-{end}.log")),
        LogPart::Note { name } => Path::from(format!("{lineage}/notes/{name}")),
    }
}

/// Which piece of which log lies under `key`; nothing for any other object.
#[must_use]
pub fn piece_at(key: &Path) -> Option<(SourceId, LogPlace)> {
    let (source, lineage, file) = logged(key)?;
    let part = match file {
        ["notes", name] => LogPart::Note { name: name.parse().ok()? },
        [file, ""] => {
            let (start, end) = range(file.strip_suffix(".log")?)?;
            LogPart::Range { start, end }
        }
        _ => return None,
    };
    let place = LogPlace { lineage: lineage.parse().ok()?, part };
    // Names are bounded before anything is believed of them.
    let place = Some(place).filter(LogPlace::is_possible)?;
    Some((source.parse().ok()?, place))
}

/// The key of an index over pieces of log; sorts behind the first piece that it covers, and before
/// those that begin later.
#[must_use]
pub fn log_index(source: &SourceId, place: &IndexPlace) -> Path {
    let IndexPlace { lineage: of, start, end } = place;
    Path::from(format!("{}/{start}-{end}.index", lineage(source, of)))
}

/// Which index lies under `key`; nothing for any other object.
#[must_use]
pub fn log_index_at(key: &Path) -> Option<(SourceId, IndexPlace)> {
    let (source, lineage, file) = logged(key)?;
    let [file, ""] = file else { return None };
    let (start, end) = range(file.strip_suffix(".index")?)?;
    let place = IndexPlace { lineage: lineage.parse().ok()?, start, end };
    let place = Some(place).filter(IndexPlace::is_possible)?;
    Some((source.parse().ok()?, place))
}

/// Source, lineage and the rest of what may be a key of a log: a million of them are listed.
fn logged(key: &Path) -> Option<(&str, &str, [&str; 2])> {
    let mut parts = key.as_ref().strip_prefix("s/")?.split('/');
    let (source, log, lineage) = (parts.next()?, parts.next()?, parts.next()?);
    let file = [parts.next()?, parts.next().unwrap_or_default()];
    (log == "l" && parts.next().is_none()).then_some((source, lineage, file))
}

/// Of two positions as a key has them.
fn range(text: &str) -> Option<(LogAt, LogAt)> {
    let (start, end) = text.split_once('-')?;
    Some((LogAt::read(start)?, LogAt::read(end)?))
}

/// Whose document lies under `key` in this folder of a source, and what it is called.
fn named_at<T: FromStr>(key: &Path, folder: &str) -> Option<(SourceId, T)> {
    let parts: Vec<&str> = key.as_ref().split('/').collect();
    let ["s", source, within, file] = parts.as_slice() else { return None };
    let name = file.strip_suffix(".json").filter(|_| *within == folder)?;
    Some((source.parse().ok()?, name.parse().ok()?))
}

/// Where the evidence of a source's drills lies.
#[must_use]
pub fn drills(source: &SourceId) -> Path {
    Path::from(format!("s/{source}/d"))
}

/// The key of a drill's evidence.
#[must_use]
pub fn drill(source: &SourceId, drill: &DrillId) -> Path {
    Path::from(format!("s/{source}/d/{drill}.json"))
}

/// Which drill's evidence lies under `key`; nothing for any other object.
#[must_use]
pub fn drill_at(key: &Path) -> Option<(SourceId, DrillId)> {
    named_at(key, "d")
}

/// Where the acceptances of a source's backups lie.
#[must_use]
pub fn acceptances(source: &SourceId) -> Path {
    Path::from(format!("s/{source}/a"))
}

/// The key of the acceptance of a suspect backup.
#[must_use]
pub fn acceptance(source: &SourceId, backup: &BackupId) -> Path {
    Path::from(format!("s/{source}/a/{backup}.json"))
}

/// Which backup's acceptance lies under `key`; nothing for any other object.
#[must_use]
pub fn acceptance_at(key: &Path) -> Option<(SourceId, BackupId)> {
    named_at(key, "a")
}

/// Where what says that something of a source was removed on purpose lies.
#[must_use]
pub fn removals(source: &SourceId) -> Path {
    Path::from(format!("s/{source}/x"))
}

/// The key of a backup's tombstone.
#[must_use]
pub fn tombstone(source: &SourceId, backup: &BackupId) -> Path {
    Path::from(format!("s/{source}/x/{backup}.json"))
}

/// Which backup's tombstone lies under `key`; nothing for any other object.
#[must_use]
pub fn tombstone_at(key: &Path) -> Option<(SourceId, BackupId)> {
    named_at(key, "x")
}

/// The key of what says that log was removed up to a position.
#[must_use]
pub fn log_floor(source: &SourceId, of: &Lineage, before: LogAt) -> Path {
    Path::from(format!("s/{source}/x/{of}/{before}.json"))
}

/// The removal of which log lies under `key`, and up to where; nothing for any other object.
#[must_use]
pub fn log_floor_at(key: &Path) -> Option<(SourceId, Lineage, LogAt)> {
    let parts: Vec<&str> = key.as_ref().split('/').collect();
    let ["s", source, "x", lineage, file] = parts.as_slice() else { return None };
    let before = LogAt::read(file.strip_suffix(".json")?)?;
    Some((source.parse().ok()?, lineage.parse().ok()?, before))
}

/// Where the leases of those lie that read a source.
#[must_use]
pub fn leases(source: &SourceId) -> Path {
    Path::from(format!("s/{source}/r"))
}

/// The key of a lease.
#[must_use]
pub fn lease(source: &SourceId, id: &BackupId) -> Path {
    Path::from(format!("s/{source}/r/{id}.json"))
}

/// Which lease lies under `key`; nothing for any other object.
#[must_use]
pub fn lease_at(key: &Path) -> Option<(SourceId, BackupId)> {
    named_at(key, "r")
}

/// Where what was said of a source lies: pins, legal holds, freezes.
#[must_use]
pub fn statements(source: &SourceId) -> Path {
    Path::from(format!("s/{source}/k"))
}

/// The key of statement `n`, which has six digits.
#[must_use]
pub fn statement(source: &SourceId, n: u64) -> Path {
    Path::from(format!("s/{source}/k/{n:06}.json"))
}

/// Which statement lies under `key`; nothing for any other object.
#[must_use]
pub fn statement_at(key: &Path) -> Option<(SourceId, u64)> {
    let parts: Vec<&str> = key.as_ref().split('/').collect();
    let ["s", source, "k", file] = parts.as_slice() else { return None };
    Some((source.parse().ok()?, numbered(file, 6, MAX_STATEMENT)?))
}

/// The number that a file is named after, which has so many digits: 1 to `most`.
fn numbered(file: &str, digits: usize, most: u64) -> Option<u64> {
    let number = file.strip_suffix(".json")?;
    let is_fixed = number.len() == digits && number.bytes().all(|byte| byte.is_ascii_digit());
    let n = number.parse().ok().filter(|_| is_fixed)?;
    (1..=most).contains(&n).then_some(n)
}

/// Where the beats of all hosts lie.
#[must_use]
pub fn all_beats() -> Path {
    Path::from("beat")
}

/// Where the beats of a host lie.
#[must_use]
pub fn beats(host: &HostId) -> Path {
    Path::from(format!("beat/{host}"))
}

/// The key of beat `seq` of a host, which has ten digits.
#[must_use]
pub fn beat(host: &HostId, seq: u64) -> Path {
    Path::from(format!("beat/{host}/{seq:010}.json"))
}

/// Which beat lies under `key`; nothing for any other object.
#[must_use]
pub fn beat_at(key: &Path) -> Option<(HostId, u64)> {
    let parts: Vec<&str> = key.as_ref().split('/').collect();
    let ["beat", host, file] = parts.as_slice() else { return None };
    Some((host.parse().ok()?, numbered(file, 10, MAX_BEAT)?))
}

/// Where the audit logs of all hosts lie.
#[must_use]
pub fn audit_logs() -> Path {
    Path::from("a")
}

/// Where one audit log lies.
#[must_use]
pub fn audit_log(log: &AuditLogId) -> Path {
    Path::from(format!("a/{log}"))
}

/// The key of the entries of an audit log from `first` on: of fixed width, so that keys sort as the log
/// runs.
#[must_use]
pub fn audit_batch(log: &AuditLogId, first: u64) -> Path {
    Path::from(format!("a/{log}/{first:012}.json"))
}

/// Which entries of which audit log lie under `key`; nothing for any other object.
#[must_use]
pub fn audit_batch_at(key: &Path) -> Option<(AuditLogId, u64)> {
    let parts: Vec<&str> = key.as_ref().split('/').collect();
    let ["a", log, file] = parts.as_slice() else { return None };
    Some((log.parse().ok()?, numbered(file, 12, MAX_AUDIT_SEQ)?))
}

/// The key of an object that only proves that we may write.
#[must_use]
pub fn probe(random: u128) -> Path {
    Path::from(format!("probe/{random:032x}"))
}

/// What an object's key says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A backup's manifest.
    Manifest(SourceId, BackupId),
    /// A segment or page of a backup.
    Data(SourceId, BackupId),
    /// A piece of a source's log, or an index over some.
    Log(SourceId),
    /// The evidence of a drill.
    Drill(SourceId),
    /// The acceptance of a suspect backup.
    Acceptance(SourceId, BackupId),
    /// What says that something was removed on purpose.
    Removed(SourceId),
    /// What was said of a source: a pin, a legal hold, a freeze.
    Statement(SourceId),
    /// A restore or a drill reads the source.
    Lease(SourceId),
    /// A sign of life of a host's agent.
    Beat(HostId),
    /// Entries of a host's audit log.
    Audit,
    /// The marker.
    Marker,
    /// Left by `doctor`.
    Probe,
    /// Nothing that drctl writes.
    Foreign,
}

/// What the object under `key` is, judged by the key alone.
#[must_use]
pub fn classify(key: &Path) -> Kind {
    let parts: Vec<&str> = key.as_ref().split('/').collect();
    match parts.as_slice() {
        ["drctl-repo.json"] => Kind::Marker,
        ["probe", _] => Kind::Probe,
        ["beat", ..] => beat_at(key).map_or(Kind::Foreign, |(host, _)| Kind::Beat(host)),
        ["a", ..] => audit_batch_at(key).map_or(Kind::Foreign, |_| Kind::Audit),
        ["s", _, "l", ..] => {
            let piece = piece_at(key).map(|(source, _)| source);
            let source = piece.or_else(|| log_index_at(key).map(|(source, _)| source));
            source.map_or(Kind::Foreign, Kind::Log)
        }
        ["s", _, "d", _] => drill_at(key).map_or(Kind::Foreign, |(source, _)| Kind::Drill(source)),
        ["s", _, "a", _] => {
            acceptance_at(key).map_or(Kind::Foreign, |(source, id)| Kind::Acceptance(source, id))
        }
        ["s", _, "x", ..] => {
            let backup = tombstone_at(key).map(|(source, _)| source);
            let source = backup.or_else(|| log_floor_at(key).map(|(source, ..)| source));
            source.map_or(Kind::Foreign, Kind::Removed)
        }
        ["s", _, "k", _] => {
            statement_at(key).map_or(Kind::Foreign, |(source, _)| Kind::Statement(source))
        }
        ["s", _, "r", _] => lease_at(key).map_or(Kind::Foreign, |(source, _)| Kind::Lease(source)),
        ["s", source, "b", backup, rest @ ..] if !rest.is_empty() => {
            let (Ok(source), Ok(backup)) = (source.parse(), backup.parse()) else {
                return Kind::Foreign;
            };
            match rest {
                ["manifest.json"] => Kind::Manifest(source, backup),
                [stream, file] if is_data(stream, file) => Kind::Data(source, backup),
                _ => Kind::Foreign,
            }
        }
        _ => Kind::Foreign,
    }
}

fn is_data(stream: &str, file: &str) -> bool {
    let number = file
        .strip_suffix(".zst.age")
        .or_else(|| file.strip_prefix('p').and_then(|rest| rest.strip_suffix(".json")));
    stream.parse::<StreamId>().is_ok()
        && number.is_some_and(|n| n.len() >= 6 && n.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use drctl_model::{Lsn, Timeline};

    use super::*;

    const FIRST: (u64, Timeline) = (1, Timeline::FIRST);

    #[test]
    fn names_of_log_are_bounded_before_they_are_believed() {
        let source: SourceId = "shop".parse().unwrap();
        let gib = 1u64 << 30;
        for (start, end, good) in [
            (0, gib, true),
            (gib - 8, gib, true),
            (5, 5, false),
            (9, 5, false),
            (gib - 8, gib + 8, false),
            (0, gib + 1, false),
            (0, u64::MAX, false),
        ] {
            let place = LogPlace::of_wal(FIRST, (Lsn(start), Lsn(end)));
            let key = piece(&source, &place);
            assert_eq!(piece_at(&key).is_some(), good, "{key}");
            assert_eq!(classify(&key) == Kind::Foreign, !good, "{key}");
        }
        let index = |start, end| IndexPlace {
            lineage: Lineage::of_timeline(1, Timeline::FIRST),
            start: LogAt(start),
            end: LogAt(end),
        };
        for (start, end, good) in [(0, 1024 * gib, true), (0, 1025 * gib, false), (7, 7, false)] {
            let key = log_index(&source, &index(start, end));
            assert_eq!(log_index_at(&key).is_some(), good, "{key}");
        }
    }

    #[test]
    fn statements_are_numbered_with_six_digits() {
        let source: SourceId = "shop".parse().unwrap();
        for n in [1, 42, 999_999] {
            let key = statement(&source, n);
            assert_eq!(statement_at(&key), Some((source.clone(), n)), "{key}");
            assert_eq!(classify(&key), Kind::Statement(source.clone()), "{key}");
        }
        for odd in
            ["000000.json", "7.json", "0000007.json", "+00007.json", "000007", "a/000007.json"]
        {
            let key = Path::from(format!("s/shop/k/{odd}"));
            assert_eq!((statement_at(&key), classify(&key)), (None, Kind::Foreign), "{key}");
        }
    }

    #[test]
    fn beats_are_numbered_with_ten_digits_below_a_hosts_name() {
        let host: HostId = "db1.example.org".parse().unwrap();
        for seq in [1, 42, 9_999_999_999] {
            let key = beat(&host, seq);
            assert_eq!(beat_at(&key), Some((host.clone(), seq)), "{key}");
            assert_eq!(classify(&key), Kind::Beat(host.clone()), "{key}");
        }
        for odd in [
            "db1/0000000000.json",
            "db1/7.json",
            "db1/+000000007.json",
            "db1/0000000007",
            "db1/a/0000000007.json",
            "DB1/0000000007.json",
            "-db1/0000000007.json",
            "0000000007.json",
        ] {
            let key = Path::from(format!("beat/{odd}"));
            assert_eq!((beat_at(&key), classify(&key)), (None, Kind::Foreign), "{key}");
        }
    }

    #[test]
    fn entries_of_an_audit_log_are_numbered_with_twelve_digits() {
        let log = AuditLogId::new(7);
        for first in [1, 1_000_000] {
            let key = audit_batch(&log, first);
            assert_eq!(audit_batch_at(&key), Some((log.clone(), first)), "{key}");
            assert_eq!(classify(&key), Kind::Audit, "{key}");
        }
        let odd = ["a/x/000000000001.json", "a/000000000001.json", "a/b/c/000000000001.json"];
        let numbers = ["000000000000", "1", "0000000000001", "+00000000001"];
        let numbers = numbers.map(|number| format!("a/{log}/{number}.json"));
        for odd in odd.map(str::to_owned).iter().chain(&numbers) {
            let key = Path::from(odd.as_str());
            assert_eq!((audit_batch_at(&key), classify(&key)), (None, Kind::Foreign), "{key}");
        }
    }

    #[test]
    fn every_key_is_recognised_as_what_it_is() {
        let source: SourceId = "shop".parse().unwrap();
        let id: BackupId = "20260301T000000Z-00000000000000ff".parse().unwrap();
        let d0 = StreamId::database(0);
        let data = Kind::Data(source.clone(), id.clone());
        let of = (u64::MAX, Timeline::FIRST);
        let range = LogPlace::of_wal(of, (Lsn(1 << 40), Lsn((1 << 40) + 16)));
        let history = LogPlace::of_history(of);
        assert_eq!(piece_at(&piece(&source, &range)), Some((source.clone(), range.clone())));
        let index =
            IndexPlace { lineage: range.lineage.clone(), start: LogAt(0), end: LogAt(1 << 26) };
        // Of another engine nothing is known here: neither how its lineages are called, nor how long
        // its pieces are.
        let part = LogPart::Range { start: LogAt(0), end: LogAt(u64::MAX) };
        let tape = LogPlace { lineage: "tape-3".parse().unwrap(), part };
        let reels = LogPart::Note { name: "reels".parse().unwrap() };
        let reels = LogPlace { lineage: tape.lineage.clone(), part: reels };
        for place in [&history, &tape, &reels] {
            assert_eq!(piece_at(&piece(&source, place)), Some((source.clone(), place.clone())));
        }
        let index_key = log_index(&source, &index);
        assert_eq!(log_index_at(&index_key), Some((source.clone(), index)));
        assert_eq!((piece_at(&index_key), log_index_at(&piece(&source, &range))), (None, None));
        let drill_id: DrillId = id.as_str().parse().unwrap();
        let found = drill_at(&drill(&source, &drill_id));
        assert_eq!(found, Some((source.clone(), drill_id.clone())));
        assert_eq!(tombstone_at(&tombstone(&source, &id)), Some((source.clone(), id.clone())));
        let floor_key = log_floor(&source, &tape.lineage, LogAt(0x300));
        let floor = (source.clone(), tape.lineage.clone(), LogAt(0x300));
        assert_eq!(log_floor_at(&floor_key), Some(floor));
        assert_eq!(
            (tombstone_at(&floor_key), log_floor_at(&tombstone(&source, &id))),
            (None, None)
        );
        let cases = [
            (index_key, Kind::Log(source.clone())),
            (Path::from("s/shop/l/0000000000000001-00000001/history.index"), Kind::Foreign),
            (drill(&source, &drill_id), Kind::Drill(source.clone())),
            (Path::from("s/shop/d/notes.json"), Kind::Foreign),
            (acceptance(&source, &id), Kind::Acceptance(source.clone(), id.clone())),
            (Path::from("s/shop/a/notes.json"), Kind::Foreign),
            (tombstone(&source, &id), Kind::Removed(source.clone())),
            (floor_key, Kind::Removed(source.clone())),
            (Path::from("s/shop/x/notes.json"), Kind::Foreign),
            (Path::from("s/shop/x/tape-3/notes.json"), Kind::Foreign),
            (Path::from("s/shop/x/tape-3/a/0000000000000300.json"), Kind::Foreign),
            (Path::from(format!("s/shop/d/{drill_id}/x.json")), Kind::Foreign),
            (marker(), Kind::Marker),
            (probe(7), Kind::Probe),
            (manifest(&source, &id), Kind::Manifest(source.clone(), id.clone())),
            (segment(&source, &id, &d0, 0), data.clone()),
            (segment(&source, &id, &d0, 12_345_678), data.clone()),
            (page(&source, &id, &d0, 3), data),
            (piece(&source, &range), Kind::Log(source.clone())),
            (piece(&source, &history), Kind::Log(source.clone())),
            (piece(&source, &tape), Kind::Log(source.clone())),
            (piece(&source, &reels), Kind::Log(source.clone())),
            (Path::from("s/shop/l/0000000000000001-00000001/notes/a/b"), Kind::Foreign),
            (Path::from("s/shop/l/0000000000000001-00000001/notes/A"), Kind::Foreign),
            (Path::from("s/shop/l/Tape/notes/a"), Kind::Foreign),
            (Path::from("s/shop/l/1-00000001/history"), Kind::Foreign),
            (Path::from("s/shop/l/0000000000000001-00000000/history"), Kind::Foreign),
            (Path::from("s/shop/b/notes.txt"), Kind::Foreign),
            (Path::from("s/Shop/b/x/manifest.json"), Kind::Foreign),
            (Path::from(format!("s/shop/b/{id}/d0/x.zst.age")), Kind::Foreign),
        ];
        for (key, kind) in cases {
            assert_eq!(classify(&key), kind, "{key}");
        }
    }
}
