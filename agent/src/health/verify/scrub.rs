//! The steady look at a source: each run reads its share of the stored bytes, what was read longest ago
//! first, so that in some time all of it was read; slowly, and a part of a backup where that is enough.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use drctl_catalog::{Catalog, Looks, Reading, Subject};
use drctl_model::{BackupId, BackupSummary, Closeness, JobKind, SourceId, total};
use drctl_policies::scrub::{Readable, bytes_per_second, due_now};
use drctl_store::Pace;
use jiff::Timestamp;

use super::{FoundOut, Read, Wanted, look, on_record};
use crate::host::{AgentError, Meter, Setup, Stop};
use crate::log::LogStore;
use crate::repository::verify::{is_possible, read_on};
use crate::repository::{Notebook, Proven, Repository};

/// After so many bytes it is noted how far a backup was read.
const STEP: u64 = 256 << 20;

/// Looks at a source by its policy, as a job on record: all signatures and listings, and the share of the
/// stored bytes that is due. Nothing where there is nothing yet.
///
/// # Errors
/// As [`look`].
pub(crate) async fn scrub(
    setup: &Setup,
    source: &SourceId,
    meter: &Meter,
    stop: &Stop,
) -> Result<Option<FoundOut>> {
    let repository = setup.repository().await?;
    let catalog = setup.catalog(&repository).await?;
    let all = readable(setup, &repository, &catalog, source).await?;
    // What the catalog knows and the bucket has no more is no reason to say nothing.
    if all.is_empty() && !repository.sources().await?.contains(source) {
        return Ok(None);
    }
    let policy = &setup.source(source.as_str())?.1.policy.verify;
    let now = setup.clock.now();
    let next = policy.schedule.as_ref().and_then(|schedule| schedule.next_after(now));
    let next = next.unwrap_or(Timestamp::MAX);
    let due = due_now(all, policy.within, (now, next));
    let mine = total(due.iter().map(|(_, bytes)| *bytes));
    let pause = next.duration_since(now).unsigned_abs();
    let others = others(setup, &catalog, source).await?;
    let pace = bytes_per_second(others.into_iter().chain([(mine, pause)]), policy.bytes_per_second);
    let setup = &setup.at_pace(Arc::new(Pace::bytes(pace)));
    tracing::info!(%source, bytes = mine, bytes_per_second = pace, "verifies");
    let looking = async {
        tokio::select! {
            looked = look_and_read(setup, (source, &catalog), due, (meter, stop)) => looked,
            () = stop.requested() => Err(AgentError::Interrupted.into()),
        }
    };
    Ok(Some(on_record(setup, vec![source.clone()], Box::pin(looking)).await?))
}

/// Looks at all that needs no reading and at the log, then reads what is due of the backups.
async fn look_and_read(
    setup: &Setup,
    (source, catalog): (&SourceId, &Catalog),
    due: Vec<(Subject, u64)>,
    (meter, stop): (&Meter, &Stop),
) -> Result<FoundOut> {
    let is_log = |(subject, _): &(Subject, u64)| *subject == Subject::Log;
    let read = if due.iter().any(is_log) { Read::Log } else { Read::Nothing };
    let wanted = Wanted { what: Some(source.as_str()), identity: None, read };
    let mut found = look(setup, &wanted, meter, stop).await?;
    let repository = setup.repository().await?;
    let reader = Reader { setup, repository: &repository, catalog, source, meter };
    for (subject, bytes) in due {
        let Subject::Backup(id) = subject else { continue };
        // What is wrong with a manifest was found by the look.
        let Some(row) = found.rows.iter_mut().find(|row| row.id == id) else { continue };
        let Ok(Some(proven)) = repository.manifest(source, &id).await else { continue };
        let verdict = &mut row.verdict;
        let found = reader.read(&proven, bytes, &verdict.problems).await?;
        let Some((read, problems)) = found else { continue };
        verdict.read_bytes = verdict.read_bytes.saturating_add(read);
        verdict.problems = problems;
    }
    Ok(found)
}

/// Something that is wrong: its code, and words.
type Problem = (String, String);

/// Reads backups of a source.
struct Reader<'a> {
    setup: &'a Setup,
    repository: &'a Repository,
    catalog: &'a Catalog,
    source: &'a SourceId,
    meter: &'a Meter,
}

impl Reader<'_> {
    /// Reads so many bytes of a backup, from where an earlier run was; gives how many, and all that is wrong
    /// with it as far as it was read: what is `known` to be is part of it. Nothing where it was removed
    /// meanwhile.
    async fn read(
        &self,
        proven: &Proven,
        bytes: u64,
        known: &[Problem],
    ) -> Result<Option<(u64, Vec<Problem>)>> {
        let Reader { setup, repository, catalog, source, meter } = *self;
        let (id, digest) = (&proven.manifest.backup, proven.sha256);
        let begun = catalog.readings(source).await?;
        let is_of_it = |one: &Reading| one.backup == *id && one.manifest_sha256 == digest;
        let begun = begun.into_iter().find(is_of_it);
        let begun = begun.filter(|one| is_possible(one, &proven.manifest));
        let mut reading = begun.unwrap_or_else(|| Reading {
            backup: id.clone(),
            manifest_sha256: digest,
            objects: 0,
            bytes: 0,
            problems: Vec::new(),
        });
        let from = reading.bytes;
        let mut told = reading.problems.len();
        let all = |reading: &Reading| {
            let new = reading.problems.iter().filter(|problem| !known.contains(problem));
            known.iter().chain(new).cloned().collect::<Vec<_>>()
        };
        loop {
            let left = bytes.saturating_sub(reading.bytes.saturating_sub(from));
            let of = (setup.limits(), meter);
            let whole = read_on(repository, proven, &mut reading, left.min(STEP), of).await?;
            if reading.problems.len() > told && !repository.manifest_is_there(source, id).await? {
                return Ok(None);
            }
            if whole {
                catalog.end_reading(source, id).await?;
            } else {
                catalog.note_reading(source, reading.clone()).await?;
            }
            // Damage is told at once; that all is well only of the whole.
            if whole || reading.problems.len() > told {
                told = reading.problems.len();
                let notebook = Notebook::open(setup, repository).await;
                let of = (source, id, Some(digest));
                notebook.backup(of, Closeness::Stored, &all(&reading)).await;
                notebook.conclude([source]).await;
            }
            if whole || reading.bytes.saturating_sub(from) >= bytes {
                return Ok(Some((reading.bytes.saturating_sub(from), all(&reading))));
            }
        }
    }
}

/// What is read as a whole of a source: each backup that the catalog knows, and its log.
async fn readable(
    setup: &Setup,
    repository: &Repository,
    catalog: &Catalog,
    source: &SourceId,
) -> Result<Vec<Readable<Subject>>> {
    let (backups, looks) =
        (catalog.backups(Some(source)).await?, catalog.looks(Some(source)).await?);
    let readings = catalog.readings(source).await?;
    let begun: BTreeMap<&BackupId, &Reading> =
        readings.iter().map(|reading| (&reading.backup, reading)).collect();
    let oldest = backups.iter().map(|backup| backup.finished).min();
    let mut all = Vec::new();
    let mut elsewhere = 0_u64;
    for backup in &backups {
        // What another tool keeps is read with its log.
        if backup.kind.external().is_some() {
            elsewhere = elsewhere.saturating_add(backup.sealed_bytes);
            continue;
        }
        let subject = Subject::Backup(backup.backup.clone());
        let begun = begun.get(&backup.backup);
        let begun = begun.filter(|reading| reading.manifest_sha256 == backup.manifest_sha256);
        let one = since(subject, backup.sealed_bytes, (source, &looks), backup.finished);
        let done = begun.map_or(0, |reading| reading.bytes);
        all.push(Readable { done, in_parts: true, ..one });
    }
    let log = LogStore::reader(repository, source).sized().await?;
    let bytes = total(log.iter().filter_map(|(_, bytes)| *bytes)).saturating_add(elsewhere);
    if bytes > 0 {
        let there = oldest.unwrap_or_else(|| setup.clock.now());
        all.push(since(Subject::Log, bytes, (source, &looks), there));
    }
    Ok(all)
}

/// Since when it has waited to be read: since it was read, or since it is there.
fn since(
    what: Subject,
    bytes: u64,
    (source, looks): (&SourceId, &Looks),
    there: Timestamp,
) -> Readable<Subject> {
    let of = |subject: &Subject| {
        let looks = looks.get(&(source.clone(), subject.clone())).into_iter().flatten();
        let reads = looks.filter(|look| look.closeness >= Closeness::Stored);
        reads.map(|look| look.at).max()
    };
    let read = match what {
        Subject::Log => [of(&Subject::Log), of(&Subject::Stanza)].into_iter().flatten().min(),
        _ => of(&what),
    };
    let (since, was_read) = (read.unwrap_or(there), read.is_some());
    Readable { what, bytes, done: 0, in_parts: false, since, was_read }
}

/// What the other sources have to be read of, each in its time: one source is read after the other.
async fn others(
    setup: &Setup,
    catalog: &Catalog,
    source: &SourceId,
) -> Result<Vec<(u64, Duration)>> {
    let backups = catalog.backups(None).await?;
    let all = setup.config.sources.iter().filter(|(id, of)| *id != source && of.enabled);
    let all = all.filter(|(_, of)| of.policy.schedule_of(JobKind::Verify).is_some());
    let of = |id: &SourceId| {
        let backups = backups.iter().filter(|backup: &&BackupSummary| backup.source == *id);
        total(backups.map(|backup| backup.sealed_bytes))
    };
    Ok(all.map(|(id, other)| (of(id), other.policy.verify.within)).collect())
}
