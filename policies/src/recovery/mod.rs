//! Recovery to a point in time: what can be reached, and how.
//!
//! Pure and total: an [`Archive`] is made of what the catalog knows, [`plan`] answers with a
//! [`RecoveryPlan`] or with [`NoPlan`], which says why and what is nearest, and
//! [`timeline_view`] shows all that can be reached.
//!
//! Positions decide, times only translate. The server stops at the first commit *in the order of
//! the log* whose time is later than the target, so a plan holds the log at least to the end of
//! the first piece that is known to have such a commit.
//!
//! What is alike for the log of any engine is `common`; `wal` is what only PostgreSQL knows, whose
//! words these are.

pub(crate) mod common;
mod wal;

#[cfg(test)]
pub(crate) mod tests;

pub use common::{LastCommit, Loss, Stood, Stop};
pub use wal::{
    Archive, Base, BaseOn, Gap, Leg, NoPlan, Piece, Place, Reachable, Reason, RecoverableUntil,
    RecoveryPlan, RestorePoint, Run, Span, Target, TimelineView, Unproven, Want, Warning, Why,
    made, plan, recoverable_until, timeline_view,
};
