//! Log in the bucket, of any engine: stored, listed, indexed, learnt, and looked at as a whole.

mod catch_up;
mod documents;
mod group_commit;
pub(crate) mod heads;
mod held;
mod index;
mod indexed;
mod listing;
mod log_engine;
mod log_store;
mod newer;
mod pieces;
mod sizes;
mod standstill;
#[cfg(test)]
pub(crate) mod tests;
mod unread;
mod upload_queue;
mod vanished;
mod verify;

pub(crate) use catch_up::CatchUp;
pub(crate) use documents::missed_documents;
pub(crate) use group_commit::GroupCommit;
pub(crate) use held::{Held, HeldLog};
pub(crate) use index::gap_named;
pub(crate) use indexed::learn_anew;
pub use log_engine::LogEngine;
pub use log_store::LogStore;
pub(crate) use log_store::{Kept, is_damaged, trust_digest};
pub(crate) use newer::{NewerLog, still_newer};
pub(crate) use standstill::{Standstill, Still};
pub(crate) use upload_queue::{Cut, UploadQueue};
pub(crate) use vanished::{is_of_log, lost_at};
pub use verify::LogVerdict;
pub(crate) use verify::{Records, Unsigned, verify};
