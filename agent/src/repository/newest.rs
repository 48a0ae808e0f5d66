//! The newest base backup in the bucket.

use anyhow::Result;
use drctl_model::{BackupId, BackupSummary};
use futures_util::TryStreamExt as _;

use super::chain::Family;
use super::{Memory, Proven, Repository, everything};
use crate::host::AgentError;

impl Repository {
    /// The newest good base backup of the source, where `found` is a good one by its identifier,
    /// which the clock of a host made; and one on a later timeline that it has outlived, where
    /// there is one: which of the two servers is meant only people know.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn by_position(
        &self,
        found: Proven,
        memory: &Memory,
    ) -> Result<(Proven, Option<BackupId>)> {
        if found.manifest.kind.coordinates().is_none() {
            return Ok((found, None));
        }
        let mut all = Vec::new();
        let mut each = everything(self, vec![found.manifest.source.clone()]);
        while let Some((_, _, proven)) = each.try_next().await? {
            all.extend(proven.ok());
        }
        drop(each);
        let mut summaries: Vec<BackupSummary> = all.iter().map(Proven::summary).collect();
        memory.mark(&mut summaries);
        let family = Family::of(&summaries);
        let good: Vec<&BackupSummary> = summaries
            .iter()
            .filter(|one| one.is_good() && one.kind.coordinates().is_some())
            .filter(|one| family.broken(one).is_none())
            .collect();
        let best = good.iter().copied().max_by(|one, other| one.newer(other));
        let outlived = best.and_then(|best| good.iter().copied().find(|one| best.outlives(one)));
        let outlived = outlived.map(|outlived| outlived.backup.clone());
        let best = best.map(|best| best.backup.clone());
        let newest = all.into_iter().find(|one| Some(&one.manifest.backup) == best.as_ref());
        Ok((newest.unwrap_or(found), outlived))
    }
}

/// Which of two base backups is the newest one depends on which of two servers is the real one.
pub(crate) fn two_servers(newest: &Proven, outlived: &BackupId) -> anyhow::Error {
    let stop = newest.manifest.kind.coordinates().map(|at| at.stop_timeline);
    let text = format!(
        "it is not clear which base backup is the newest, and nothing was done: {outlived} is on \
         the newest timeline, but {}{} was made later",
        newest.manifest.backup,
        stop.map(|timeline| format!(" on timeline {timeline}")).unwrap_or_default()
    );
    let hint = "look at `drctl timeline`, and give --backup with the base backup of the real \
                server";
    AgentError::NoPlan(text, hint).into()
}
