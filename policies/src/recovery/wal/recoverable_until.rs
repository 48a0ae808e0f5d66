use drctl_model::{Lsn, Timeline};
use jiff::Timestamp;

use super::{Archive, Gap, Path, RecoveryPlan, Target, Wal, Warning, plan};
use crate::recovery::common::Base;

/// How far all that there is leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoverableUntil {
    /// The timeline that a recovery follows, or should: what lived on for longest.
    pub timeline: Timeline,
    /// The end of the WAL that leads on from the newest base without a gap.
    pub end: Lsn,
    /// The last moment that can be recovered: of the last commit, or the end of the base where
    /// that is later.
    pub shows: Timestamp,
    /// What is missing behind that end while later WAL is there.
    pub gaps: Vec<Gap>,
    /// What is not known of the timelines, worst first: WAL may be there that nothing leads to, or that
    /// is of another history.
    pub doubts: Vec<Warning>,
}

/// Where the newest timeline stands, or one that lived on for longer; nothing where no base leads
/// anywhere.
#[must_use]
pub fn recoverable_until(archive: &Archive) -> Option<RecoverableUntil> {
    let newest = plan(archive, &Target::Latest, None).ok()?;
    let forks: Vec<Warning> = newest.warnings.iter().filter(|one| is_fork(one)).cloned().collect();
    let plan = longest(archive, &forks).unwrap_or(newest);
    let path = Path::to(&archive.log, plan.timeline)?;
    let stopped = archive.log.bases.iter().filter(|base| base.backup == plan.base);
    let stopped = stopped.map(|base| base.stood.told()).max();
    let mut gaps: Vec<Gap> = Vec::new();
    let mut reach = plan.reach;
    for span in path.spans.iter().filter(|span| span.end > plan.reach) {
        gaps.push(path.gap_at(reach).into());
        reach = span.end;
    }
    // Also of a newer timeline that has no WAL of its own yet.
    let later = archive.histories().all().rev().filter(|of| of.timeline > plan.timeline);
    let later = later.filter(|of| of.holds(plan.timeline)).map(|of| of.timeline);
    let all = later.chain([plan.timeline]);
    let ends = all.filter_map(|of| Path::to(&archive.log, of)?.lost_end());
    gaps.extend(ends.max_by_key(|gap| gap.until).map(Gap::from));
    let newer = |base: &&Base<Wal>| base.stop > plan.consistent;
    let foreign = archive.log.bases.iter().filter(newer);
    let foreign = foreign.filter_map(|base| archive.log.foreign.get(&base.backup).copied());
    gaps.extend(foreign.map(Gap::from));
    let doubt = |warning: &Warning| {
        let of_histories = matches!(warning, Warning::DisputedHistory(_) | Warning::NoHistory(_));
        of_histories || matches!(warning, Warning::Unproven(_))
    };
    Some(RecoverableUntil {
        timeline: plan.timeline,
        end: plan.reach,
        shows: plan.last_commit.not_before.max(stopped)?,
        gaps,
        doubts: forks.into_iter().chain(plan.warnings.into_iter().filter(doubt)).collect(),
    })
}

fn is_fork(warning: &Warning) -> bool {
    matches!(warning, Warning::Fork { .. })
}

/// The plan that follows what lived on for longest, where several timelines have commits of their own.
fn longest(archive: &Archive, forks: &[Warning]) -> Option<RecoveryPlan> {
    let lived = forks.iter().filter_map(|fork| match fork {
        Warning::Fork { timeline, until, .. } => Some((*until, *timeline)),
        _ => None,
    });
    let (_, timeline) = lived.max()?;
    plan(archive, &Target::Latest, Some(timeline)).ok()
}
