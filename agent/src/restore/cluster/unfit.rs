//! Settings of a restored cluster with which its server does not start on this host. The recovery does
//! without them; they stay in the cluster's files, which are its owner's.

use drctl_engines::pg::physical::{Layout, UnfitSetting, unfit_settings};

use super::RecoverRequest;

/// How many are told one by one before the replay.
const TOLD: usize = 20;

/// Those of the cluster; none where the server's program could not be asked, which is told.
pub(super) fn unfit(request: &RecoverRequest<'_>, layout: &Layout) -> Vec<UnfitSetting> {
    unfit_settings(&request.bin_dir, layout).unwrap_or_else(|error| {
        tracing::warn!(
            "whether the cluster's own configuration fits this host was not checked: {error}"
        );
        Vec::new()
    })
}

/// The same, told at once.
pub(super) fn told(request: &RecoverRequest<'_>, layout: &Layout) -> Vec<UnfitSetting> {
    let unfit = unfit(request, layout);
    for one in unfit.iter().take(TOLD) {
        tracing::warn!(
            "the recovery does without a setting of the source that this host cannot take; until you \
             change it, the cluster's own server will not start here: {one}"
        );
    }
    if let Some(more) = unfit.len().checked_sub(TOLD).filter(|more| *more > 0) {
        tracing::warn!(
            "the same holds for {more} settings more, which the end of the recovery names"
        );
    }
    unfit
}
