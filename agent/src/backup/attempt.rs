//! One attempt to back a source up.

use std::time::Duration;

use anyhow::{Context as _, Result};
use drctl_catalog::Catalog;
use drctl_engines::pg::physical::{BaseBackupOptions, BaseBackupSource, ParentCopy, cluster_needs};
use drctl_engines::pg::{DatabaseChoice, PgDumpOptions, PgDumpSource, PgServer};
use drctl_engines::{BackupSource, Brought, ToolRun};
use drctl_model::{
    BackupId, BackupSummary, Child, ClusterNeeds, Content, Facts, JobId, SourceId, StreamFacts,
    total,
};
use drctl_policies::{Engine as EngineConfig, PgDump, Source};
use drctl_store::{Recipients, Sealer, SigningKey, layout};

use super::incremental::{Choice, Listings, choose};
use super::{RequestedKind, brought, gone};
use crate::host::{AgentError, Meter, Setup, Stop, crash_point};
use crate::jobs::open_job::OpenJob;
use crate::jobs::settle::{Unsettled, record_failure, settle};
use crate::repository::{Repository, strays};
use crate::transfer::{Intake, Stored, store_stream};

/// How long the server may take to tell what its cluster needs, at most, while the backup flows.
pub(crate) const NEEDS_PATIENCE: Duration = Duration::from_secs(60);

/// What is fixed before the first byte flows.
pub(crate) struct Attempt<'a> {
    pub(crate) setup: &'a Setup,
    pub(crate) repository: &'a Repository,
    pub(crate) source: &'a SourceId,
    pub(crate) id: BackupId,
    pub(crate) recipients: Recipients,
    pub(crate) key: SigningKey,
    pub(crate) started: jiff::Timestamp,
    pub(crate) meter: Meter,
    pub(crate) requested: RequestedKind,
    /// What an incremental backup is to be based on.
    pub(crate) parent: Option<ParentCopy>,
    /// What the operator should know of it.
    pub(crate) notes: Vec<String>,
    /// Whether the manifest may be in the bucket.
    pub(crate) committing: bool,
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
pub(crate) struct Collected {
    pub(crate) streams: Vec<drctl_model::Stream>,
    pub(crate) facts: Facts,
    pub(crate) children: Vec<Child>,
}

pub(crate) fn total_plain(collected: &Collected) -> u64 {
    total(collected.streams.iter().map(|stream| stream.plain_bytes))
}

/// Takes a backup of which every byte comes by here; the source's lock is held by the caller.
///
/// # Errors
/// Whatever kept it from being a backup; nothing of it counts then.
pub(crate) async fn back_up(
    setup: &Setup,
    (open, source): (&OpenJob<'_>, &Source),
    (recipients, key): (Recipients, SigningKey),
    requested: RequestedKind,
    meter: &Meter,
    stop: &Stop,
) -> Result<BackedUp> {
    let (id, started) = (open.source, open.started);
    let preparing = async {
        let repository = setup.repository().await?;
        repository.may_write().await?;
        let catalog = setup.catalog(&repository).await?;
        let job = open.recorded(&catalog).await?;
        settle(setup, &repository, &catalog, (id, &open.id)).await?;
        strays::sweep(&repository, id, setup.clock.now()).await;
        Ok::<_, anyhow::Error>((repository, catalog, job))
    };
    let (repository, catalog, job) = tokio::select! {
        prepared = preparing => prepared?,
        () = stop.requested() => return Err(AgentError::Interrupted.into()),
    };
    let chosen = tokio::select! {
        chosen = chosen(setup, &repository, id, source, requested, started) => chosen,
        () = stop.requested() => return Err(AgentError::Interrupted.into()),
    };
    let (parent, mut notes) = chosen;
    if catalog.path() != setup.catalog_path() {
        notes.push(format!(
            "{} cannot be used: `list` and `status` do not know of this backup; when that is mended, \
             `drctl catalog rebuild` tells them",
            setup.catalog_path().display()
        ));
    }
    let mut attempt = Attempt {
        setup,
        repository: &repository,
        source: id,
        id: open.id.clone(),
        recipients,
        key,
        started,
        meter: meter.clone(),
        requested,
        parent,
        notes,
        committing: false,
    };
    let done = attempt.run(source, &catalog, job, stop).await;
    let done = match done {
        Ok(summary) => Ok(summary),
        // The manifest may be in the bucket although its answer was lost.
        Err(error) if attempt.committing => {
            attempt.unsettled(&catalog, job).look_again(error).await
        }
        Err(error) => {
            record_failure(setup, &catalog, job, &error).await;
            Err(error)
        }
    };
    Ok(BackedUp { summary: done?, notes: attempt.notes })
}

/// The databases whose dumps these are.
fn databases(facts: &Facts) -> Vec<String> {
    let name = |stream: &StreamFacts| match &stream.content {
        Content::Database(database) => Some(database.name.clone()),
        Content::Globals | Content::Tablespace(_) | Content::Listing => None,
    };
    facts.streams.iter().filter_map(name).collect()
}

/// What the backup is to be based on, if on anything; with what the operator should know of that.
async fn chosen(
    setup: &Setup,
    repository: &Repository,
    id: &SourceId,
    source: &Source,
    requested: RequestedKind,
    now: jiff::Timestamp,
) -> (Option<ParentCopy>, Vec<String>) {
    let EngineConfig::BaseBackup(base) = &source.engine else { return (None, Vec::new()) };
    match choose(setup, repository, id, base, requested, now).await {
        Choice::On(parent) => (Some(*parent), Vec::new()),
        Choice::Full(why) => {
            let note = |why| format!("a full backup was made, not an incremental one: {why}");
            (None, why.map(note).into_iter().collect())
        }
    }
}

impl Attempt<'_> {
    fn unsettled<'a>(&'a self, catalog: &'a Catalog, job: JobId) -> Unsettled<'a> {
        let Attempt { setup, repository, source, id: backup, .. } = self;
        Unsettled { setup, repository, catalog, source, backup, job, word: "committed", left: None }
    }

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
            () = stop.requested() => return Err(AgentError::Interrupted.into()),
        };
        // Beside the bytes: asked for behind them it would hold the backup up, and move its end.
        let streaming = async {
            let needs = async { Ok(self.needs(source).await) };
            tokio::try_join!(self.stream_all(source, engine.as_mut()), needs)
        };
        let streamed = tokio::select! {
            streamed = streaming => streamed,
            () = stop.requested() => Err(AgentError::Interrupted.into()),
        };
        let collected = match streamed {
            Ok((mut collected, needs)) => {
                collected.facts.cluster = needs;
                collected
            }
            Err(error) => {
                engine.abort().await;
                return Err(error);
            }
        };
        let mut finished = engine.finish(&collected.facts.streams).await?;
        self.notes.append(&mut finished.notes);
        let brought = finished.brought.take();
        if let (Some(Brought { histories, .. }), Some(at)) = (&brought, finished.kind.coordinates())
        {
            let settled = brought::settle(self.setup, self.source, at, histories).await;
            self.notes.extend(settled);
        }
        let databases = databases(&collected.facts);
        let summary = self.commit(collected, finished, catalog, job).await?;
        if matches!(source.engine, EngineConfig::PgDump(_)) {
            let this = (&self.id, summary.is_good());
            self.notes.extend(gone::compare(self.setup, self.source, this, databases));
        }
        if let Some(at) = summary.kind.coordinates() {
            let differs = brought::differs(self.repository, self.source, at).await;
            self.notes.extend(differs.unwrap_or_else(|error| Some(format!("{error:#}"))));
        }
        self.keep(source, &summary, brought.map(|brought| brought.listing));
        Ok(summary)
    }

    /// What a cluster that is backed up needs of its host; nothing of anything else.
    async fn needs(&self, source: &Source) -> Option<ClusterNeeds> {
        let EngineConfig::BaseBackup(_) = &source.engine else { return None };
        let server = self.setup.server(source).ok()?;
        Some(cluster_needs(&server, &format!("drctl/{}", self.id), NEEDS_PATIENCE).await)
    }

    /// Keeps the server's list of a good backup for the next one to be based on. The backup is
    /// committed: where this fails, the next is a full one again.
    fn keep(&mut self, source: &Source, summary: &BackupSummary, listing: Option<Vec<u8>>) {
        let EngineConfig::BaseBackup(base) = &source.engine else { return };
        let wanted =
            (base.incremental || self.requested == RequestedKind::Incremental) && summary.is_good();
        let Some(listing) = listing.filter(|_| wanted) else { return };
        let listings = Listings::of(self.setup, self.source);
        if let Err(error) = listings.keep(self.setup, &self.id, &listing) {
            self.notes.push(format!(
                "its list of files was not kept, so the next backup cannot be based on it: \
                 {error:#}"
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
                let parent = self.parent.as_ref();
                Ok(Box::new(BaseBackupSource::open(&server, &options, &name, parent).await?))
            }
            // Its bytes do not come by here: see `backrest`.
            EngineConfig::Pgbackrest(_) => {
                Err(AgentError::Usage("pgBackRest gives no streams".to_owned()).into())
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
            self.has_all(&stream).await?;
            collected.children.extend(outcome.children);
            let facts = StreamFacts { id, plain_xxh128, content: outcome.content };
            collected.facts.streams.push(facts);
            collected.streams.push(stream);
            crash_point("backup-stream-stored");
        }
        Ok(collected)
    }

    /// Asks the bucket itself whether it holds what it acknowledged.
    async fn has_all(&self, stream: &drctl_model::Stream) -> Result<()> {
        let prefix = layout::stream(self.source, &self.id, &stream.id);
        let found =
            self.repository.count_and_size(&prefix).await.context("list what was stored")?;
        let expected = stream.objects();
        if found != expected {
            let text = format!(
                "of stream {} it lists {} objects with {} bytes, not {} with {}",
                stream.id, found.0, found.1, expected.0, expected.1
            );
            return Err(AgentError::Incomplete(text).into());
        }
        Ok(())
    }
}
