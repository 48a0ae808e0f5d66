//! One attempt to back a source up.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use drctl_catalog::Catalog;
use drctl_engines::pg::physical::{BaseBackupOptions, BaseBackupSource};
use drctl_engines::pg::{DatabaseChoice, PgDumpOptions, PgDumpSource, PgServer};
use drctl_engines::{BackupSource, Copied, Finished, ToolRun};
use drctl_model::{
    BackupId, BackupKind, BackupSummary, Child, Digest, Engine, FORMAT_VERSION, Facts, INCREMENTAL,
    Increment, JobEvent, JobId, JobState, Manifest, SourceId, StreamFacts, total,
};
use drctl_policies::{Engine as EngineConfig, PgDump, Source};
use drctl_store::{
    MAX_ENVELOPE_BYTES, Recipients, Sealer, SigningKey, digest, encode_manifest, layout, seal_facts,
};

use crate::crash::crash_point;
use crate::incremental::{Choice, Ground, Listings, Wish, choose};
use crate::pipeline::{Intake, Stored, store_stream};
use crate::plausible::{like, suspicions};
use crate::problem::{Failure, Problem};
use crate::repository::is_bad_manifest;
use crate::{Meter, Repository, Setup, SourceLock, Stop};

/// What is fixed before the first byte flows.
struct Attempt<'a> {
    setup: &'a Setup,
    repository: &'a Repository,
    source: &'a SourceId,
    id: BackupId,
    recipients: Recipients,
    key: SigningKey,
    started: jiff::Timestamp,
    meter: Meter,
    wish: Wish,
    /// What an incremental copy is to stand on.
    ground: Option<Ground>,
    /// What the operator should know of it.
    notes: Vec<String>,
}

/// A backup that was committed.
#[derive(Debug, Clone)]
pub struct BackedUp {
    /// The row that the catalog keeps of it.
    pub summary: BackupSummary,
    /// What the operator should know of it.
    pub notes: Vec<String>,
}

/// What the streams left behind.
#[derive(Default)]
struct Collected {
    streams: Vec<drctl_model::Stream>,
    facts: Facts,
    children: Vec<Child>,
}

fn total_plain(collected: &Collected) -> u64 {
    total(collected.streams.iter().map(|stream| stream.plain_bytes))
}

/// Takes a backup of the source `name` and commits it.
///
/// # Errors
/// Whatever kept it from being a backup; nothing of it counts then, and the job's record says so.
pub async fn backup(
    setup: &Setup,
    name: &str,
    wish: Wish,
    meter: &Meter,
    stop: &Stop,
) -> Result<BackedUp> {
    let (id, source) = setup.source(name)?;
    if wish != Wish::AsConfigured && !matches!(source.engine, EngineConfig::BaseBackup(_)) {
        let text = "--full and --incremental are for copies of clusters (engine = \"base_backup\")";
        return Err(Problem::Usage(text.to_owned()).into());
    }
    let (recipients, key) = (setup.recipients()?, setup.signing_key()?);
    if !setup.trust()?.iter().any(|trusted| *trusted == key.verifying_key()) {
        let text = "the signing key is none of keys.verifying_keys: what it signs could not be \
                    restored here";
        return Err(Problem::Usage(text.to_owned()).into());
    }
    setup.private_directory(&setup.config.paths.state_dir)?;
    let _lock = SourceLock::take(&setup.config.paths.state_dir, id)?;
    let preparing = async {
        let repository = setup.repository().await?;
        let catalog = setup.catalog(&repository).await?;
        settle(setup, &repository, &catalog, id).await?;
        Ok::<_, anyhow::Error>((repository, catalog))
    };
    let (repository, catalog) = tokio::select! {
        prepared = preparing => prepared?,
        () = stop.requested() => return Err(Problem::Interrupted.into()),
    };
    let started = setup.clock.now();
    let chosen = tokio::select! {
        chosen = chosen(setup, &repository, id, source, wish, started) => chosen,
        () = stop.requested() => return Err(Problem::Interrupted.into()),
    };
    let (ground, notes) = chosen;
    let mut attempt = Attempt {
        setup,
        repository: &repository,
        source: id,
        id: BackupId::new(started, rand::random()),
        recipients,
        key,
        started,
        meter: meter.clone(),
        wish,
        ground,
        notes,
    };
    let job = catalog.begin_job(started, id, &attempt.id).await.context("record the job")?;
    crash_point("backup-job-begun");
    let done = attempt.run(source, &catalog, job, stop).await;
    let done = match done {
        Ok(summary) => Ok(summary),
        // The manifest may be in the bucket although its answer was lost: only the bucket knows.
        Err(error) if is_committing(&catalog, job, id).await => {
            attempt.look_again(&catalog, job, error).await
        }
        Err(error) => {
            record_failure(setup, &catalog, job, &error).await;
            Err(error)
        }
    };
    Ok(BackedUp { summary: done?, notes: attempt.notes })
}

/// What the copy is to stand on, if on anything; with what the operator should know of that.
async fn chosen(
    setup: &Setup,
    repository: &Repository,
    id: &SourceId,
    source: &Source,
    wish: Wish,
    now: jiff::Timestamp,
) -> (Option<Ground>, Vec<String>) {
    let EngineConfig::BaseBackup(base) = &source.engine else { return (None, Vec::new()) };
    match choose(setup, repository, id, base, wish, now).await {
        Choice::On(ground) => (Some(*ground), Vec::new()),
        Choice::Full(why) => {
            let note = |why| format!("a full copy was made, not an incremental one: {why}");
            (None, why.map(note).into_iter().collect())
        }
    }
}

/// Whether all bytes of a job are stored, so that its manifest may be too.
async fn is_committing(catalog: &Catalog, job: JobId, source: &SourceId) -> bool {
    let last = catalog.last_job(source).await.ok().flatten();
    last.is_some_and(|last| last.id == job && last.state == JobState::Committing)
}

/// Tells the truth about jobs whose process is gone; we hold the source's lock, so all are.
pub(crate) async fn settle(
    setup: &Setup,
    repository: &Repository,
    catalog: &Catalog,
    source: &SourceId,
) -> Result<()> {
    for job in catalog.unfinished_jobs().await? {
        if job.source != *source {
            continue;
        }
        let now = setup.clock.now();
        let found = match repository.manifest(source, &job.backup).await {
            // Somebody else's manifest in its place does not make it a backup.
            Err(error) if is_bad_manifest(&error) => {
                tracing::warn!(backup = %job.backup, "its manifest is not ours: {error:#}");
                None
            }
            found => found?,
        };
        match found {
            Some(found) => {
                tracing::warn!(backup = %job.backup, "a backup was committed by a process that died");
                catalog.found_committed(job.id, now, &found.summary()).await?;
            }
            None => {
                tracing::warn!(backup = %job.backup, "an earlier attempt died; nothing of it counts");
                catalog.append(job.id, now, &JobEvent::FoundDead).await?;
            }
        }
    }
    Ok(())
}

async fn record_failure(setup: &Setup, catalog: &Catalog, job: JobId, error: &anyhow::Error) {
    let failure = Failure::of(error);
    let event = match error.downcast_ref() {
        Some(Problem::Interrupted) => JobEvent::Cancelled,
        _ => {
            JobEvent::Failed { code: failure.code.to_owned(), message: failure.messages.join(": ") }
        }
    };
    // What failed first is what the operator must read; the next run settles the record.
    if let Err(unrecorded) = catalog.append(job, setup.clock.now(), &event).await {
        tracing::error!("the failure is not recorded: {:#}", anyhow::Error::from(unrecorded));
    }
}

impl Attempt<'_> {
    async fn run(
        &mut self,
        source: &Source,
        catalog: &Catalog,
        job: JobId,
        stop: &Stop,
    ) -> Result<BackupSummary> {
        let opening = self.open(source);
        let mut engine = tokio::select! {
            engine = opening => engine?,
            () = stop.requested() => return Err(Problem::Interrupted.into()),
        };
        let streaming = self.stream_all(source, engine.as_mut());
        let streamed = tokio::select! {
            streamed = streaming => streamed,
            () = stop.requested() => Err(Problem::Interrupted.into()),
        };
        let collected = match streamed {
            Ok(collected) => collected,
            Err(error) => {
                engine.abort().await;
                return Err(error);
            }
        };
        let mut finished = engine.finish().await?;
        self.notes.append(&mut finished.notes);
        let listing = finished.copied.as_mut().map(|copied| std::mem::take(&mut copied.listing));
        let summary = self.commit(collected, finished, catalog, job).await?;
        self.keep(source, &summary, listing.as_deref());
        Ok(summary)
    }

    /// Keeps the server's list of a good copy for the next one to stand on. The copy is committed:
    /// where this fails, the next is a full one again.
    fn keep(&mut self, source: &Source, summary: &BackupSummary, listing: Option<&[u8]>) {
        let EngineConfig::BaseBackup(base) = &source.engine else { return };
        let wanted = (base.incremental || self.wish == Wish::Incremental) && summary.is_good();
        let Some(listing) = listing.filter(|_| wanted) else { return };
        let listings = Listings::of(self.setup, self.source);
        if let Err(error) = listings.keep(self.setup, &self.id, listing) {
            self.notes.push(format!(
                "its list of files was not kept, so the next copy cannot stand on it: {error:#}"
            ));
        }
    }

    async fn open(&self, source: &Source) -> Result<Box<dyn BackupSource>> {
        let server = self.setup.server(source)?;
        let name = format!("drctl/{}", self.id);
        self.meter.label("connecting");
        match &source.engine {
            EngineConfig::PgDump(pg) => self.open_dump(server, pg, name).await,
            EngineConfig::BaseBackup(base) => {
                let max_rate_kib = base.max_rate_bytes.map(|bytes| bytes / 1024);
                let options = BaseBackupOptions {
                    fast_checkpoint: base.fast_checkpoint,
                    max_rate_kib: max_rate_kib.and_then(|kib| kib.try_into().ok()),
                };
                self.meter.label("waiting for the server's checkpoint");
                let parent = self.ground.as_ref().map(|ground| &ground.copy);
                Ok(Box::new(BaseBackupSource::open(&server, &options, &name, parent).await?))
            }
        }
    }

    async fn open_dump(
        &self,
        server: PgServer,
        pg: &PgDump,
        name: String,
    ) -> Result<Box<dyn BackupSource>> {
        let databases = match &pg.databases {
            Some(names) => DatabaseChoice::Only(names.clone()),
            None => DatabaseChoice::All { exclude: pg.exclude_databases.clone() },
        };
        let options = PgDumpOptions {
            databases,
            globals: pg.globals,
            role_passwords: pg.role_passwords,
            lock_timeout: pg.lock_timeout,
            lock_attempts: pg.lock_attempts,
        };
        Ok(Box::new(PgDumpSource::open(server, options, name).await?))
    }

    async fn stream_all(
        &self,
        source: &Source,
        engine: &mut dyn BackupSource,
    ) -> Result<Collected> {
        let intake = Intake {
            bucket: self.repository.bucket.clone(),
            source: self.source.clone(),
            backup: self.id.clone(),
            sealer: Sealer::new(&self.recipients, source.policy.compression_level),
            limits: self.setup.limits(),
            meter: self.meter.clone(),
        };
        let mut collected = Collected::default();
        while let Some(run) = engine.next_stream().await? {
            self.meter.label(run.label.clone());
            self.meter.expect(run.expected_bytes.unwrap_or(0));
            let ToolRun { id, label, output, outcome, .. } = run;
            let Stored { stream, plain_xxh128 } = store_stream(&intake, &id, output).await?;
            let outcome = outcome.await.with_context(|| format!("dump {label}"))?;
            self.weigh(&stream).await?;
            collected.children.extend(outcome.children);
            let facts = StreamFacts { id, plain_xxh128, content: outcome.content };
            collected.facts.streams.push(facts);
            collected.streams.push(stream);
            crash_point("backup-stream-stored");
        }
        Ok(collected)
    }

    /// Asks the bucket itself whether it holds what it acknowledged.
    async fn weigh(&self, stream: &drctl_model::Stream) -> Result<()> {
        let prefix = layout::stream(self.source, &self.id, &stream.id);
        let found = self.repository.weigh(&prefix).await.context("list what was stored")?;
        let expected = stream.objects();
        if found != expected {
            let text = format!(
                "of stream {} it lists {} objects with {} bytes, not {} with {}",
                stream.id, found.0, found.1, expected.0, expected.1
            );
            return Err(Problem::Incomplete(text).into());
        }
        Ok(())
    }

    async fn commit(
        &self,
        collected: Collected,
        finished: Finished,
        catalog: &Catalog,
        job: JobId,
    ) -> Result<BackupSummary> {
        let known = catalog.backups(Some(self.source)).await?;
        let manifest = self.manifest(collected, finished, &known)?;
        let bytes = Bytes::from(encode_manifest(&manifest, &self.key));
        if bytes.len() > MAX_ENVELOPE_BYTES {
            let text =
                format!("the manifest has {} bytes, more than any reader takes", bytes.len());
            return Err(Problem::Incomplete(text).into());
        }
        let stored = JobEvent::Stored { plain_bytes: manifest.plain_bytes() };
        catalog.append(job, self.setup.clock.now(), &stored).await?;
        crash_point("backup-before-manifest");
        let sha256 = self.put_manifest(bytes).await?;
        let summary = manifest.summary(sha256);
        catalog.commit_backup(job, self.setup.clock.now(), &summary).await.with_context(|| {
            format!("the backup {} is committed in the bucket; record it in the catalog", self.id)
        })?;
        Ok(summary)
    }

    fn manifest(
        &self,
        collected: Collected,
        finished: Finished,
        known: &[BackupSummary],
    ) -> Result<Manifest> {
        let Finished { versions: mut tools, mut suspect, copied, .. } = finished;
        let engine = if copied.is_some() { Engine::BaseBackup } else { Engine::PgDump };
        let parent = self.ground.as_ref().map(|ground| ground.parent.clone());
        let kind = match (copied, parent) {
            (None, _) => BackupKind::Logical,
            (Some(Copied { at, incremental: true, .. }), Some(parent)) => {
                BackupKind::Incremental(Increment { parent, at })
            }
            (Some(copied), _) => BackupKind::Full(copied.at),
        };
        let newest = like(&kind, known);
        // How much an incremental copy holds says nothing.
        if kind.parent().is_none() {
            suspect.extend(suspicions(&collected.facts, total_plain(&collected), newest));
        }
        let features = kind.parent().map(|_| INCREMENTAL.to_owned()).into_iter().collect();
        tools.insert("drctl".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        let sealed = seal_facts(&collected.facts, &self.recipients)?;
        Ok(Manifest {
            v: FORMAT_VERSION,
            min_reader: FORMAT_VERSION,
            features,
            repository: self.repository.id.clone(),
            source: self.source.clone(),
            backup: self.id.clone(),
            host: self.setup.host(),
            engine,
            kind,
            started: self.started,
            finished: self.setup.clock.now(),
            tools,
            recipients: self.recipients.texts(),
            children: collected.children,
            suspect,
            streams: collected.streams,
            sealed,
        })
    }

    /// After an error on the way from the last byte to the catalog: success where the bucket holds
    /// the manifest, signed and whole; where it cannot be asked the record stays open for the next
    /// run to settle.
    async fn look_again(
        &self,
        catalog: &Catalog,
        job: JobId,
        error: anyhow::Error,
    ) -> Result<BackupSummary> {
        let now = self.setup.clock.now();
        match self.repository.manifest(self.source, &self.id).await {
            Ok(Some(found)) => {
                let summary = found.summary();
                catalog.found_committed(job, now, &summary).await.map_err(|_| error)?;
                tracing::warn!("the backup is committed in spite of an error on the way");
                Ok(summary)
            }
            Ok(None) => {
                record_failure(self.setup, catalog, job, &error).await;
                Err(error)
            }
            Err(_) => Err(error.context(
                "whether it is committed is not known; the next backup or `drctl catalog rebuild` \
                 finds out",
            )),
        }
    }

    /// The commit: written once, read back, compared.
    async fn put_manifest(&self, bytes: Bytes) -> Result<Digest> {
        let key = layout::manifest(self.source, &self.id);
        let bucket = &self.repository.bucket;
        bucket.put_once(&key, bytes.clone()).await.context("commit the manifest")?;
        crash_point("backup-manifest-put");
        let limit = MAX_ENVELOPE_BYTES as u64;
        let found = bucket.get(&key, limit).await.context("read the manifest back")?;
        if found != bytes {
            return Err(drctl_store::StoreError::ReadBack { key }.into());
        }
        crash_point("backup-manifest-read-back");
        Ok(digest(&bytes))
    }
}
