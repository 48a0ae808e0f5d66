//! That a source's base backups are of another cluster than before: `initdb` or `pg_upgrade` was meant,
//! or another server answers in its place.

use std::collections::BTreeSet;

use drctl_model::{BackupId, BackupSummary, Finding, FindingCode, SourceId};
use jiff::{SignedDuration, Timestamp};

/// How far apart the newest of each may have been taken for the change to be told of.
const TOLD: SignedDuration = SignedDuration::from_hours(24 * 7);

/// A change from one cluster to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// What to say of it.
    pub(crate) finding: Finding,
    /// When the first base backup of the other cluster was taken.
    pub(crate) since: Timestamp,
    /// The base backups of the other cluster since then: a person who takes one of them for good takes
    /// the cluster for the source's.
    pub(crate) of_new: Vec<BackupId>,
}

/// Whether a base backup is of a cluster that took the place of another one, and nobody has said that
/// this was meant.
pub(crate) fn is_in_question(known: &[BackupSummary], backup: &BackupSummary) -> bool {
    change(&backup.source, known).is_some_and(|change| change.of_new.contains(&backup.backup))
}

/// What is to be said of a base backup that was taken just now, and is of another cluster than the one
/// before it.
pub(crate) fn note(known: &[BackupSummary], taken: &BackupSummary) -> Option<String> {
    let new = system_id(taken)?;
    let others = known.iter().filter(|one| one.backup != taken.backup);
    let others = others.filter_map(|one| Some((one, system_id(one)?)));
    // Whenever it says that it was taken: a clock may be wrong.
    let (before, old) = others.max_by_key(|(one, _)| one.started)?;
    (old != new).then(|| format!(
        "this is another cluster ({new}) than that of {} ({old}), the newest base backup before \
         it: --system-id {old} recovers the earlier one. If there was no initdb, pg_upgrade or \
         restore, another server answers: check host and port",
        before.backup
    ))
}

/// The same of what is known of a source, as long as base backups of both are young. It stands until the
/// last of the other is so much older than the newest.
pub(crate) fn change(source: &SourceId, known: &[BackupSummary]) -> Option<Change> {
    let newest = known.iter().filter(|one| one.kind.coordinates().is_some());
    let newest = newest.max_by_key(|one| one.started)?;
    let (before, old, new) = differing(known, newest)?;
    if newest.started.duration_since(before.started) > TOLD {
        return None;
    }
    let of_new: Vec<&BackupSummary> = known
        .iter()
        .filter(|one| system_id(one) == Some(new) && one.started > before.started)
        .chain([newest])
        .collect();
    if of_new.iter().any(|one| one.accepted.is_some()) {
        return None;
    }
    let first = of_new.iter().map(|one| one.started).min();
    let of_new: BTreeSet<BackupId> = of_new.iter().map(|one| one.backup.clone()).collect();
    let text = format!(
        "the newest base backups are of different clusters: {} is of {new}, and {} before it of {old}",
        newest.backup, before.backup
    );
    let hint = format!(
        "if there was no initdb, pg_upgrade or restore, another server answers: check host and \
         port; `drctl timeline {source}` shows both, and --system-id chooses; if there was one, run \
         `drctl accept {source}/{}`",
        newest.backup
    );
    let finding = Finding {
        code: FindingCode::ClusterChanged,
        source: source.clone(),
        subject: new.to_string(),
        text,
        hint: Some(hint),
    };
    let since = first.unwrap_or(newest.started);
    Some(Change { finding, since, of_new: of_new.into_iter().collect() })
}

/// The newest base backup of another cluster that was taken before this one, and both identifiers: its
/// own, and this one's.
fn differing<'a>(
    known: &'a [BackupSummary],
    taken: &BackupSummary,
) -> Option<(&'a BackupSummary, u64, u64)> {
    let new = system_id(taken)?;
    let before = known.iter().filter(|one| one.backup != taken.backup);
    let before = before.filter(|one| one.started <= taken.started);
    let other = before.filter(|one| system_id(one).is_some_and(|id| id != new));
    let other = other.max_by_key(|one| one.started)?;
    Some((other, system_id(other)?, new))
}

fn system_id(backup: &BackupSummary) -> Option<u64> {
    backup.kind.coordinates().map(|at| at.system_id)
}

#[cfg(test)]
mod tests {
    use drctl_model::{BackupKind, Coordinates, Digest, Engine, Lsn, Timeline, WalSegmentSize};

    use super::*;

    fn backup(day: i64, system_id: u64) -> BackupSummary {
        let at = Coordinates {
            system_id,
            segment_size: WalSegmentSize::new(1 << 20).unwrap(),
            timeline: Timeline::FIRST,
            start: Lsn(1),
            stop: Lsn(2),
            stop_timeline: Timeline::FIRST,
            listing_sha256: None,
            log: None,
        };
        let started = Timestamp::from_second(1_700_000_000 + day * 86_400).unwrap();
        BackupSummary {
            source: "shop".parse().unwrap(),
            backup: format!("20260301T000000Z-{day:016x}").parse().unwrap(),
            engine: Engine::BaseBackup,
            kind: if system_id == 0 { BackupKind::Logical } else { BackupKind::Full(at) },
            host: "db1".into(),
            started,
            finished: started,
            plain_bytes: 0,
            sealed_bytes: 0,
            segments: 0,
            suspect: vec![],
            manifest_sha256: Digest([0; 32]),
            accepted: None,
            signer: String::new(),
            objects: None,
        }
    }

    #[test]
    fn another_cluster_than_before_is_told_as_long_as_both_are_young() {
        // Day and cluster of each.
        type Known<'a> = &'a [(i64, u64)];
        let source: SourceId = "shop".parse().unwrap();
        let all = |known: &[(i64, u64)]| -> Vec<BackupSummary> {
            known.iter().map(|(day, id)| backup(*day, *id)).collect()
        };
        let cases: [(&str, Known<'_>, Option<&str>); 7] = [
            ("none", &[], None),
            ("dumps", &[(1, 0), (2, 0)], None),
            ("one cluster", &[(1, 7), (2, 7)], None),
            ("another one", &[(1, 7), (2, 8)], Some("8")),
            ("and again", &[(1, 7), (2, 8), (3, 8)], Some("8")),
            ("back to the first", &[(1, 7), (2, 8), (3, 7)], Some("7")),
            ("long ago", &[(1, 7), (2, 8), (9, 8)], None),
        ];
        for (name, known, subject) in cases {
            let found = change(&source, &all(known)).map(|change| change.finding.subject);
            assert_eq!(found.as_deref(), subject, "{name}");
        }
        let mut known = all(&[(1, 7), (2, 8), (3, 8)]);
        let found = change(&source, &known).unwrap();
        assert_eq!(found.since, backup(2, 8).started);
        // One that a person took for good settles it, until the next change.
        for (at, settled) in [(0, false), (1, true), (2, true)] {
            known.iter_mut().for_each(|one| one.accepted = None);
            known[at].accepted = Some(known[at].started);
            assert_eq!(change(&source, &known).is_none(), settled, "{at}");
            assert_eq!(is_in_question(&known, &known[1]), !settled, "{at}");
        }
        known.push(backup(4, 7));
        assert!(change(&source, &known).is_some(), "and back again");
        assert!(!is_in_question(&known, &known[1]));
    }

    #[test]
    fn a_backup_of_another_cluster_says_so_itself() {
        let known = [backup(1, 7), backup(2, 8)];
        let said = note(&known, &known[1]).unwrap();
        assert!(said.contains("--system-id 7") && said.contains("check host and port"), "{said}");
        assert_eq!(note(&known[..1], &backup(3, 7)), None);
        assert_eq!(note(&known, &backup(3, 8)), None);
        // A clock that goes wrong hides nothing.
        assert!(note(&known[1..], &backup(1, 7)).is_some());
        assert_eq!(note(&[], &backup(3, 7)), None);
    }
}
