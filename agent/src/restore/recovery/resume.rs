//! The directory becomes this recovery's.

use anyhow::Result;

use super::Planned;
use crate::restore::cluster::{Identity, RecoveryState, bound_digest, end_own};

/// Begins a recovery in its directory, or goes on with the one that broke off there, as the request
/// says. The directory is ours alone while what this gives lives; a server that an earlier attempt left
/// running is ended.
///
/// # Errors
/// As [`RecoveryState::begin`], [`RecoveryState::resume`] and [`end_own`].
pub async fn resume(planned: &Planned<'_>) -> Result<RecoveryState> {
    let directory = planned.request.directory()?;
    let of = Identity {
        source: planned.request.source.to_string(),
        plan: bound_digest(&planned.plan),
        base: planned.plan.base.clone(),
    };
    let state = match planned.request.resume {
        true => RecoveryState::resume(directory, &of)?,
        false => RecoveryState::begin(directory, of)?,
    };
    end_own(&state).await?;
    Ok(state)
}
