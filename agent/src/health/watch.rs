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
    /// Beats behind these that are not believed, and why.
    pub(crate) refused: Vec<(u64, String)>,
    /// The same of those that only a newer drctl reads.
    pub(crate) newer: Vec<(u64, String)>,
}

impl Host {
    /// Whether nothing is amiss with it.
    pub(crate) fn is_fine(&self) -> bool {
        let well = |agents: &[(Heard, Vec<Trouble>)]| match agents {
            [(_, troubles)] => troubles.is_empty(),
            _ => false,
        };
        well(&self.agents) && self.refused.is_empty() && self.newer.is_empty()
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
    let mut all = all_beats(repository).await?;
    let ignored: BTreeSet<HostId> = asked.ignore.iter().map(|name| host_id(name)).collect();
    let expected: BTreeMap<HostId, &String> =
        asked.expect.iter().map(|name| (host_id(name), name)).collect();
    for host in expected.keys() {
        all.hosts.entry(host.clone()).or_default();
    }
    let none = all.hosts.is_empty();
    all.hosts.retain(|host, _| !ignored.contains(host));
    let hosts = all.hosts.iter().map(|(host, beats)| {
        let name = expected.get(host).map_or(host.as_str(), |name| name.as_str());
        of_host(name, beats, (now, asked.max_age))
    });
    Ok(Watched { hosts: hosts.collect(), none, foreign: all.foreign })
}

fn of_host(name: &str, beats: &Beats, (now, max_age): (Timestamp, Option<Duration>)) -> Host {
    let agents = newest(&beats.heard).into_iter();
    let agents: Vec<_> = agents.map(|one| (one.clone(), judge(one, now, max_age))).collect();
    // What lies before a beat that counts is over.
    let last = agents.iter().map(|(one, _)| one.beat.seq).max().unwrap_or(0);
    let behind = |all: &BTreeMap<u64, String>| {
        let all = all.range(last + 1..);
        all.map(|(seq, why)| (*seq, why.clone())).collect()
    };
    let told = agents.last().map_or(name, |(one, _)| &one.beat.host);
    let name = told.to_owned();
    Host { name, agents, refused: behind(&beats.refused), newer: behind(&beats.newer) }
}
