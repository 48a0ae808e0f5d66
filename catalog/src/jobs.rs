use drctl_model::{
    BackupId, BackupSummary, Illegal, Job, JobEvent, JobId, JobKind, JobState, RunId, SourceId,
};
use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, params};

use crate::backups::{self, Before};
use crate::error::Fault;
use crate::rows::{all, bad_json, optional, parsed, time};
use crate::schema::write;
use crate::{Catalog, CatalogError};

impl Catalog {
    /// Logs that a job begins: of a backup under the identifier of its attempt, of any other kind
    /// without one. The log knows it durably when this returns.
    ///
    /// # Errors
    /// [`Reused`](CatalogError::Reused) when the attempt already has a job;
    /// [`IllegalEvent`](CatalogError::IllegalEvent) for a backup without an identifier, or anything else
    /// with one; and those of any write.
    pub async fn begin_job(
        &self,
        at: Timestamp,
        kind: JobKind,
        source: &SourceId,
        backup: Option<&BackupId>,
    ) -> Result<JobId, CatalogError> {
        let (source, backup, hook) = (source.clone(), backup.cloned(), self.hook);
        self.call(move |connection| {
            let transaction = write(connection)?;
            let job = begin(&transaction, at, (kind, source, backup), None)?;
            transaction.commit()?;
            hook("catalog-job-begun");
            Ok(job)
        })
        .await
    }

    /// Logs an event of a job and answers the job's new state.
    ///
    /// What makes a backup count has a verb that also puts its row:
    /// [`commit_backup`](Self::commit_backup), [`found_committed`](Self::found_committed).
    ///
    /// # Errors
    /// [`IllegalEvent`](CatalogError::IllegalEvent), [`UnknownJob`](CatalogError::UnknownJob); and
    /// those of any write. Nothing is logged then.
    pub async fn append(
        &self,
        job: JobId,
        at: Timestamp,
        event: &JobEvent,
    ) -> Result<JobState, CatalogError> {
        let event = event.clone();
        self.call(move |connection| {
            let transaction = write(connection)?;
            let (_, state) = append(&transaction, job, at, &event)?;
            transaction.commit()?;
            Ok(state)
        })
        .await
    }

    /// Puts the row of a backup and ends its job as committed, both or neither.
    ///
    /// # Errors
    /// [`JobMismatch`](CatalogError::JobMismatch) when the job is that of another attempt,
    /// [`Conflict`](CatalogError::Conflict) when the backup is known with another manifest; and as
    /// [`append`](Self::append).
    pub async fn commit_backup(
        &self,
        job: JobId,
        at: Timestamp,
        backup: &BackupSummary,
    ) -> Result<(), CatalogError> {
        let event = JobEvent::Committed { manifest_sha256: backup.manifest_sha256 };
        self.commit(job, at, event, backup).await
    }

    /// As [`commit_backup`](Self::commit_backup), of a backup whose process died after its
    /// manifest was written.
    ///
    /// # Errors
    /// As [`commit_backup`](Self::commit_backup).
    pub async fn found_committed(
        &self,
        job: JobId,
        at: Timestamp,
        backup: &BackupSummary,
    ) -> Result<(), CatalogError> {
        let event = JobEvent::FoundCommitted { manifest_sha256: backup.manifest_sha256 };
        self.commit(job, at, event, backup).await
    }

    async fn commit(
        &self,
        job: JobId,
        at: Timestamp,
        event: JobEvent,
        backup: &BackupSummary,
    ) -> Result<(), CatalogError> {
        let (backup, hook) = (backup.clone(), self.hook);
        self.call(move |connection| {
            let transaction = write(connection)?;
            let (began, _) = append(&transaction, job, at, &event)?;
            let id = began.backup.ok_or(CatalogError::UnknownJob(job))?;
            if (&began.source, &id) != (&backup.source, &backup.backup) {
                return Err(CatalogError::JobMismatch { job, began: id }.into());
            }
            backups::put(&transaction, &backup, Before::Same)?;
            hook("catalog-before-commit");
            transaction.commit()?;
            hook("catalog-after-commit");
            Ok(())
        })
        .await
    }

    /// The jobs that have not ended, oldest first: running now, or left by a process that died.
    ///
    /// # Errors
    /// [`Corrupt`](CatalogError::Corrupt), [`Busy`](CatalogError::Busy), [`Io`](CatalogError::Io).
    pub async fn unfinished_jobs(&self) -> Result<Vec<Job>, CatalogError> {
        self.call(|connection| {
            let sql = "SELECT id FROM jobs WHERE NOT EXISTS \
                (SELECT 1 FROM job_events WHERE job = jobs.id AND ends = 1) ORDER BY id";
            load_all(connection, &all(connection, sql, [], |row| Ok(JobId(row.get(0)?)))?)
        })
        .await
    }

    /// The latest `limit` jobs of one source or of all, the one begun last first.
    ///
    /// # Errors
    /// As [`unfinished_jobs`](Self::unfinished_jobs).
    pub async fn jobs(
        &self,
        source: Option<&SourceId>,
        limit: usize,
    ) -> Result<Vec<Job>, CatalogError> {
        let source = source.cloned();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.call(move |connection| {
            let sql = "SELECT id FROM jobs WHERE source = ?1 OR ?1 IS NULL \
                ORDER BY id DESC LIMIT ?2";
            let source = source.as_ref().map(SourceId::as_str);
            let ids = all(connection, sql, params![source, limit], |row| Ok(JobId(row.get(0)?)))?;
            load_all(connection, &ids)
        })
        .await
    }

    /// The job of a source that was begun last, of those of one kind.
    ///
    /// # Errors
    /// As [`unfinished_jobs`](Self::unfinished_jobs).
    pub async fn last_job(
        &self,
        kind: JobKind,
        source: &SourceId,
    ) -> Result<Option<Job>, CatalogError> {
        Ok(self.last_jobs(kind, source, 1).await?.pop())
    }

    /// The jobs of a source of one kind, the one begun last first, at most `limit`.
    ///
    /// # Errors
    /// As [`unfinished_jobs`](Self::unfinished_jobs).
    pub async fn last_jobs(
        &self,
        kind: JobKind,
        source: &SourceId,
        limit: usize,
    ) -> Result<Vec<Job>, CatalogError> {
        let source = source.clone();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.call(move |connection| {
            let sql = "SELECT id FROM jobs WHERE source = ?1 AND kind = ?2 \
                ORDER BY id DESC LIMIT ?3";
            let of = params![source.as_str(), kind.as_str(), limit];
            load_all(connection, &all(connection, sql, of, |row| Ok(JobId(row.get(0)?)))?)
        })
        .await
    }

    /// The job of an attempt to back a source up, where this catalog knows it.
    ///
    /// # Errors
    /// As [`unfinished_jobs`](Self::unfinished_jobs).
    pub async fn job_of(
        &self,
        source: &SourceId,
        backup: &BackupId,
    ) -> Result<Option<Job>, CatalogError> {
        let (source, backup) = (source.clone(), backup.clone());
        self.call(move |connection| {
            let sql = "SELECT id FROM jobs WHERE source = ?1 AND backup = ?2";
            one(connection, sql, [source.as_str(), backup.as_str()])
        })
        .await
    }

    /// Everything that happened to a job, in order.
    ///
    /// # Errors
    /// [`UnknownJob`](CatalogError::UnknownJob); and as [`unfinished_jobs`](Self::unfinished_jobs).
    pub async fn events(&self, job: JobId) -> Result<Vec<(Timestamp, JobEvent)>, CatalogError> {
        self.call(move |connection| Ok(load(connection, job)?.events)).await
    }
}

/// A job with everything that happened to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) id: JobId,
    pub(crate) kind: JobKind,
    pub(crate) source: SourceId,
    pub(crate) backup: Option<BackupId>,
    pub(crate) run: Option<RunId>,
    pub(crate) events: Vec<(Timestamp, JobEvent)>,
}

impl Record {
    fn state(&self) -> Result<JobState, Illegal> {
        let next = |state: JobState, (_, event): &(_, JobEvent)| state.next(self.kind, event);
        self.events.iter().try_fold(JobState::New, next)
    }

    /// The job that the events tell; a log that contradicts itself is damaged.
    pub(crate) fn job(&self) -> Result<Job, Fault> {
        let damage = |what: String| Fault::Damage(format!("job {}: {what}", self.id));
        let state = self.state().map_err(|illegal| damage(illegal.to_string()))?;
        let (Some((started, first)), Some((changed, _))) =
            (self.events.first(), self.events.last())
        else {
            return Err(damage("nothing happened to it".to_owned()));
        };
        let (kind, source, backup) = (self.kind, self.source.clone(), self.backup.clone());
        let begun = JobEvent::Started { kind, source: source.clone(), backup: backup.clone() };
        if *first != begun {
            return Err(damage("it was begun as another one".to_owned()));
        }
        let failure = self.events.iter().rev().find_map(|(_, event)| event.failure());
        let (code, message) = failure.unzip();
        Ok(Job {
            id: self.id,
            kind,
            source,
            backup,
            state,
            started: *started,
            changed: *changed,
            code,
            message,
            run: self.run,
        })
    }
}

/// The numbers of all jobs, as far as they can be read; and whether that was all.
pub(crate) fn readable_ids(connection: &Connection) -> (Vec<JobId>, Result<(), Fault>) {
    let mut ids = Vec::new();
    let sql = "SELECT id FROM jobs ORDER BY id";
    let read = all(connection, sql, [], |row| {
        ids.push(JobId(row.get(0)?));
        Ok(())
    });
    (ids, read.map(drop))
}

/// A job's record, whose events number 1, 2, 3 … and end where they say that they end.
pub(crate) fn load(connection: &Connection, id: JobId) -> Result<Record, Fault> {
    let sql = "SELECT kind, source, backup, run FROM jobs WHERE id = ?1";
    let named = all(connection, sql, [id.0], |row| {
        let (backup, run) = (optional(row, "backup")?, optional(row, "run")?);
        Ok((parsed(row, "kind")?, parsed(row, "source")?, backup, run))
    })?;
    let (kind, source, backup, run) =
        named.into_iter().next().ok_or(CatalogError::UnknownJob(id))?;
    let sql = "SELECT n, at, event, ends FROM job_events WHERE job = ?1 ORDER BY n";
    let mut numbers = 1..;
    let mut ended = false;
    let events = all(connection, sql, [id.0], |row| {
        if numbers.next() != Some(row.get::<_, i64>("n")?) {
            return Err(Fault::Damage(format!("job {id}: an event is missing")));
        }
        ended = row.get("ends")?;
        let event: String = row.get("event")?;
        Ok((parsed(row, "at")?, serde_json::from_str(&event).map_err(bad_json("event"))?))
    })?;
    let record = Record { id, kind, source, backup, run, events };
    if record.job()?.state.is_final() != ended {
        return Err(Fault::Damage(format!("job {id}: its end is not marked as it should be")));
    }
    Ok(record)
}

/// The job that a query for its number finds.
fn one(connection: &Connection, sql: &str, of: [&str; 2]) -> Result<Option<Job>, Fault> {
    let ids = all(connection, sql, of, |row| Ok(JobId(row.get(0)?)))?;
    Ok(load_all(connection, &ids)?.pop())
}

fn load_all(connection: &Connection, ids: &[JobId]) -> Result<Vec<Job>, Fault> {
    // In one transaction, so that all of them are of one moment.
    let snapshot = connection.unchecked_transaction()?;
    ids.iter().map(|id| load(&snapshot, *id)?.job()).collect()
}

pub(crate) fn begin(
    connection: &Connection,
    at: Timestamp,
    (kind, source, backup): (JobKind, SourceId, Option<BackupId>),
    run: Option<RunId>,
) -> Result<JobId, Fault> {
    let event = JobEvent::Started { kind, source: source.clone(), backup: backup.clone() };
    JobState::New
        .next(kind, &event)
        .map_err(|source| CatalogError::IllegalEvent { job: JobId(0), source })?;
    let sql = "INSERT INTO jobs (kind, source, backup, run) VALUES (?1, ?2, ?3, ?4)";
    let (id, run) = (backup.as_ref().map(BackupId::as_str), run.map(String::from));
    match (connection.execute(sql, params![kind.as_str(), source.as_str(), id, run]), backup) {
        (Err(error), Some(backup))
            if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) =>
        {
            return Err(CatalogError::Reused { source_id: source, backup }.into());
        }
        (other, _) => other?,
    };
    let job = JobId(connection.last_insert_rowid());
    put_event(connection, job, 1, at, &event, false)?;
    Ok(job)
}

/// Logs an event; answers the record before it and the state after it.
pub(crate) fn append(
    connection: &Connection,
    job: JobId,
    at: Timestamp,
    event: &JobEvent,
) -> Result<(Record, JobState), Fault> {
    let record = load(connection, job)?;
    let state = record
        .job()?
        .state
        .next(record.kind, event)
        .map_err(|source| CatalogError::IllegalEvent { job, source })?;
    let n = record.events.len() + 1;
    put_event(connection, job, n, at, event, state.is_final())?;
    Ok((record, state))
}

fn put_event(
    connection: &Connection,
    job: JobId,
    n: usize,
    at: Timestamp,
    event: &JobEvent,
    ends: bool,
) -> Result<(), Fault> {
    let n = i64::try_from(n).unwrap_or(i64::MAX);
    let event = serde_json::to_string(event).map_err(bad_json("event"))?;
    connection.execute(
        "INSERT INTO job_events (job, n, at, event, ends) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![job.0, n, time(at), event, ends],
    )?;
    Ok(())
}

/// Puts the whole record of another catalog, under its own number.
pub(crate) fn put(connection: &Connection, record: &Record) -> Result<(), Fault> {
    let state = record.job()?.state;
    connection.execute(
        "INSERT INTO jobs (id, kind, source, backup, run) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            record.id.0,
            record.kind.as_str(),
            record.source.as_str(),
            record.backup.as_ref().map(BackupId::as_str),
            record.run.map(String::from),
        ],
    )?;
    for ((at, event), n) in record.events.iter().zip(1..) {
        let ends = n == record.events.len() && state.is_final();
        put_event(connection, record.id, n, *at, event, ends)?;
    }
    Ok(())
}
