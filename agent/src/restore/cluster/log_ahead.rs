//! WAL fetched ahead of the recovering server, while it replays.

use std::convert::Infallible;

use anyhow::Result;
use drctl_policies::recovery::{Leg, RecoveryPlan};

use super::RecoverRequest;
use super::aim::runs_to_end;
use super::command::ahead;
use crate::engine::wal::{Ahead, Expected};

/// Does `work`, which ends with [`super::recover`], and meanwhile fetches the WAL that its server
/// will ask for. The earlier it begins the less the server waits; the room for what waits is
/// bounded.
///
/// # Errors
/// The work's; [`std::io::Error`] of the directory before it has begun.
pub async fn with_log_ahead<T>(
    request: &RecoverRequest<'_>,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let ahead = ahead(&request.directory);
    ahead.begin()?;
    let done = tokio::select! {
        done = work => done,
        never = help(request, &ahead) => match never {},
    };
    ahead.end();
    done
}

/// Fetches ahead for as long as it is awaited; does not end by itself.
async fn help(request: &RecoverRequest<'_>, ahead: &Ahead) -> Infallible {
    let Some(size) = request.known.base(&request.plan.base).map(|base| base.segment_size) else {
        return std::future::pending().await;
    };
    let legs = expected(request.plan);
    let fetches = request.setup.limits().fetches;
    if let Ok(archives) = request.log_archives(request.plan.bound) {
        archives.fetch_ahead(ahead, (request.known.system_id, size), &legs, fetches).await;
    }
    std::future::pending().await
}

/// The WAL that a plan needs. One that runs to the end ends where the plan does, whatever comes
/// into the bucket meanwhile.
pub(super) fn expected(plan: &RecoveryPlan) -> Vec<Expected> {
    let leg = |leg: &Leg| Expected {
        timeline: leg.timeline,
        from: leg.from,
        until: leg.until,
        last: false,
    };
    let mut all: Vec<Expected> = plan.path.iter().map(leg).collect();
    if let (true, Some(last)) = (runs_to_end(plan), all.last_mut()) {
        last.last = true;
    }
    all
}
