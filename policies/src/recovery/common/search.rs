use drctl_model::{BackupId, Position as _};
use jiff::Timestamp;

use super::aim::{Aim, Goal, Miss, Reached, consistent_since};
use super::archive::Micros;
use super::path::Path;
use super::{Base, Gap, Lines};

/// Why a target cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason<L: Lines> {
    /// No base lies on the way.
    NoBase,
    /// No base had ended: when the first one was consistent, and where.
    BeforeFirst { stopped: Timestamp, stop: L::At },
    /// The log ends before it, or no commit shows that it was reached.
    AfterEnd { last_commit: Option<Timestamp>, end: L::At },
    /// Something is missing on the way.
    Gap(Gap<L>),
}

/// A base that leads to the target, and those that came first and did not lead there.
pub(crate) struct Found<'a, L: Lines> {
    pub(super) path: &'a Path<'a, L>,
    pub(super) aim: Aim<L::At>,
    pub(super) base: &'a Base<L>,
    pub(super) reached: Reached<L::At>,
    pub(super) passed: Vec<(&'a Base<L>, Miss<L>)>,
}

/// The newest good base that ended at or before the target and from which the log leads there
/// without a gap; older ones where that is cut off, suspect ones last.
pub(crate) fn search<'a, L: Lines>(
    path: &'a Path<'a, L>,
    goal: &Goal<L::At>,
) -> Result<Found<'a, L>, Reason<L>> {
    let aim = Aim::at(path, goal);
    let Search { found, passed } = Search::of(path, &aim);
    match found {
        Some((base, reached)) => Ok(Found { path, aim, base, reached, passed }),
        None => Err(reason(path, &passed)),
    }
}

/// Whether some base leads there; the reason why not is not asked for.
pub(crate) fn leads<L: Lines>(path: &Path<'_, L>, goal: &Goal<L::At>) -> bool {
    Search::of(path, &Aim::at(path, goal)).found.is_some()
}

/// The bases of a path, tried one after the other.
struct Search<'a, L: Lines> {
    found: Option<(&'a Base<L>, Reached<L::At>)>,
    /// Those that came first and did not lead there.
    passed: Vec<(&'a Base<L>, Miss<L>)>,
}

impl<'a, L: Lines> Search<'a, L> {
    fn of(path: &Path<'a, L>, aim: &Aim<L::At>) -> Search<'a, L> {
        let mut passed = Vec::new();
        for base in &path.bases {
            match aim.from(path, base) {
                Ok(reached) => return Search { found: Some((base, reached)), passed },
                Err(miss) => passed.push((*base, miss)),
            }
        }
        // The oldest of them is the likeliest to have ended before.
        let perhaps = path.bases.iter().rev().filter(|base| base.good);
        let found = perhaps.min_by_key(|base| match aim.perhaps(path, base) {
            Some(_) => base.stop,
            None => L::At::last(),
        });
        let found = found.and_then(|base| Some((*base, aim.perhaps(path, base)?)));
        Search { found, passed }
    }
}

/// What the best base says that had ended before the target.
fn reason<L: Lines>(path: &Path<'_, L>, passed: &[(&Base<L>, Miss<L>)]) -> Reason<L> {
    let told = passed.iter().find(|(_, miss)| *miss != Miss::EndedAfter);
    let first = passed.iter().map(|(base, _)| base).min_by_key(|base| base.stop);
    match (told, first) {
        (None, None) => Reason::NoBase,
        (None, Some(base)) => {
            let stopped = consistent_since(path, base).time().unwrap_or(base.stood.told());
            Reason::BeforeFirst { stopped, stop: base.stop }
        }
        (Some((_, Miss::Cut(gap))), _) => Reason::Gap(*gap),
        (Some((base, Miss::AfterEnd { end })), _) => {
            let behind = path.pieces().filter(|s| s.end > base.stop && s.start < *end);
            let last = behind.filter_map(|seen| seen.last()).max();
            Reason::AfterEnd { last_commit: last.and_then(Micros::time), end: *end }
        }
        (Some((base, Miss::EndedAfter)), _) => {
            Reason::BeforeFirst { stopped: base.stood.told(), stop: base.stop }
        }
    }
}

impl<L: Lines> Found<'_, L> {
    /// A newer base that is suspect and would do.
    pub(super) fn newer_suspect(&self) -> Option<BackupId> {
        let newer = |base: &&&Base<L>| !base.good && base.stop > self.base.stop;
        let would = |base: &&&Base<L>| self.aim.from(self.path, base).is_ok();
        let newest = self.path.bases.iter().filter(newer).find(would);
        newest.map(|base| base.backup.clone())
    }
}
