//! Recovery by any engine's log, as far as all of them are alike.
//!
//! A log is a line of positions within a lineage; lineages lead to each other in ways that only the
//! engine knows, who tells them by [`Lines`]. From pieces of log and from bases follow spans, gaps,
//! what can be reached, which base leads to a target and how far, what is nearest to one that
//! cannot be reached, and what is lost. Targets that only one engine has, its warnings and its words
//! are the engine's own.

mod aim;
mod archive;
mod binding;
mod bounds;
mod digest_text;
mod nearest;
mod path;
mod plan;
mod reachable;
mod search;
mod words;

use std::fmt;

use drctl_model::Position;

pub(crate) use aim::{Goal, consistent_since, cut};
pub(crate) use archive::{Archive, Log, Micros, commits};
pub(crate) use bounds::Bounds;
pub use bounds::{LastCommit, Loss};
pub(crate) use digest_text::Agreed;
pub(crate) use nearest::nearest;
pub(crate) use path::Path;
pub use plan::Stop;
pub(crate) use plan::{Plan, Warning};
pub(crate) use reachable::{Reachable, reachable, times};
pub(crate) use search::{Found, Reason, leads, search};
pub use words::Stood;
pub(crate) use words::{Base, Gap, Leg, Place, Unproven, Why};

/// What the common part has to know of an engine's log.
pub(crate) trait Lines: Copy + Ord + fmt::Debug {
    /// What the engine calls a lineage.
    const LINEAGE: &'static str;

    /// What has one order of positions. Nothing follows from the order of lineages.
    type Lineage: Copy + Ord + fmt::Debug + fmt::Display;

    /// A position, which prints as the engine's own tools print it.
    type At: Position;

    /// What is known of how lineages lead to each other.
    type Known: Clone + fmt::Debug;

    /// The lineages that lead to one, oldest first, and where each was left for the next; nothing
    /// where that is not known.
    fn ancestors(known: &Self::Known, of: Self::Lineage) -> Option<Vec<(Self::Lineage, Self::At)>>;

    /// How much log lies between two positions, in bytes: what is told as replayed, or lost.
    fn amount(known: &Self::Known, from: Self::At, until: Self::At) -> u64;
}
