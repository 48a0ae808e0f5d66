use drctl_model::{Lsn, Timeline};

use super::elsewhere::{forks, left_behind};
use super::{Archive, Gap, NoPlan, Path, Place, Reason, RecoveryPlan, Target, Wal, Warning};
use crate::recovery::common::{Bounds, Found, Why, leads, nearest, search};

/// Other timelines that are tried.
const TIMELINES: usize = 8;

/// How to recover to a target: the newest good base that ended at or before it and from which the
/// WAL leads there without a gap; older ones where that is cut off, suspect ones last.
///
/// Without a timeline the newest one whose history is known, which a base leads to and which has
/// WAL of its own: a target on an ancestor's part is found on it as well. Where another one lived
/// on for longer than that, a recovery of all that there is says so ([`Warning::Fork`]).
///
/// # Errors
/// [`NoPlan`], which says why, what is nearest, and on which other timelines it would work.
pub fn plan(
    archive: &Archive,
    target: &Target,
    timeline: Option<Timeline>,
) -> Result<RecoveryPlan, Box<NoPlan>> {
    let chosen = timeline.unwrap_or_else(|| newest(archive));
    let refused = |(before, after), reason| {
        let (target, elsewhere) = (target.clone(), elsewhere(archive, chosen, target));
        Box::new(NoPlan { target, timeline: chosen, reason, before, after, elsewhere })
    };
    let Some(path) = Path::to(&archive.log, chosen) else {
        let known: Vec<Timeline> = archive.histories().timelines().collect();
        let reason = match known.is_empty() && timeline.is_none() {
            true => Reason::NoBase,
            false => Reason::UnknownTimeline { timeline: chosen, known },
        };
        return Err(refused((None, None), reason));
    };
    let near = |goal| {
        let (before, after) = nearest(&path, goal);
        (before.map(Place::from), after.map(Place::from))
    };
    let goal = target.on(&path, &archive.points).map_err(|why| refused(near(None), why))?;
    let found = search(&path, &goal).map_err(|why| refused(near(Some(&goal)), why.into()))?;
    let (common, bounds) = found.plan(&goal);
    let mut plan = RecoveryPlan::of(common, target);
    let named = timeline.is_some();
    plan.warnings.extend(Others { archive, path: &path, named }.warnings(target, &found, &bounds));
    // Those of the same rank stay in their order.
    plan.warnings.sort_by_key(|warning| rank(warning, target));
    Ok(plan)
}

fn newest(archive: &Archive) -> Timeline {
    let path = |timeline: &Timeline| Path::to(&archive.log, *timeline);
    let led = |path: &Path<'_>| !path.bases.is_empty();
    let known = || archive.histories().timelines().rev();
    let full = known().find(|t| path(t).is_some_and(|p| led(&p) && p.has_own_log()));
    let bare = || known().find(|t| path(t).is_some_and(|p| led(&p))).or(known().next());
    full.or_else(bare).unwrap_or(Timeline::FIRST)
}

/// Other timelines on which a target can be reached.
fn elsewhere(archive: &Archive, timeline: Timeline, target: &Target) -> Vec<Timeline> {
    let others = archive.histories().timelines().rev().filter(|other| *other != timeline);
    let paths = others.take(TIMELINES).filter_map(|other| Path::to(&archive.log, other));
    let led =
        |path: &Path<'_>| target.on(path, &archive.points).is_ok_and(|goal| leads(path, &goal));
    paths.filter(led).map(|path| path.lineage).collect()
}

/// The worst first.
fn rank(warning: &Warning, target: &Target) -> u8 {
    match warning {
        Warning::SuspectBase => 0,
        Warning::Fork { .. } => 1,
        // In a recovery of all that there is this is told with the forks.
        Warning::LeftBehind { .. } if *target == Target::Latest => 1,
        Warning::BehindGap(_) | Warning::BehindEnd(_) => 2,
        Warning::Unproven(_) | Warning::DisputedHistory(_) => 3,
        Warning::ClockWentBack { .. } => 4,
        Warning::XidNotCertain { .. } => 5,
        Warning::AtTheEnd => 6,
        Warning::TargetIsLastCommit => 7,
        Warning::LeftBehind { .. } => 8,
        Warning::CutOff { .. } | Warning::EndedAfter { .. } => 9,
        Warning::NewerSuspect { .. } => 10,
        Warning::NewerTimeline(_) => 11,
        Warning::NoHistory(_) | Warning::NoCopyOf(_) => 12,
    }
}

/// What there is beside the path that is followed.
struct Others<'a> {
    archive: &'a Archive,
    path: &'a Path<'a>,
    /// Whether somebody named the timeline.
    named: bool,
}

impl Others<'_> {
    /// What newer timelines had of their own that is gone, or that only a newer drctl reads, unless
    /// somebody named the followed one.
    fn gone(&self) -> impl Iterator<Item = Gap> {
        let newer = |(of, _): &(Timeline, _)| *of > self.path.lineage && !self.path.holds(*of);
        let known = self.archive.log.once().filter(newer).filter(|_| !self.named);
        known.filter_map(|(timeline, (until, why))| {
            let begins = self.archive.history(timeline).map(|own| own.begins());
            let end = self.archive.log.entries(timeline).iter().map(|entry| entry.end).max();
            let from = end.max(begins).unwrap_or(Lsn(0));
            let bare = end.is_none() && why == Why::Newer;
            let until = Some(until).filter(|until| *until > from);
            (bare || until.is_some()).then(|| Gap { timeline, from, until, why: why.into() })
        })
    }

    fn warnings(
        &self,
        target: &Target,
        found: &Found<'_, Wal>,
        bounds: &Bounds<Lsn>,
    ) -> Vec<Warning> {
        let (histories, timeline) = (self.archive.histories(), self.path.lineage);
        let mut warnings = Vec::new();
        if *target == Target::Latest {
            warnings.extend(forks(self.archive, self.path, self.named));
            warnings.extend(self.gone().map(Warning::BehindEnd));
        }
        let led = |timeline: &&Timeline| self.path.holds(**timeline);
        let disputed = histories.disputed.iter().filter(led).copied();
        warnings.extend(disputed.map(Warning::DisputedHistory));
        if let Some(at) = found.time() {
            let left = left_behind(self.archive, self.path, bounds, at);
            warnings.extend(left.map(|(timeline, until)| Warning::LeftBehind { timeline, until }));
        }
        let newest = histories.timelines().next_back().filter(|newest| *newest > timeline);
        warnings.extend(newest.map(Warning::NewerTimeline));
        let unknown = self.archive.log.logs.keys().rev().take_while(|newer| **newer > timeline);
        let unknown = unknown.filter(|newer| histories.of(**newer).is_none());
        warnings.extend(unknown.copied().map(Warning::NoHistory));
        let assumed = histories.assumed.contains(&timeline).then_some(timeline);
        warnings.extend(assumed.map(Warning::NoHistory));
        warnings
    }
}
