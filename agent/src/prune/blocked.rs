//! Why nothing of a source may go now: whoever cannot be sure removes nothing.

use std::collections::BTreeMap;

use anyhow::Result;
use drctl_catalog::{Catalog, Lost};
use drctl_model::{
    BackupId, BackupKind, BackupSummary, FindingCode, JobId, JobKind, SourceId, planted, shown,
};
use drctl_store::layout;
use jiff::{SignedDuration, Timestamp};

use super::streak::failures;
use crate::engine::pg::another_cluster::{self, has_cluster};
use crate::host::Setup;
use crate::jobs::{LastJob, latest, set_back};
use crate::repository::accept::is_accepted;
use crate::repository::drills::NewestDrill;
use crate::repository::statements::Statements;
use crate::repository::{CLOCKS_APART, Closed, Repository, dated, horizon, leases};

/// For how long an attempt without a manifest may still be running somewhere: what it is based on is not
/// known before it is committed.
const MAY_RUN: SignedDuration = SignedDuration::from_hours(48);

/// What a backup is of which the others depend: the newest by its date; one that a wrong clock dated in the
/// future; one that came last, and that a clock which was set back dated before others (or that somebody put
/// back there).
const NEWEST: &str = "the newest backup";
const FUTURE: &str = "the backup that is dated in the future";
const LAST: &str = "the backup that came last, and is dated before others";

/// How many of what is in doubt are named.
const NAMED: usize = 3;

/// What was met on the way.
#[derive(Default)]
pub(super) struct Doubts {
    /// Manifests that only a newer drctl reads.
    pub(super) newer: Vec<BackupId>,
    /// Manifests that nobody whom we trust has signed, or that are none.
    pub(super) refused: Vec<BackupId>,
    /// What is lost, each in a few words.
    pub(super) lost: Vec<String>,
    /// Attempts without a manifest that may still run, and when the store got the newest object of each.
    pub(super) unfinished: Vec<(BackupId, Option<Timestamp>)>,
    /// What the newest drill puts in doubt.
    pub(super) drill: NewestDrill,
    /// When the store first got the manifest of each backup, where it tells.
    pub(super) stored: BTreeMap<BackupId, Timestamp>,
}

/// Why nothing of a source may go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reasons {
    /// Those that somebody has to look into.
    pub lasting: Vec<Reason>,
    /// Those that pass by themselves: what runs now, here or elsewhere.
    pub passing: Vec<String>,
    /// Why nothing goes unless a person says so.
    pub unattended: Option<Reason>,
    /// Whether that could not be asked.
    pub unknown: bool,
}

/// A reason, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The sentence.
    pub text: String,
    /// What it is, in a word that stays the same while the sentence changes.
    pub name: &'static str,
    /// The finding that tells of the same, where one does.
    pub told_by: Option<FindingCode>,
}

impl Reason {
    fn told(code: FindingCode, text: impl Into<String>) -> Self {
        Reason { text: text.into(), name: code.as_str(), told_by: Some(code) }
    }

    pub(super) fn untold(name: &'static str, text: impl Into<String>) -> Self {
        Reason { text: text.into(), name, told_by: None }
    }
}

impl Reasons {
    /// All of those for which nothing goes whoever asks.
    pub fn all(&self) -> impl Iterator<Item = &String> {
        self.lasting.iter().map(|one| &one.text).chain(&self.passing)
    }
}

/// The reasons; none where something may go.
///
/// # Errors
/// The store's, the catalog's.
pub(super) async fn blocked(
    setup: &Setup,
    repository: &Repository,
    catalog: &Catalog,
    (source, backups): (&SourceId, &[BackupSummary]),
    doubts: Doubts,
) -> Result<Reasons> {
    let now = setup.clock.now();
    let dated = dated(backups, now, has_cluster);
    let (last, others) = latest(setup, catalog, source).await?;
    let mut newest = newest(backups, horizon(now), &doubts.stored);
    let jobs = recorded(catalog, &newest).await?;
    if is_passed((&newest, horizon(now)), &jobs, &doubts.stored) {
        newest.remove(0);
    }
    let first = newest.first().map(|(_, one)| *one);
    let before = set_back(catalog, backups, (last.as_ref(), first)).await?;
    let is_new = |one: &&BackupSummary| newest.iter().all(|(_, new)| new.backup != one.backup);
    let before = before.as_ref().filter(is_new).map(|one| (LAST, one));
    newest.extend(before);
    let mut found = in_doubt(source, (backups, &newest), &doubts);
    if repository.lost_marker || repository.newer_marker.is_some() {
        let code = match repository.lost_marker {
            true => FindingCode::MarkerLost,
            false => FindingCode::MarkerNewer,
        };
        found.push(Reason::told(code, "the repository's marker is lost, or of a newer format"));
    }
    if Closed::of(repository).await?.holds(source) {
        found.push(Reason::untold("closed", "this account may not look into all of it"));
    }
    if setup.forgotten(catalog).is_some() {
        let text = "what this host remembers is not known, because its catalog cannot be read and written, or was \
                    made anew: look whether its disk is full; else run `drctl catalog rebuild`";
        found.push(Reason::told(FindingCode::CatalogUnknown, text));
    }
    let prefix = format!("s/{source}/");
    let alarms = repository.alarms().into_iter().filter(|alarm| alarm.key.starts_with(&prefix));
    let alarms: Vec<String> = alarms.map(|alarm| shown(&alarm.key, 200)).collect();
    if !alarms.is_empty() {
        let text = format!("somebody meddled with {}", some(&alarms));
        found.push(Reason::told(FindingCode::ObjectMeddled, text));
    }
    // Which clock is wrong nobody knows: neither look may hide what the other finds.
    for known in [&*dated, backups] {
        if let Some(change) = another_cluster::change(source, known)
            && !is_accepted(repository, source, &change.of_new).await?
        {
            let text = "its newest backups are of another cluster than those before";
            let text = format!("{text}: {}", change.finding.line());
            found.push(Reason::told(FindingCode::ClusterChanged, text));
            break;
        }
    }
    let unattended = failures(setup, catalog, (source, backups), now).await?;
    let mut passing = running(&others, &doubts, now);
    passing.extend(leases::in_force(repository, source, now).await?);
    Ok(Reasons { lasting: found, passing, unattended, unknown: false })
}

/// What somebody said of it, or may have: each reason in a sentence.
pub(super) fn forbidden(said: &Statements) -> Vec<Reason> {
    let frozen = said.frozen().into_iter().filter(|_| !planted("freeze-ignored"));
    let frozen = frozen.map(|(text, _)| Reason::told(FindingCode::SourceFrozen, text));
    let doubts = said.doubts().into_iter();
    frozen.chain(doubts.map(|text| Reason::told(FindingCode::StatementInDoubt, text))).collect()
}

/// The newest backup, the newest that is not dated in the future, and the one that the store got last: a
/// clock that was set back dates a backup before others. Where the newest came long after its date, the
/// bucket is a copy, and its times say nothing.
fn newest<'a>(
    backups: &'a [BackupSummary],
    horizon: Timestamp,
    stored: &BTreeMap<BackupId, Timestamp>,
) -> Vec<(&'static str, &'a BackupSummary)> {
    let dated = backups.iter().find(|one| one.taken() <= horizon);
    let at = |one: &BackupSummary| stored.get(&one.backup).copied();
    let is_original = |one: &BackupSummary| at(one).is_some_and(|at| is_original(one, at));
    let since = backups.first().filter(|_| dated.is_some_and(is_original)).and_then(at);
    let last = since.and_then(|since| {
        let later = backups.iter().filter(|one| at(one) > Some(since));
        later.max_by_key(|one| at(one))
    });
    let future = backups.first().filter(|one| one.taken() > horizon).map(|one| (FUTURE, one));
    let mut newest: Vec<_> = future.into_iter().collect();
    for (what, one) in dated.map(|one| (NEWEST, one)).into_iter().chain(last.map(|one| (LAST, one)))
    {
        if newest.iter().all(|(_, other)| other.backup != one.backup) {
            newest.push((what, one));
        }
    }
    newest
}

/// Whether the store got a backup when it was made: a copy of the bucket tells later times.
fn is_original(backup: &BackupSummary, stored: Timestamp) -> bool {
    stored.duration_since(backup.finished) <= CLOCKS_APART
}

/// The place of each of the newest backups in this host's record, where it has one.
async fn recorded(
    catalog: &Catalog,
    newest: &[(&str, &BackupSummary)],
) -> Result<BTreeMap<BackupId, JobId>> {
    let mut jobs = BTreeMap::new();
    for (_, one) in newest {
        let job = catalog.job_of(&one.source, &one.backup).await?;
        jobs.extend(job.map(|job| (one.backup.clone(), job.id)));
    }
    Ok(jobs)
}

/// Whether of the newest backups the first, which is dated in the future, was made before another one that
/// counts: as this host's record tells, or else the store, where the bucket is no copy.
fn is_passed(
    (newest, horizon): (&[(&str, &BackupSummary)], Timestamp),
    jobs: &BTreeMap<BackupId, JobId>,
    stored: &BTreeMap<BackupId, Timestamp>,
) -> bool {
    let [(_, first), others @ ..] = newest else { return false };
    let at = |one: &BackupSummary| stored.get(&one.backup).copied();
    let is_later = |next: &BackupSummary| match (jobs.get(&first.backup), jobs.get(&next.backup)) {
        (Some(first), Some(next)) => first < next,
        _ => at(first).zip(at(next)).is_some_and(|(first, stored)| {
            // Of one that is of the future too the store's times say nothing.
            first < stored && next.taken() <= horizon && is_original(next, stored)
        }),
    };
    first.taken() > horizon && others.iter().any(|(_, next)| next.is_good() && is_later(next))
}

/// What manifests, losses and drills speak of; none of the `newest` backups may be suspect.
fn in_doubt(
    source: &SourceId,
    (backups, newest): (&[BackupSummary], &[(&str, &BackupSummary)]),
    doubts: &Doubts,
) -> Vec<Reason> {
    let mut found = Vec::new();
    if backups.iter().any(|one| matches!(one.kind, BackupKind::External(_))) {
        let text = "pgBackRest keeps its backups, and expires them by its own retention";
        found.push(Reason::untold("external", text));
    }
    if !doubts.newer.is_empty() {
        let text = format!(
            "only a newer drctl reads {}: it may be based on what would go",
            some(&doubts.newer)
        );
        found.push(Reason::told(FindingCode::BackupNewer, text));
    }
    if !doubts.refused.is_empty() {
        let text = format!(
            "the manifest of {} is not believed here, and may be based on what would go",
            some(&doubts.refused)
        );
        found.push(Reason::told(FindingCode::BackupRefused, text));
    }
    if !doubts.lost.is_empty() {
        let text = format!(
            "LOST: {}; put back what is gone, or, once you know why it is, run `drctl catalog forget {source}` \
             on each host that removes",
            some(&doubts.lost)
        );
        found.push(Reason::told(FindingCode::ObjectGone, text));
    }
    for (what, newest) in newest.iter().filter(|(_, newest)| !newest.is_good()) {
        let why = shown(&newest.suspect.join("; "), 300);
        let text = format!("{what}, {}, does not count: {why}", newest.backup);
        found.push(Reason::told(FindingCode::BackupSuspect, text));
    }
    let bases = || backups.iter().filter(|one| one.kind.coordinates().is_some());
    let newest = bases().max_by(|one, other| one.newer(other));
    if let Some((newest, other)) =
        newest.and_then(|newest| Some((newest, bases().find(|one| newest.outlives(one))?)))
    {
        let text = format!(
            "two servers may live: {} was made later than {}, which is on a later timeline; take a \
             base backup of the real one",
            newest.backup, other.backup
        );
        found.push(Reason::untold("two_servers", text));
    }
    found.extend(doubts.drill.blocks().into_iter().map(|text| Reason::untold("drill", text)));
    found
}

/// What runs now, here or elsewhere, and may need what would go.
fn running(others: &[LastJob], doubts: &Doubts, now: Timestamp) -> Vec<String> {
    let mut found = Vec::new();
    let reads = |kind| matches!(kind, JobKind::Restore | JobKind::Drill | JobKind::Verify);
    for last in others.iter().filter(|last| last.running == Some(true) && reads(last.job.kind)) {
        found.push(format!(
            "a {} of it runs since {:.0}",
            last.job.kind.as_str(),
            last.job.started
        ));
    }
    found.extend(may_run(&doubts.unfinished, now));
    found
}

/// The attempts without a manifest of which it is not known whether they run: of its own ones this host knows which
/// are over, and one whose manifest is lost is told as lost.
pub(super) fn unknown(
    source: &SourceId,
    mut unfinished: Vec<(BackupId, Option<Timestamp>)>,
    (own, lost): (&BTreeMap<BackupId, bool>, &[Lost]),
) -> Vec<(BackupId, Option<Timestamp>)> {
    let is_lost = |id: &BackupId| {
        let manifest = layout::manifest(source, id);
        lost.iter().any(|lost| lost.key == manifest.as_ref())
    };
    unfinished.retain(|(id, _)| own.get(id) != Some(&true) && !is_lost(id));
    unfinished
}

/// That attempts may still run; none where all of them are too old.
fn may_run(attempts: &[(BackupId, Option<Timestamp>)], now: Timestamp) -> Option<String> {
    let until = |newest: Option<Timestamp>| newest.and_then(|at| at.checked_add(MAY_RUN).ok());
    let young: Vec<_> = attempts
        .iter()
        .map(|(id, newest)| (id, until(*newest)))
        .filter(|(_, until)| until.is_none_or(|until| now < until))
        .collect();
    let ids: Vec<&BackupId> = young.iter().map(|(id, _)| *id).collect();
    let at_last = young.iter().map(|(_, until)| *until).max()?;
    let ends = match at_last.filter(|_| young.iter().all(|(_, until)| until.is_some())) {
        Some(at) => format!(", or 48 hours after its newest object, at the latest at {at:.0}"),
        None => String::new(),
    };
    Some(format!(
        "a backup that has no manifest yet may still run, here or on another host: {}; each blocks \
         removal until it is committed{ends}",
        some(&ids)
    ))
}

/// The first few of them, and how many more there are.
fn some(all: &[impl ToString]) -> String {
    let named: Vec<String> = all.iter().take(NAMED).map(ToString::to_string).collect();
    match all.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use drctl_model::{Coordinates, CopiedLog, Digest, Engine, Lsn, Timeline, WalSegmentSize};

    use super::*;

    /// A base backup on a timeline, made so many seconds after the first.
    fn base(n: u64, timeline: u32, (start, seconds): (u64, i64)) -> BackupSummary {
        let at = Timestamp::from_second(1_800_000_000 + seconds).unwrap();
        let timeline = Timeline::new(timeline).unwrap();
        let log = CopiedLog { checkpoint: at, last_commit: None, segments: Vec::new() };
        BackupSummary {
            source: "shop".parse().unwrap(),
            backup: BackupId::new(at, n),
            engine: Engine::BaseBackup,
            kind: BackupKind::Full(Coordinates {
                system_id: 7,
                segment_size: WalSegmentSize::default(),
                timeline,
                start: Lsn(start),
                stop: Lsn(start + 100),
                stop_timeline: timeline,
                listing_sha256: None,
                log: Some(log),
            }),
            host: "db1".to_owned(),
            started: at,
            finished: at,
            plain_bytes: 0,
            sealed_bytes: 0,
            segments: 0,
            suspect: Vec::new(),
            manifest_sha256: Digest([0; 32]),
            accepted: None,
            signer: String::new(),
            objects: None,
        }
    }

    #[test]
    fn neither_a_date_in_the_future_nor_one_before_it_hides_what_is_suspect() {
        let shop = "shop".parse().unwrap();
        let of = |n, seconds, is_good| {
            let mut one = base(n, 1, (n * 1000, seconds));
            one.suspect = if is_good { Vec::new() } else { vec!["fewer rows".to_owned()] };
            one
        };
        let horizon = Timestamp::from_second(1_800_000_050).unwrap();
        let blocked = |future, dated| {
            let backups = [of(3, 90, future), of(2, 20, dated), of(1, 0, false)];
            let newest = newest(&backups, horizon, &BTreeMap::new());
            in_doubt(&shop, (&backups, &newest), &Doubts::default()).len()
        };
        let all = [(true, true), (false, true), (true, false), (false, false)];
        assert_eq!(all.map(|(future, dated)| blocked(future, dated)), [0, 1, 1, 2]);
        let backups = [of(2, 20, true), of(1, 0, false)];
        let of_store = |later| {
            let at = |one: &BackupSummary, seconds| {
                let at = one.finished + SignedDuration::from_secs(seconds);
                (one.backup.clone(), at)
            };
            [at(&backups[0], 1), at(&backups[1], later)].into()
        };
        let blocked = |stored| {
            let newest = newest(&backups, horizon, &stored);
            in_doubt(&shop, (&backups, &newest), &Doubts::default()).len()
        };
        // The older one came last: a clock was set back.
        assert_eq!([blocked(of_store(1)), blocked(of_store(30))], [0, 1]);
        // Of a copy of the bucket the store's times say nothing.
        let mut copied: BTreeMap<BackupId, Timestamp> = of_store(30);
        copied.values_mut().for_each(|at| *at += SignedDuration::from_hours(100));
        assert_eq!(blocked(copied), 0);
    }

    #[test]
    fn a_backup_of_the_future_is_passed_by_what_came_after_it() {
        let horizon = Timestamp::from_second(1_800_000_050).unwrap();
        let (future, next) = (base(9, 1, (900, 9_000)), base(2, 1, (200, 20)));
        let also = base(8, 1, (800, 8_000));
        let mut suspect = next.clone();
        suspect.suspect = vec!["fewer rows".to_owned()];
        let passed = |next: &BackupSummary,
                      jobs: Option<(i64, i64)>,
                      stored: Option<(i64, i64)>| {
            let newest = [(FUTURE, &future), (NEWEST, next)];
            let pair = |one, other| [(future.backup.clone(), one), (next.backup.clone(), other)];
            let jobs = jobs.map(|(one, other)| pair(one, other).map(|(id, n)| (id, JobId(n))));
            let at = |seconds| Timestamp::from_second(1_800_000_000 + seconds).unwrap();
            let stored = stored.map(|(one, other)| pair(one, other).map(|(id, n)| (id, at(n))));
            let jobs = jobs.into_iter().flatten().collect();
            is_passed((&newest, horizon), &jobs, &stored.into_iter().flatten().collect())
        };
        for (jobs, stored, is_passed, why) in [
            (None, None, false, "nothing tells it"),
            (Some((1, 2)), None, true, "the record does"),
            (Some((2, 1)), Some((10, 21)), false, "the record is believed before the store"),
            (Some((1, 2)), Some((21, 10)), true, "in this way too"),
            (None, Some((10, 21)), true, "the store does"),
            (None, Some((22, 21)), false, "it came later"),
            (None, Some((50_000, 50_001)), false, "of a copy the times say nothing"),
        ] {
            assert_eq!(passed(&next, jobs, stored), is_passed, "{why}");
            assert!(!passed(&suspect, jobs, stored), "what does not count passes nothing: {why}");
        }
        // Of two of the future the store's times say nothing: the bucket may be a copy.
        assert!(!passed(&also, None, Some((10, 21))));
        assert!(passed(&also, Some((1, 2)), None));
    }

    #[test]
    fn a_server_that_lives_on_beside_a_promoted_one_freezes_its_source() {
        let shop = "shop".parse().unwrap();
        let blocked = |backups: &[BackupSummary]| {
            let newest = newest(backups, Timestamp::MAX, &BTreeMap::new());
            !in_doubt(&shop, (backups, &newest), &Doubts::default()).is_empty()
        };
        let promoted = base(2, 2, (500, 20));
        let old = base(1, 1, (100, 0));
        assert!(!blocked(&[promoted.clone(), old.clone()]));
        let lives_on = base(3, 1, (900, 40));
        assert!(blocked(&[lives_on.clone(), promoted.clone(), old]));
        // The real one has a newer base backup.
        assert!(!blocked(&[base(4, 2, (800, 60)), lives_on, promoted]));
    }
}
