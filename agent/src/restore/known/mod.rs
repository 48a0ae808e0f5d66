//! What the bucket holds of a cluster's base backups and log, as the planner wants it.

mod clusters;
mod copies;
mod cuts;
mod holes;
mod parts;
mod passed;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Result;
use drctl_catalog::Catalog;
use drctl_model::{
    BackupId, BackupKind, BackupSummary, Coordinates, LogEntry, LogPlace, Lsn, SourceId, Timeline,
    WalPart, WalPlace,
};
use drctl_policies::recovery::{Archive, Want};
use drctl_store::{Trust, layout};
use futures_util::TryStreamExt as _;
use jiff::Timestamp;

use self::clusters::{Chosen, choose};
pub(crate) use self::copies::Copies;
use self::copies::{Copy, dumped};
use crate::engine::pgbackrest::{StanzaArchive, StanzaView, only_there};
use crate::engine::{ArchivedLog, Extent, LogArchive as _, Pieces};
use crate::host::{AgentError, Setup};
use crate::log::{LogStore, still_newer};
use crate::repository::{Memory, Passed, Repository, everything, words};

pub use clusters::OtherCluster;
pub(crate) use cuts::{LogThatStays, Stays};
pub use holes::Holes;
pub(crate) use state::{LogState, log_state};

/// A cluster's base backups and log, as signed heads and manifests tell them.
pub struct Known {
    /// For the planner.
    pub archive: Archive,
    /// Which cluster: of several that a source has had the one that was asked for, or the current
    /// one.
    pub system_id: u64,
    /// The base backups.
    pub bases: Vec<(BackupId, Coordinates)>,
    /// How many pieces of log count.
    pub pieces: u64,
    /// Pieces and manifests that do not count, with the reason.
    pub refused: Vec<String>,
    /// Those of them, and of the log that was met, that only a newer drctl reads.
    pub newer: Vec<String>,
    /// Pieces that were found not to be the log that was written.
    pub(crate) avoided: Vec<LogPlace>,
    /// Backups that do not count, where they stand in the log and why.
    pub(crate) passed: Vec<(Coordinates, Passed)>,
    /// Other clusters that the source has had.
    pub others: Vec<OtherCluster>,
    /// A cluster of which there is newer log, and no base backup.
    pub uncopied: Option<u64>,
    /// The clusters that dumps are of, and when the first of each began; without an identifier those that do
    /// not tell.
    pub(crate) dumped: BTreeMap<Option<u64>, Timestamp>,
    /// The identifiers of the keys that signed the base backups.
    pub(crate) signers: BTreeMap<BackupId, String>,
    /// Where else backups and log lie: in a stanza of pgBackRest.
    pub(crate) stanza: Option<Arc<StanzaView>>,
}

/// A stanza whose log counts too, and how much of it has to be known.
pub(crate) struct Beside<'a> {
    pub(crate) archive: StanzaArchive<'a>,
    pub(crate) want: Want,
}

/// Reads all manifests and what is signed of the log of a source; needs no key. What `cache` knows
/// of the log is not read again. Of a source whose backups pgBackRest keeps: what that has of both,
/// as far as `want` asks for, and drctl's own log beside it.
///
/// # Errors
/// The store's and pgBackRest's; [`AgentError::NoBackup`] where there is no base backup.
pub async fn known(
    setup: &Setup,
    repository: &Repository,
    source: &SourceId,
    cache: Option<&Catalog>,
    wanted: (Want, Option<u64>),
) -> Result<Known> {
    known_beside(setup, repository, source, cache, wanted, None).await
}

/// The same; a stanza that was `seen` is not looked at again.
///
/// # Errors
/// As [`known`].
pub(crate) async fn known_beside(
    setup: &Setup,
    repository: &Repository,
    source: &SourceId,
    cache: Option<&Catalog>,
    (want, wanted): (Want, Option<u64>),
    seen: Option<Arc<StanzaView>>,
) -> Result<Known> {
    let memory = match cache {
        Some(cache) => Memory::of(cache, Some(source)).await?,
        None => Memory::default(),
    };
    let (mut summaries, mut refused) = remembered(repository, source, &memory).await?;
    let stanza = match seen {
        Some(seen) => Some(seen),
        None => StanzaView::of(setup, source.as_str()).await?.map(Arc::new),
    };
    let is_external = |backup: &BackupSummary| matches!(backup.kind, BackupKind::External(_));
    let apart = stanza.is_none() && summaries.iter().any(is_external);
    let dumped = dumped(&summaries);
    let passed = passed::passed(&summaries, (source, &memory), stanza.as_deref());
    only_there(&mut summaries, stanza.as_deref());
    let archive = stanza.map(|seen| StanzaArchive::new(setup, source, seen)).transpose()?;
    let beside = archive.map(|archive| Beside { archive, want });
    let copies = Copies::of(&summaries, &mut refused).marked(source, &memory);
    let signer = |one: BackupSummary| (one.backup, one.signer);
    let signers = summaries.into_iter().map(signer).collect();
    let copies = (copies, wanted);
    let known = learn(repository, source, copies, cache, refused, beside).await?;
    let is_dumped = !dumped.is_empty();
    known.map(|known| Known { signers, passed, dumped, ..known }).ok_or_else(|| {
        let mut text = format!("there is no base backup of `{source}` to recover from");
        if apart {
            text.push_str(
                ": for those that pgBackRest keeps configure it here as engine pgbackrest",
            );
        } else if is_dumped {
            text.push_str(
                ": its backups are dumps (restore one with --latest or --backup); a recovery to a point in \
                 time needs a source of engine base_backup or pgbackrest",
            );
        }
        AgentError::NoBackup(text).into()
    })
}

/// A source's backups in the bucket, with what earlier looks found of them; and those that do not
/// count, or were found bad, with the reason.
///
/// # Errors
/// The store's.
pub(crate) async fn remembered(
    repository: &Repository,
    source: &SourceId,
    memory: &Memory,
) -> Result<(Vec<BackupSummary>, Vec<String>)> {
    let (mut backups, mut refused) = (Vec::new(), Vec::new());
    let mut all = everything(repository, vec![source.clone()]);
    while let Some((_, id, proven)) = all.try_next().await? {
        match proven {
            Ok(proven) => backups.push(proven.summary()),
            Err(error) => refused.push(format!("{id}: {error:#}")),
        }
    }
    drop(all);
    memory.mark(&mut backups);
    for BackupSummary { backup: id, .. } in &backups {
        refused.extend(memory.bad(source, id).map(|found| format!("{id}: {}", words(found))));
    }
    Ok((backups, refused))
}

/// The same as [`known`] with base backups that are known; nothing where there are none.
///
/// # Errors
/// The store's, and pgBackRest's.
pub(crate) async fn learn(
    repository: &Repository,
    source: &SourceId,
    (copies, wanted): (Copies, Option<u64>),
    cache: Option<&Catalog>,
    mut refused: Vec<String>,
    beside: Option<Beside<'_>>,
) -> Result<Option<Known>> {
    let own = Pieces { log_store: LogStore::reader(repository, source), cache, identities: None };
    let chosen = choose(&own, copies, wanted, &mut refused).await?;
    let Some(Chosen { system_id, copies, mut log, others, uncopied, newer }) = chosen else {
        return Ok(None);
    };
    let mut stanza = None;
    if let Some(Beside { archive, want }) = beside {
        if let Some((size, oldest)) = copies.reach() {
            // No plan leads to what is older than the base backups. To show it, and to say of a
            // name or a transaction in it why not, it is read all the same.
            let whole = matches!(want, Want::Ends | Want::All);
            let since = if whole { Lsn(0) } else { oldest };
            log = archive.list(system_id, Some(Extent { size, want, since })).await?.join(log);
        }
        stanza = Some(archive.seen);
    }
    refused.append(&mut log.refused);
    let mut known = assemble(system_id, copies, log);
    known.newer = newer;
    if let Some(cache) = cache {
        let memory = Memory::of(cache, Some(source)).await?;
        let (archive, met) = known.avoiding(repository, source, &memory).await;
        refused.extend(met.iter().cloned());
        known.archive = archive;
        known.avoided = memory.damaged_log(source);
        known.newer.extend(met);
    }
    Ok(Some(Known { refused, stanza, others, uncopied, ..known }))
}

pub(super) fn assemble(system_id: u64, Copies(copies): Copies, log: ArchivedLog) -> Known {
    let ArchivedLog { entries: mut all, points, histories, breaks, once, unbelieved, .. } = log;
    let (newer, pieces) = (log.newer, log.pieces);
    let (mut unread, mut all_newer) = (Vec::new(), Vec::new());
    for (timeline, newer) in newer {
        let is_known = timeline == Timeline::FIRST
            || histories.iter().any(|history| history.timeline == timeline);
        let is_copied = copies.iter().any(|copy| copy.at.stop_timeline == timeline);
        let entries = all.entry(timeline).or_default();
        // What nothing leads to is no gap in anything: it is left out as a whole.
        if is_known || is_copied || !entries.is_empty() {
            entries.extend(newer.entries());
            unread.extend(newer.ranges.iter().map(|(start, end)| (timeline, *start, *end)));
        } else if !newer.words.is_empty() {
            all_newer.push(timeline);
        }
    }
    for Copy { at, .. } in copies.iter().filter(|copy| copy.brings_log) {
        let range = (at.segment_size.start_of(at.start), at.stop);
        all.entry(at.stop_timeline).or_default().push(LogEntry::new(range, None, None));
    }
    let bases = copies.iter().map(|copy| (copy.base.backup.clone(), copy.at.clone())).collect();
    let bad = copies.iter().filter(|copy| copy.bad).map(|copy| copy.base.backup.clone());
    let bad: BTreeSet<BackupId> = bad.collect();
    let copies = copies.into_iter().map(|copy| copy.base).collect();
    let archive = Archive::of(copies, all, points, histories).bad(|base| bad.contains(base));
    let archive = archive.broken_at(breaks).newer(&unread);
    let archive = archive.once_up_to(once).refused_up_to(unbelieved).all_newer(all_newer);
    let (refused, others) = (Vec::new(), Vec::new());
    let signers = BTreeMap::new();
    Known {
        archive,
        system_id,
        bases,
        pieces,
        refused,
        newer: Vec::new(),
        avoided: Vec::new(),
        passed: Vec::new(),
        others,
        uncopied: None,
        dumped: BTreeMap::new(),
        signers,
        stanza: None,
    }
}

impl Known {
    /// What was found of a backup that does not count.
    pub(crate) fn told_of(&self, backup: &BackupId) -> Option<String> {
        let of_it = |why: &&String| {
            why.strip_prefix(backup.as_str()).is_some_and(|why| why.starts_with(": "))
        };
        self.refused.iter().find(of_it).cloned()
    }

    /// What people call the key that signed a base backup; unknown where it was not asked for.
    #[must_use]
    pub fn signed_by(&self, trust: &Trust, backup: &BackupId) -> Option<String> {
        self.signers.get(backup).map(|keyid| trust.name_of(keyid))
    }

    /// Where the last record ends that a replay of `timeline`'s log up to `reach` comes to.
    #[must_use]
    pub fn last_record(&self, timeline: Timeline, reach: Lsn) -> Option<Lsn> {
        self.archive.last_record(timeline, reach)
    }

    /// What leads around pieces that were met and cannot be used: damaged, or in a format that only a
    /// newer drctl reads, which may be this one by now; and which these are.
    pub(crate) async fn avoiding(
        &self,
        repository: &Repository,
        source: &SourceId,
        memory: &Memory,
    ) -> (Archive, Vec<String>) {
        // What the log's own heads told by now need not be read again.
        let words = self.newer.iter().flat_map(|why| why.split_whitespace());
        let told: BTreeSet<&str> = words.map(|word| word.trim_end_matches(':')).collect();
        let mut met = memory.newer_log(source);
        met.retain(|place| !told.contains(layout::piece(source, place).as_ref()));
        let newer = still_newer(repository, source, met).await;
        let damaged = self.ranges(&memory.damaged_log(source));
        let places: Vec<LogPlace> = newer.iter().map(|(place, _)| place.clone()).collect();
        let log_store = LogStore::reader(repository, source);
        let mut archive = self.archive.clone();
        for (piece, parts) in self.parts(&log_store, &damaged).await {
            archive = archive.replaced(piece, parts);
        }
        let archive = archive.damaged(&damaged).newer(&self.ranges(&places));
        let text =
            |(place, why): (LogPlace, String)| format!("{}: {why}", place.lineage.words().log);
        (archive, newer.into_iter().map(text).collect())
    }

    /// Pieces of this cluster's log, as plans want them.
    fn ranges(&self, places: &[LogPlace]) -> Vec<(Timeline, Lsn, Lsn)> {
        let ours = places.iter().filter_map(LogPlace::wal);
        let ours = ours.filter(|place| place.system_id == self.system_id);
        let range = |place: WalPlace| match place.part {
            WalPart::Range { start, end } => Some((place.timeline, start, end)),
            WalPart::History => None,
        };
        ours.filter_map(range).collect()
    }

    /// The coordinates of a base backup.
    #[must_use]
    pub fn base(&self, backup: &BackupId) -> Option<&Coordinates> {
        self.bases.iter().find(|(id, _)| id == backup).map(|(_, at)| at)
    }
}
