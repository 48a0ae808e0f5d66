//! drctl's own pieces in the bucket, as an archive of log.

use std::collections::BTreeMap;

use anyhow::Result;
use drctl_catalog::{Catalog, Subject};
use drctl_model::{Ancestor, Closeness, Lsn, NotedPoint, Timeline, TimelineHistory};
use drctl_policies::recovery::RestorePoint;
use drctl_store::Identities;

use super::log_archive::{
    ArchiveVerdict, ArchivedLog, Extent, LogArchive, Look, Replay, Requirements, Search,
};
use super::pg::{FoundChanges, changes};
use super::wal::{self, Segment, WalLog, cluster_log, verify_log};
use crate::log::LogStore;

/// A source's pieces.
pub(crate) struct Pieces<'a> {
    pub(crate) log_store: LogStore,
    /// What the catalog knows of them is not read again.
    pub(crate) cache: Option<&'a Catalog>,
    /// What opens them.
    pub(crate) identities: Option<&'a Identities>,
}

#[async_trait::async_trait(?Send)]
impl LogArchive for Pieces<'_> {
    async fn list(&self, system_id: u64, _: Option<Extent>) -> Result<ArchivedLog> {
        let mut found = ArchivedLog::default();
        let logs = cluster_log(&self.log_store, system_id, self.cache, &mut found.refused).await?;
        for (timeline, WalLog { entries, notes, once, unbelieved, newer, .. }) in logs {
            let point = |NotedPoint { lsn, at, name, .. }: NotedPoint| RestorePoint {
                timeline,
                name,
                lsn,
                at,
            };
            found.points.extend(notes.points.into_iter().map(point));
            found.histories.extend(notes.history.map(|ancestors| history(timeline, &ancestors)));
            found.breaks.extend(notes.breaks.iter().map(|one| (timeline, one.at)));
            found.once.extend(once.map(|end| (timeline, end)));
            found.unbelieved.extend(unbelieved.map(|end| (timeline, end)));
            found.pieces += entries.len() as u64;
            found.entries.insert(timeline, entries);
            found.newer.insert(timeline, newer);
        }
        Ok(found)
    }

    async fn verify(&self, look: &Look<'_>) -> Result<Option<ArchiveVerdict>> {
        let (repository, source) = (self.log_store.repository(), &self.log_store.source);
        let log = verify_log(repository, source, look.data, self.identities, look.limits).await?;
        let (closeness, words) = match (look.data, log.opened) {
            (_, true) => (Closeness::Plain, "every stored byte and every record"),
            (true, false) => (
                Closeness::Stored,
                "signatures and every stored byte; not decrypted: no identity at hand fits",
            ),
            (false, false) => {
                (Closeness::Structure, "the signature of every piece; its data was not read")
            }
        };
        let (subject, backups) = (Subject::Log, BTreeMap::new());
        let is_there = log.pieces > 0 || !log.problems.is_empty();
        let found = ArchiveVerdict { subject, closeness, words, log, backups, tells_gaps: false };
        Ok(is_there.then_some(found))
    }

    async fn changes(&self, search: &Search<'_>) -> Result<FoundChanges> {
        let Some(identities) = self.identities else { return Ok(FoundChanges::default()) };
        let Search { system_id, size, times, least, meter, .. } = *search;
        let of = (system_id, size);
        changes(&self.log_store, of, self.cache, times, least, identities, meter).await
    }

    // Its list tells it.
    async fn requirements(&self, _: &Replay<'_>) -> Result<Requirements> {
        Ok(Requirements::default())
    }

    async fn segment(&self, segment: &Segment) -> Result<Option<Vec<u8>>> {
        let Some(identities) = self.identities else { return Ok(None) };
        wal::segment(&self.log_store, segment, identities).await
    }
}

fn history(timeline: Timeline, ancestors: &[(Timeline, Lsn)]) -> TimelineHistory {
    let ancestor = |(timeline, until): &(Timeline, Lsn)| Ancestor {
        timeline: *timeline,
        until: *until,
        reason: String::new(),
    };
    TimelineHistory { timeline, ancestors: ancestors.iter().map(ancestor).collect() }
}
