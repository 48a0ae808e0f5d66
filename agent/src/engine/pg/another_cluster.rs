//! That a source's backups are of another cluster than before: `initdb` or `pg_upgrade` was meant, or
//! another server answers in its place.

use std::collections::BTreeSet;

use anyhow::Result;
use drctl_model::{BackupId, BackupSummary, Finding, FindingCode, SourceId};
use futures_util::{StreamExt as _, TryStreamExt as _};
use jiff::{SignedDuration, Timestamp};

use crate::backup::streamed::Begun;
use crate::host::Setup;
use crate::repository::accept::is_accepted;
use crate::repository::{Repository, dated, everything};

/// How far apart the newest of each may have been taken for the change to be told of.
const TOLD: SignedDuration = SignedDuration::from_hours(24 * 7);

/// How many manifests a host without a catalog looks at, the newest first.
const LOOKED_AT: usize = 100;

/// A change from one cluster to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// What to say of it.
    pub(crate) finding: Finding,
    /// When the first backup of the other cluster was taken.
    pub(crate) since: Timestamp,
    /// The backups of the other cluster since then: a person who takes one of them for good takes
    /// the cluster for the source's.
    pub(crate) of_new: Vec<BackupId>,
}

/// Whether a backup is of a cluster that took the place of another one, and nobody has said that
/// this was meant.
pub(crate) fn is_in_question(known: &[BackupSummary], backup: &BackupSummary) -> bool {
    change(&backup.source, known).is_some_and(|change| change.of_new.contains(&backup.backup))
}

/// The same of one that was committed just now; also that this is not known.
pub(super) async fn of_committed(begun: &Begun<'_>, summary: &BackupSummary) -> Option<String> {
    match begun.catalog.backups(Some(begun.source)).await {
        Ok(known) => note(&known, summary),
        Err(error) => Some(format!(
            "it was not checked whether it is of the same cluster as the backups before it: {error}"
        )),
    }
}

/// What is to be said of a backup that was taken just now, and is of another cluster than the one
/// before it.
fn note(known: &[BackupSummary], taken: &BackupSummary) -> Option<String> {
    let new = system_id(taken)?;
    // Whenever it says that it was taken: a clock may be wrong.
    let before = newest(known.iter().filter(|one| one.backup != taken.backup))?;
    let old = system_id(before)?;
    (old != new).then(|| {
        format!(
            "this is another cluster ({new}) than that of {before} ({old}), the newest {what} before \
             it: {which} {recovers} the earlier one. If there was no initdb, pg_upgrade or restore, \
             another server answers: check host and port",
            before = before.backup,
            what = what(&[before, taken]),
            which = if is_copy(before) { format!("--system-id {old}") } else { format!("--backup {}", before.backup) },
            recovers = if is_copy(before) { "recovers" } else { "restores" },
        )
    })
}

/// What is to be said of a backup that is to be restored, and is of another cluster than those before it.
/// A bucket that does not tell keeps nobody from restoring.
pub(crate) async fn of_restored(
    setup: &Setup,
    repository: &Repository,
    backup: &BackupSummary,
) -> Option<String> {
    let looked = looked_at(setup, repository, backup).await;
    looked.inspect_err(|error| tracing::debug!("other clusters: {error:#}")).ok().flatten()
}

async fn looked_at(
    setup: &Setup,
    repository: &Repository,
    backup: &BackupSummary,
) -> Result<Option<String>> {
    let source = &backup.source;
    let mut known = match setup.log_cache(repository).await {
        Some(catalog) => catalog.backups(Some(source)).await?,
        None => Vec::new(),
    };
    if !known.iter().any(|one| one.backup == backup.backup) {
        known = vec![backup.clone()];
        let mut all = everything(repository, vec![source.clone()]).take(LOOKED_AT);
        while let Some((_, id, found)) = all.try_next().await? {
            known.extend(found.ok().filter(|_| id != backup.backup).map(|proven| proven.summary()));
        }
    }
    let known = dated(&known, setup.clock.now(), has_cluster);
    let Some(change) = change(source, &known) else { return Ok(None) };
    let is_settled = !change.of_new.contains(&backup.backup)
        || is_accepted(repository, source, &change.of_new).await?;
    Ok((!is_settled).then(|| change.finding.line()))
}

/// The same of what is known of a source and not dated in the future, as long as backups of both are young.
/// It stands until the last of the other is so much older than the newest.
pub(crate) fn change(source: &SourceId, known: &[BackupSummary]) -> Option<Change> {
    let newest = newest(known.iter())?;
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
        "the newest {}s are of different clusters: {} is of {new}, and {} before it of {old}",
        what(&[before, newest]),
        newest.backup,
        before.backup
    );
    let which = match is_copy(before) {
        true => format!("`drctl timeline {source}` shows both, and --system-id chooses"),
        false => format!("`drctl list {source}` shows both, and --backup chooses"),
    };
    let hint = format!(
        "if there was no initdb, pg_upgrade or restore, another server answers: check host and \
         port; {which}; if there was one, run `drctl accept {source}/{}`",
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

/// The newest backup of another cluster that was taken before this one, and both identifiers: its
/// own, and this one's.
fn differing<'a>(
    known: &'a [BackupSummary],
    taken: &BackupSummary,
) -> Option<(&'a BackupSummary, u64, u64)> {
    let new = system_id(taken)?;
    let before = known.iter().filter(|one| one.backup != taken.backup);
    let before = before.filter(|one| one.started <= taken.started);
    let other = newest(before.filter(|one| system_id(one).is_some_and(|id| id != new)))?;
    Some((other, system_id(other)?, new))
}

/// The newest of those of which the cluster is known, where their clusters are what is asked for.
pub(super) fn newest<'a>(
    known: impl Iterator<Item = &'a BackupSummary>,
) -> Option<&'a BackupSummary> {
    known.filter(|one| system_id(one).is_some()).max_by_key(|one| one.started)
}

/// Whether its cluster is known.
pub(crate) fn has_cluster(backup: &BackupSummary) -> bool {
    system_id(backup).is_some()
}

fn system_id(backup: &BackupSummary) -> Option<u64> {
    backup.kind.system_id()
}

/// Whether it is a base backup.
fn is_copy(backup: &BackupSummary) -> bool {
    backup.kind.coordinates().is_some()
}

/// What people call what all of these are.
fn what(all: &[&BackupSummary]) -> &'static str {
    if all.iter().all(|one| is_copy(one)) { "base backup" } else { "backup" }
}

#[cfg(test)]
mod tests {
    use drctl_model::{
        BackupKind, Coordinates, Digest, Dumped, Engine, Lsn, Timeline, WalSegmentSize,
    };

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
            kind: if system_id == 0 {
                BackupKind::Logical(Dumped::default())
            } else {
                BackupKind::Full(at)
            },
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

    fn dump(day: i64, system_id: Option<u64>) -> BackupSummary {
        BackupSummary {
            kind: BackupKind::Logical(Dumped { system_id, rows: None }),
            ..backup(day, 0)
        }
    }

    #[test]
    fn a_dump_of_another_cluster_is_told_and_of_one_that_is_not_known_nothing() {
        let source: SourceId = "shop".parse().unwrap();
        let subject = |all: &[BackupSummary]| {
            change(&source, all)
                .map(|change| (change.finding.subject, change.finding.hint.unwrap()))
        };
        assert_eq!(subject(&[dump(1, Some(7)), dump(2, Some(7))]), None);
        assert_eq!(subject(&[dump(1, None), dump(2, Some(7)), dump(3, None)]), None);
        let known = [dump(1, Some(7)), dump(2, None), dump(3, Some(8))];
        let (of, hint) = subject(&known).unwrap();
        assert!(
            of == "8" && hint.contains("drctl list shop") && hint.contains("--backup"),
            "{hint}"
        );
        assert!(!is_in_question(&known, &known[1]), "nobody knows");
        assert!(is_in_question(&known, &known[2]));
        let said = note(&known, &known[2]).unwrap();
        assert!(said.contains(&format!("--backup {}", known[0].backup)), "{said}");
        assert_eq!(note(&known, &known[1]), None);
        // A source that was of dumps before, and is of base backups now.
        let of = subject(&[dump(1, Some(7)), backup(2, 8)]).map(|(of, _)| of);
        assert_eq!(of.as_deref(), Some("8"));
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
