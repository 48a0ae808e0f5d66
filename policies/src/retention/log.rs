use std::collections::BTreeSet;

use drctl_model::{BackupId, Lsn, Timeline, planted};
use jiff::Timestamp;

use crate::recovery::Archive;
use crate::recovery::common::{self, Lines};

/// What stays of the log of one lineage of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineageLog<Lineage = Timeline, At = Lsn> {
    /// Whose log.
    pub lineage: Lineage,
    /// From where on it stays: what ends there or before may go. Nothing where all of it may.
    pub from: Option<StaysFrom<At>>,
}

/// From where on the log of a lineage stays, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StaysFrom<At = Lsn> {
    /// From here on: a base backup that stays begins there.
    Base {
        /// Where.
        at: At,
        /// Which one.
        backup: BackupId,
    },
    /// All of it: this base backup that stays is on a lineage from which it grew.
    Ancestor(BackupId),
    /// All of it: no base backup leads there yet, and some of it is as young as the oldest one that
    /// stays.
    NoBase,
}

/// Tells for each lineage of a cluster what of its log stays. Log goes only up to the oldest base backup
/// that stays, whether that counts or not, and never while nothing leads to it that could have.
#[must_use]
pub fn log_of(cluster: &Archive, stays: impl Fn(&BackupId) -> bool) -> Vec<LineageLog> {
    stays_of(cluster.common(), stays)
}

pub(super) fn stays_of<L: Lines>(
    archive: &common::Archive<L>,
    stays: impl Fn(&BackupId) -> bool,
) -> Vec<LineageLog<L::Lineage, L::At>> {
    let bases: Vec<&common::Base<L>> =
        archive.bases.iter().filter(|base| stays(&base.backup)).collect();
    let oldest = bases.iter().map(|base| base.stood.told()).min();
    let led_from: BTreeSet<L::Lineage> =
        bases.iter().flat_map(|base| ancestors(archive, base)).collect();
    let lineages = archive.logs.keys().copied();
    let log = lineages.map(|lineage| {
        let may_come = || is_young(archive, lineage, oldest, led_from.contains(&lineage));
        let from =
            needed(archive, lineage, &bases).or_else(|| may_come().then_some(StaysFrom::NoBase));
        LineageLog { lineage, from }
    });
    log.collect()
}

/// What base backups that stay need of it.
fn needed<L: Lines>(
    archive: &common::Archive<L>,
    lineage: L::Lineage,
    bases: &[&common::Base<L>],
) -> Option<StaysFrom<L::At>> {
    let from_before = bases.iter().find(|base| {
        let left = left(archive, lineage, base.lineage);
        left.is_some_and(|left| base.start <= left)
    });
    if let Some(base) = from_before {
        return Some(StaysFrom::Ancestor(base.backup.clone()));
    }
    // A base backup can begin before its own lineage does.
    let on_the_way = bases.iter().filter(|base| {
        let left = left(archive, base.lineage, lineage);
        base.lineage == lineage || left.is_some_and(|left| base.start < left)
    });
    let first = match planted("log-from-the-newest-base") {
        false => on_the_way.min_by_key(|base| base.start)?,
        true => on_the_way.max_by_key(|base| base.start)?,
    };
    Some(StaysFrom::Base { at: first.start, backup: first.backup.clone() })
}

/// Where an ancestor of a lineage was left for it.
fn left<L: Lines>(
    archive: &common::Archive<L>,
    lineage: L::Lineage,
    ancestor: L::Lineage,
) -> Option<L::At> {
    let before = L::ancestors(&archive.known, lineage)?;
    before.into_iter().find(|(of, _)| *of == ancestor).map(|(_, left)| left)
}

/// Whether a base backup may still come to log to which none leads: where none is there at all, or
/// some of it is as young as the oldest that stays.
fn is_young<L: Lines>(
    archive: &common::Archive<L>,
    lineage: L::Lineage,
    oldest: Option<Timestamp>,
    led_from: bool,
) -> bool {
    let Some(oldest) = oldest else { return true };
    let commits = archive.entries(lineage).iter();
    let last = commits.filter_map(|entry| common::commits(entry)?.1.time()).max();
    last.map_or(!led_from, |last| last >= oldest)
}

fn ancestors<L: Lines>(
    archive: &common::Archive<L>,
    base: &common::Base<L>,
) -> impl Iterator<Item = L::Lineage> {
    let before = L::ancestors(&archive.known, base.lineage).unwrap_or_default();
    before.into_iter().map(|(lineage, _)| lineage)
}
