//! Signed objects beside backups and log that say something of them (statements, acceptances, tombstones,
//! log floors, drills): what of them does not count, for whoever looks at all that there is; and what of them
//! this host has read and the bucket lacks.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use drctl_catalog::Catalog;
use drctl_model::{SourceId, shown};
use drctl_store::{Key, State, StoreError, layout};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::drills::{self, drills};
use super::faults::{is_bad_manifest, is_missing, is_newer, is_unsigned};
use super::memory::NEWER;
use super::removed::tombstone;
use super::statements::statements;
use super::{MANIFESTS_AT_ONCE, Repository, accept, removed};

/// How many that this host does not know yet are read in one look: the next one reads more.
const MOST_NEW: usize = 500;

/// How much of what is wrong with one goes into a sentence.
const SHOWN: usize = 500;

/// What of a source's does not count.
#[derive(Debug, Clone, Default)]
pub struct Doubtful {
    /// What is there and is not believed, each in a sentence.
    pub refused: Vec<String>,
    /// What only a newer drctl reads, with what to install.
    pub newer: Vec<String>,
    /// Keys of what was there, as the others tell, and why that matters.
    pub missing: Vec<(String, String)>,
    /// Keys of what is there, is not believed and nobody whom we trust has signed, with what is refused.
    pub(crate) unsigned: Vec<(String, String)>,
}

impl Doubtful {
    /// Adds what there is of another source.
    pub(crate) fn extend(&mut self, other: Doubtful) {
        self.refused.extend(other.refused);
        self.newer.extend(other.newer);
        self.missing.extend(other.missing);
        self.unsigned.extend(other.unsigned);
    }
}

/// Reads all statements, tombstones and log floors of a source.
///
/// # Errors
/// The store's.
pub(crate) async fn doubtful(repository: &Repository, source: &SourceId) -> Result<Doubtful> {
    let said = statements(repository, source).await?;
    let missing = said.missing().map(|(n, why)| (layout::statement(source, n).to_string(), why));
    let mut found = Doubtful {
        refused: said.refused().collect(),
        newer: said.newer().collect(),
        missing: missing.collect(),
        unsigned: Vec::new(),
    };
    for (key, error) in removed::disbelieved(repository, source).await? {
        let why = shown(&format!("{error:#}"), SHOWN);
        match is_newer(&error) {
            true => found.newer.push(format!("only a newer drctl reads {key}: {why}")),
            false => {
                let text = format!(
                    "{key} is not believed here ({why}): what it says was removed counts as lost where \
                     somebody misses it"
                );
                found.unsigned.extend(is_unsigned(&error).then(|| (key.to_string(), text.clone())));
                found.refused.push(text);
            }
        }
    }
    Ok(found)
}

/// The same and the evidence of drills, where nobody else reads that.
///
/// # Errors
/// The store's.
pub(crate) async fn doubtful_with_drills(
    repository: &Repository,
    source: &SourceId,
) -> Result<Doubtful> {
    let mut found = doubtful(repository, source).await?;
    let mut refused = Vec::new();
    drills(repository, source, &mut refused).await?;
    for one in refused {
        let of = if one.code == NEWER { &mut found.newer } else { &mut found.refused };
        of.push(shown(&one.text, SHOWN));
    }
    Ok(found)
}

/// Notes of one that was just written that this host knows it.
pub(crate) async fn note(catalog: &Catalog, source: &SourceId, key: &Key) {
    let read = [key.to_string()].into();
    let noted = catalog.note_documents(source, read, BTreeSet::new()).await;
    let _ = noted.inspect_err(|error| tracing::debug!("{key} is not noted: {error}"));
}

/// Writes one, create-only, and notes that this host knows it.
///
/// # Errors
/// The store's.
pub(crate) async fn put(
    repository: &Repository,
    catalog: &Catalog,
    (source, key): (&SourceId, &Key),
    bytes: Vec<u8>,
) -> Result<(), StoreError> {
    repository.bucket.put_read_back(key, Bytes::from(bytes)).await?;
    note(catalog, source, key).await;
    Ok(())
}

/// What this host has read of acceptances, drills, tombstones and log floors, and what of that is gone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Missed {
    /// The keys of what is gone, and why that matters.
    pub(crate) gone: BTreeMap<String, String>,
    /// The keys of all that this host has read.
    pub(crate) known: BTreeSet<String>,
}

/// Looks for what this host has read; what is new is read, and noted where somebody can.
///
/// # Errors
/// The store's, and the catalog's.
pub(crate) async fn missed(
    repository: &Repository,
    (catalog, writable): (&Catalog, Option<&Catalog>),
    source: &SourceId,
) -> Result<Missed> {
    let mut known = catalog.documents(source).await?;
    // Whoever lists the log looks for those.
    let of_log = format!("{}/", layout::logs(source));
    known.retain(|key| !key.starts_with(&of_log));
    let there = listed(repository, source).await?;
    let (mut gone, mut over) = (BTreeMap::new(), BTreeSet::new());
    for key in known.difference(&there) {
        match is_gone_with_its_backup(repository, source, key).await? {
            true => drop(over.insert(key.clone())),
            false => drop(gone.insert(key.clone(), why(key))),
        }
    }
    if let Some(writable) = writable {
        let new = there.difference(&known).cloned().collect();
        let read = believed(repository, source, some(new, MOST_NEW)).await?;
        let noted = writable.note_documents(source, read, over).await;
        let _ = noted.inspect_err(|error| tracing::debug!("documents are not noted: {error}"));
    }
    Ok(Missed { gone, known })
}

/// At most so many of them, from anywhere on: whoever may write can put more there that never counts, and
/// must not keep the rest from being read for ever.
pub(crate) fn some(mut all: Vec<String>, most: usize) -> Vec<String> {
    if all.len() > most {
        let from = usize::from(rand::random::<u16>()) % all.len();
        all.rotate_left(from);
        all.truncate(most);
    }
    all
}

/// What is said of one that is gone.
fn why(key: &str) -> String {
    let key = Key::from(key);
    let what = if layout::acceptance_at(&key).is_some() {
        "the acceptance of a backup, which may be suspect again"
    } else if layout::drill_at(&key).is_some() {
        "the evidence of a drill"
    } else if layout::tombstone_at(&key).is_some() {
        "a tombstone: what was removed counts as lost elsewhere"
    } else {
        "a log floor: what was removed counts as lost elsewhere"
    };
    format!("it was there before and is gone, {what}")
}

/// The keys of acceptances, drills, tombstones and log floors of which any state is there.
async fn listed(repository: &Repository, source: &SourceId) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let folders = [layout::acceptances(source), layout::drills(source), layout::removals(source)];
    for folder in &folders {
        let each = |state: State| {
            let key = &state.key;
            let is_one = layout::acceptance_at(key).is_some()
                || layout::drill_at(key).is_some()
                || layout::tombstone_at(key).is_some()
                || layout::log_floor_at(key).is_some();
            if is_one && !state.deleted {
                found.insert(key.to_string());
            }
            ControlFlow::Continue(())
        };
        let listing = repository.bucket.list_states(folder, None, each);
        listing.await.context("list what was signed beside the backups")?;
    }
    Ok(found)
}

/// Whether it is the acceptance of a backup that was removed on purpose.
async fn is_gone_with_its_backup(
    repository: &Repository,
    source: &SourceId,
    key: &str,
) -> Result<bool> {
    let Some((_, backup)) = layout::acceptance_at(&Key::from(key)) else { return Ok(false) };
    Ok(tombstone(repository, source, &backup).await?.is_some()
        && !repository.manifest_is_there(source, &backup).await?)
}

/// Those of some that are what their keys say, signed by whom we trust.
async fn believed(
    repository: &Repository,
    source: &SourceId,
    keys: Vec<String>,
) -> Result<BTreeSet<String>> {
    let reading = stream::iter(keys).map(|key| async move {
        match counts(repository, source, &Key::from(key.as_str())).await {
            Err(error) if is_bad_manifest(&error) || is_missing(&error) => Ok(None),
            counts => counts.map(|counts| counts.then_some(key)),
        }
    });
    let read: Vec<_> = reading.buffered(MANIFESTS_AT_ONCE).try_collect().await?;
    Ok(read.into_iter().flatten().collect())
}

/// Whether what lies under a key is what it says, signed by whom we trust.
///
/// # Errors
/// What is wrong with it; the store's.
pub(super) async fn counts(repository: &Repository, source: &SourceId, key: &Key) -> Result<bool> {
    if let Some((_, backup)) = layout::acceptance_at(key) {
        let found = repository.manifest(source, &backup).await?;
        let Some(proven) = found else { return Ok(false) };
        return Ok(accept::read(repository, &proven).await?.is_some());
    }
    match layout::drill_at(key) {
        Some((_, drill)) => drop(drills::read(repository, source, &drill).await?),
        None => removed::read(repository, source, key).await?,
    }
    Ok(true)
}
