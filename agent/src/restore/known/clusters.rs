//! Which cluster of a source is meant, where it has had several: `initdb` and `pg_upgrade` make a
//! new one.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use drctl_catalog::Catalog;
use drctl_model::{Timeline, shown};
use drctl_policies::recovery::{Archive, Target, Want, plan};
use jiff::Timestamp;

use super::{Copies, Known, assemble};
use crate::engine::pgbackrest::{Elsewhere, log};
use crate::engine::wal::{WalLog, cluster_log, clusters, no_timeline};
use crate::host::{AgentError, Setup};
use crate::log::LogStore;

/// What is signed of the log of one cluster, by timeline.
type Logs = BTreeMap<Timeline, WalLog>;

/// Another cluster of a source than the one that is meant.
pub struct OtherCluster {
    /// Its system identifier.
    pub system_id: u64,
    /// What there is of it.
    pub archive: Archive,
    /// The last that is known of it, by the clocks of its servers.
    pub seen: Option<Timestamp>,
    copies: Copies,
    logs: Logs,
}

/// A cluster that is meant, and what else there is.
pub(super) struct Chosen {
    pub(super) system_id: u64,
    pub(super) copies: Copies,
    pub(super) logs: Logs,
    pub(super) others: Vec<OtherCluster>,
    /// A cluster of which there is newer log, and no base backup.
    pub(super) uncopied: Option<u64>,
    /// What only a newer drctl reads, of any cluster's log.
    pub(super) newer: Vec<String>,
}

/// The cluster of this identifier; without one, of the clusters that have base backups the one of
/// which the latest is known, by the clocks of those who wrote the log.
///
/// # Errors
/// The store's; [`AgentError::NoBackup`] for an identifier that nothing is known of.
pub(super) async fn choose(
    log_store: &LogStore,
    copies: Copies,
    wanted: Option<u64>,
    cache: Option<&Catalog>,
    refused: &mut Vec<String>,
) -> Result<Option<Chosen>> {
    let mut ids: BTreeSet<u64> = copies.clusters().collect();
    let with_copies = ids.clone();
    let lineages = log_store.lineages().await?;
    ids.extend(clusters(&lineages));
    let mut newer = log_store.unread(no_timeline(&lineages)).await?;
    refused.extend(newer.iter().cloned());
    if let Some(wanted) = wanted.filter(|wanted| !ids.contains(wanted)) {
        let known: Vec<String> = ids.iter().map(u64::to_string).collect();
        let text = format!(
            "nothing is known of a cluster {wanted} of `{}`; there are: {}",
            log_store.source,
            shown(&known.join(", "), 300)
        );
        return Err(AgentError::NoBackup(text).into());
    }
    let mut all = Vec::new();
    for id in ids {
        let logs = cluster_log(log_store, id, cache, refused).await?;
        // To compare several costs what is otherwise not needed.
        all.push((id, copies.of_cluster(id), logs));
    }
    let words = all.iter().flat_map(|(.., logs)| logs.values()).flat_map(|log| &log.newer.words);
    newer.extend(words.cloned());
    let seen: BTreeMap<u64, Option<Timestamp>> = match &all[..] {
        [] | [_] => BTreeMap::new(),
        several => {
            several.iter().map(|(id, of, logs)| (*id, archive(*id, of, logs).last_seen())).collect()
        }
    };
    let at = |id: &u64| seen.get(id).copied().flatten();
    let current = with_copies.iter().max_by_key(|id| (at(id), **id)).copied();
    let Some(system_id) = wanted.or(current) else { return Ok(None) };
    let newest = seen.keys().max_by_key(|id| (at(id), **id)).copied();
    let uncopied = newest.filter(|id| !with_copies.contains(id));
    let (mut chosen, mut others) = (None, Vec::new());
    for (id, copies, logs) in all {
        if id == system_id {
            chosen = Some((copies, logs));
        } else {
            let archive = archive(id, &copies, &logs);
            others.push(OtherCluster { system_id: id, archive, seen: at(&id), copies, logs });
        }
    }
    let of = |(copies, logs)| Chosen { system_id, copies, logs, others, uncopied, newer };
    Ok(chosen.map(of))
}

fn archive(system_id: u64, copies: &Copies, logs: &Logs) -> Archive {
    assemble(system_id, copies.clone(), logs.clone(), Elsewhere::default()).archive
}

impl OtherCluster {
    /// Whether a target can be reached in it.
    #[must_use]
    pub fn reaches(&self, target: &Target, timeline: Option<Timeline>) -> bool {
        plan(&self.archive, target, timeline).is_ok()
    }
}

impl Known {
    /// Takes in what a stanza has of the log of the other clusters, as far as this target asks for. Only
    /// whoever could not go there in the one that is meant wants to know it.
    ///
    /// # Errors
    /// [`EngineError`](drctl_engines::EngineError) of pgBackRest's; [`std::io::Error`].
    pub async fn look_at_others(&mut self, setup: &Setup, target: &Target) -> Result<()> {
        let Some(stanza) = &self.stanza else { return Ok(()) };
        let want = Want::of(Some(target));
        let folder = setup.config.paths.runtime_dir.clone();
        setup.private_directory(&folder)?;
        for other in &mut self.others {
            let Some((size, oldest)) = other.copies.reach() else { continue };
            let of = (other.system_id, size);
            let elsewhere = log(stanza, of, (want, oldest), &folder).await?;
            let (copies, logs) = (other.copies.clone(), other.logs.clone());
            other.archive = assemble(other.system_id, copies, logs, elsewhere).archive;
        }
        Ok(())
    }
}
