use std::collections::{BTreeMap, BTreeSet};

use drctl_model::{BackupId, planted};
use jiff::Timestamp;

use super::{Candidate, Reason, Reasons, because};
use crate::policy::RetentionPolicy;
use crate::recovery::Archive;
use crate::recovery::common::{self, Lines};

/// Adds the base backups that lead to the begin of the recovery window: `within`, counted back from the
/// newest backup that counts. Those in the window stay by the rule itself, and the log behind
/// each that stays is [`log_of`](super::log_of)'s.
pub(super) fn apply(
    policy: &RetentionPolicy,
    counted: &[&Candidate],
    clusters: &[&Archive],
    reasons: &mut Reasons,
) {
    let newest = counted.iter().map(|of| of.taken).max();
    let Some((within, newest)) = policy.within.zip(newest) else { return };
    let Ok(begin) = newest.checked_sub(within) else { return };
    let candidates: BTreeMap<&BackupId, &Candidate> =
        counted.iter().map(|of| (&of.backup, *of)).collect();
    for cluster in clusters.iter().filter(|_| !planted("window-forgotten")) {
        for backup in leading_to(cluster.common(), begin, |backup| candidates.contains_key(backup))
        {
            if let Some(of) = candidates.get(&backup) {
                because(reasons, of, Reason::Window);
            }
        }
    }
}

/// For each lineage to which log or bases of a time or later lead: the bases that lead on from that time.
fn leading_to<L: Lines>(
    archive: &common::Archive<L>,
    begin: Timestamp,
    counts: impl Fn(&BackupId) -> bool,
) -> BTreeSet<BackupId> {
    let lineages: BTreeSet<L::Lineage> =
        archive.bases.iter().map(|base| base.lineage).chain(archive.logs.keys().copied()).collect();
    let paths = lineages.into_iter().filter_map(|of| common::Path::to(archive, of));
    paths.flat_map(|path| on_path(&path, begin, &counts)).collect()
}

/// On one path: those that become consistent in the window, the newest that was consistent before it
/// begins, and the newest before the first commit in it, since commits overtake each other. One that
/// becomes consistent as it begins is in the window: that very commit may be the last of the log, and
/// only log behind a base shows that a time is reached from it.
fn on_path<L: Lines>(
    path: &common::Path<'_, L>,
    begin: Timestamp,
    counts: impl Fn(&BackupId) -> bool,
) -> BTreeSet<BackupId> {
    let all = path.bases.iter().copied();
    let whole = all.filter(|base| counts(&base.backup) && common::cut(path, base).is_none());
    let dated: Vec<(&common::Base<L>, common::Micros)> =
        whole.map(|base| (base, common::consistent_since(path, base))).collect();
    let at = common::Micros::of(begin);
    let in_window = path.pieces().filter(|seen| seen.commits.is_some_and(|(_, last)| last >= at));
    let first = in_window.map(|seen| seen.start).min();
    let later = dated.iter().filter(|(_, since)| *since >= at).map(|(base, _)| *base);
    let later: Vec<&common::Base<L>> = later.collect();
    if first.is_none() && later.is_empty() {
        return BTreeSet::new();
    }
    let newest = |bases: &mut dyn Iterator<Item = &common::Base<L>>| {
        bases.max_by_key(|base| (base.stop, base.start)).map(|base| base.backup.clone())
    };
    let by_time = newest(&mut dated.iter().filter(|(_, since)| *since < at).map(|(base, _)| *base));
    let before = |base: &&common::Base<L>| first.is_some_and(|first| base.stop <= first);
    let by_place = newest(&mut dated.iter().map(|(base, _)| *base).filter(before));
    let later = later.into_iter().map(|base| base.backup.clone());
    later.chain(by_time).chain(by_place).collect()
}
