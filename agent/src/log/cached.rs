//! What the catalog knows of a cluster's log: lineages there, timelines here.

use std::collections::{BTreeMap, BTreeSet};

use drctl_catalog::{CachedLog, Catalog, CatalogError};
use drctl_model::{Digest, Lineage, SourceId, Timeline};

/// The clusters of all sources whose log a catalog knows.
///
/// # Errors
/// The catalog's.
pub(crate) async fn cached_clusters(
    catalog: &Catalog,
) -> Result<BTreeSet<(SourceId, u64)>, CatalogError> {
    let known = catalog.logged().await?.into_iter();
    Ok(known.filter_map(|(source, of)| Some((source, of.timeline()?.0))).collect())
}

/// What a catalog knows of a cluster's log, by timeline.
///
/// # Errors
/// The catalog's.
pub(crate) async fn cached_log(
    catalog: &Catalog,
    source: &SourceId,
    system_id: u64,
    trust: Digest,
) -> Result<BTreeMap<Timeline, CachedLog>, CatalogError> {
    let of_cluster = move |of: &Lineage| of.timeline().is_some_and(|(id, _)| id == system_id);
    let known = catalog.logs(source, of_cluster, trust).await?;
    Ok(known.into_iter().filter_map(|(of, log)| Some((of.timeline()?.1, log))).collect())
}
