//! Restore drills: what a recovery that is one comes to is kept in the bucket, signed.

use std::time::Instant;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use drctl_model::{
    BackupId, DRILL_RUN, Drill, DrillId, DrillOutcome, DrillRun, Header, Named, SourceId,
    TableRows, Timeline, shown, total,
};
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

    /// Keeps what a recovery came to, read back; gives the name under which it lies.
    ///
    /// # Errors
    /// [`StoreError`](drctl_store::StoreError); nothing of what was restored is touched.
    pub async fn end(
        self,
        repository: &Repository,
        source: &SourceId,
        (system_id, plan): (u64, &RecoveryPlan),
        done: Result<&Recovered, &anyhow::Error>,
    ) -> Result<DrillId> {
        let tried = Tried {
            system_id: Some(system_id),
            timeline: Some(plan.timeline),
            base: Some(plan.base.clone()),
            target: plan.target.to_string(),
        };
        self.keep(repository, source, (tried, None), outcome(plan, done))
            .await
            .map(|drill| drill.drill)
    }

    /// Keeps what it came to and how it went, read back.
    ///
    /// # Errors
    /// [`StoreError`](drctl_store::StoreError); nothing of what was restored is touched.
    pub(crate) async fn keep(
        self,
        repository: &Repository,
        source: &SourceId,
        (tried, run): (Tried, Option<DrillRun>),
        outcome: DrillOutcome,
    ) -> Result<Drill> {
        let took = self.began.elapsed().as_millis();
        let newest = self.newest(repository, source).await;
        let drill = Drill {
            header: Header::new(run.as_ref().map(|_| DRILL_RUN)),
            repository: repository.id.clone(),
            source: source.clone(),
            drill: self.id,
            host: self.setup.host(),
            started: self.started,
            took_ms: u64::try_from(took).unwrap_or(u64::MAX),
            system_id: tried.system_id,
            timeline: tried.timeline,
            base: tried.base,
            newest,
            target: shown(&tried.target, TARGET_SHOWN),
            outcome,
            run,
        };
        repository.may_write().await?;
        let bytes = encode_drill(&drill, &self.key).context("sign the drill's evidence")?;
        let key = layout::drill(source, &drill.drill);
        let put = repository.bucket.put_read_back(&key, Bytes::from(bytes)).await;
        put.context("keep the drill's evidence")?;
        if let Some(catalog) = self.setup.log_cache(repository).await {
            documents::note(&catalog, source, &key).await;
        }
        Ok(drill)
    }

    /// Its name.
    pub(crate) fn id(&self) -> &DrillId {
        &self.id
    }

    /// When it began.
    pub(crate) fn started(&self) -> Timestamp {
        self.started
    }

    /// The newest manifest of the source.
    async fn newest(&self, repository: &Repository, source: &SourceId) -> Option<Named> {
        let catalog = self.setup.log_cache(repository).await;
        before(repository, source, None, catalog.as_ref()).await.into_iter().next()
    }
}

/// What was tried.
pub(crate) struct Tried {
    /// The cluster's system identifier, where the backup tells it.
    pub(crate) system_id: Option<u64>,
    /// The timeline that was followed; nothing for a dump.
    pub(crate) timeline: Option<Timeline>,
    /// The backup; nothing where there was none to try.
    pub(crate) base: Option<BackupId>,
    /// What was asked for, in words.
    pub(crate) target: String,
}

/// What a recovery came to, as evidence has it.
pub(crate) fn outcome(
    plan: &RecoveryPlan,
    done: Result<&Recovered, &anyhow::Error>,
) -> DrillOutcome {
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
            equal: None,
        },
        Err(error) => DrillOutcome::Failed { error: Failure::of(error).code.to_owned() },
    }
}

fn rows(tables: &[TableRows]) -> u64 {
    total(tables.iter().map(|table| table.rows))
}
