//! One attempt to have pgBackRest back a cluster up, and to record that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result};
use drctl_catalog::Catalog;
use drctl_engines::backrest::{BackRest, BackedUp as Made, BackupStep, Info};
use drctl_engines::pg::physical::cluster_needs;
use drctl_engines::pg::{Copied, ServerError, cluster_place, outside};
use drctl_model::{
    BackupId, BackupSummary, ExternalType, Facts, JobEvent, JobId, JobState, Origin, Outside,
};
use drctl_policies::{Pgbackrest, Source};

use super::Synced;
use super::choose::{Reasons, choose};
use super::histories::keep_history;
use super::record::{Aside, Recorder, is_ours};
use super::sync::sync;
use crate::backup::plausible::shrunk;
use crate::backup::{BackedUp, Order};
use crate::engine::pg::{NEEDS_PATIENCE, OUTSIDE_PATIENCE};
use crate::host::{AgentError, Failure, Meter, Setup, crash_point};
use crate::jobs::settle::{Unsettled, record_failure, settle, unless_kept};
use crate::repository::{Memory, dated};

/// How long another pgBackRest that works on the stanza is waited for, where the policy says
/// nothing of how long a backup may take.
const BUSY_PATIENCE: Duration = Duration::from_secs(3_600);

/// What is fixed before pgBackRest is started.
struct Attempt<'a> {
    setup: &'a Setup,
    source: &'a Source,
    recorder: Recorder<'a>,
    engine: BackRest,
    id: BackupId,
    made: ExternalType,
    meter: &'a Meter,
    /// The server's version, where it could be asked.
    server_version: Option<String>,
    /// Whether the record may be in the bucket.
    recording: bool,
}

/// What is left of a backup without a record.
const UNRECORDED: &str = "pgBackRest has made the backup, and it is not recorded yet: the next \
                          `drctl backup` or `drctl stanza adopt` does that";

/// Takes a backup and records it; the source's lock is held by the caller.
///
/// # Errors
/// Whatever kept it from being a backup that is recorded. What pgBackRest has made stays in its
/// repository then, and the next attempt records it.
pub(super) async fn back_up(order: Order<'_>, settings: &Pgbackrest) -> Result<BackedUp> {
    let Order { setup, job: open, source, requested, meter, stop, .. } = order;
    let (source_id, started) = (open.source, open.started);
    meter.label("looking into pgBackRest's repository");
    let preparing = async {
        let repository = setup.repository().await?;
        repository.may_write().await?;
        let (catalog, job) = open.on_record(&repository).await?;
        let engine = super::engine(setup, settings)?;
        let info = engine.info().await?;
        Ok::<_, anyhow::Error>((repository, catalog, job, engine, info))
    };
    let (repository, catalog, job, mut engine, info) = tokio::select! {
        prepared = preparing => prepared?,
        () = stop.requested() => return Err(AgentError::Interrupted.into()),
    };
    let mut recorder = Recorder::new(setup, &repository, source_id, settings)?;
    let (server_version, account) = ask_server(setup, source, &mut recorder).await?.unzip();
    engine.require_peer = account.flatten().or(engine.require_peer);
    let server = setup.server(source)?;
    let looking = async {
        let lost = super::incident(&engine, &info, &server);
        let (synced, lost) = tokio::join!(catch_up(&recorder, &catalog, &info, &open.id), lost);
        Ok::<_, anyhow::Error>((synced?, lost))
    };
    let (synced, incident) = tokio::select! {
        looked = looking => looked?,
        () = stop.requested() => return Err(AgentError::Interrupted.into()),
    };
    let mut known = catalog.backups(Some(source_id)).await?;
    Memory::of(&catalog, Some(source_id)).await?.mark(&mut known);
    let suspect = suspects(&recorder, &known);
    let incident = incident.as_deref();
    let reasons = Reasons { requested, suspect: &suspect, incident, now: started };
    let (made, why) = choose(&info, settings, &reasons);
    let mut notes: Vec<String> = why.into_iter().collect();
    notes.extend(told(&synced));
    let id = open.id.clone();
    let recording = false;
    let mut attempt =
        Attempt { setup, source, recorder, engine, id, made, meter, server_version, recording };
    let mut said = Vec::new();
    let done = tokio::select! {
        done = attempt.run(&catalog, &known, info, job, &mut said) => done,
        () = stop.requested() => Err(AgentError::Interrupted.into()),
    };
    let summary = match done {
        Ok(summary) => summary,
        Err(error) if attempt.recording => {
            attempt.unsettled(&catalog, job).look_again(error).await?
        }
        Err(error) => {
            record_failure(setup, &catalog, job, &error).await;
            return Err(error);
        }
    };
    notes.append(&mut said);
    notes.extend(keep_history(&attempt.recorder, source, &attempt.engine, &summary).await);
    notes.extend(attempt.expire(&catalog, patience(source)).await);
    Ok(BackedUp { summary, notes })
}

/// How long another pgBackRest is waited for.
fn patience(source: &Source) -> Duration {
    source.policy.objectives.max_duration.unwrap_or(BUSY_PATIENCE)
}

/// Asks the server for what `info` does not tell, its version first; and which account it runs as. It
/// matters for a few only: one that cannot be reached is told of by pgBackRest.
///
/// # Errors
/// [`ServerError::Stranger`]: pgBackRest would believe it.
pub(super) async fn ask_server(
    setup: &Setup,
    source: &Source,
    recorder: &mut Recorder<'_>,
) -> Result<Option<(String, Option<String>)>> {
    let Ok(server) = setup.server(source) else { return Ok(None) };
    let place = match cluster_place(&server, "drctl/backrest").await {
        Ok(place) => place,
        Err(error) if matches!(error.own(), Some(ServerError::Stranger { .. })) => {
            return Err(error.into());
        }
        Err(error) => {
            tracing::warn!("the server was not asked: {error}");
            return Ok(None);
        }
    };
    recorder.server = Some((place.system_id, place.segment_size));
    Ok(Some((place.version, place.account)))
}

/// Records what is there and tells the truth about jobs whose process is gone.
async fn catch_up(
    recorder: &Recorder<'_>,
    catalog: &Catalog,
    info: &Info,
    own: &BackupId,
) -> Result<Synced> {
    let synced = sync(recorder, catalog, info).await?;
    // A backup that outlived the process that asked for it has its record by now.
    for job in catalog.unfinished_jobs().await? {
        if job.source != *recorder.source || job.state != JobState::Running {
            continue;
        }
        let Some(id) = &job.backup else { continue };
        if let Some(backup) = catalog.backup(recorder.source, id).await? {
            let stored = JobEvent::Stored { plain_bytes: backup.plain_bytes };
            catalog.append(job.id, recorder.setup.clock.now(), &stored).await?;
        }
    }
    settle(recorder.setup, recorder.repository, catalog, (recorder.source, own)).await?;
    Ok(synced)
}

/// Labels that are recorded as suspect.
fn suspects(recorder: &Recorder<'_>, known: &[BackupSummary]) -> BTreeSet<String> {
    let suspect = known.iter().filter(|backup| !backup.is_good());
    let ours = suspect.filter_map(|backup| backup.kind.external());
    ours.filter(|it| is_ours(recorder.config, it)).map(|external| external.label.clone()).collect()
}

/// What of it the operator should know.
fn told(synced: &Synced) -> Vec<String> {
    let mut notes = Vec::new();
    if let [first, ..] = synced.recorded.as_slice() {
        let (count, first) = (synced.recorded.len(), &first.backup);
        notes.push(format!("{count} backup(s) made elsewhere were recorded, the first is {first}"));
    }
    let refused = synced.refused.iter();
    notes.extend(refused.map(|(label, why)| format!("{label} cannot be recorded: {why}")));
    notes
}

/// What pgBackRest warned of, each with its hints.
fn warned(lines: &[String]) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    for line in lines.iter().map(|line| line.trim()) {
        match (line.strip_prefix("WARN: "), notes.last_mut()) {
            (None, Some(last)) => {
                last.push_str("; ");
                last.push_str(line);
            }
            (text, _) => notes.push(format!("pgBackRest warns: {}", text.unwrap_or(line))),
        }
    }
    notes
}

impl Attempt<'_> {
    fn unsettled<'a>(&'a self, catalog: &'a Catalog, job: JobId) -> Unsettled<'a> {
        let (Recorder { setup, repository, source, .. }, backup) = (&self.recorder, &self.id);
        let (word, left) = ("recorded", Some(UNRECORDED));
        Unsettled { setup, repository, catalog, source, backup, job, word, left }
    }

    async fn run(
        &mut self,
        catalog: &Catalog,
        known: &[BackupSummary],
        mut info: Info,
        job: JobId,
        notes: &mut Vec<String>,
    ) -> Result<BackupSummary> {
        self.meter.label(format!("pgBackRest makes a {} backup", self.made.as_str()));
        let annotation = self.id.to_string();
        let expected = info.backups.last().map_or(0, |before| before.bytes);
        let making = self.engine.back_up(self.made, &annotation, patience(self.source), |step| {
            self.show(step, expected);
        });
        let needs = async {
            let server = self.setup.server(self.source).ok()?;
            let name = format!("drctl/{}", self.id);
            let needs = cluster_needs(&server, &name, NEEDS_PATIENCE).await;
            Some((needs, outside(&server, &name, Copied::Cluster, OUTSIDE_PATIENCE).await))
        };
        let (made, needs) = tokio::join!(making, needs);
        let Made { backup, cluster, cipher, warnings } = made?;
        crash_point("backup-stream-stored");
        self.meter.label("recording it");
        notes.append(&mut warned(&warnings));
        let (needs, outside) = needs.unzip();
        notes.extend(outside.iter().flat_map(Outside::notes));
        info.cipher = cipher;
        info.clusters.retain(|other| other.id != cluster.id);
        info.clusters.push(cluster);
        info.backups.push(backup);
        let backup = info.backups.last().context("there is one now")?;
        let stored = JobEvent::Stored { plain_bytes: backup.bytes };
        unless_kept(catalog.append(job, self.setup.clock.now(), &stored).await);
        crash_point("backup-before-manifest");
        let is_like = |before: &BackupSummary| before.is_good() && before.kind.external().is_some();
        let known = dated(known, self.setup.clock.now(), is_like);
        let aside = Aside {
            facts: Facts { cluster: needs, outside, ..Facts::default() },
            tools: self.versions(),
            suspect: shrunk(backup.bytes, known.iter().find(|before| is_like(before)))
                .into_iter()
                .collect(),
        };
        self.recording = true;
        let recorded = self.recorder.record(&info, backup, &self.id, aside, Origin::Drctl).await?;
        let now = self.setup.clock.now();
        catalog.commit_backup(job, now, &recorded).await.with_context(|| {
            format!("the backup {} is recorded in the bucket, but not in the catalog", self.id)
        })?;
        Ok(recorded)
    }

    /// Shows how far pgBackRest has come; `expected` bytes are what there was the last time.
    fn show(&self, step: BackupStep, expected: u64) {
        match step {
            BackupStep::Busy(_) => self.meter.label("waiting for another pgBackRest to end"),
            BackupStep::Begun => self.meter.label("waiting for the server's checkpoint"),
            BackupStep::Copied(part) => {
                self.meter.label(format!("pgBackRest makes a {} backup", self.made.as_str()));
                if self.meter.read().expected != expected {
                    self.meter.begin(expected);
                }
                self.meter.at(expected / 10_000 * u64::from(part));
            }
            BackupStep::Archiving => self.meter.label("waiting for the WAL that it needs"),
        }
    }

    fn versions(&self) -> BTreeMap<String, String> {
        let server = self.server_version.clone().map(|version| ("server".to_owned(), version));
        server.into_iter().collect()
    }

    /// Lets pgBackRest expire what its own retention says. The backup is good whatever comes of
    /// it: what goes wrong is told.
    async fn expire(&self, catalog: &Catalog, wait: Duration) -> Vec<String> {
        self.meter.label("letting pgBackRest expire");
        let expired = async {
            self.engine.expire(wait).await?;
            let info = self.engine.info().await?;
            sync(&self.recorder, catalog, &info).await
        };
        match expired.await {
            Ok(followed) => followed.unknown.map(|why| format!("what expired is not known: {why}")),
            Err(error) => {
                let why = Failure::of(&error).messages.join(": ");
                Some(format!("pgBackRest did not expire old backups; this one is good: {why}"))
            }
        }
        .into_iter()
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_stays_with_its_warning() {
        let lines = ["WARN: a is not set", "      HINT: set a.", "WARN: b"].map(str::to_owned);
        let expected = ["pgBackRest warns: a is not set; HINT: set a.", "pgBackRest warns: b"];
        assert_eq!(warned(&lines), expected);
        assert!(warned(&[]).is_empty());
    }
}
