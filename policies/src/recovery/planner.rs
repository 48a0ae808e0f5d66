use drctl_model::{BackupId, Lsn, Timeline};

use super::aim::{Aim, Miss, Reached, consistent_since};
use super::archive::{Archive, Micros};
use super::bounds::Bounds;
use super::elsewhere::{forks, left_behind};
use super::path::Path;
use super::refusal::{Refused, refuse};
use super::{Base, Gap, NoPlan, Reason, RecoveryPlan, Stop, Target, Warning};

/// How to recover to a target: the newest good base that ended at or before it and from which the
/// log leads there without a gap; older ones where that is cut off, suspect ones last.
///
/// Without a timeline the newest one whose history is known, which a base leads to and which has
/// log of its own: a target on an ancestor's part is found on it as well. Where another one lived on
/// for longer than that, a recovery of all that there is says so ([`Warning::Fork`]).
///
/// # Errors
/// [`NoPlan`], which says why, what is nearest, and on which other timelines it would work.
pub fn plan(
    archive: &Archive,
    target: &Target,
    timeline: Option<Timeline>,
) -> Result<RecoveryPlan, Box<NoPlan>> {
    let chosen = timeline.unwrap_or_else(|| newest(archive));
    let Some(path) = Path::to(archive, chosen) else {
        let known = archive.histories.keys().copied().collect();
        let reason = match archive.histories.is_empty() && timeline.is_none() {
            true => Reason::NoBase,
            false => Reason::UnknownTimeline { timeline: chosen, known },
        };
        return Err(refuse(archive, Refused { target, timeline: chosen, path: None, reason }));
    };
    let refused =
        |reason| refuse(archive, Refused { target, timeline: chosen, path: Some(&path), reason });
    let aim = Aim::at(archive, &path, target).map_err(refused)?;
    let search = Search::of(&path, &aim);
    match search.found {
        Some((base, reached)) => {
            let named = timeline.is_some();
            let found = Found { archive, path: &path, aim: &aim, base, reached, named };
            Ok(found.plan(target, &search.passed))
        }
        None => Err(refused(search.reason(&path))),
    }
}

/// Whether some base leads there; the reason why not is not asked for.
pub(super) fn leads(archive: &Archive, path: &Path<'_>, target: &Target) -> bool {
    Aim::at(archive, path, target).is_ok_and(|aim| Search::of(path, &aim).found.is_some())
}

fn newest(archive: &Archive) -> Timeline {
    let path = |timeline: &&Timeline| Path::to(archive, **timeline);
    let led = |path: &Path<'_>| !path.bases.is_empty();
    let known = || archive.histories.keys().rev();
    let full = known().find(|t| path(t).is_some_and(|p| led(&p) && p.has_own_log()));
    let bare = || known().find(|t| path(t).is_some_and(|p| led(&p))).or(known().next());
    full.or_else(bare).copied().unwrap_or(Timeline::FIRST)
}

/// The bases of a path, tried one after the other.
struct Search<'a> {
    found: Option<(&'a Base, Reached)>,
    /// Those that came first and did not lead there.
    passed: Vec<(&'a Base, Miss)>,
}

impl<'a> Search<'a> {
    fn of(path: &Path<'a>, aim: &Aim) -> Search<'a> {
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
            None => Lsn(u64::MAX),
        });
        let found = found.and_then(|base| Some((*base, aim.perhaps(path, base)?)));
        Search { found, passed }
    }

    /// What the best base says that had ended before the target.
    fn reason(&self, path: &Path<'_>) -> Reason {
        let told = self.passed.iter().find(|(_, miss)| *miss != Miss::EndedAfter);
        let first = self.passed.iter().map(|(base, _)| base).min_by_key(|base| base.stop);
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
}

/// A base that leads to the target.
struct Found<'a> {
    archive: &'a Archive,
    path: &'a Path<'a>,
    aim: &'a Aim,
    base: &'a Base,
    reached: Reached,
    /// Whether somebody named the timeline.
    named: bool,
}

impl Found<'_> {
    fn plan(&self, target: &Target, passed: &[(&Base, Miss)]) -> RecoveryPlan {
        let Found { path, base, reached, .. } = self;
        let at = self.aim.time();
        let bounds = Bounds::around(path, reached, at);
        // What is needed to become consistent is replayed whatever the target.
        let until = reached.hi.max(base.stop);
        let since = consistent_since(path, base);
        let other = |at: Option<Micros>| at.filter(|at| *at > since).and_then(Micros::time);
        RecoveryPlan {
            base: base.backup.clone(),
            consistent: base.stop,
            timeline: path.history.timeline,
            target: target.clone(),
            path: path.legs(base.start, until),
            stop: if reached.at_end { Stop::AtEnd } else { Stop::AtTarget },
            not_before: reached.lo,
            until,
            reach: reached.reach,
            bound: path.barrier_at(reached.reach).map(|barrier| barrier.at),
            last_commit: bounds.last_commit(),
            log_bytes: until.since(base.start),
            loses: bounds.loss(path, reached, at),
            warnings: self.warnings(target, &bounds, passed),
            earlier: other(bounds.earlier(at)),
            later: other(bounds.later()),
        }
    }

    fn warnings(&self, target: &Target, bounds: &Bounds, passed: &[(&Base, Miss)]) -> Vec<Warning> {
        let timeline = self.path.history.timeline;
        let mut warnings = Vec::new();
        if !self.base.good {
            warnings.push(Warning::SuspectBase);
        }
        if *target == Target::Latest {
            warnings.extend(forks(self.archive, self.path, self.named));
        }
        warnings.extend(self.behind_gap(target).map(Warning::BehindGap));
        let led = |timeline: &&Timeline| self.path.history.holds(**timeline);
        let disputed = self.archive.disputed.iter().filter(led).copied();
        warnings.extend(disputed.map(Warning::DisputedHistory));
        let back = bounds.back.and_then(Micros::time);
        warnings.extend(back.map(|to| Warning::ClockWentBack { to }));
        if let (Target::Xid { .. }, Aim::Position { pieces, .. }) = (target, self.aim) {
            warnings.push(Warning::XidNotCertain { pieces: *pieces });
        }
        let by_position = matches!(target, Target::Lsn { .. }) && !self.reached.at_end;
        if by_position && self.reached.hi == self.reached.reach {
            warnings.push(Warning::AtTheEnd);
        }
        if matches!(target, Target::Time(_)) && self.reached.at_end {
            warnings.push(Warning::TargetIsLastCommit);
        }
        if let Some(at) = self.aim.time() {
            let left = left_behind(self.archive, self.path, bounds, at);
            warnings.extend(left.map(|(timeline, until)| Warning::LeftBehind { timeline, until }));
        }
        warnings.extend(passed.iter().filter_map(|(base, miss)| self.passed_over(base, *miss)));
        warnings.extend(self.newer_suspect().map(|backup| Warning::NewerSuspect { backup }));
        warnings.extend(self.newer_timeline(timeline).map(Warning::NewerTimeline));
        let unknown = self.archive.logs.keys().rev().take_while(|newer| **newer > timeline);
        let unknown = unknown.filter(|newer| !self.archive.histories.contains_key(newer));
        warnings.extend(unknown.copied().map(Warning::NoHistory));
        let assumed = self.archive.assumed.contains(&timeline).then_some(timeline);
        warnings.extend(assumed.map(Warning::NoHistory));
        warnings
    }

    /// The gap before which a recovery of all that there is ends.
    fn behind_gap(&self, target: &Target) -> Option<Gap> {
        let cut = *target == Target::Latest && self.path.end() > self.reached.reach;
        cut.then(|| self.path.gap_at(self.reached.reach))
    }

    fn passed_over(&self, base: &Base, miss: Miss) -> Option<Warning> {
        let backup = || base.backup.clone();
        let newer = base.stop > self.base.stop;
        match miss {
            Miss::Cut(gap) if newer => Some(Warning::CutOff { backup: backup(), gap }),
            Miss::EndedAfter if base.start < self.reached.hi && newer => {
                Some(Warning::EndedAfter { backup: backup() })
            }
            _ => None,
        }
    }

    fn newer_suspect(&self) -> Option<BackupId> {
        let newer = |base: &&&Base| !base.good && base.stop > self.base.stop;
        let would = |base: &&&Base| self.aim.from(self.path, base).is_ok();
        let newest = self.path.bases.iter().filter(newer).find(would);
        newest.map(|base| base.backup.clone())
    }

    fn newer_timeline(&self, timeline: Timeline) -> Option<Timeline> {
        let newest = self.archive.histories.keys().next_back().copied()?;
        (newest > timeline).then_some(newest)
    }
}
