//! Recovery of PostgreSQL: timelines, their histories, transactions and restore points, and what is
//! said of them.

mod archive;
mod digest_text;
mod elsewhere;
mod histories;
mod outcome;
mod planner;
mod recoverable_until;
mod segments;
mod sparse;
mod target;
mod told;
mod view;
mod words;

use drctl_model::{Lsn, Timeline};

use super::common::{self, Lines};
use histories::Histories;

pub use archive::{Archive, made};
pub use outcome::{Leg, NoPlan, Reason, RecoveryPlan, Warning};
pub use planner::plan;
pub use recoverable_until::{RecoverableUntil, recoverable_until};
pub use sparse::{Run, Want};
pub use view::{BaseOn, Reachable, Span, TimelineView, timeline_view};
pub use words::{Base, Gap, Piece, Place, RestorePoint, Target, Unproven, Why};

/// The write-ahead log of one cluster: its lineages are timelines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Wal;

impl Lines for Wal {
    const LINEAGE: &'static str = "timeline";

    type Lineage = Timeline;
    type At = Lsn;
    type Known = Histories;

    fn ancestors(histories: &Histories, of: Timeline) -> Option<Vec<(Timeline, Lsn)>> {
        let history = histories.of(of)?;
        Some(history.ancestors.iter().map(|a| (a.timeline, a.until)).collect())
    }

    fn amount(_: &Histories, from: Lsn, until: Lsn) -> u64 {
        until.since(from)
    }
}

/// The WAL that leads to a timeline: at a promotion PostgreSQL copies the segment in which it
/// happens, and the ancestor's own is often archived only as `.partial`.
type Path<'a> = common::Path<'a, Wal>;
