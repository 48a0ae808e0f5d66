//! Restore drills: what a recovery that is one comes to is kept in the bucket, signed.

use std::time::Instant;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use drctl_model::{Drill, DrillId, DrillOutcome, Header, Named, SourceId, TableRows, shown, total};
use drctl_policies::recovery::RecoveryPlan;
use drctl_store::{SigningKey, encode_drill, layout};
use jiff::Timestamp;

use super::cluster::Recovered;
use crate::host::{Failure, Setup};
use crate::repository::named::before;
use crate::repository::{Repository, documents};
use crate::restore::cluster::left_out;

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
    /// [`StoreError`](drctl_store::StoreError); nothing of the recovery is touched.
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
            header: Header::new([]),
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
        if let Some(catalog) = self.setup.log_cache(repository).await {
            documents::note(&catalog, source, &key).await;
        }
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
