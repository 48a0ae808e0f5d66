//! One attempt to back a source up.

use anyhow::{Context as _, Result};
use drctl_engines::{BackupSource, ToolRun};
use drctl_model::{BackupSummary, Child, Facts, JobId, Outside, StreamFacts, total};
use drctl_policies::Source;
use drctl_store::{Recipients, Sealer, SigningKey, layout};

use super::RequestedKind;
use super::streamed::{Begun, Streamed};
use crate::host::{AgentError, Meter, Setup, Stop, crash_point};
use crate::jobs::open_job::OpenJob;
use crate::jobs::settle::{Unsettled, record_failure, settle};
use crate::repository::strays;
use crate::transfer::{Intake, Stored, store_stream};

/// A backup that is to be made now; its source's lock is held.
pub(crate) struct Order<'a> {
    pub(crate) setup: &'a Setup,
    /// Its record.
    pub(crate) job: &'a OpenJob<'a>,
    pub(crate) source: &'a Source,
    pub(crate) recipients: Recipients,
    pub(crate) key: SigningKey,
    pub(crate) requested: RequestedKind,
    pub(crate) meter: &'a Meter,
    pub(crate) stop: &'a Stop,
}

/// An attempt, and what it has come to.
pub(crate) struct Attempt<'a> {
    pub(crate) begun: Begun<'a>,
    pub(crate) recipients: Recipients,
    pub(crate) key: SigningKey,
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

pub(crate) fn total_sealed(collected: &Collected) -> u64 {
    total(collected.streams.iter().map(|stream| stream.sealed_bytes))
}

/// Takes a backup of which every byte comes by here, out of the hands of its engine.
///
/// # Errors
/// Whatever kept it from being a backup; nothing of it counts then.
pub(crate) async fn back_up(order: Order<'_>, engine: &mut dyn Streamed) -> Result<BackedUp> {
    let Order { setup, job: open, source, recipients, key, requested, meter, stop } = order;
    let id = open.source;
    let preparing = async {
        let repository = setup.repository().await?;
        repository.may_write().await?;
        let (catalog, job) = open.on_record(&repository).await?;
        settle(setup, &repository, &catalog, (id, &open.id)).await?;
        strays::sweep(&repository, id, setup.clock.now()).await;
        Ok::<_, anyhow::Error>((repository, catalog, job))
    };
    let (repository, catalog, job) = tokio::select! {
        prepared = preparing => prepared?,
        () = stop.requested() => return Err(AgentError::Interrupted.into()),
    };
    let begun = Begun {
        setup,
        repository: &repository,
        catalog: &catalog,
        source: id,
        backup: &open.id,
        started: open.started,
        requested,
        meter,
    };
    let notes = tokio::select! {
        chosen = engine.choose(&begun) => chosen,
        () = stop.requested() => return Err(AgentError::Interrupted.into()),
    };
    let mut attempt = Attempt { begun, recipients, key, notes, committing: false };
    if catalog.path() != setup.catalog_path() {
        attempt.notes.push(format!(
            "{} cannot be used: when it can be used again, `drctl status` or `drctl catalog rebuild` \
             adds this backup to it",
            setup.catalog_path().display()
        ));
    }
    let level = source.policy.compression_level;
    let done = attempt.run((engine, level), job, stop).await;
    let done = match done {
        Ok(summary) => Ok(summary),
        // The manifest may be in the bucket although its answer was lost.
        Err(error) if attempt.committing => attempt.unsettled(job).look_again(error).await,
        Err(error) => {
            record_failure(setup, &catalog, job, &error).await;
            Err(error)
        }
    };
    Ok(BackedUp { summary: done?, notes: attempt.notes })
}

impl Attempt<'_> {
    fn unsettled(&self, job: JobId) -> Unsettled<'_> {
        let Begun { setup, repository, catalog, source, backup, .. } = self.begun;
        Unsettled { setup, repository, catalog, source, backup, job, word: "committed", left: None }
    }

    async fn run(
        &mut self,
        (engine, level): (&mut dyn Streamed, i32),
        job: JobId,
        stop: &Stop,
    ) -> Result<BackupSummary> {
        let mut source = tokio::select! {
            opened = engine.open(&self.begun) => opened?,
            () = stop.requested() => return Err(AgentError::Interrupted.into()),
        };
        // Beside the bytes: asked for behind them it would hold the backup up, and move its end.
        let streaming = async {
            let needs = async { Ok(engine.needs(&self.begun).await) };
            tokio::try_join!(self.stream_all(level, source.as_mut()), needs)
        };
        let streamed = tokio::select! {
            streamed = streaming => streamed,
            () = stop.requested() => Err(AgentError::Interrupted.into()),
        };
        let mut collected = match streamed {
            Ok((mut collected, needs)) => {
                collected.facts.cluster = needs;
                collected
            }
            Err(error) => {
                source.abort().await;
                return Err(error);
            }
        };
        let mut finished = source.finish(&collected.facts.streams).await?;
        collected.facts.outside = tokio::select! {
            outside = engine.outside(&self.begun) => outside,
            () = stop.requested() => return Err(AgentError::Interrupted.into()),
        };
        let told = engine.finished(&self.begun, &collected.facts, &mut finished).await;
        self.notes.append(&mut finished.notes);
        self.notes.extend(collected.facts.outside.iter().flat_map(Outside::notes));
        self.notes.extend(told);
        let summary = self.commit(collected, finished, job).await?;
        let told = engine.committed(&self.begun, &summary).await;
        self.notes.extend(told);
        Ok(summary)
    }

    async fn stream_all(&self, level: i32, engine: &mut dyn BackupSource) -> Result<Collected> {
        let Begun { setup, repository, source, backup, meter, .. } = self.begun;
        let intake = Intake {
            bucket: repository.bucket.clone(),
            source: source.clone(),
            backup: backup.clone(),
            sealer: Sealer::new(&self.recipients, level),
            limits: setup.limits(),
            meter: meter.clone(),
        };
        let mut collected = Collected::default();
        while let Some(run) = engine.next_stream().await? {
            meter.label(run.label.clone());
            meter.expect(run.expected_bytes.unwrap_or(0));
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
        let Begun { repository, source, backup, .. } = self.begun;
        let prefix = layout::stream(source, backup, &stream.id);
        let found = repository.count_and_size(&prefix).await.context("list what was stored")?;
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
