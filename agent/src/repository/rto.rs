//! How long a restore will take, by the evidence of drills.

use anyhow::Result;
use drctl_model::{Drill, SourceId};
use drctl_policies::rto::{Forecast, Measured, forecast};
use jiff::Timestamp;

use super::Repository;
use super::drills::newest;

/// So many drills foretell, the newest, found among so many objects.
const MOST: (usize, usize) = (50, 200);

/// What a drill measured of a restore; nothing where nothing was proven, it was done by hand, or others were done at
/// once.
#[must_use]
pub(crate) fn measured(drill: &Drill) -> Option<Measured> {
    let run = drill.run.as_ref()?;
    (drill.outcome.is_proven() && run.together.is_none()).then_some(())?;
    Some(Measured { at: drill.started, bytes: run.bytes?, ms: run.restore_ms() })
}

/// How long a restore of so many bytes will take; nothing where no drill has measured one.
///
/// # Errors
/// [`StoreError`](drctl_store::StoreError) of a bucket that cannot be read.
pub(crate) async fn foretold(
    repository: &Repository,
    source: &SourceId,
    bytes: u64,
    now: Timestamp,
) -> Result<Option<Forecast>> {
    let (drills, _) = newest(repository, source, MOST, |_| false).await?;
    let measured: Vec<Measured> =
        drills.iter().rev().filter_map(|(drill, _)| measured(drill)).collect();
    Ok(forecast(&measured, (bytes, now), None))
}
