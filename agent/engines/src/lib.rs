//! The only crate that starts database tools or speaks their protocols.
//!
//! It knows nothing of buckets, catalogs and policies: a backup is one or more streams of bytes
//! with an outcome, a restore is a place to write such a stream into, with an outcome.

pub mod backrest;
mod common;
pub mod pg;

pub use common::sandbox;
pub use common::{
    BackupSource, Below, Brought, EngineError, FileTarget, Finished, Helper, HelperError,
    LONGEST_LINE, Outcome, OwnError, Refusal, RestoreTarget, Secret, Stderr, StreamOutcome,
    ToolFeed, ToolRun, Unfit, Waiting, account, blocking, hand_to, kill_tools, may_run,
    open_at_once, open_file, ourselves_apart, receive_opened, run_alone, send_opened, stays_below,
    temporary, unfit_place, unfit_way,
};
pub use pg::{Blocker, Leftover, ServerSaid, Unreadable};
