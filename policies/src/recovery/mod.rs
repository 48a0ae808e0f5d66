//! Recovery of PostgreSQL to a point in time: what can be reached, and how.
//!
//! Pure and total: an [`Archive`] is made of what the catalog knows, [`plan`] answers with a
//! [`RecoveryPlan`] or with [`NoPlan`], which says why and what is nearest, and
//! [`timeline_view`] shows all that can be reached.
//!
//! Positions decide, times only translate. The server stops at the first commit *in the order of
//! the log* whose time is later than the target, so a plan holds the log at least to the end of
//! the first piece that is known to have such a commit.

mod aim;
mod archive;
mod binding;
mod bounds;
mod digest_text;
mod elsewhere;
mod outcome;
mod path;
mod planner;
mod recoverable_until;
mod refusal;
mod sparse;
mod view;
mod words;

#[cfg(test)]
mod tests;

pub use archive::Archive;
pub use outcome::{LastCommit, Leg, Loss, NoPlan, Reason, RecoveryPlan, Stop, Warning};
pub use planner::plan;
pub use recoverable_until::{RecoverableUntil, recoverable_until};
pub use sparse::{Run, Want};
pub use view::{BaseOn, Reachable, Span, TimelineView, timeline_view};
pub use words::{Base, Gap, Piece, Place, RestorePoint, Stood, Target, Why};
