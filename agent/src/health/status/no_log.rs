//! Whether log is configured, and none is in the bucket.

use drctl_model::FindingCode;
use drctl_policies::LogWay;
use jiff::{SignedDuration, Timestamp};

use super::{Judged, SourceStatus};
use crate::host::Setup;

/// How long the first log may take after the first backup, or after the configuration was changed.
const GRACE: SignedDuration = SignedDuration::from_hours(1);

/// Notes of each source that was looked at how its log should have come.
pub(super) fn note(setup: &Setup, all: &mut [SourceStatus]) {
    let (now, configured) = (setup.clock.now(), setup.configured_since());
    for status in all {
        let source = setup.config.sources.get(&status.source).filter(|source| source.enabled);
        let way = source.and_then(|source| source.engine.log()).map(|log| log.way);
        let way = way.filter(|way| *way != LogWay::None && status.lacks_log(configured, now));
        status.no_log = way;
    }
}

impl SourceStatus {
    /// Whether there is a base backup, none of its log, and time enough for that has passed.
    fn lacks_log(&self, configured: Timestamp, now: Timestamp) -> bool {
        let Some(base) = self.newest_good.as_ref().filter(|_| self.is_cluster()) else {
            return false;
        };
        let since = self.first_base.unwrap_or(base.finished).max(configured);
        self.unreadable.is_none() && self.log.is_none() && now.duration_since(since) > GRACE
    }

    /// That no log is there.
    pub(super) fn of_no_log(&self) -> Option<Judged> {
        let (way, who) = match self.no_log? {
            LogWay::None => return None,
            LogWay::Push => ("push", "see that archive_command runs `drctl wal push`"),
            LogWay::Stream => ("stream", "see that the agent runs"),
            LogWay::Synchronous => ("synchronous", "see that the agent runs"),
        };
        let text = format!(
            "log = \"{way}\" is configured, and no WAL of it is in the bucket: what was committed since a \
             base backup cannot be recovered. {who} (`drctl doctor` tries it); where there was WAL, find out \
             who removed it"
        );
        Some(Judged::attention(FindingCode::LogMissing, "", text))
    }
}
