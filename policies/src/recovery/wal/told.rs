//! What the common part found, in the words of PostgreSQL.

use super::{Gap, Leg, Place, Reason, RecoveryPlan, Target, Unproven, Wal, Warning, Why};
use crate::recovery::common::{self, Plan};

impl From<common::Place<Wal>> for Place {
    fn from(place: common::Place<Wal>) -> Place {
        Place { lsn: place.position, at: place.at }
    }
}

impl From<common::Gap<Wal>> for Gap {
    fn from(gap: common::Gap<Wal>) -> Gap {
        Gap { timeline: gap.lineage, from: gap.from, until: gap.until, why: gap.why.into() }
    }
}

impl From<common::Unproven<Wal>> for Unproven {
    fn from(place: common::Unproven<Wal>) -> Unproven {
        Unproven { timeline: place.lineage, lsn: place.at, at: place.last }
    }
}

impl From<common::Why> for Why {
    fn from(why: common::Why) -> Why {
        match why {
            common::Why::Missing => Why::Missing,
            common::Why::TooLittle => Why::Minimal,
            common::Why::OtherHistory => Why::OtherHistory,
            common::Why::Damaged => Why::Damaged,
            common::Why::Newer => Why::Newer,
            common::Why::Refused => Why::Refused,
        }
    }
}

impl From<common::Leg<Wal>> for Leg {
    fn from(leg: common::Leg<Wal>) -> Leg {
        Leg { timeline: leg.lineage, from: leg.from, until: leg.until }
    }
}

impl From<&Leg> for common::Leg<Wal> {
    fn from(leg: &Leg) -> common::Leg<Wal> {
        common::Leg { lineage: leg.timeline, from: leg.from, until: leg.until }
    }
}

impl From<common::Reason<Wal>> for Reason {
    fn from(reason: common::Reason<Wal>) -> Reason {
        match reason {
            common::Reason::NoBase => Reason::NoBase,
            common::Reason::BeforeFirst { stopped, stop } => Reason::BeforeFirst { stopped, stop },
            common::Reason::AfterEnd { last_commit, end } => Reason::AfterEnd { last_commit, end },
            common::Reason::Gap(gap) => Reason::Gap(gap.into()),
        }
    }
}

impl From<common::Warning<Wal>> for Warning {
    fn from(warning: common::Warning<Wal>) -> Warning {
        match warning {
            common::Warning::SuspectBase => Warning::SuspectBase,
            common::Warning::BehindGap(gap) => Warning::BehindGap(gap.into()),
            common::Warning::BehindEnd(gap) => Warning::BehindEnd(gap.into()),
            common::Warning::Unproven(place) => Warning::Unproven(place.into()),
            common::Warning::ClockWentBack { to } => Warning::ClockWentBack { to },
            common::Warning::NotCertain { pieces } => Warning::XidNotCertain { pieces },
            common::Warning::AtTheEnd => Warning::AtTheEnd,
            common::Warning::TargetIsLastCommit => Warning::TargetIsLastCommit,
            common::Warning::CutOff { backup, gap } => Warning::CutOff { backup, gap: gap.into() },
            common::Warning::EndedAfter { backup } => Warning::EndedAfter { backup },
            common::Warning::NewerSuspect { backup } => Warning::NewerSuspect { backup },
        }
    }
}

impl RecoveryPlan {
    pub(super) fn of(plan: Plan<Wal>, target: &Target) -> RecoveryPlan {
        RecoveryPlan {
            base: plan.base,
            consistent: plan.consistent,
            timeline: plan.lineage,
            target: target.clone(),
            path: plan.path.into_iter().map(Leg::from).collect(),
            stop: plan.stop,
            not_before: plan.not_before,
            until: plan.until,
            reach: plan.reach,
            bound: plan.bound,
            last_commit: plan.last_commit,
            log_bytes: plan.log_bytes,
            loses: plan.loses,
            warnings: plan.warnings.into_iter().map(Warning::from).collect(),
            earlier: plan.earlier,
            later: plan.later,
        }
    }
}
