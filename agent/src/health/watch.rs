//! Which host or job is late, as the beats in the bucket tell whoever can read it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Result;
use drctl_model::HostId;
use drctl_policies::watch::{Heard, Trouble, judge, newest};
use drctl_store::host_id;
use jiff::Timestamp;

use crate::repository::Repository;
use crate::repository::beats::{Beats, all_beats};

/// How many hosts are told of none of whose beats counts, and whom nobody has named.
const UNKNOWN_TOLD: usize = 20;

/// What is watched.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watch {
    /// Hosts that must have sent beats.
    pub(crate) expect: Vec<String>,
    /// Hosts that are left out.
    pub(crate) ignore: Vec<String>,
    /// How old a beat may be; nothing: as it says itself.
    pub(crate) max_age: Option<Duration>,
}

/// A host, by its beats.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    /// What people call it.
    pub(crate) name: String,
    /// The last beat of each of its agents, and what is amiss by it.
    pub(crate) agents: Vec<(Heard, Vec<Trouble>)>,
    /// Whether somebody has named it as one that must send beats.
    pub(crate) expected: bool,
    /// Beats behind these that are not believed.
    pub(crate) refused: Option<Uncounted>,
    /// The same of those that only a newer drctl reads.
    pub(crate) newer: Option<Uncounted>,
}

/// Beats that do not count.
#[derive(Debug, Clone)]
pub(crate) struct Uncounted {
    /// The number of one of them, and why it does not count.
    pub(crate) first: (u64, String),
    /// How many there are, as far as they were looked at.
    pub(crate) count: usize,
}

impl Host {
    /// Whether nothing is amiss with it.
    pub(crate) fn is_fine(&self) -> bool {
        let well = |agents: &[(Heard, Vec<Trouble>)]| match agents {
            [(_, troubles)] => troubles.is_empty(),
            _ => false,
        };
        well(&self.agents) && self.refused.is_none() && self.newer.is_none()
    }
}

/// All hosts.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    /// By names.
    pub(crate) hosts: Vec<Host>,
    /// Whether no host at all has sent any, or is expected to.
    pub(crate) none: bool,
    /// Folders among those of the hosts whose names no host has.
    pub(crate) foreign: Vec<String>,
    /// How many more hosts there are none of whose beats counts.
    pub(crate) unknown: usize,
}

/// Reads the beats of all hosts, and judges them by the clock of this one.
///
/// # Errors
/// [`StoreError`](drctl_store::StoreError) of a bucket that cannot be read.
pub(crate) async fn watch(
    repository: &Repository,
    now: Timestamp,
    asked: &Watch,
) -> Result<Watched> {
    let mut all = all_beats(repository, now).await?;
    let ignored: BTreeSet<HostId> = asked.ignore.iter().map(|name| host_id(name)).collect();
    let expected: BTreeMap<HostId, &String> =
        asked.expect.iter().map(|name| (host_id(name), name)).collect();
    for host in expected.keys() {
        all.hosts.entry(host.clone()).or_default();
    }
    let none = all.hosts.is_empty();
    all.hosts.retain(|host, _| !ignored.contains(host));
    let hosts = all.hosts.iter().map(|(host, beats)| {
        let name = expected.get(host).map(|name| name.as_str());
        of_host((host, name), beats, (now, asked.max_age))
    });
    let (mut hosts, nameless): (Vec<Host>, Vec<Host>) =
        hosts.partition(|host| host.expected || !host.agents.is_empty());
    let unknown = nameless.len().saturating_sub(UNKNOWN_TOLD);
    hosts.extend(nameless.into_iter().take(UNKNOWN_TOLD));
    Ok(Watched { hosts, none, foreign: all.foreign, unknown })
}

fn of_host(
    (host, expected): (&HostId, Option<&str>),
    beats: &Beats,
    (now, max_age): (Timestamp, Option<Duration>),
) -> Host {
    let agents = newest(&beats.heard).into_iter();
    let agents: Vec<_> = agents.map(|one| (one.clone(), judge(one, now, max_age))).collect();
    // What lies before a beat that counts is over.
    let last = agents.iter().map(|(one, _)| one.beat.seq).max().unwrap_or(0);
    let behind = |all: &BTreeMap<u64, String>, more: usize| {
        let mut all = all.range(last + 1..);
        let (seq, why) = all.next()?;
        Some(Uncounted { first: (*seq, why.clone()), count: 1 + all.count() + more })
    };
    let name = expected.unwrap_or(host.as_str());
    let name = agents.last().map_or(name, |(one, _)| &one.beat.host).to_owned();
    let (refused, newer) = (behind(&beats.refused, beats.beyond), behind(&beats.newer, 0));
    Host { name, agents, expected: expected.is_some(), refused, newer }
}
