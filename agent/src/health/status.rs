//! Where every source stands, and what to do next.

mod dead;
mod findings;
mod health;
mod jobs;
mod judge;
mod kept;
mod no_log;
mod promises;
mod stock;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use drctl_catalog::{Catalog, CatalogError, Lost, Subject};
use drctl_engines::backrest::Info;
use drctl_model::{BackupId, BackupSummary, Fault, SourceId, Verification, newest, shown};
use drctl_policies::Source;
use drctl_policies::recovery::{RecoverableUntil, Want};
use drctl_policies::watch::JOB_LATE;
use drctl_store::{Alarm, layout};
use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, timeout_at};

use crate::engine;
use crate::engine::pg::another_cluster::{self, Change};
use crate::engine::pgbackrest::{StanzaArchive, StanzaView, mark_now};
use crate::host::locks::is_held;
use crate::host::{Failure, Setup, unwritable};
use crate::jobs::{latest, set_back};
use crate::prune::Reasons;
use crate::repository::accept::is_accepted;
use crate::repository::chain::Family;
use crate::repository::drills::{NewestDrill, newest_in_doubt};
use crate::repository::findings::refused;
use crate::repository::inventory::not_counted;
use crate::repository::losses::look_for_losses;
use crate::repository::memory::{CONTRADICTS, is_of_drill};
use crate::repository::statements::statements;
use crate::repository::{Memory, Repository, dated, horizon, words};
use crate::restore::known::{Beside, LogState, log_state};

use dead::{late, within};
pub use findings::Judged;
pub use health::Health;
pub use judge::{Amiss, Bad, LogStatus, SourceStatus};
use stock::Stock;

/// Where every configured source stands: from the catalog, but for the bucket's marker, and the log
/// of clusters, which is looked for in the bucket.
///
/// # Errors
/// [`CatalogError`](drctl_catalog::CatalogError). A bucket that cannot be read is told of every
/// source.
pub async fn status(setup: &Setup, catalog: &Catalog) -> Result<Vec<SourceStatus>> {
    let now = setup.clock.now();
    let said = within(Some(Instant::now() + setup.patience()), mark_now(setup)).await;
    let mut said = said.unwrap_or_default();
    let mut all = Vec::new();
    for (id, source) in &setup.config.sources {
        all.push(one(setup, catalog, id, source, now).await?);
    }
    let unkept = unwritable(&setup.config.paths.state_dir);
    all.iter_mut().for_each(|status| status.unkept.clone_from(&unkept));
    if all.is_empty() {
        return Ok(all);
    }
    let deadline = Instant::now() + setup.patience();
    let opened = timeout_at(deadline, setup.repository()).await.unwrap_or_else(|_| Err(late()));
    if let Ok(repository) = &opened {
        dead::settle((setup, repository, catalog), &mut all, deadline).await;
    }
    if let Err(error) = &opened {
        all.iter_mut().for_each(|status| status.unreadable = Some(why(error)));
    }
    if opened.as_ref().is_ok_and(|repository| repository.lost_marker) {
        all.iter_mut().for_each(|status| status.marker_lost = true);
    }
    let newer = opened.as_ref().ok().and_then(|repository| repository.newer_marker.clone());
    all.iter_mut().for_each(|status| status.marker_newer.clone_from(&newer));
    // Where it cannot be read no look goes there.
    let deadline = opened.is_ok().then_some(deadline);
    for status in &mut all {
        let looking = note_losses(setup, opened.as_ref(), catalog, status);
        if within(deadline, looking).await.is_none() {
            status.unreadable = Some(why(&late()));
            status.vanished = catalog.lost(Some(&status.source)).await.unwrap_or_default();
        }
    }
    for status in &mut all {
        stock::take(catalog, status, now).await?;
        if let Ok(repository) = &opened {
            let _ = within(deadline, settle_change(repository, status)).await;
        }
    }
    if all.iter().any(SourceStatus::is_cluster) {
        let cache = match &opened {
            Ok(repository) => setup.log_cache(repository).await,
            Err(_) => None,
        };
        for status in all.iter_mut().filter(|status| status.is_cluster()) {
            let said = said.remove(&status.source);
            let looking = look((setup, said), opened.as_ref(), catalog, cache.as_ref(), status);
            if within(deadline, looking).await.is_none() {
                status.log = Some(Err(why(&late())));
            }
        }
    }
    if let Ok(repository) = &opened {
        kept::note((setup, repository, catalog), &mut all, deadline).await;
        let alarms = repository.alarms();
        for status in &mut all {
            let of_it = |alarm: &&Alarm| concerns(alarm, &status.source);
            status.alarms = alarms.iter().filter(of_it).cloned().collect();
        }
    }
    no_log::note(setup, catalog, &mut all).await?;
    note(setup, opened.ok().as_ref(), &mut all).await;
    Ok(all)
}

/// Keeps what was found, so that it is known since when; where that cannot be, it is told all the
/// same.
async fn note(setup: &Setup, repository: Option<&Repository>, all: &mut [SourceStatus]) {
    let mut catalog = setup.writable_catalog().await;
    if let (Some(writable), Some(repository)) = (&catalog, repository) {
        let owner = writable.repository().await.ok().flatten();
        catalog = catalog.filter(|_| owner.as_ref() == Some(&repository.id));
    }
    let now = setup.clock.now();
    for status in all {
        let checked = status.checked();
        let kept = match &catalog {
            Some(catalog) => catalog.note_findings(&status.source, now, checked.clone()).await,
            None => Err(CatalogError::Stopped),
        };
        let kept = kept.inspect_err(|error| tracing::debug!("findings are not kept: {error}"));
        status.noted(&checked, kept.is_ok().then_some(now));
    }
}

/// Whether an object is a source's, or all sources'.
pub(crate) fn concerns(alarm: &Alarm, source: &SourceId) -> bool {
    let (all, its_own) =
        (layout::sources().to_string(), layout::sources().join(source.as_str()).to_string());
    match alarm.key.strip_prefix(&all) {
        Some(_) => alarm.key.strip_prefix(&its_own).is_some_and(|rest| rest.starts_with('/')),
        None => true,
    }
}

/// What was there and is gone; what is remembered of that, where the bucket cannot be read. And what is
/// there and does not count.
async fn note_losses(
    setup: &Setup,
    opened: Result<&Repository, &anyhow::Error>,
    catalog: &Catalog,
    status: &mut SourceStatus,
) {
    let source = &status.source;
    if let Ok(repository) = opened {
        let looked = async {
            let gone = look_for_losses(setup, repository, catalog, source).await?;
            let known = catalog.backups(Some(source)).await?;
            let good = status.newest_good.as_ref().map(|good| good.backup.clone());
            let said = statements(repository, source).await?;
            let counted = not_counted(repository, source, &known).await?;
            let drill = newest_in_doubt(repository, source, setup.clock.now()).await?;
            Ok::<_, anyhow::Error>((gone, counted, good, (said, drill)))
        };
        match looked.await {
            Ok((gone, (refused, newer), good, (said, drill))) => {
                status.vanished = gone;
                let frozen = said.frozen().into_iter();
                status.frozen = frozen.map(|(text, said)| (text, said.at)).collect();
                status.said_in_doubt = said.doubts();
                status.drill = drill;
                let is_newer = |id: &BackupId| good.as_ref().is_none_or(|good| id > good);
                let refused = refused.into_iter().map(|(_, id, why)| (id, why));
                (status.refused, status.refused_older) = refused.partition(|(id, _)| is_newer(id));
                let newer = newer.into_iter().map(|((_, id), why)| (id, why));
                let newer = newer.filter(|(id, _)| is_newer(id));
                status.newer_backups = newer.collect();
                return;
            }
            Err(error) => status.unreadable = Some(why(&error)),
        }
    }
    status.vanished = catalog.lost(Some(source)).await.unwrap_or_default();
}

/// That the cluster is another one is settled where somebody said so on another host, or before this
/// catalog was made. A bucket that does not tell settles nothing.
async fn settle_change(repository: &Repository, status: &mut SourceStatus) {
    let Some(change) = &status.changed else { return };
    let accepted = is_accepted(repository, &status.source, &change.of_new).await;
    if accepted.inspect_err(|error| tracing::debug!("{error:#}")).unwrap_or(false) {
        status.changed = None;
    }
}

/// Looks at a cluster's log, and at what pgBackRest keeps of it.
async fn look(
    (setup, said): (&Setup, Option<Info>),
    opened: Result<&Repository, &anyhow::Error>,
    catalog: &Catalog,
    cache: Option<&Catalog>,
    status: &mut SourceStatus,
) {
    let source = &status.source;
    // What is lost is known, whatever else may be not.
    let seen = StanzaView::with_server(setup, source.as_str(), said).await;
    let seen = seen
        .and_then(|seen| seen.map(|seen| Ok((seen.truth()?.incident, Arc::new(seen)))).transpose());
    let (lost, stanza) = match seen {
        Ok(seen) => seen.unzip(),
        Err(error) => {
            status.log = Some(Err(why(&error)));
            return;
        }
    };
    let looking = async {
        let repository = opened.map_err(why)?;
        let archive = stanza.map(|seen| StanzaArchive::new(setup, source, seen)).transpose();
        let archive = archive.map_err(|error| why(&error))?;
        let beside = archive.map(|archive| Beside { archive, want: Want::Last });
        let state = log_state(repository, source, catalog, cache, beside).await;
        state.map_err(|error| why(&error))
    };
    let aged = |recoverable_until: RecoverableUntil| {
        let age = setup.clock.now().duration_since(recoverable_until.shows);
        LogStatus { recoverable_until, age }
    };
    status.log = match looking.await {
        Ok(LogState { recoverable_until, refused, newer }) => {
            (status.disbelieved, status.newer) = (refused, newer);
            recoverable_until.map(|recoverable_until| Ok(aged(recoverable_until)))
        }
        Err(why) => Some(Err(why)),
    };
    status.lost = lost.flatten();
    // What is missing of the log is noted while it is looked at.
    if let Ok(lost) = catalog.lost(Some(source)).await {
        let is_new = |lost: &Lost| status.vanished.iter().all(|known| known.key != lost.key);
        let new: Vec<Lost> = lost.into_iter().filter(is_new).collect();
        status.vanished.extend(new);
    }
}

fn why(error: &anyhow::Error) -> String {
    shown(&Failure::of(error).messages.join(": "), 500)
}

async fn one(
    setup: &Setup,
    catalog: &Catalog,
    id: &SourceId,
    source: &Source,
    now: Timestamp,
) -> Result<SourceStatus> {
    let horizon = horizon(now);
    let known = catalog.newest_good_by(id, horizon).await?;
    let age = known.as_ref().map(|good| now.duration_since(good.taken()));
    let newest_good = if known.is_some() { known } else { catalog.newest_good(id).await? };
    let all = catalog.backups(Some(id)).await?;
    let is_future = |one: &&BackupSummary| one.is_good() && one.taken() > horizon;
    let newest = newest_of(&all, horizon);
    let broken = newest.as_ref().and_then(|newest| Family::of(&all).broken(newest));
    let promises = &source.policy.objectives;
    let schedule = source.policy.schedule.as_ref().filter(|_| source.enabled);
    let (last_job, jobs) = latest(setup, catalog, id).await?;
    let set_back = set_back(catalog, &all, (last_job.as_ref(), newest.as_ref())).await?;
    let begun = all.iter().map(|one| one.started).chain(last_job.as_ref().map(|job| job.started));
    let begun = begun.filter(|begun| *begun <= horizon).max();
    let unfinished = last_job.as_ref().is_some_and(|job| !job.state.is_final());
    let running = unfinished.then(|| is_held(&setup.config.paths, id)).flatten();
    let memory = Memory::of(catalog, Some(id)).await?;
    let bad = told(&memory, id, newest_good.as_ref().map(|good| good.started));
    let met = catalog.findings(Some(id)).await?;
    Ok(SourceStatus {
        source: id.clone(),
        newest_good,
        lost_good: None,
        bad,
        suspect: newest.filter(|backup| !backup.is_good()).or(set_back),
        alarms: Vec::new(),
        unreadable: None,
        marker_lost: false,
        marker_newer: None,
        frozen: Vec::new(),
        kept: Reasons::default(),
        prunes: source.enabled && source.policy.prune.schedule.is_some(),
        no_log: None,
        said_in_doubt: Vec::new(),
        drill: NewestDrill::default(),
        disbelieved: Vec::new(),
        refused: Vec::new(),
        refused_older: Vec::new(),
        newer_backups: Vec::new(),
        newer: Vec::new(),
        broken,
        changed: changed(id, &all, now),
        age,
        future: all.iter().find(is_future).map(|one| one.backup.clone()),
        rpo: promised(promises.rpo),
        rto: promised(promises.rto),
        max_duration: promised(promises.max_duration),
        last_job,
        jobs,
        running,
        overdue: begun.and_then(|begun| overdue(source, begun, now)),
        next: schedule.and_then(|schedule| schedule.next_after(now)),
        log: None,
        vanished: Vec::new(),
        refusals: refused(&met),
        met,
        forgotten: setup.forgotten(catalog),
        unkept: None,
        lost: None,
        gone: engine::of(source).gone(setup, id),
        stock: Stock::default(),
    })
}

/// The newest one that is not dated in the future, unless all are.
fn newest_of(all: &[BackupSummary], horizon: Timestamp) -> Option<BackupSummary> {
    let dated = newest(all.iter().filter(|one| one.taken() <= horizon));
    dated.or_else(|| newest(all.iter())).cloned()
}

/// A time that is promised, to be compared with others.
fn promised(time: Option<Duration>) -> Option<SignedDuration> {
    SignedDuration::try_from(time?).ok()
}

/// That the newest backups are of another cluster than those before. Which clock is wrong nobody knows: neither
/// look may hide what the other finds.
fn changed(source: &SourceId, all: &[BackupSummary], now: Timestamp) -> Option<Change> {
    another_cluster::change(source, &dated(all, now, another_cluster::has_cluster))
        .or_else(|| another_cluster::change(source, all))
}

/// When a run was due that nobody has begun, of a schedule whose last run is known.
fn overdue(source: &Source, begun: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let (due, begins) = source.policy.due_after(begun).filter(|_| source.enabled)?;
    let late = begins.checked_add(JOB_LATE).is_ok_and(|late| late < now);
    late.then_some(due)
}

/// What earlier looks found wrong: indexes that contradict the log, however many backups there were
/// since; newest backups first, then the log and what pgBackRest keeps, which needs no doing once a
/// good backup was begun after that look.
fn told(memory: &Memory, source: &SourceId, anew: Option<Timestamp>) -> Vec<Bad> {
    let mut found = memory.all_bad(source);
    let is_lie = |fault: &Fault| fault.code == CONTRADICTS;
    let lie = |(at, fault): (Timestamp, &Fault)| Bad {
        amiss: Amiss::Index,
        subject: "log".to_owned(),
        text: format!("a check at {at:.0} found that {}", shown(&fault.message, 400)),
        at,
    };
    let all = found.iter().flat_map(|(_, look)| look.problems.iter().map(|one| (look.at, one)));
    let lies: Vec<Bad> = all.filter(|(_, fault)| is_lie(fault)).map(lie).collect();
    found.retain(|(subject, found)| match subject {
        Subject::Backup(_) => true,
        Subject::Log | Subject::Stanza => {
            anew.is_none_or(|anew| anew < found.at) && !found.problems.iter().all(is_lie)
        }
    });
    found.sort_by(|(one, _), (other, _)| match (one, other) {
        (Subject::Backup(one), Subject::Backup(other)) => other.cmp(one),
        _ => one.cmp(other),
    });
    let text = |(subject, found): (&Subject, &Verification)| match subject {
        Subject::Backup(id) => format!("{id}: {}", words(found)),
        Subject::Log => format!("the WAL: {}", words(found)),
        Subject::Stanza => format!("what pgBackRest keeps: {}", words(found)),
    };
    let bad = |(subject, found): (&Subject, &Verification)| Bad {
        amiss: if is_of_drill(found) { Amiss::Drill } else { Amiss::Data },
        subject: subject.to_string(),
        text: text((subject, found)),
        at: found.at,
    };
    lies.into_iter().chain(found.into_iter().map(bad)).collect()
}
