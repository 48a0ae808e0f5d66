//! What a drill came to, kept for others to see.

use anyhow::Result;
use drctl_model::DrillId;

use super::Planned;
use crate::host::{Exit, Failure};
use crate::restore::Drilling;
use crate::restore::cluster::Recovered;

/// Keeps what a drill came to as signed evidence in the bucket, whether it was proven or failed; gives
/// the name under which it lies. Of what is no drill nothing is kept, nor of one that was stopped: it
/// came to nothing.
///
/// # Errors
/// As [`Drilling::end`]; the recovery is what it was.
pub async fn prove(
    planned: &Planned<'_>,
    drilling: Option<Drilling<'_>>,
    done: Result<&Recovered, &anyhow::Error>,
) -> Result<Option<DrillId>> {
    let stopped = |error: &&anyhow::Error| Failure::of(error).exit == Exit::Interrupted;
    let Some(drilling) = drilling.filter(|_| !done.as_ref().is_err_and(stopped)) else {
        return Ok(None);
    };
    let Planned { repository, known, request, plan, .. } = planned;
    let kept = drilling.end(repository, &request.source, (known.system_id, plan), done).await;
    if let (Err(error), true) = (&kept, done.is_err()) {
        tracing::error!("that the drill failed could not be kept in the bucket: {error:#}");
    }
    kept.map(Some)
}
