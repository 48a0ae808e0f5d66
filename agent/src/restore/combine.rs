//! The restore of a chain of base backups: each is extracted, then all are combined.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use drctl_engines::pg::physical::{Combination, Layout, combine};
use drctl_engines::pg::{SILENCE, combine_program};
use drctl_model::{BackupKind, Content, total};
use drctl_store::open_facts;

use super::plan::choose;
use super::{Destination, Item, RestorePlan, RestoreRequest, Restored, restore};
use crate::host::files::discard;
use crate::host::{AgentError, Limits, Meter, Stop};
use crate::repository::Repository;

/// Where the backups lie until they are combined, below the directory of the restore.
const PARTS: &str = "chain";

/// What a restore does with the backups that an incremental one is based on.
#[derive(Clone)]
pub struct ChainPlan {
    /// The backups before the last, the full one first, each into a directory of its own.
    pub before: Vec<(RestoreRequest, Vec<Item>)>,
    /// The program that combines them.
    pub program: PathBuf,
}

impl ChainPlan {
    /// Bytes to fetch and plain bytes to write of the backups before the last.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        let fetched = total(self.items().map(|item| item.stream.sealed_bytes));
        (fetched, total(self.items().map(|item| item.stream.plain_bytes)))
    }

    /// The streams of the backups before the last.
    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.before.iter().flat_map(|(_, items)| items)
    }
}

/// What is to be done with the backups before an incremental one that is extracted; nothing for
/// anything else.
///
/// # Errors
/// [`AgentError::BrokenChain`]; an identity that does not open one of them; no `pg_combinebackup`.
pub(crate) async fn plan_chain(
    repository: &Repository,
    request: &RestoreRequest,
) -> Result<Option<ChainPlan>> {
    let manifest = &request.backup.manifest;
    let (BackupKind::Incremental(_), Destination::Cluster(directory)) =
        (&manifest.kind, &request.destination)
    else {
        return Ok(None);
    };
    let mut links = repository.chain(&request.backup).await?;
    links.pop();
    let version = manifest.tools.get("server").map_or("", String::as_str);
    let program = combine_program(request.bin_dir.as_deref(), version).await?;
    let mut before = Vec::new();
    for (n, link) in links.into_iter().enumerate() {
        let facts = open_facts(&link.manifest, &request.identities)
            .with_context(|| format!("open the facts of {}", link.manifest.backup))?;
        let destination = Destination::Cluster(part(directory, n));
        let request = RestoreRequest { backup: link, destination, ..request.clone() };
        let items = choose(&request, &request.backup.manifest, facts)?;
        before.push((request, items));
    }
    Ok(Some(ChainPlan { before, program }))
}

fn part(directory: &Path, n: usize) -> PathBuf {
    directory.join(PARTS).join(n.to_string())
}

/// Removes what an attempt that broke off left of the backups in `directory`.
///
/// # Errors
/// The file system's.
pub(crate) fn discard_chain(directory: &Path) -> Result<()> {
    discard(&directory.join(PARTS)).context("remove the backups of an attempt that broke off")
}

/// Restores a chain: every backup as one alone would be, then all are combined and compared.
///
/// # Errors
/// As [`restore`]; those of [`combine`].
pub(crate) async fn restore_chain(
    repository: &Repository,
    request: &RestoreRequest,
    plan: &RestorePlan,
    chain: &ChainPlan,
    limits: Limits,
    meter: &Meter,
    stop: &Stop,
) -> Result<Vec<Restored>> {
    let Destination::Cluster(directory) = &request.destination else {
        return Err(AgentError::Usage(
            "a chain of incremental backups is restored into a directory".into(),
        )
        .into());
    };
    let last = Destination::Cluster(part(directory, chain.before.len()));
    let last = RestoreRequest { destination: last, ..request.clone() };
    let all = chain.before.iter().map(|(request, items)| (request, items));
    let (mut parts, mut done) = (Vec::new(), Vec::new());
    for (request, items) in all.chain([(&last, &plan.items)]) {
        let Destination::Cluster(place) = &request.destination else { continue };
        let manifest = &request.backup.manifest;
        let plain_bytes = total(items.iter().map(|item| item.stream.plain_bytes));
        let plan = RestorePlan { items: items.clone(), plain_bytes, chain: None, ..plan.clone() };
        // One alone: it does not come here again.
        let laid = Box::pin(restore(repository, request, &plan, limits, meter, stop)).await;
        done = laid.with_context(|| format!("lay {} out", manifest.backup))?;
        let listed = manifest.kind.coordinates().and_then(|at| at.listing_sha256);
        parts.push((Layout::new(place), listed));
    }
    meter.label("combining the full and incremental backups");
    let oid = |item: &Item| match &item.facts.content {
        Content::Tablespace(facts) => facts.oid,
        _ => None,
    };
    let count = parts.len();
    let combination = Combination {
        program: chain.program.clone(),
        parts,
        tablespaces: plan.items.iter().filter_map(oid).collect(),
        into: Layout::new(directory),
        silence: SILENCE,
    };
    tokio::select! {
        done = combine(combination) => done.context("combine the full and incremental backups")?,
        () = stop.requested() => return Err(AgentError::Interrupted.into()),
    }
    let work = directory.join(PARTS);
    let remove = tokio::task::spawn_blocking(move || fs::remove_dir_all(work));
    remove.await?.context("remove the backups that were combined")?;
    if let Some(last) = done.last_mut() {
        last.notes.push(format!("combined from {count} backups by pg_combinebackup"));
    }
    Ok(done)
}
