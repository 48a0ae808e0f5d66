use std::fmt;

use drctl_model::{BackupId, Lsn, Timeline, shown};
use jiff::Timestamp;
use serde::Serialize;

use super::{Gap, Place, Target, Unproven, Why};
use crate::recovery::common::{LastCommit, Loss, Stop};

/// What a recovery does: nothing is left to decide while it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecoveryPlan {
    /// The backup to start from.
    pub base: BackupId,
    /// Where it became consistent; nothing earlier can be opened.
    pub consistent: Lsn,
    /// What to follow (`recovery_target_timeline`), as a number and never `latest`.
    pub timeline: Timeline,
    /// The target, as it was given.
    pub target: Target,
    /// The WAL to replay, in order and without a gap.
    pub path: Vec<Leg>,
    /// What ends the replay.
    pub stop: Stop,
    /// The server does not stop before this position.
    pub not_before: Lsn,
    /// The WAL up to here is known to be needed, and to be enough.
    pub until: Lsn,
    /// The WAL is there, without a gap, up to here.
    pub reach: Lsn,
    /// WAL from here on must not be replayed: it is there, and cannot be, or is another history's.
    pub bound: Option<Lsn>,
    /// The last commit that the result holds; it may be one that the base holds already.
    pub last_commit: LastCommit,
    /// Bytes of WAL to replay.
    pub log_bytes: u64,
    /// What the result will not hold of the WAL that leads to the timeline.
    pub loses: Loss,
    /// What to know before saying yes, worst first.
    pub warnings: Vec<Warning>,
    /// Of a time: one shortly before that can be reached instead, of the last commit that the
    /// result surely holds. Nothing where the base is later.
    pub earlier: Option<Timestamp>,
    /// A time shortly behind that can be reached instead: of the first piece that shows a commit
    /// which the result does not hold.
    pub later: Option<Timestamp>,
}

impl RecoveryPlan {
    /// Where it replays across WAL that nobody has compared with the WAL before it.
    pub fn unproven(&self) -> impl Iterator<Item = &Unproven> {
        self.warnings.iter().filter_map(|warning| match warning {
            Warning::Unproven(place) => Some(place),
            _ => None,
        })
    }
}

/// A stretch of one timeline's WAL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leg {
    /// In whose WAL it lies.
    pub timeline: Timeline,
    /// Its first byte.
    pub from: Lsn,
    /// Behind its last byte.
    pub until: Lsn,
}

/// What to know before saying yes to a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Warning {
    /// The base is suspect; there is no good one that would do.
    SuspectBase,
    /// There is WAL behind a gap that the result will not hold.
    BehindGap(Gap),
    /// WAL that was there behind the end of all that is there, or that begins a newer timeline, is
    /// gone or only for a newer drctl: the result will not hold it.
    BehindEnd(Gap),
    /// It replays across a place where it is not known whether the WAL follows the WAL before it: what
    /// lies behind may be of another history.
    Unproven(Unproven),
    /// Two histories of this timeline tell different things.
    DisputedHistory(Timeline),
    /// Commits behind the stop have earlier times than the target: a clock was set back.
    ClockWentBack {
        /// The earliest time that was seen there.
        to: Timestamp,
    },
    /// The pieces tell ranges of transactions: whether it is there only the replay shows.
    XidNotCertain {
        /// How many pieces it may be in.
        pieces: usize,
    },
    /// Nothing follows the piece that holds the target: if no record begins there or later, the
    /// server will give up.
    AtTheEnd,
    /// No commit later than the target is there: see [`Stop::AtEnd`].
    TargetIsLastCommit,
    /// A newer base is cut off from the target.
    CutOff {
        /// The base.
        backup: BackupId,
        /// What is missing.
        gap: Gap,
    },
    /// A newer base was under way at the target: an older one is used.
    EndedAfter {
        /// The base.
        backup: BackupId,
    },
    /// A newer base would do but is suspect: an older one is used.
    NewerSuspect {
        /// The base.
        backup: BackupId,
    },
    /// There is a newer timeline than the one that was asked for.
    NewerTimeline(Timeline),
    /// There is WAL of a newer timeline whose history is missing.
    NoHistory(Timeline),
    /// There is newer WAL of another cluster, and no base backup of that.
    NoCopyOf(u64),
    /// Another timeline lived on for longer than the one that is followed, which nobody named: which of
    /// them is the server, and which a trial that was thrown away, only people know.
    Fork {
        /// The other timeline.
        timeline: Timeline,
        /// Up to where it leads.
        end: Lsn,
        /// The last that is known to have happened on it.
        until: Timestamp,
        /// The one that is followed.
        followed: Timeline,
        /// Up to where that leads.
        reach: Lsn,
        /// The last that is known to have happened on that.
        shows: Option<Timestamp>,
    },
    /// Commits up to the target lie on another timeline alone, and the result has none as late; of a
    /// recovery of all that there is: it has not these.
    LeftBehind {
        /// The timeline.
        timeline: Timeline,
        /// The last of these commits.
        until: Timestamp,
    },
}

impl Warning {
    /// Whether it is told of how the WAL lies in pieces, or of where it ends: it comes and goes
    /// when pieces are joined and when more of them come, and nothing else is done for it.
    pub(super) fn is_of_pieces(&self) -> bool {
        let of_pieces = matches!(self, Warning::XidNotCertain { .. } | Warning::AtTheEnd);
        of_pieces || matches!(self, Warning::TargetIsLastCommit)
    }

    /// Whether it is told of another timeline, which may live and grow.
    pub(super) fn is_of_others(&self) -> bool {
        matches!(self, Warning::Fork { .. } | Warning::LeftBehind { .. })
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::SuspectBase => f.write_str(
                "the base backup is suspect, and no good one can \
                                                 be used",
            ),
            Warning::BehindGap(gap) => write!(f, "the WAL after a gap is left out: {gap}"),
            Warning::BehindEnd(gap) => {
                let there = if gap.why == Why::Refused { "may be" } else { "was" };
                write!(f, "WAL that {there} there after the end is left out: {gap}")
            }
            Warning::Unproven(place) => write!(f, "{place}"),
            Warning::DisputedHistory(timeline) => {
                write!(f, "two history files of timeline {timeline} differ")
            }
            Warning::ClockWentBack { to } => {
                write!(f, "a clock was set back to {to}: commits after the stop are earlier")
            }
            Warning::XidNotCertain { pieces } => {
                write!(
                    f,
                    "only the replay will show where the transaction ended (pieces: \
                           {pieces})"
                )
            }
            Warning::AtTheEnd => f.write_str("nothing follows the piece that holds the target"),
            Warning::TargetIsLastCommit => f.write_str("the target is the last known commit"),
            Warning::CutOff { backup, gap } => {
                write!(f, "the newer base backup {backup} cannot be used: {gap}")
            }
            Warning::EndedAfter { backup } => {
                write!(f, "the newer base backup {backup} had not ended at the target")
            }
            Warning::NewerSuspect { backup } => write!(
                f,
                "the newer base backup {backup} is \
                                                           suspect"
            ),
            Warning::NewerTimeline(timeline) => write!(f, "there is a newer timeline {timeline}"),
            Warning::NoHistory(timeline) => {
                write!(f, "there is WAL of timeline {timeline}, but its history file is missing")
            }
            Warning::NoCopyOf(system_id) => write!(
                f,
                "there is newer WAL of another cluster (system identifier {system_id}), and no \
                 base backup of that"
            ),
            Warning::Fork { timeline, end, until, followed, reach, shows } => {
                write!(
                    f,
                    "two timelines have commits of their own, and neither has the other's: timeline \
                     {timeline}, up to {end}, last seen at {until}, and timeline {followed}, up to \
                     {reach}, last seen at {}",
                    said(shows)
                )
            }
            Warning::LeftBehind { timeline, until } => write!(
                f,
                "only timeline {timeline} has the commits up to {until}: --timeline {timeline} \
                 recovers them"
            ),
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Gap { timeline, from, .. } = self;
        match self.why {
            Why::Missing => write!(f, "WAL of timeline {timeline} is missing from {from}")?,
            Why::Minimal => {
                return write!(
                    f,
                    "the WAL of timeline {timeline} from {from} on was written with wal_level = \
                     minimal, and cannot be replayed"
                );
            }
            Why::OtherHistory => {
                return write!(
                    f,
                    "the WAL of timeline {timeline} from {from} on follows another history than \
                     the WAL before it"
                );
            }
            Why::Damaged => {
                return write!(
                    f,
                    "the WAL of timeline {timeline} from {from} on is damaged: it was read, and is \
                     not what was stored (`drctl verify SOURCE --data` reads it again)"
                );
            }
            Why::Newer => {
                return write!(
                    f,
                    "the WAL of timeline {timeline} from {from} on is in a newer format, which this \
                     drctl does not read: install the newer one"
                );
            }
            Why::Refused => return f.write_str(&self.refused()),
        }
        self.until.map_or(Ok(()), |until| write!(f, " to {until}"))
    }
}

impl fmt::Display for Unproven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unproven { timeline, lsn, at } = self;
        let last = at.map_or_else(String::new, |at| format!(" (last commit at {at})"));
        write!(
            f,
            "it is not known whether the WAL of timeline {timeline} from {lsn} on follows the WAL \
             before it{last}: `wal stream` began there, and the server had removed the segment \
             before. If the server was set back in between, a recovery across {lsn} mixes two \
             histories; --to-lsn {lsn} recovers all before it, and a base backup taken since does \
             not cross it"
        )
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Time(at) => write!(f, "time {at}"),
            Target::Lsn { lsn, inclusive: false } => write!(f, "position {lsn}"),
            Target::Lsn { lsn, inclusive: true } => {
                write!(f, "position {lsn} and the record that begins there")
            }
            Target::Xid { xid, inclusive: true } => write!(f, "transaction {xid}"),
            Target::Xid { xid, inclusive: false } => write!(f, "before transaction {xid}"),
            Target::Name(name) => write!(f, "restore point `{}`", shown(name, 64)),
            Target::Latest => f.write_str("the end of the WAL"),
        }
    }
}

/// Why there is no plan, and what is nearest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{target} cannot be reached on timeline {timeline}: {reason}")]
pub struct NoPlan {
    /// The target, as it was given.
    pub target: Target,
    /// The timeline on which it was looked for.
    pub timeline: Timeline,
    /// Why not.
    pub reason: Reason,
    /// The nearest place before the target that a plan leads to, by its time where it has one
    /// and by its position else. Of a target that has no place in the order: the last one.
    pub before: Option<Place>,
    /// The nearest place behind the target that a plan leads to.
    pub after: Option<Place>,
    /// Other timelines, newest first, on which the same target can be reached.
    pub elsewhere: Vec<Timeline>,
}

/// Why a target cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No history of the timeline, which is not the first.
    #[error("nothing is known of timeline {timeline}")]
    UnknownTimeline {
        /// The one that was asked for.
        timeline: Timeline,
        /// Those that there are.
        known: Vec<Timeline>,
    },
    /// No base lies on the way to the timeline.
    #[error("there is no base backup that leads there")]
    NoBase,
    /// No base had ended.
    #[error("the first base backup was consistent at {stopped} ({stop}), and not before")]
    BeforeFirst {
        /// When the first one was consistent: its end, or a later commit in its own WAL.
        stopped: Timestamp,
        /// Where it was.
        stop: Lsn,
    },
    /// The WAL ends before it, or no commit shows that it was reached.
    #[error("the WAL ends at {end}, its last commit is {}", said(.last_commit))]
    AfterEnd {
        /// The last commit behind the base.
        last_commit: Option<Timestamp>,
        /// The end of the WAL.
        end: Lsn,
    },
    /// Something is missing on the way.
    #[error("{0}")]
    Gap(Gap),
    /// No piece has such a transaction.
    #[error("no piece of the WAL has this transaction")]
    XidNotFound,
    /// The numbers of transactions went round since.
    #[error("transaction IDs have wrapped around: there are {} of this number", .places.len())]
    XidAmbiguous {
        /// The first piece of each that may hold it.
        places: Vec<Place>,
    },
    /// No such restore point on the way to the timeline.
    #[error("there is no restore point of this name")]
    NameNotFound,
    /// Several restore points of this name.
    #[error("there are {} restore points of this name", .places.len())]
    NameAmbiguous {
        /// All of them.
        places: Vec<Place>,
    },
}

fn said(at: &Option<Timestamp>) -> String {
    at.map_or_else(|| "unknown".to_owned(), |at| at.to_string())
}

impl NoPlan {
    /// What the operator can do about it, as an imperative sentence.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        if !self.elsewhere.is_empty() {
            return "name another --timeline: `drctl timeline` shows where it can be reached";
        }
        match self.reason {
            Reason::UnknownTimeline { .. } => "name another timeline: `drctl timeline` shows them",
            Reason::NoBase => "take a base backup: without one no WAL can be replayed",
            Reason::BeforeFirst { .. } => "choose a later target",
            Reason::AfterEnd { .. } => {
                "choose an earlier target, or recover all that there is: --to-end"
            }
            Reason::Gap(_) => "choose a target before the gap, or one after a later base backup",
            Reason::XidNotFound | Reason::NameNotFound => "choose a time or a position",
            Reason::XidAmbiguous { .. } | Reason::NameAmbiguous { .. } => {
                "choose one of them by its position or time"
            }
        }
    }
}
