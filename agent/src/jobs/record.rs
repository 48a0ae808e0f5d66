//! The record of jobs of this process, from before anything is asked of the bucket to how they ended. A
//! catalog that cannot be written keeps nobody waiting: what it does not take is noted beside it, and
//! taken in by whoever works next.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use drctl_catalog::Catalog;
use drctl_model::{BackupId, JobEvent, JobId, JobKind, JobNote, RunId, SourceId};
use jiff::Timestamp;
use tracing::Span;
use tracing::field::display;

use super::run_file::{self, RunFile};
use crate::host::{AgentError, Failure, Setup, crash_point};

/// For how long somebody else may have the catalog, at the beginning of a job and at its end.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// What a job of one kind does for each of some sources.
pub(crate) struct Record<'a> {
    setup: &'a Setup,
    jobs: Vec<(JobNote, Option<RunFile>)>,
}

impl<'a> Record<'a> {
    /// Begins a job for each source. Where it cannot be recorded, that is tried once more at its end.
    pub(super) async fn begin(
        setup: &'a Setup,
        (kind, started): (JobKind, Timestamp),
        sources: impl IntoIterator<Item = (SourceId, Option<BackupId>)>,
    ) -> Self {
        let state = usable(setup, kind);
        let job = |(source, backup)| {
            let run = RunId(rand::random());
            let mut note = JobNote { run, kind, source, backup, started, ended: None };
            let file = state.and_then(|state| match RunFile::begin(state, &mut note) {
                Ok(file) => Some(file),
                Err(error) => {
                    tracing::debug!("the job has no file: {error:#}");
                    None
                }
            });
            (note, file)
        };
        let record = Record { setup, jobs: sources.into_iter().map(job).collect() };
        if let [(note, _)] = record.jobs.as_slice() {
            // Records of what an agent does say of which run they are.
            let _ = Span::current().record("run", display(note.run));
        }
        // Of one without a file nobody could tell whether it lives; of backups the source's lock does.
        let is_known = |(note, file): &(JobNote, Option<RunFile>)| {
            file.is_some() || note.kind.makes_a_backup()
        };
        if !record.jobs.is_empty() && record.jobs.iter().all(is_known) {
            let begun = record.keep().await;
            if let Err(error) = begun {
                tracing::debug!("the job is not recorded yet: {error:#}");
            }
        }
        record
    }

    /// Their numbers in a catalog, which is told of them where it does not know them.
    pub(super) async fn recorded(&self, catalog: &Catalog) -> Result<Vec<JobId>> {
        let notes: Vec<JobNote> = self.jobs.iter().map(|(note, _)| note.clone()).collect();
        catalog.note_jobs(&notes).await.context("record the job")
    }

    /// Ends each as it is told of its source. A record that tells already what became of it stays.
    pub(super) async fn end(mut self, ended: impl Fn(&SourceId) -> JobEvent) -> Result<()> {
        let now = self.setup.clock.now();
        for (note, _) in &mut self.jobs {
            note.ended = Some((now, ended(&note.source)));
        }
        if self.jobs.is_empty() {
            return Ok(());
        }
        let kept = self.keep().await;
        if kept.is_ok() {
            self.done();
            return kept;
        }
        let beside: Vec<bool> = self
            .jobs
            .iter_mut()
            .map(|(note, file)| file.as_mut().is_some_and(|file| file.write(note).is_ok()))
            .collect();
        if beside.iter().all(|noted| *noted) { Ok(()) } else { kept }
    }

    /// Nothing is left to say of them: the catalog tells all.
    pub(super) fn done(self) {
        for file in self.jobs.into_iter().filter_map(|(_, file)| file) {
            file.remove();
        }
    }

    /// Tells the catalog of them, and first of what others have left. It is opened without its
    /// repository, which may be what fails: a new one learns later what that holds.
    async fn keep(&self) -> Result<()> {
        let Some((first, _)) = self.jobs.first() else { return Ok(()) };
        usable(self.setup, first.kind).context("the state directory is not for this account")?;
        let catalog = Catalog::open_within(&self.setup.catalog_path(), PATIENCE).await;
        let catalog = catalog.context("open the catalog")?.with_hook(crash_point);
        // First what was left: the record's numbers are in the order in which jobs began, and only of
        // several that were left do their dates tell it.
        let state = &self.setup.config.paths.state_dir;
        let taken_in = take_in(state, &catalog, self.setup.clock.now(), first).await;
        self.recorded(&catalog).await?;
        taken_in.context("take in what earlier jobs have left")
    }
}

/// The state directory, where a job of this kind may write into it: what root writes there the account
/// of another could not use, and who only looks or restores makes none.
fn usable(setup: &Setup, kind: JobKind) -> Option<&Path> {
    let state = setup.config.paths.state_dir.as_path();
    let makes = matches!(kind, JobKind::Backup | JobKind::LogStream);
    let may = (makes || state.is_dir()) && setup.private_directory(state).is_ok();
    may.then_some(state)
}

/// Takes in what processes have noted that are gone, and ends what they have left open. Of a backup
/// only the bucket tells how it ended: the next one of its source asks.
async fn take_in(state: &Path, catalog: &Catalog, now: Timestamp, ours: &JobNote) -> Result<()> {
    let died = |kind: JobKind, source: &SourceId| {
        if (kind, source) == (ours.kind, &ours.source) {
            tracing::warn!("an earlier {} of {source} died", kind.words());
        }
    };
    let mut all = run_file::left(state);
    all.sort_by_key(|left| left.note.as_ref().map(|note| note.started));
    for left in all {
        if let Some(mut note) = left.note.clone() {
            if note.ended.is_none() && !note.kind.makes_a_backup() {
                died(note.kind, &note.source);
                note.ended = Some((now, JobEvent::FoundDead));
            }
            match catalog.note_jobs(&[note]).await {
                // Nothing that could have happened: no catalog ever takes it.
                Err(error)
                    if ["catalog_illegal_event", "catalog_backup_reused"]
                        .contains(&error.code()) =>
                {
                    tracing::debug!("what a job noted is passed over: {error}");
                }
                noted => drop(noted?),
            }
        }
        left.remove();
    }
    for job in catalog.unfinished_jobs().await? {
        let dead = job.run.is_some_and(|run| !run_file::lives(state, run));
        if dead && !job.kind.makes_a_backup() {
            died(job.kind, &job.source);
            catalog.found_dead(job.id, now).await?;
        }
    }
    Ok(())
}

/// How a job ends that failed.
pub(crate) fn failure(error: &anyhow::Error) -> JobEvent {
    match error.downcast_ref() {
        Some(AgentError::Interrupted) => JobEvent::Cancelled,
        _ => {
            let failure = Failure::of(error);
            JobEvent::Failed { code: failure.code.to_owned(), message: failure.messages.join(": ") }
        }
    }
}
