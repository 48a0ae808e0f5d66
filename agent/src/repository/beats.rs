//! Beats of agents: signed, numbered objects by which whoever can read the bucket knows that they live.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use anyhow::{Context as _, Result};
use drctl_model::{HostId, shown};
use drctl_policies::watch::Heard;
use drctl_store::{MAX_BEAT_BYTES, State, Stored, decode_beat, layout};
use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;

use super::faults::{is_bad_manifest, is_missing, is_newer};
use super::first::first;
use super::{MANIFESTS_AT_ONCE, Repository};

/// How many of the newest beats of a host are read: more than its agents leave there.
const READ: usize = 32;

/// How many of the newest beats of a host are looked at at all.
const LISTED: usize = 100_000;

/// How much of what is wrong with a beat goes into a sentence.
const SHOWN: usize = 500;

/// What lies in the bucket of a host's beats.
#[derive(Debug, Default)]
pub(crate) struct Beats {
    /// Those that are believed, of the newest, in order.
    pub(crate) heard: Vec<Heard>,
    /// Those that are not, and why.
    pub(crate) refused: BTreeMap<u64, String>,
    /// Those that only a newer drctl reads, and what to install.
    pub(crate) newer: BTreeMap<u64, String>,
}

/// The beats of all hosts, and folders whose names no host has.
#[derive(Debug, Default)]
pub(crate) struct AllBeats {
    /// Of each host.
    pub(crate) hosts: BTreeMap<HostId, Beats>,
    /// Names as somebody else made them, as they may be shown.
    pub(crate) foreign: Vec<String>,
}

/// Reads the newest beats of all hosts.
///
/// # Errors
/// [`StoreError`](drctl_store::StoreError) of a bucket that cannot be read; a beat that is no good is told,
/// and is no error.
pub(crate) async fn all_beats(repository: &Repository) -> Result<AllBeats> {
    let folders = repository.bucket.list_folders(&layout::all_beats()).await;
    let mut all = AllBeats::default();
    for name in folders.context("list the hosts that send beats")? {
        match name.parse::<HostId>() {
            Ok(host) => {
                let beats = beats(repository, &host).await?;
                all.hosts.insert(host, beats);
            }
            Err(_) => all.foreign.push(shown(&name, SHOWN)),
        }
    }
    Ok(all)
}

async fn beats(repository: &Repository, host: &HostId) -> Result<Beats> {
    let listed = list(repository, host).await?;
    let newest: Vec<_> = listed.into_iter().rev().take(READ).collect();
    read_all(repository, host, newest).await
}

/// The numbers under which beats of a host lie, and when the store got each first.
pub(super) async fn list(
    repository: &Repository,
    host: &HostId,
) -> Result<BTreeMap<u64, Option<Timestamp>>> {
    let (mut listed, mut deleted) = (BTreeMap::new(), BTreeSet::new());
    let each = |state: State| {
        let Some((_, seq)) = layout::beat_at(&state.key) else { return ControlFlow::Continue(()) };
        if state.deleted {
            // What was deleted, or has expired, is not there.
            deleted.extend(state.latest.then_some(seq));
            return ControlFlow::Continue(());
        }
        let first = listed.entry(seq).or_insert(state.stored);
        *first = first.zip(state.stored).map(|(one, other)| one.min(other));
        if listed.len() > LISTED {
            listed.pop_first();
        }
        ControlFlow::Continue(())
    };
    let folder = layout::beats(host);
    let listing = repository.bucket.list_states(&folder, None, each);
    listing.await.with_context(|| format!("list the beats of {host}"))?;
    listed.retain(|seq, _| !deleted.contains(seq));
    Ok(listed)
}

/// Reads beats of a host.
pub(super) async fn read_all(
    repository: &Repository,
    host: &HostId,
    which: Vec<(u64, Option<Timestamp>)>,
) -> Result<Beats> {
    let one = |(seq, stored)| async move { (seq, read(repository, host, seq, stored).await) };
    let mut reading = stream::iter(which).map(one).buffer_unordered(MANIFESTS_AT_ONCE);
    let mut beats = Beats::default();
    while let Some((seq, found)) = reading.next().await {
        match found {
            Ok(found) => beats.heard.push(found),
            // It was removed since it was listed.
            Err(error) if is_missing(&error) => {}
            Err(error) if is_newer(&error) => {
                beats.newer.insert(seq, shown(&format!("{error:#}"), SHOWN));
            }
            Err(error) if is_bad_manifest(&error) => {
                beats.refused.insert(seq, shown(&format!("{error:#}"), SHOWN));
            }
            Err(error) => {
                let key = layout::beat(host, seq);
                return Err(error).with_context(|| format!("read {key}"));
            }
        }
    }
    beats.heard.sort_by_key(|one| one.beat.seq);
    Ok(beats)
}

async fn read(
    repository: &Repository,
    host: &HostId,
    seq: u64,
    stored: Option<Timestamp>,
) -> Result<Heard> {
    let Repository { bucket, trust, id, .. } = repository;
    let key = layout::beat(host, seq);
    let read = |state: Stored| async move {
        let bytes = bucket.get_stored(&state, MAX_BEAT_BYTES as u64).await?;
        let (beat, signer) = decode_beat(&bytes, trust, id, (host, seq))?;
        Ok(Heard { beat, signer: signer.keyid(), stored })
    };
    first(bucket, &key, read, |one: &Heard, other| one.beat == other.beat).await
}
