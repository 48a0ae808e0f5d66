//! The newest copy of a cluster in the bucket.

use anyhow::Result;
use drctl_model::BackupSummary;
use futures_util::TryStreamExt as _;

use crate::chain::Family;
use crate::memory::Memory;
use crate::{Proven, Repository, everything};

impl Repository {
    /// The newest good copy of the source, where `found` is a good one by its identifier, which the
    /// clock of a host made.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn by_position(&self, found: Proven, memory: &Memory) -> Result<Proven> {
        if found.manifest.kind.coordinates().is_none() {
            return Ok(found);
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
        let best = summaries
            .iter()
            .filter(|one| one.is_good() && one.kind.coordinates().is_some())
            .filter(|one| family.broken(one).is_none())
            .max_by(|one, other| one.newer(other));
        let best = best.map(|best| best.backup.clone());
        let newest = all.into_iter().find(|one| Some(&one.manifest.backup) == best.as_ref());
        Ok(newest.unwrap_or(found))
    }
}
