//! What of a cluster's log base backups that stay need.

use drctl_model::{BackupId, Lineage, LogAt, WalSegmentSize};
use drctl_policies::recovery::Archive;
use drctl_policies::retention::{LineageLog, StaysFrom, log_of};

use super::Known;

/// What of a lineage's log stays.
pub(crate) struct LogThatStays {
    /// Which.
    pub(crate) lineage: Lineage,
    /// What people call it.
    pub(crate) called: String,
    /// How much of it.
    pub(crate) stays: Stays,
}

/// How much of a lineage's log stays, and why.
pub(crate) enum Stays {
    /// All of it.
    Whole(String),
    /// What ends behind this position: it begins a segment, for a segment is read from its begin.
    From(LogAt, String),
    /// None of it.
    Nothing,
}

impl Known {
    /// The log of each of the source's clusters.
    pub(crate) fn archives(&self) -> Vec<&Archive> {
        let others = self.others.iter().map(|other| &other.archive);
        std::iter::once(&self.archive).chain(others).collect()
    }

    /// What of the log of all of its clusters stays, where these base backups stay. Of a cluster without
    /// a base backup nothing is told: all of its log stays.
    pub(crate) fn log_that_stays(&self, stays: impl Fn(&BackupId) -> bool) -> Vec<LogThatStays> {
        let size = self.bases.last().map(|(_, at)| at.segment_size);
        let own = size.map(|size| (self.system_id, &self.archive, size));
        let others = self.others.iter().filter_map(|other| {
            let (size, _) = other.copies.reach()?;
            Some((other.system_id, &other.archive, size))
        });
        let clusters = own.into_iter().chain(others);
        let of = |(system_id, archive, size)| {
            let log = log_of(archive, &stays);
            log.into_iter().map(move |one| told(system_id, size, one)).collect::<Vec<_>>()
        };
        clusters.flat_map(of).collect()
    }
}

fn told(system_id: u64, size: WalSegmentSize, of: LineageLog) -> LogThatStays {
    let LineageLog { lineage: timeline, from } = of;
    let stays = match from {
        Some(StaysFrom::Base { at, backup }) => {
            let at = size.start_of(at);
            Stays::From(at.into(), format!("{backup} needs it from {at} on"))
        }
        Some(StaysFrom::Ancestor(backup)) => {
            Stays::Whole(format!("{backup} stays, on a timeline that grew from it"))
        }
        Some(StaysFrom::NoBase) => Stays::Whole("a base backup may still lead to it".to_owned()),
        None => Stays::Nothing,
    };
    let called = format!("the WAL of timeline {timeline} of the cluster {system_id}");
    LogThatStays { lineage: Lineage::of_timeline(system_id, timeline), called, stays }
}
