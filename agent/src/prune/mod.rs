//! What of a source no policy keeps: planned from the bucket, shown, and removed when that is asked for.

mod blocked;
mod carry_out;
mod holdings;
mod orphans;
mod plan;
mod pruned;
mod reasons;
mod remove;
mod streak;

pub use blocked::{Reason, Reasons};
pub use carry_out::carry_out;
pub use orphans::Orphan;
pub use plan::{LogCut, Planned, PrunePlan, Rest};
pub use pruned::Pruned;
pub(crate) use reasons::reasons;
pub use remove::{remove, remove_unattended};

use anyhow::Result;
use drctl_catalog::Catalog;
use drctl_model::SourceId;

use self::holdings::holdings;
use crate::host::locks::SourceLock;
use crate::host::{AgentError, Setup};
use crate::repository::Repository;

/// Plans what of a source may go; removes nothing. `ours` is the source's lock, where the caller has it.
///
/// # Errors
/// [`AgentError::UnknownSource`] for one that this host has no policy for; the store's, the catalog's.
/// Whatever cannot be listed or read in full is an error, or blocks removal.
pub async fn plan(
    setup: &Setup,
    repository: &Repository,
    catalog: &Catalog,
    source: &SourceId,
    ours: Option<&SourceLock>,
) -> Result<PrunePlan> {
    let Some((_, configured)) = setup.configured(source.as_str()) else {
        let known = setup.config.sources.keys().cloned().collect();
        let source_name = source.to_string();
        return Err(AgentError::UnknownSource { source_name, known }.into());
    };
    let holdings = holdings(setup, repository, catalog, (source, ours)).await?;
    Ok(plan::decided(&configured.policy, holdings, setup.clock.now()))
}
