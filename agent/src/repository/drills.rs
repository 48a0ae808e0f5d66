//! The evidence of restore drills, as it lies in the bucket.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use anyhow::Result;
use drctl_model::{Drill, DrillId, SourceId};
use drctl_store::{MAX_DRILL_BYTES, State, Stored, VerifyingKey, decode_drill, layout};
use futures_util::{StreamExt as _, stream};

use super::Repository;
use super::faults::{is_bad_manifest, is_missing, is_newer};
use super::first::first;
use super::memory::NEWER;
use super::named::Names;

/// How it is told that what a drill has left cannot be believed.
pub(crate) const EVIDENCE: &str = "the evidence of the drill";

/// The newest drills of a source that are looked at.
const MOST: usize = 1000;

/// The newest drills whose evidence is asked which backups there were.
const MOST_NAMING: usize = 4;

/// How many are fetched at once.
const AT_ONCE: usize = 16;

/// A drill whose evidence does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why, as a stable code.
    pub code: &'static str,
    /// Which one, and why.
    pub text: String,
}

/// The newest thousand drills of a source, oldest first, and who signed each. Those that nobody whom we trust has
/// signed, or that only a newer drctl reads, are told in `refused`.
///
/// # Errors
/// [`StoreError`](drctl_store::StoreError) of a bucket that cannot be read.
pub async fn drills(
    repository: &Repository,
    source: &SourceId,
    refused: &mut Vec<Refused>,
) -> Result<Vec<(Drill, VerifyingKey)>> {
    let newest = listed(repository, source, MOST).await?;
    let reading = newest.into_iter().map(|id| async move {
        let found = read(repository, source, &id).await;
        (id, found)
    });
    let mut reading = stream::iter(reading).buffered(AT_ONCE);
    let mut drills = Vec::new();
    while let Some((id, found)) = reading.next().await {
        match found {
            Ok(drill) => drills.push(drill),
            // Somebody removed it, or a rule of the bucket did.
            Err(error) if is_missing(&error) => {}
            Err(error) if is_bad_manifest(&error) => {
                let code = if is_newer(&error) { NEWER } else { "malformed" };
                refused.push(Refused { code, text: format!("{EVIDENCE} {id}: {error:#}") });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(drills)
}

/// The names of the newest drills, oldest first.
async fn listed(repository: &Repository, source: &SourceId, most: usize) -> Result<Vec<DrillId>> {
    let mut ids: BTreeSet<DrillId> = BTreeSet::new();
    // What somebody deleted is listed too, where the bucket keeps it.
    let each = |state: State| {
        ids.extend(layout::drill_at(&state.key).map(|(_, id)| id));
        ControlFlow::Continue(())
    };
    repository.bucket.list_states(&layout::drills(source), None, each).await?;
    let mut ids: Vec<DrillId> = ids.into_iter().collect();
    Ok(ids.split_off(ids.len().saturating_sub(most)))
}

/// The manifests that the evidence of the newest drills names.
///
/// # Errors
/// The store's.
pub(crate) async fn named_by_drills(repository: &Repository, source: &SourceId) -> Result<Names> {
    let mut names = Names::new();
    for id in listed(repository, source, MOST_NAMING).await? {
        match read(repository, source, &id).await {
            Ok((drill, _)) => {
                names.extend(drill.newest.map(|named| (named, format!("the drill {id}"))));
            }
            Err(error) if is_missing(&error) || is_bad_manifest(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(names)
}

async fn read(
    repository: &Repository,
    source: &SourceId,
    id: &DrillId,
) -> Result<(Drill, VerifyingKey)> {
    let key = layout::drill(source, id);
    let read = |stored: Stored| async move {
        let bytes = repository.bucket.get_stored(&stored, MAX_DRILL_BYTES as u64).await?;
        Ok(decode_drill(&bytes, &repository.trust, &repository.id, source, id)?)
    };
    first(&repository.bucket, &key, read, |one, other| one.0 == other.0).await
}
