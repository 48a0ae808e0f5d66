//! Several sources tried at once, as after a rack is lost: how long it takes until all of them are back.

use std::collections::BTreeMap;

use anyhow::Result;
use drctl_model::{Drill, DrillId, SourceId, Together};
use drctl_policies::rto::{Forecast, Measured, forecast};
use futures_util::future::join_all;

use super::{DrillDone, DrillRequest, drill_on_record};
use crate::host::{Meter, Setup, Stop};
use crate::repository::drills;

/// What it came to.
pub struct AllDone {
    /// What they have in common.
    pub together: Together,
    /// Of each source what it came to, or why it could not be begun.
    pub each: Vec<(SourceId, Result<DrillDone>)>,
    /// From the first beginning until the last was restored and proven, in milliseconds; nothing unless all were.
    pub restore_ms: Option<u64>,
    /// How long that takes as far as drills of the same sources together tell, this one too.
    pub forecast: Option<Forecast>,
}

/// Tries all of them at once.
///
/// # Errors
/// [`StoreError`](drctl_store::StoreError) of a bucket that cannot be read afterwards: the evidence of each is kept then.
pub async fn drill_together(
    setup: &Setup,
    requests: Vec<DrillRequest>,
    meter: &Meter,
    stop: &Stop,
) -> Result<AllDone> {
    let id = DrillId::new(setup.clock.now(), rand::random());
    let together = Together { id, sources: requests.len() as u64 };
    let requests: Vec<DrillRequest> = requests
        .into_iter()
        .map(|request| DrillRequest { together: Some(together.clone()), ..request })
        .collect();
    let tried = requests.iter().map(|request| drill_on_record(setup, request, meter, stop));
    let done = join_all(tried).await;
    let sources: Vec<SourceId> = requests.into_iter().map(|request| request.source).collect();
    let own: Vec<&Drill> = done.iter().flatten().map(|done| &done.drill).collect();
    let restore_ms = measured(&own, sources.len()).map(|measured| measured.ms);
    let forecast = foretold(setup, &sources).await?;
    Ok(AllDone { together, each: sources.into_iter().zip(done).collect(), restore_ms, forecast })
}

/// How long it took until all were restored; nothing where not all were proven.
fn measured(drills: &[&Drill], sources: usize) -> Option<Measured> {
    let began = drills.iter().map(|drill| drill.started).min()?;
    let is_whole = drills.len() == sources && drills.iter().all(|one| one.outcome.is_proven());
    let ends = drills.iter().map(|drill| {
        let run = drill.run.as_ref()?;
        let after = u64::try_from(drill.started.duration_since(began).as_millis()).ok()?;
        Some((after.saturating_add(run.restored_after_ms()), run.bytes.unwrap_or(0)))
    });
    let ends: Vec<(u64, u64)> = ends.collect::<Option<_>>()?;
    let ms = ends.iter().map(|(ms, _)| *ms).max()?;
    let bytes = drctl_model::total(ends.iter().map(|(_, bytes)| *bytes));
    is_whole.then_some(Measured { at: began, bytes, ms })
}

/// How long it takes, by earlier drills of just these sources together.
async fn foretold(setup: &Setup, sources: &[SourceId]) -> Result<Option<Forecast>> {
    let repository = setup.repository().await?;
    let mut groups: BTreeMap<DrillId, Vec<Drill>> = BTreeMap::new();
    for source in sources {
        for (drill, _) in drills(&repository, source, &mut Vec::new()).await? {
            let of = drill.run.as_ref().and_then(|run| run.together.as_ref());
            if let Some(of) = of.filter(|of| of.sources == sources.len() as u64) {
                groups.entry(of.id.clone()).or_default().push(drill);
            }
        }
    }
    let groups = groups.values().map(|drills| drills.iter().collect::<Vec<_>>());
    let all: Vec<Measured> = groups.filter_map(|all| measured(&all, sources.len())).collect();
    let bytes = all.last().map(|last| last.bytes);
    Ok(bytes.and_then(|bytes| forecast(&all, (bytes, setup.clock.now()), None)))
}
