use drctl_model::BackupId;
use jiff::Timestamp;
use serde::Serialize;

use super::aim::{Aim, Goal, Miss, consistent_since};
use super::archive::Micros;
use super::bounds::{Bounds, LastCommit, Loss};
use super::search::Found;
use super::{Base, Gap, Leg, Lines, Unproven};

/// What a recovery does, as far as that is alike for all engines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan<L: Lines> {
    /// The backup to start from.
    pub(crate) base: BackupId,
    /// Where it became consistent.
    pub(crate) consistent: L::At,
    /// What to follow.
    pub(crate) lineage: L::Lineage,
    /// The log to replay, in order and without a gap.
    pub(crate) path: Vec<Leg<L>>,
    /// What ends the replay.
    pub(crate) stop: Stop,
    /// The server does not stop before this position.
    pub(crate) not_before: L::At,
    /// The log up to here is known to be needed, and to be enough.
    pub(crate) until: L::At,
    /// The log is there, without a gap, up to here.
    pub(crate) reach: L::At,
    /// Log from here on must not be replayed.
    pub(crate) bound: Option<L::At>,
    /// The last commit that the result holds.
    pub(crate) last_commit: LastCommit,
    /// How much log there is to replay.
    pub(crate) log_bytes: u64,
    /// What the result will not hold of the log on the way.
    pub(crate) loses: Loss,
    /// What to know before saying yes, worst first.
    pub(crate) warnings: Vec<Warning<L>>,
    /// Of a time: one shortly before that can be reached instead.
    pub(crate) earlier: Option<Timestamp>,
    /// A time shortly behind that can be reached instead.
    pub(crate) later: Option<Timestamp>,
}

/// What ends the replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// The server, which sees the target in the log, or what lies behind it.
    AtTarget,
    /// The end of the log. Given the target itself, the server would not see anything later and
    /// give up at the end: it must be told to replay all that there is, and that be checked.
    AtEnd,
}

/// What to know before saying yes to a plan, as far as that is alike for all engines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Warning<L: Lines> {
    /// The base is suspect; there is no good one that would do.
    SuspectBase,
    /// There is log behind a gap that the result will not hold.
    BehindGap(Gap<L>),
    /// There was log behind the end of all that is there, which the result will not hold.
    BehindEnd(Gap<L>),
    /// It replays across a place where it is not known whether log follows the log before it.
    Unproven(Unproven<L>),
    /// Commits behind the stop have earlier times than the target, down to this one.
    ClockWentBack { to: Timestamp },
    /// Whether the target is there only the replay shows: it may be in so many pieces.
    NotCertain { pieces: usize },
    /// Nothing follows the piece that holds the target.
    AtTheEnd,
    /// No commit later than the target is there.
    TargetIsLastCommit,
    /// A newer base is cut off from the target.
    CutOff { backup: BackupId, gap: Gap<L> },
    /// A newer base was under way at the target.
    EndedAfter { backup: BackupId },
    /// A newer base would do but is suspect.
    NewerSuspect { backup: BackupId },
}

impl<L: Lines> Found<'_, L> {
    /// What to do, and what the pieces tell of the times around the stop.
    pub(crate) fn plan(&self, goal: &Goal<L::At>) -> (Plan<L>, Bounds<L::At>) {
        let Found { path, base, reached, .. } = self;
        let at = self.time();
        let bounds = Bounds::around(path, reached, at);
        // What is needed to become consistent is replayed whatever the target.
        let until = reached.hi.max(base.stop);
        let since = consistent_since(path, base);
        let other = |at: Option<Micros>| at.filter(|at| *at > since).and_then(Micros::time);
        let plan = Plan {
            base: base.backup.clone(),
            consistent: base.stop,
            lineage: path.lineage,
            path: path.legs(base.start, until),
            stop: if reached.at_end { Stop::AtEnd } else { Stop::AtTarget },
            not_before: reached.lo,
            until,
            reach: reached.reach,
            bound: path.barrier_at(reached.reach).map(|barrier| barrier.at),
            last_commit: bounds.last_commit(),
            log_bytes: path.amount(base.start, until),
            loses: bounds.loss(path, reached, at),
            warnings: self.warnings(goal, &bounds),
            earlier: other(bounds.earlier(at)),
            later: other(bounds.later()),
        };
        (plan, bounds)
    }

    /// The time up to which commits are in the result, where the target is a time.
    pub(crate) fn time(&self) -> Option<Micros> {
        self.aim.time()
    }

    fn warnings(&self, goal: &Goal<L::At>, bounds: &Bounds<L::At>) -> Vec<Warning<L>> {
        let mut warnings = Vec::new();
        if !self.base.good {
            warnings.push(Warning::SuspectBase);
        }
        warnings.extend(self.behind_gap().map(Warning::BehindGap));
        let all = matches!(self.aim, Aim::Latest);
        warnings.extend(self.path.known_end().filter(|_| all).map(Warning::BehindEnd));
        warnings.extend(self.unproven(goal).map(Warning::Unproven));
        let back = bounds.back.and_then(Micros::time);
        warnings.extend(back.map(|to| Warning::ClockWentBack { to }));
        if let Goal::Within { pieces: pieces @ 1.., .. } = goal {
            warnings.push(Warning::NotCertain { pieces: *pieces });
        }
        let by_position = matches!(goal, Goal::Position { .. }) && !self.reached.at_end;
        if by_position && self.reached.hi == self.reached.reach {
            warnings.push(Warning::AtTheEnd);
        }
        if matches!(goal, Goal::Time(_)) && self.reached.at_end {
            warnings.push(Warning::TargetIsLastCommit);
        }
        let passed = self.passed.iter();
        warnings.extend(passed.filter_map(|(base, miss)| self.passed_over(base, *miss)));
        warnings.extend(self.newer_suspect().map(|backup| Warning::NewerSuspect { backup }));
        warnings
    }

    /// What it replays across and nobody has compared. What begins at a target that is not in the
    /// result is read and not replayed.
    fn unproven(&self, goal: &Goal<L::At>) -> impl Iterator<Item = Unproven<L>> {
        let until = match goal {
            Goal::Position { at, inclusive: false } => self.reached.hi.min(*at),
            _ => self.reached.hi,
        };
        let (start, until) = (self.base.start, until.max(self.base.stop));
        let crossed = move |place: &Unproven<L>| start < place.at && place.at < until;
        self.path.unproven().into_iter().filter(crossed)
    }

    /// The gap before which a recovery of all that there is ends.
    fn behind_gap(&self) -> Option<Gap<L>> {
        let cut = matches!(self.aim, Aim::Latest) && self.path.end() > self.reached.reach;
        cut.then(|| self.path.gap_at(self.reached.reach))
    }

    fn passed_over(&self, base: &Base<L>, miss: Miss<L>) -> Option<Warning<L>> {
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
}
