//! Jobs as their own processes note them, taken into the log; and what of the log goes in time.

use drctl_model::{JobEvent, JobId, JobKind, JobNote, JobState, SourceId};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::error::Fault;
use crate::jobs::{append, begin, load};
use crate::rows::all;
use crate::schema::write;
use crate::{Catalog, CatalogError};

/// How many jobs that have ended are kept of each source and kind; of backups all are.
pub const KEPT: usize = 100;

impl Catalog {
    /// Takes in what processes note of their jobs: begins what is not known here, and ends what has
    /// not ended here. What is known already changes nothing. Of a backup whose bytes are all stored
    /// only the bucket tells how it ended.
    ///
    /// # Errors
    /// [`IllegalEvent`](CatalogError::IllegalEvent) for a note of what cannot have happened;
    /// [`Reused`](CatalogError::Reused) for an attempt to back up whose job has another name; and
    /// those of any write. Nothing is logged then.
    pub async fn note_jobs(&self, notes: &[JobNote]) -> Result<Vec<JobId>, CatalogError> {
        let (notes, hook) = (notes.to_vec(), self.hook);
        self.call(move |connection| {
            let known: Vec<_> = notes.iter().map(|note| known(connection, note)).collect();
            let known: Option<Vec<JobId>> = known.into_iter().collect::<Result<_, _>>()?;
            let news = |note: &JobNote| note.ended.is_some();
            // Nothing is new: no write lock for that.
            if let Some(known) = known.filter(|_| !notes.iter().any(news)) {
                return Ok(known);
            }
            let transaction = write(connection)?;
            let jobs: Result<_, _> = notes.iter().map(|note| take_in(&transaction, note)).collect();
            transaction.commit()?;
            hook("catalog-job-begun");
            jobs
        })
        .await
    }

    /// Ends a job whose process is gone; one that has ended meanwhile stays as it ended.
    ///
    /// # Errors
    /// As [`append`](Self::append), but for a job that has ended.
    pub async fn found_dead(&self, job: JobId, at: Timestamp) -> Result<(), CatalogError> {
        match self.append(job, at, &JobEvent::FoundDead).await {
            Err(CatalogError::IllegalEvent { source, .. }) if source.state.is_final() => Ok(()),
            done => done.map(drop),
        }
    }
}

fn known(connection: &Connection, note: &JobNote) -> Result<Option<JobId>, Fault> {
    let sql = "SELECT id FROM jobs WHERE run = ?1";
    let found = connection.query_row(sql, [note.run.to_string()], |row| row.get(0)).optional()?;
    Ok(found.map(JobId))
}

fn take_in(connection: &Connection, note: &JobNote) -> Result<JobId, Fault> {
    let job = match known(connection, note)? {
        Some(job) => job,
        None => {
            let what = (note.kind, note.source.clone(), note.backup.clone());
            begin(connection, note.started, what, Some(note.run))?
        }
    };
    if let Some((at, event)) = &note.ended
        && load(connection, job)?.job()?.state == JobState::Running
    {
        append(connection, job, *at, event)?;
    }
    if !note.kind.makes_a_backup() {
        thin_out(connection, note.kind, &note.source)?;
    }
    Ok(job)
}

/// Removes what ended before the last [`KEPT`] of one kind.
fn thin_out(connection: &Connection, kind: JobKind, source: &SourceId) -> Result<(), Fault> {
    let sql = "SELECT id FROM jobs WHERE source = ?1 AND kind = ?2 \
               AND EXISTS (SELECT 1 FROM job_events WHERE job = jobs.id AND ends = 1) \
               ORDER BY id DESC LIMIT -1 OFFSET ?3";
    let kept = i64::try_from(KEPT).unwrap_or(i64::MAX);
    let of = params![source.as_str(), kind.as_str(), kept];
    let old: Vec<i64> = all(connection, sql, of, |row| Ok(row.get(0)?))?;
    for id in old {
        connection.execute("DELETE FROM job_events WHERE job = ?1", [id])?;
        connection.execute("DELETE FROM jobs WHERE id = ?1", [id])?;
    }
    Ok(())
}
