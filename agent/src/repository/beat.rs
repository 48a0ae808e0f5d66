//! A beat of this host's agent: written under the next number, and those removed that it stands for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use drctl_model::{Beat, BeatFindings, BeatJob, Header, HostId};
use drctl_store::{Bucket, Removal, SigningKey, StoreError, digest, encode_beat, host_id, layout};
use jiff::Timestamp;

use super::Repository;
use super::beats::{Beats, Listed, READ, list, newest, read_all};
use crate::host::Setup;

/// How often a number is taken that another agent took at the same moment.
const TRIES: usize = 20;

/// How many of its beats an agent leaves there.
const KEPT: usize = 3;

/// How many beats may lie there while nobody removes any; then they come once an hour, so that in a year
/// some thousands come, and not a hundred thousand.
const MANY: usize = 1_000;

/// The shortest time between beats that nobody removes, when there are many.
const SELDOM: Duration = Duration::from_secs(3600);

/// What the agent has to tell.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    /// How its jobs stand.
    pub(crate) jobs: Vec<BeatJob>,
    /// What the last look found amiss.
    pub(crate) findings: Option<BeatFindings>,
    /// When it was started.
    pub(crate) started: Timestamp,
    /// How long it is until the next beat, if nothing speaks against it.
    pub(crate) every: Duration,
}

/// What an agent remembers of its beats while it runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sent {
    /// The number of the last one.
    seq: Option<u64>,
    /// Those in the bucket that its next one stands for.
    own: BTreeSet<u64>,
    /// Those that it leaves alone.
    others: BTreeSet<u64>,
    /// Whether the last one that was to be removed is still there.
    stay: bool,
    /// Whether we may not remove any.
    denied: bool,
}

/// A beat that was written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    /// When (clock of the host).
    pub(crate) at: Timestamp,
    /// When the next one is due: what it says itself.
    pub(crate) next: Duration,
}

/// Writes a beat, then removes what the agent left before, where it may.
///
/// # Errors
/// The store's; [`AgentError`](crate::host::AgentError) without a key that signs, or where the repository
/// may not be written. A beat that cannot be removed is no error.
pub(crate) async fn write_beat(setup: &Setup, draft: &Draft, sent: &mut Sent) -> Result<Written> {
    let repository = setup.repository().await?;
    repository.may_write().await?;
    let key = setup.signing_key()?;
    let host = host_id(&setup.host());
    let there = list(&repository, &host, setup.clock.now()).await?;
    let next = spacing(draft.every, sent.stay, there.numbers.len());
    let mut beat = beat(setup, &repository, draft, next);
    beat.seq = match sent.seq {
        Some(before) => before,
        None => highest(&repository, (&host, &key), &beat, &there).await?,
    };
    let mut listed: BTreeSet<u64> = there.numbers.into_keys().collect();
    let limit = Beat::highest_at(beat.written);
    for _ in 0..TRIES {
        let free = (beat.seq + 1..=limit).find(|seq| !listed.contains(seq));
        beat.seq = free.with_context(|| {
            format!(
                "no number up to {limit} is left for a beat of this host: find out who writes below {}, and \
                 remove what is no beat with the bucket's own client",
                layout::beats(&host)
            )
        })?;
        let bytes = encode_beat(&beat, &key).context("sign the beat")?;
        let place = layout::beat(&host, beat.seq);
        match repository.bucket.put_read_back(&place, Bytes::from(bytes)).await {
            // Another agent of this name took the number.
            Err(StoreError::Conflict { .. }) => drop(listed.insert(beat.seq)),
            put => {
                put.context("write the beat")?;
                sent.seq = Some(beat.seq);
                sent.own.insert(beat.seq);
                tidy(setup, &repository, (&host, &key), (&beat, &listed), sent).await;
                return Ok(Written { at: beat.written, next });
            }
        }
    }
    Err(anyhow!("other agents with this host's name write beats all the time: none was written"))
}

/// How long it is until the next one: longer where many lie there and nobody removes them.
fn spacing(every: Duration, stay: bool, there: usize) -> Duration {
    if stay && there >= MANY { every.max(SELDOM) } else { every }
}

/// A beat that has no number yet.
fn beat(setup: &Setup, repository: &Repository, draft: &Draft, next: Duration) -> Beat {
    Beat {
        header: Header::new([]),
        repository: repository.id.clone(),
        host: setup.host(),
        agent: agent_id(setup, repository),
        seq: 0,
        written: setup.clock.now(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: draft.started,
        next_seconds: next.as_secs(),
        jobs: draft.jobs.clone(),
        findings: draft.findings.clone(),
    }
}

/// Which agent of this host it is: told by machine and state directory, so that nothing has to be kept.
fn agent_id(setup: &Setup, repository: &Repository) -> String {
    let machine = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let state = setup.config.paths.state_dir.display();
    let place = format!("{}\n{}\n{state}", repository.id, machine.trim());
    digest(place.as_bytes()).to_string().chars().take(16).collect()
}

/// The highest number that counts: under which somebody has told of the same sources, or of fewer.
async fn highest(
    repository: &Repository,
    (host, key): (&HostId, &SigningKey),
    beat: &Beat,
    listed: &Listed,
) -> Result<u64> {
    let Beats { heard, newer, .. } = newest(repository, host, listed).await?;
    let last = Beat { seq: u64::MAX, ..beat.clone() };
    let signer = key.verifying_key().keyid();
    let own = heard.iter().filter(|one| last.stands_for(&one.beat, one.signer == signer));
    // What a newer drctl wrote was one of us.
    Ok(own.map(|one| one.beat.seq).chain(newer.into_keys()).max().unwrap_or(0))
}

/// Removes the beats that the new one stands for, but the last few; where the store does not let us, they
/// stay, and nothing is said: a writer needs no right to delete.
async fn tidy(
    setup: &Setup,
    repository: &Repository,
    of: (&HostId, &SigningKey),
    (beat, listed): (&Beat, &BTreeSet<u64>),
    sent: &mut Sent,
) {
    sent.own.retain(|seq| *seq == beat.seq || listed.contains(seq));
    sent.others.retain(|seq| listed.contains(seq));
    if sent.denied {
        return;
    }
    if let Err(error) = tell_apart(repository, of, (beat, listed), sent).await {
        tracing::debug!("older beats are not known: {error:#}");
    }
    let many = sent.own.len().saturating_sub(KEPT);
    let old: Vec<u64> = sent.own.iter().copied().take(many).collect();
    let Ok(bucket) = setup.for_prune().bucket() else { return };
    for seq in old {
        let removed = remove(&bucket, of.0, seq).await;
        sent.stay = !matches!(removed, Ok(true));
        match removed {
            Ok(true) => drop(sent.own.remove(&seq)),
            // It is locked: later ones are, too. All are tried again with the next beat.
            Ok(false) => return,
            Err(error) => {
                tracing::debug!("older beats of this host stay in the bucket: {error}");
                sent.denied = error.code() == "store_denied";
                return;
            }
        }
    }
}

/// Reads some of those that lie there and are not known yet.
async fn tell_apart(
    repository: &Repository,
    (host, key): (&HostId, &SigningKey),
    (beat, listed): (&Beat, &BTreeSet<u64>),
    sent: &mut Sent,
) -> Result<()> {
    let known = |seq: &&u64| sent.own.contains(*seq) || sent.others.contains(*seq);
    let unknown = listed.iter().filter(|seq| **seq < beat.seq && !known(seq)).take(READ);
    let unknown: Vec<_> = unknown.map(|seq| (*seq, None)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let seqs: Vec<u64> = unknown.iter().map(|(seq, _)| *seq).collect();
    let found = read_all(repository, host, unknown).await?;
    let signer = key.verifying_key().keyid();
    // Only what this very key has signed is its own to remove.
    let own = found.heard.iter().filter(|one| one.signer == signer);
    let own: BTreeMap<u64, &Beat> = own.map(|one| (one.beat.seq, &one.beat)).collect();
    for seq in seqs {
        let is_own = own.get(&seq).is_some_and(|one| beat.stands_for(one, true));
        if is_own {
            sent.own.insert(seq)
        } else {
            sent.others.insert(seq)
        };
    }
    Ok(())
}

/// Removes every state of a beat; false where the store keeps one.
async fn remove(bucket: &Bucket, host: &HostId, seq: u64) -> Result<bool, StoreError> {
    for state in bucket.states_of(&layout::beat(host, seq)).await? {
        if !matches!(bucket.remove(&state).await?, Removal::Gone) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_that_nobody_removes_become_seldom() {
        let (often, day) = (Duration::from_secs(300), Duration::from_secs(86_400));
        assert_eq!(spacing(often, true, 999), often);
        assert_eq!(spacing(often, true, 1_000), Duration::from_secs(3600));
        assert_eq!(spacing(day, true, 1_000), day);
        // What others put there slows nobody down who may remove his own.
        assert_eq!(spacing(often, false, 100_000), often);
    }
}
