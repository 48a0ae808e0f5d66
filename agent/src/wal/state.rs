//! Where a source's log stands, for `status`.

use anyhow::Result;
use drctl_catalog::Catalog;
use drctl_model::SourceId;
use drctl_policies::recovery::{Standing, standing};

use super::archive::{Copies, learn};
use crate::Repository;

/// Where the log of a source stands whose copies the catalog knows; nothing where there is no
/// copy, or no log. What `cache` knows of the log is not read again.
///
/// # Errors
/// The store's and the catalog's.
pub async fn log_state(
    repository: &Repository,
    source: &SourceId,
    catalog: &Catalog,
    cache: Option<&Catalog>,
) -> Result<Option<Standing>> {
    // A broken chain is told of by itself.
    let copies = Copies::of(&catalog.backups(Some(source)).await?, &mut Vec::new());
    let known = learn(repository, source, copies, cache, Vec::new()).await?;
    Ok(known.filter(|known| known.pieces > 0).and_then(|known| standing(&known.archive)))
}
