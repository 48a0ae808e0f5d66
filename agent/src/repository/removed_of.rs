//! Of which clusters something was removed on purpose.

use std::collections::BTreeMap;

use anyhow::Result;
use drctl_model::SourceId;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;

use super::removed::{floors_of, log_floors_listed, tombstone, tombstones};
use super::{MANIFESTS_AT_ONCE, Repository};

/// The clusters of which a backup or log of a source was removed on purpose, and when the earliest of these backups
/// began; without an identifier what does not tell, or is not believed.
///
/// # Errors
/// The store's.
pub(crate) async fn removed_of(
    repository: &Repository,
    source: &SourceId,
) -> Result<BTreeMap<Option<u64>, Timestamp>> {
    let mut found = BTreeMap::new();
    let mut note = |of: Option<u64>, at: Timestamp| {
        let first = found.entry(of).or_insert(at);
        *first = at.min(*first);
    };
    let floors = log_floors_listed(repository, source).await?;
    let believed = floors_of(repository, source, floors.clone()).await?;
    for lineage in floors.keys() {
        let cluster = lineage.timeline().map(|(system_id, _)| system_id);
        note(cluster.filter(|_| believed.contains_key(lineage)), Timestamp::MAX);
    }
    let each = |id| async move {
        let stone = tombstone(repository, source, &id).await?;
        Ok::<_, anyhow::Error>((stone.and_then(|stone| stone.system_id), id.begun()))
    };
    let stones = stream::iter(tombstones(repository, source).await?).map(each);
    let stones: Vec<_> = stones.buffered(MANIFESTS_AT_ONCE).try_collect().await?;
    stones.into_iter().for_each(|(of, at)| note(of, at));
    Ok(found)
}
