//! Whether log is configured, and none is in the bucket.

use anyhow::Result;
use drctl_catalog::Catalog;
use drctl_model::FindingCode;
use drctl_policies::LogWay;
use jiff::SignedDuration;

use super::{Judged, SourceStatus};
use crate::host::Setup;

/// How long the first log may take after the first backup, or after the configuration was changed.
const GRACE: SignedDuration = SignedDuration::from_hours(1);

/// Notes of each source that was looked at how its log should have come.
///
/// # Errors
/// The catalog's.
pub(super) async fn note(setup: &Setup, catalog: &Catalog, all: &mut [SourceStatus]) -> Result<()> {
    let now = setup.clock.now();
    // A file that is dated in the future keeps nobody silent.
    let configured = setup.configured_since().min(now);
    for status in all {
        let source = setup.config.sources.get(&status.source).filter(|source| source.enabled);
        let way = source.and_then(|source| source.engine.log()).map(|log| log.way);
        let way = way.filter(|way| *way != LogWay::None && status.lacks_log());
        let Some(way) = way else { continue };
        let backups = catalog.backups(Some(&status.source)).await?;
        let bases = backups.iter().filter(|one| one.kind.coordinates().is_some());
        let first = bases.map(|one| one.finished).min();
        let late = first.is_some_and(|first| now.duration_since(first.max(configured)) > GRACE);
        status.no_log = late.then_some(way);
    }
    Ok(())
}

impl SourceStatus {
    /// Whether there is a base backup, and nothing of its log.
    fn lacks_log(&self) -> bool {
        self.is_cluster() && self.unreadable.is_none() && self.log.is_none()
    }

    /// That no log is there.
    pub(super) fn of_no_log(&self) -> Option<Judged> {
        let source = &self.source;
        let (way, who) = match self.no_log? {
            LogWay::None => return None,
            LogWay::Push => ("push", "see that archive_command runs `drctl wal push`"),
            LogWay::Stream => ("stream", "see that the agent runs: `drctl jobs`"),
            LogWay::Synchronous => ("synchronous", "see that the agent runs: `drctl jobs`"),
        };
        let text = format!(
            "log = \"{way}\" is configured, and no WAL of it is in the bucket: what was committed since a \
             base backup cannot be recovered. {who}; `drctl doctor {source}` tries whether WAL can be stored. \
             Where there was WAL, find out who removed it"
        );
        Some(Judged::attention(FindingCode::LogMissing, "", text))
    }
}
