//! Restore drills: what a recovery that is one comes to is kept in the bucket, signed.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::Instant;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use drctl_model::{
    Drill, DrillId, DrillOutcome, FORMAT_VERSION, Named, SourceId, TableRows, shown, total,
};
use drctl_policies::recovery::RecoveryPlan;
use drctl_store::{
    MAX_DRILL_BYTES, SigningKey, State, Stored, VerifyingKey, decode_drill, encode_drill, layout,
};
use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;

use crate::first::first;
use crate::named::{Names, before};
use crate::problem::Failure;
use crate::repository::is_bad_manifest;
use crate::wal::is_missing;
use crate::{Recovered, Repository, Setup, left_out};

/// How it is told that what a drill has left cannot be believed.
pub(crate) const EVIDENCE: &str = "the evidence of the drill";

/// The newest drills of a source that are looked at.
const MOST: usize = 1000;

/// The newest drills whose evidence is asked which backups there were.
const MOST_NAMING: usize = 4;

/// How many are fetched at once.
const AT_ONCE: usize = 16;

/// The most characters of a target that are kept.
const TARGET_SHOWN: usize = 200;

/// The most things that are told to have been left out.
const MOST_LEFT_OUT: usize = 16;

/// A drill under way.
pub struct Drilling<'a> {
    setup: &'a Setup,
    key: SigningKey,
    id: DrillId,
    started: Timestamp,
    began: Instant,
}

impl<'a> Drilling<'a> {
    /// Begins one; nothing is written before it ends.
    ///
    /// # Errors
    /// As [`Setup::signing_key`]: nobody would believe its evidence.
    pub fn begin(setup: &'a Setup) -> Result<Self> {
        let key = setup.signing_key()?;
        let started = setup.clock.now();
        let id = DrillId::new(started, rand::random());
        Ok(Drilling { setup, key, id, started, began: Instant::now() })
    }

    /// Keeps what it came to, read back; gives the name under which it lies.
    ///
    /// # Errors
    /// The store's; nothing of the recovery is touched.
    pub async fn end(
        self,
        repository: &Repository,
        source: &SourceId,
        (system_id, plan): (u64, &RecoveryPlan),
        done: Result<&Recovered, &anyhow::Error>,
    ) -> Result<DrillId> {
        let took = self.began.elapsed().as_millis();
        let newest = self.newest(repository, source).await;
        let drill = Drill {
            v: FORMAT_VERSION,
            min_reader: FORMAT_VERSION,
            features: Vec::new(),
            repository: repository.id.clone(),
            source: source.clone(),
            drill: self.id,
            host: self.setup.host(),
            started: self.started,
            took_ms: u64::try_from(took).unwrap_or(u64::MAX),
            system_id,
            timeline: plan.timeline,
            base: plan.base.clone(),
            newest,
            target: shown(&plan.target.to_string(), TARGET_SHOWN),
            outcome: outcome(plan, done),
        };
        repository.may_write().await?;
        let bytes = encode_drill(&drill, &self.key).context("sign the drill's evidence")?;
        let key = layout::drill(source, &drill.drill);
        let put = repository.bucket.put_read_back(&key, Bytes::from(bytes)).await;
        put.context("keep the drill's evidence")?;
        Ok(drill.drill)
    }

    /// The newest manifest of the source.
    async fn newest(&self, repository: &Repository, source: &SourceId) -> Option<Named> {
        let catalog = self.setup.log_cache(repository).await;
        before(repository, source, None, catalog.as_ref()).await.into_iter().next()
    }
}

fn outcome(plan: &RecoveryPlan, done: Result<&Recovered, &anyhow::Error>) -> DrillOutcome {
    match done {
        Ok(done) => DrillOutcome::Proven {
            replayed: done.proof.replayed,
            shows: done.proof.shows,
            counted: done.extracted.iter().map(|table| rows(&table.rows)).collect(),
            left_out: left_out(plan)
                .iter()
                .take(MOST_LEFT_OUT)
                .map(|one| shown(one, TARGET_SHOWN))
                .collect(),
        },
        Err(error) => DrillOutcome::Failed { error: Failure::of(error).code.to_owned() },
    }
}

fn rows(tables: &[TableRows]) -> u64 {
    total(tables.iter().map(|table| table.rows))
}

/// The newest thousand drills of a source, oldest first, and who signed each. Those that nobody whom we trust has
/// signed are told in `refused`.
///
/// # Errors
/// The store's.
pub async fn drills(
    repository: &Repository,
    source: &SourceId,
    refused: &mut Vec<String>,
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
                refused.push(format!("{EVIDENCE} {id}: {error:#}"));
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
