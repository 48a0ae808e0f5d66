//! Beats of agents: signed, numbered objects by which whoever can read the bucket knows that they live.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use anyhow::{Context as _, Result};
use drctl_model::{Beat, HostId, shown};
use drctl_policies::watch::Heard;
use drctl_store::{MAX_BEAT_BYTES, State, Stored, decode_beat, layout};
use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;

use super::faults::{is_bad_manifest, is_missing, is_newer};
use super::first::first;
use super::{MANIFESTS_AT_ONCE, Repository};

/// How many of the newest beats of a host are read: more than its agents leave there.
pub(super) const READ: usize = 32;

/// How many are read from the newest down while nothing among them counts, before it is looked for below.
const MOST: usize = 1_024;

/// How many are read at a place where it is looked whether something counts there.
const PROBE: usize = 8;

/// How many of the oldest, and of the newest beats of a host are looked at at all.
const LISTED: usize = 50_000;

/// How many hosts are read at once.
const HOSTS_AT_ONCE: usize = 8;

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
    /// How many more lie there under numbers that no agent can have reached.
    pub(crate) beyond: usize,
}

impl Beats {
    /// How many count, or may.
    fn known(&self) -> usize {
        self.heard.len() + self.newer.len()
    }

    fn has(&self, seq: u64) -> bool {
        self.newer.contains_key(&seq) || self.heard.iter().any(|one| one.beat.seq == seq)
    }

    fn join(&mut self, other: Beats) {
        self.heard.extend(other.heard);
        self.heard.sort_by_key(|one| one.beat.seq);
        self.heard.dedup_by_key(|one| one.beat.seq);
        self.refused.extend(other.refused);
        self.newer.extend(other.newer);
    }
}

/// Under which numbers beats of a host lie.
#[derive(Debug, Default)]
pub(super) struct Listed {
    /// Those that an agent can have reached, and when the store got each first: of very many the lowest
    /// and the highest.
    pub(super) numbers: BTreeMap<u64, Option<Timestamp>>,
    /// The lowest of those that none can have reached, and how many there are.
    beyond: Option<(u64, usize)>,
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
pub(crate) async fn all_beats(repository: &Repository, now: Timestamp) -> Result<AllBeats> {
    let folders = repository.bucket.list_folders(&layout::all_beats()).await;
    let folders = folders.context("list the hosts that send beats")?;
    let (mut all, mut hosts) = (AllBeats::default(), Vec::new());
    for name in folders {
        match name.parse::<HostId>() {
            Ok(host) => hosts.push(host),
            Err(_) => all.foreign.push(shown(&name, SHOWN)),
        }
    }
    let one = |host: HostId| async move {
        let listed = list(repository, &host, now).await?;
        let beats = newest(repository, &host, &listed).await?;
        Ok::<_, anyhow::Error>((host, beats))
    };
    let mut reading = stream::iter(hosts).map(one).buffer_unordered(HOSTS_AT_ONCE);
    while let Some(read) = reading.next().await {
        let (host, beats) = read?;
        all.hosts.insert(host, beats);
    }
    Ok(all)
}

/// Reads the newest beats of a host that count. Whoever else writes there can put any number of objects
/// behind them: then they are looked for below, where an agent's beats lie one behind the other.
pub(super) async fn newest(
    repository: &Repository,
    host: &HostId,
    listed: &Listed,
) -> Result<Beats> {
    let all: Vec<_> = listed.numbers.iter().map(|(seq, stored)| (*seq, *stored)).collect();
    let read = |from: usize, to: usize| read_all(repository, host, all[from..to].to_vec());
    let (mut beats, mut end) = (Beats::default(), all.len());
    while end > 0 && all.len() - end < MOST {
        let before = beats.known();
        let from = end.saturating_sub(READ);
        beats.join(read(from, end).await?);
        end = from;
        if beats.known() >= READ || (before > 0 && beats.known() == before) {
            break;
        }
    }
    if end > 0 && beats.known() == 0 {
        beats.join(read(0, end.min(READ)).await?);
        // The highest that counts as far as is known, and the lowest behind which none is sought.
        let last = |beats: &Beats, to: usize| (0..to).rev().find(|at| beats.has(all[*at].0));
        let mut high = end;
        while let Some(low) = last(&beats, high)
            && high - low > PROBE
        {
            let from = low + (high - low) / 2;
            let to = (from + PROBE).min(high);
            beats.join(read(from, to).await?);
            if last(&beats, to).is_none_or(|at| at < from) {
                high = from;
            }
        }
        if let Some(low) = last(&beats, high) {
            beats.join(read(low + 1, high).await?);
        }
    }
    if let Some((seq, count)) = listed.beyond {
        let why = "no agent can have come to its number";
        beats.refused.insert(seq, why.to_owned());
        beats.beyond = count - 1;
    }
    Ok(beats)
}

/// The numbers under which beats of a host lie.
pub(super) async fn list(repository: &Repository, host: &HostId, now: Timestamp) -> Result<Listed> {
    let limit = Beat::highest_at(now);
    let (mut low, mut high) = (BTreeMap::new(), BTreeMap::new());
    let (mut beyond, mut deleted) = (BTreeSet::new(), BTreeSet::new());
    let mut more = 0;
    let each = |state: State| {
        let Some((_, seq)) = layout::beat_at(&state.key) else { return ControlFlow::Continue(()) };
        if state.deleted {
            // What was deleted, or has expired, is not there.
            deleted.extend(state.latest.then_some(seq));
        } else if seq > limit {
            let is_new = beyond.insert(seq);
            more += usize::from(is_new && beyond.len() > LISTED && beyond.pop_last().is_some());
        } else {
            let half = if high.contains_key(&seq) { &mut high } else { &mut low };
            let first = half.entry(seq).or_insert(state.stored);
            *first = first.zip(state.stored).map(|(one, other)| one.min(other));
            if low.len() > LISTED {
                high.extend(low.pop_last());
            }
            if high.len() > LISTED {
                high.pop_first();
            }
        }
        ControlFlow::Continue(())
    };
    let folder = layout::beats(host);
    let listing = repository.bucket.list_states(&folder, None, each);
    listing.await.with_context(|| format!("list the beats of {host}"))?;
    let mut numbers = low;
    numbers.append(&mut high);
    numbers.retain(|seq, _| !deleted.contains(seq));
    beyond.retain(|seq| !deleted.contains(seq));
    let beyond = beyond.first().map(|first| (*first, beyond.len() + more));
    Ok(Listed { numbers, beyond })
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
