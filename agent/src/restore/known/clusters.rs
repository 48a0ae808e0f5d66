//! Which cluster of a source is meant, where it has had several: `initdb` and `pg_upgrade` make a
//! new one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Result;
use drctl_model::{SourceId, Timeline, shown};
use drctl_policies::recovery::{Archive, Target, Want, made, plan};
use jiff::Timestamp;

use super::{Copies, Known, assemble};
use crate::engine::pgbackrest::StanzaArchive;
use crate::engine::wal::{clusters, no_timeline};
use crate::engine::{ArchivedLog, Extent, LogArchive as _, Pieces};
use crate::host::{AgentError, Setup};

/// Another cluster of a source than the one that is meant.
pub struct OtherCluster {
    /// Its system identifier.
    pub system_id: u64,
    /// What there is of it.
    pub archive: Archive,
    /// The last that is known of it, by the clocks of its servers.
    pub seen: Option<Timestamp>,
    pub(super) copies: Copies,
    log: ArchivedLog,
}

/// A cluster that is meant, and what else there is.
pub(super) struct Chosen {
    pub(super) system_id: u64,
    pub(super) copies: Copies,
    pub(super) log: ArchivedLog,
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
    own: &Pieces<'_>,
    copies: Copies,
    wanted: Option<u64>,
    refused: &mut Vec<String>,
) -> Result<Option<Chosen>> {
    let mut ids: BTreeSet<u64> = copies.clusters().collect();
    let with_copies = ids.clone();
    let log_store = &own.log_store;
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
        let mut log = own.list(id, None).await?;
        refused.append(&mut log.refused);
        // To compare several costs what is otherwise not needed.
        all.push((id, copies.of_cluster(id), log));
    }
    let of_all = all.iter().flat_map(|(.., log)| log.newer.values());
    newer.extend(of_all.flat_map(|newer| &newer.words).cloned());
    let seen: BTreeMap<u64, Option<Timestamp>> = match &all[..] {
        [] | [_] => BTreeMap::new(),
        several => {
            several.iter().map(|(id, of, log)| (*id, archive(*id, of, log).last_seen())).collect()
        }
    };
    let at = |id: &u64| seen.get(id).copied().flatten();
    let current = with_copies.iter().max_by_key(|id| (at(id), **id)).copied();
    let Some(system_id) = wanted.or(current) else { return Ok(None) };
    let newest = seen.keys().max_by_key(|id| (at(id), **id)).copied();
    let uncopied = newest.filter(|id| !with_copies.contains(id));
    let (mut chosen, mut others) = (None, Vec::new());
    for (id, copies, log) in all {
        if id == system_id {
            chosen = Some((copies, log));
        } else {
            let archive = archive(id, &copies, &log);
            others.push(OtherCluster { system_id: id, archive, seen: at(&id), copies, log });
        }
    }
    let of = |(copies, log)| Chosen { system_id, copies, log, others, uncopied, newer };
    Ok(chosen.map(of))
}

fn archive(system_id: u64, copies: &Copies, log: &ArchivedLog) -> Archive {
    assemble(system_id, copies.clone(), log.clone()).archive
}

impl OtherCluster {
    /// Whether a target can be reached in it.
    #[must_use]
    pub fn reaches(&self, target: &Target, timeline: Option<Timeline>) -> bool {
        plan(&self.archive, target, timeline).is_ok()
    }
}

impl Known {
    /// This other cluster, where the target is a time at which it alone of all that the source has had
    /// can have lived. Of a stanza nobody knows: of its log no more is read than a target asks for.
    pub(crate) fn lived_alone(&self, other: u64, target: &Target) -> Option<u64> {
        let Target::Time(at) = target else { return None };
        let lived = |one: &OtherCluster| one.archive.may_have_lived_at(one.system_id, *at);
        let mut rest = self.others.iter().filter(|one| one.system_id != other);
        let current = self.archive.may_have_lived_at(self.system_id, *at);
        let dumped = self.dumped.iter().filter(|(id, _)| **id != Some(other)).any(|(id, first)| {
            let made = id.map_or(Timestamp::MIN, made);
            made.min(*first) <= *at
        });
        (self.stanza.is_none() && !current && !dumped && !rest.any(lived)).then_some(other)
    }

    /// Whether some cluster's log was there once and is not any more, as signed indexes tell.
    pub(crate) fn had_more(&self) -> bool {
        self.archive.had_more() || self.others.iter().any(|other| other.archive.had_more())
    }

    /// The other clusters that lead to a time as well, where nobody named one: of a stanza none is known.
    pub(crate) fn also(&self, target: &Target) -> Vec<u64> {
        let others = self.others.iter().filter(|_| matches!(target, Target::Time(_)));
        others.filter(|other| other.reaches(target, None)).map(|other| other.system_id).collect()
    }

    /// Of a time that nothing leads to, and before the current cluster was made: the cluster of which the
    /// last before it is known, and up to when; nothing where of another one more is known.
    pub(crate) fn known_before(&self, target: &Target) -> Option<(u64, Timestamp)> {
        let Target::Time(at) = target else { return None };
        if self.stanza.is_some() || self.archive.may_have_lived_at(self.system_id, *at) {
            return None;
        }
        let lived = |one: &&OtherCluster| one.archive.may_have_lived_at(one.system_id, *at);
        let last = self.others.iter().filter(lived).max_by_key(|one| (one.seen, one.system_id))?;
        last.seen.filter(|seen| seen < at).map(|seen| (last.system_id, seen))
    }

    /// Takes in what a stanza has of the log of the other clusters, as far as this target asks for. Only
    /// whoever could not go there in the one that is meant wants to know it.
    ///
    /// # Errors
    /// [`EngineError`](drctl_engines::EngineError) of pgBackRest's; [`std::io::Error`].
    pub async fn look_at_others(
        &mut self,
        setup: &Setup,
        source: &SourceId,
        target: &Target,
    ) -> Result<()> {
        let Some(stanza) = &self.stanza else { return Ok(()) };
        let beside = StanzaArchive::new(setup, source, Arc::clone(stanza))?;
        let want = Want::of(Some(target));
        for other in &mut self.others {
            let Some((size, since)) = other.copies.reach() else { continue };
            let found = beside.list(other.system_id, Some(Extent { size, want, since })).await?;
            let log = found.join(other.log.clone());
            other.archive = archive(other.system_id, &other.copies, &log);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The identifier of a cluster that was made at this second.
    fn made(second: u64) -> u64 {
        second << 32
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// The clusters of a source, by when each was made and up to when it is known, the current one first.
    fn of(clusters: &[(u64, Option<i64>)]) -> Known {
        let (copies, log) = (Copies::default(), ArchivedLog::default());
        let mut known = assemble(made(clusters[0].0), copies.clone(), log.clone());
        known.others = clusters[1..]
            .iter()
            .map(|(second, seen)| OtherCluster {
                system_id: made(*second),
                archive: archive(made(*second), &copies, &log),
                seen: seen.map(at),
                copies: copies.clone(),
                log: log.clone(),
            })
            .collect();
        known
    }

    #[test]
    fn a_cluster_lived_alone_where_no_other_was_made_as_far_as_dumps_tell_too() {
        let mut known = of(&[(100, None), (10, None)]);
        let mut lived = |dumps: &[(Option<u64>, i64)]| {
            known.dumped = dumps.iter().map(|(id, first)| (id.map(made), at(*first))).collect();
            known.lived_alone(made(10), &Target::Time(at(50))).is_some()
        };
        assert!(lived(&[]));
        assert!(lived(&[(Some(10), 30), (Some(100), 120)]), "dumps of the two");
        assert!(lived(&[(Some(70), 80)]), "of one that was made later");
        assert!(!lived(&[(Some(20), 60)]), "of one that was made before");
        assert!(!lived(&[(Some(70), 40)]), "whose clock was ahead when it was made");
        assert!(!lived(&[(Some(100), 40)]), "so was that of the current one");
        assert!(!lived(&[(None, 60)]), "of one that nobody knows");
        let known = of(&[(100, None), (10, None), (20, None)]);
        assert_eq!(known.lived_alone(made(10), &Target::Time(at(50))), None, "two lived");
        assert!(known.lived_alone(made(10), &Target::Time(at(15))).is_some());
        let known = of(&[(40, None), (10, None)]);
        assert_eq!(known.lived_alone(made(10), &Target::Time(at(50))), None, "so did the current");
        assert_eq!(known.lived_alone(made(10), &Target::Latest), None);
    }

    #[test]
    fn a_cluster_is_named_as_known_up_to_a_time_only_where_no_other_is_known_longer() {
        let told = |clusters: &[(u64, Option<i64>)], second| {
            of(clusters).known_before(&Target::Time(at(second)))
        };
        let one: &[_] = &[(100, None), (10, Some(30))];
        assert_eq!(told(one, 50), Some((made(10), at(30))));
        assert_eq!(told(one, 30), None, "it is known then");
        assert_eq!(told(one, 5), None, "it was not made");
        assert_eq!(told(one, 100), None, "the current one was");
        let two: &[_] = &[(100, None), (10, Some(30)), (20, Some(60))];
        assert_eq!(told(two, 50), None, "another one is known at that time, and leads nowhere");
        assert_eq!(told(two, 70), Some((made(20), at(60))));
        let later: &[_] = &[(100, None), (10, Some(30)), (55, Some(60))];
        assert_eq!(told(later, 50), Some((made(10), at(30))), "that one was made later");
    }
}
