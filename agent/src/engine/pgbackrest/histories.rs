//! The history of the timeline that a backup is on, where the archive lacks it: a stanza that was
//! made after a promotion never gets it by itself.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use drctl_engines::backrest::BackRest;
use drctl_engines::pg::replication::Replication;
use drctl_model::{BackupSummary, LogPlace, Timeline};
use drctl_policies::Source;

use super::record::Recorder;
use crate::engine::wal::of_history;
use crate::log::LogStore;
use crate::repository::faults::is_missing;

/// How long all of it may take: the backup is made.
const PATIENCE: Duration = Duration::from_secs(60);

/// Keeps it in drctl's own bucket, where plans look too; what the operator should know of that. A
/// backup is as good without.
pub(super) async fn keep_history(
    recorder: &Recorder<'_>,
    source: &Source,
    engine: &BackRest,
    backup: &BackupSummary,
) -> Option<String> {
    let timeline = backup.kind.coordinates()?.stop_timeline;
    let keeping = tokio::time::timeout(PATIENCE, keep(recorder, source, engine, backup));
    let kept = keeping.await.unwrap_or_else(|_| bail!("it could not be fetched in time"));
    let told = |error| {
        format!(
            "the history of timeline {timeline} is neither in pgBackRest's archive nor in the \
             bucket, so no older backup can be used for it: {error:#}"
        )
    };
    kept.err().map(told)
}

async fn keep(
    recorder: &Recorder<'_>,
    source: &Source,
    engine: &BackRest,
    backup: &BackupSummary,
) -> Result<()> {
    let Some(external) = backup.kind.external() else { return Ok(()) };
    let (system_id, timeline) = (external.at.system_id, external.at.stop_timeline);
    if timeline == Timeline::FIRST {
        return Ok(());
    }
    let listing = engine.listing().await.context("list pgBackRest's archive")?;
    let archive = listing.of(external.database_id);
    if archive.is_some_and(|archive| archive.histories.contains(&timeline)) {
        return Ok(());
    }
    let log_store = LogStore::open(recorder.setup, recorder.source.as_str()).await?;
    let place = LogPlace::of_history((system_id, timeline));
    match log_store.head(&place).await {
        Err(error) if is_missing(&error) => {}
        head => return head.map(drop),
    }
    let server = recorder.setup.server(source)?;
    let mut connection = Replication::open(&server, "drctl/backrest").await?;
    if connection.identify().await?.system_id != system_id {
        bail!("the server has another cluster now");
    }
    let (bytes, history) = connection.history(timeline).await?;
    log_store.keep(place, bytes, of_history(&history)).await.map(drop)
}
