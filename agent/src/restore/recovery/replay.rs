//! Base and log brought to the target.

use anyhow::{Result, bail};

use super::Planned;
use super::prepare::{Base, Prepared};
use crate::host::{Meter, Stop};
use crate::restore::cluster::{
    RecoverRequest, Recovered, RecoveryState, extract_base, recover, stanza_base, with_log_ahead,
};
use crate::restore::outside::bring;

/// Extracts the base as far as it is not there, replays the log onto it, proves that the server stands
/// at its target, and does with the cluster what was asked for. Log is fetched ahead meanwhile.
///
/// # Errors
/// [`AgentError::Mismatch`](crate::host::AgentError::Mismatch) where the target was not reached: what
/// is there is not to be used; as [`extract_base`] and [`recover`]. [`way_on`](super::way_on) tells what
/// leads on.
pub async fn replay(
    planned: &Planned<'_>,
    prepared: Prepared,
    state: &mut RecoveryState,
    meter: &Meter,
    stop: &Stop,
) -> Result<Recovered> {
    let Prepared { base, bin_dir, user, identity, sandbox, outside, .. } = prepared;
    let Planned { setup, repository, known, request, plan, .. } = planned;
    let recovery = RecoverRequest {
        setup,
        repository,
        source: request.source.as_str(),
        known,
        plan,
        directory: request.directory()?.to_owned(),
        identity,
        user,
        bin_dir,
        choice: request.then.clone(),
        sandbox,
        preload: request.preload.clone(),
    };
    // Whoever is to start the server afterwards has them from the beginning.
    let outside = bring(&recovery.directory, outside.as_ref())?;
    let done = match (&base, &known.stanza) {
        (Base::Stored(base), _) => {
            let (request, base) = &**base;
            let limits = setup.limits();
            Box::pin(extract_base(repository, request, base, (state, limits), meter, stop)).await?;
            with_log_ahead(&recovery, Box::pin(recover(&recovery, state, meter, stop))).await
        }
        (Base::Archived(label), Some(stanza)) => {
            // pgBackRest leaves us a processor while it restores.
            let work = async {
                stanza_base::restore_base(stanza, label, state, meter, stop).await?;
                Box::pin(recover(&recovery, state, meter, stop)).await
            };
            with_log_ahead(&recovery, work).await
        }
        (Base::Archived(label), None) => bail!("there is no stanza with {label}"),
    };
    Ok(Recovered { outside, ..done? })
}
