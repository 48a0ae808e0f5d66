//! Leases: a restore or a drill tells whoever removes, on any host, that it reads a source.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use drctl_model::{BackupId, JobKind, SourceId, shown};
use drctl_store::{Bucket, State, Stored, layout};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

use super::Repository;
use crate::host::Setup;

/// How long a lease counts from when the store got it.
const LIVES: SignedDuration = SignedDuration::from_hours(2);

/// How often one takes the place of the last: several may fail before nothing tells of the restore.
const EVERY: Duration = Duration::from_secs(20 * 60);

/// For how long a restore waits until the store has its lease, or has removed it.
const PATIENCE: Duration = Duration::from_secs(10);

/// How large a lease may be: one of ours has some hundred bytes.
const MAX_BYTES: u64 = 4096;

/// How many that ended are removed at once.
const SWEPT: usize = 1_000;

/// How many are read to say who has them.
const READ: usize = 3;

/// How much of what one says is shown.
const SHOWN: usize = 100;

/// What a lease says of itself: only for people, since nobody has signed it.
#[derive(Debug, Serialize, Deserialize)]
struct Lease {
    kind: String,
    host: String,
    started: Timestamp,
}

/// Does the work of a job; as long as it is a restore or a drill, leases tell that it reads the sources.
/// Nothing waits for the store for long, and no work fails because it takes no lease.
pub(crate) async fn leased<T>(
    setup: &Setup,
    (kind, sources): (JobKind, &[SourceId]),
    work: impl Future<Output = T>,
) -> T {
    if !matches!(kind, JobKind::Restore | JobKind::Drill) {
        return work.await;
    }
    let mut leases =
        Leases { setup, kind, sources, started: setup.clock.now(), held: Vec::new(), told: false };
    leases.renew().await;
    let done = tokio::select! {
        biased;
        done = work => done,
        never = leases.keep() => match never {},
    };
    leases.release().await;
    done
}

struct Leases<'a> {
    setup: &'a Setup,
    kind: JobKind,
    sources: &'a [SourceId],
    started: Timestamp,
    held: Vec<(SourceId, BackupId)>,
    /// Whether it was told that none is held.
    told: bool,
}

impl Leases<'_> {
    async fn keep(&mut self) -> Infallible {
        loop {
            sleep(EVERY).await;
            self.renew().await;
        }
    }

    /// Writes new ones, then removes those before.
    async fn renew(&mut self) {
        let old = self.held.clone();
        let written = timeout(PATIENCE, self.write()).await;
        let why = match written {
            Ok(Ok(())) => {
                self.remove(&old).await;
                return;
            }
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => format!("the store did not answer within {} seconds", PATIENCE.as_secs()),
        };
        let kind = self.kind.as_str();
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!(
                "no lease in the bucket tells other hosts of this {kind}, so a `drctl prune` there may remove \
                 what it reads (`drctl freeze` keeps all): {why}"
            );
        }
    }

    async fn write(&mut self) -> Result<()> {
        let repository = self.setup.repository().await?;
        repository.may_write().await?;
        let (kind, host) = (self.kind.as_str().to_owned(), self.setup.host());
        let lease = Lease { kind, host, started: self.started };
        let bytes = Bytes::from(serde_json::to_vec(&lease).context("write a lease")?);
        for source in self.sources {
            let id = BackupId::new(self.setup.clock.now(), rand::random());
            // What is not known to be there may be.
            self.held.push((source.clone(), id.clone()));
            repository.bucket.put(&layout::lease(source, &id), bytes.clone()).await?;
        }
        Ok(())
    }

    async fn release(&mut self) {
        let held = self.held.clone();
        self.remove(&held).await;
    }

    /// Removes some, where we may: the others end by themselves.
    async fn remove(&mut self, some: &[(SourceId, BackupId)]) {
        self.held.retain(|one| !some.contains(one));
        let removing = async {
            let bucket = self.setup.for_prune().bucket()?;
            for (source, id) in some {
                remove(&bucket, source, id).await?;
            }
            anyhow::Ok(())
        };
        match timeout(PATIENCE, removing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!("a lease stays in the bucket: {error:#}"),
            Err(_) => tracing::debug!("a lease stays in the bucket: the store does not answer"),
        }
    }
}

async fn remove(bucket: &Bucket, source: &SourceId, id: &BackupId) -> Result<()> {
    for state in bucket.states_of(&layout::lease(source, id)).await? {
        let _ = bucket.remove(&state).await?;
    }
    Ok(bucket.remove_empty_folders(&layout::leases(source)).await?)
}

/// Removes those that do not count any more, which hosts have left that died or may not delete. Where that does
/// not work they stay, and are in nobody's way.
pub(crate) async fn sweep(repository: &Repository, source: &SourceId, now: Timestamp) {
    let swept = async {
        let mut old = Vec::new();
        let each = |state: State| {
            if layout::lease_at(&state.key).is_some() && ends(&state).is_some_and(|at| at <= now) {
                old.push(state);
            }
            match old.len() < SWEPT {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        };
        repository.bucket.list_states(&layout::leases(source), None, each).await?;
        for state in &old {
            let _ = repository.bucket.remove(state).await?;
        }
        anyhow::Ok(())
    };
    if let Err(error) = swept.await {
        tracing::debug!("old leases stay in the bucket: {error:#}");
    }
}

/// Until when one counts; nothing where the store does not tell when it got it.
fn ends(state: &State) -> Option<Timestamp> {
    state.stored.and_then(|at| at.checked_add(LIVES).ok())
}

/// The leases of a source that count, in a sentence; nothing where there is none.
///
/// # Errors
/// The store's, if it cannot list them.
pub(crate) async fn in_force(
    repository: &Repository,
    source: &SourceId,
    now: Timestamp,
) -> Result<Option<String>> {
    let mut found = Vec::new();
    let each = |state: State| {
        let is_lease = !state.deleted && layout::lease_at(&state.key).is_some();
        let ends = ends(&state);
        if is_lease && ends.is_none_or(|at| now < at) {
            found.push((ends, state.key));
        }
        ControlFlow::Continue(())
    };
    let folder = layout::leases(source);
    let listing = repository.bucket.list_states(&folder, None, each);
    listing.await.context("list the leases of restores")?;
    found.sort();
    let Some((last, _)) = found.last() else { return Ok(None) };
    let until = last.map_or(String::new(), |at| format!(", or at {at:.0} unless it is renewed"));
    let mut who = Vec::new();
    for (_, key) in found.iter().rev().take(READ) {
        let bytes = repository.bucket.get_stored(&Stored::newest(key), MAX_BYTES).await;
        let read = bytes.ok().and_then(|bytes| serde_json::from_slice::<Lease>(&bytes).ok());
        who.push(match read {
            Some(Lease { kind, host, started }) => format!(
                "a {} on {} since {started:.0} ({key})",
                shown(&kind, SHOWN),
                shown(&host, SHOWN)
            ),
            None => format!("whoever wrote {key}"),
        });
    }
    let more = match found.len().saturating_sub(READ) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Ok(Some(format!(
        "{}{more} reads it, as a lease in the bucket says; that ends with it{until}",
        who.join(", ")
    )))
}
