//! The base backup, extracted: what an earlier attempt has noted as whole is kept.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use drctl_engines::pg::physical::{Layout, look_again};
use drctl_model::Content;

use super::{RecoveryState, Step};
use crate::host::files::{self, gone};
use crate::host::{Limits, Meter, Stop, crash_point};
use crate::repository::Repository;
use crate::restore::combine::discard_chain;
use crate::restore::{RestorePlan, RestoreRequest, restore};

/// Extracts a base backup, stream by stream, each noted once all of it is on the disk. What an
/// earlier attempt has noted is kept, and then compared with the server's list of files; where it
/// differs all of it is extracted anew.
///
/// # Errors
/// As [`restore`].
pub async fn extract_base(
    repository: &Repository,
    request: &RestoreRequest,
    plan: &RestorePlan,
    (state, limits): (&mut RecoveryState, Limits),
    meter: &Meter,
    stop: &Stop,
) -> Result<()> {
    if state.step() != Step::Extracting {
        return Ok(());
    }
    if plan.chain.is_some() {
        return extract_chain(repository, request, plan, (state, limits), meter, stop).await;
    }
    let kept = plan.items.iter().any(|item| state.has(&item.stream.id));
    extract_rest(repository, request, plan, (state, limits), meter, stop).await?;
    if kept {
        meter.label("comparing what was kept with the server's list");
        let layout = Layout::new(state.directory());
        let work = move || look_again(&layout).map_err(anyhow::Error::from);
        if let Err(error) = tokio::task::spawn_blocking(work).await? {
            tracing::warn!(
                "what an earlier attempt extracted is incomplete, extracting again: \
                            {error:#}"
            );
            state.forget()?;
            extract_rest(repository, request, plan, (state, limits), meter, stop).await?;
        }
    }
    crash_point("recovery-extracted");
    state.reach(Step::Replaying)
}

/// A chain is extracted as a whole, or anew: what becomes of it is no single backup's own.
async fn extract_chain(
    repository: &Repository,
    request: &RestoreRequest,
    plan: &RestorePlan,
    (state, limits): (&mut RecoveryState, Limits),
    meter: &Meter,
    stop: &Stop,
) -> Result<()> {
    crash_point("recovery-begun");
    discard_chain(state.directory())?;
    for item in &plan.items {
        discard(state.directory(), &item.facts.content)?;
    }
    restore(repository, request, plan, limits, meter, stop).await?;
    crash_point("recovery-extracted");
    state.reach(Step::Replaying)
}

async fn extract_rest(
    repository: &Repository,
    request: &RestoreRequest,
    plan: &RestorePlan,
    (state, limits): (&mut RecoveryState, Limits),
    meter: &Meter,
    stop: &Stop,
) -> Result<()> {
    crash_point("recovery-begun");
    let mut missing = Vec::new();
    for item in &plan.items {
        // The list lies in the data directory: it goes when that is extracted anew.
        let list = item.facts.content == Content::Listing;
        if !state.has(&item.stream.id) || (list && !missing.is_empty()) {
            missing.push(item);
        }
    }
    meter.begin(0);
    for item in missing {
        discard(state.directory(), &item.facts.content)?;
        let one = RestorePlan {
            items: vec![item.clone()],
            chain: None,
            fetch_bytes: item.stream.sealed_bytes,
            plain_bytes: item.stream.plain_bytes,
            room: None,
            notes: Vec::new(),
            outside: None,
            kept: Vec::new(),
            code: None,
            estimate: None,
        };
        restore(repository, request, &one, limits, meter, stop).await?;
        state.extracted(&item.stream.id)?;
        crash_point("recovery-stream-extracted");
    }
    Ok(())
}

/// Removes what there is of a stream that is not there as a whole.
///
/// # Errors
/// The file system's.
fn discard(directory: &Path, content: &Content) -> Result<()> {
    let layout = Layout::new(directory);
    let path = match content {
        Content::Tablespace(facts) => match facts.oid {
            Some(oid) => layout.tablespace(oid),
            None => layout.data(),
        },
        _ => {
            for name in ["backup_manifest", "backup_manifest.part"] {
                let path = layout.data().join(name);
                gone(fs::remove_file(&path))
                    .with_context(|| format!("remove {}", path.display()))?;
            }
            return Ok(());
        }
    };
    files::discard(&path)
}
