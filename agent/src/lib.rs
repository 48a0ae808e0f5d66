//! What drctl does, in rooms: each may use those that stand before it in this list, and none
//! behind it; the command line is the last.

// The life of a backup is a future of futures, deeper than the compiler looks by default.
#![recursion_limit = "256"]

pub mod host;

pub mod http;

pub mod helper;

pub mod transfer;

pub mod repository;

pub mod audit;

pub mod jobs;

pub mod log;

pub mod backup;

pub mod engine;

pub mod restore;

pub mod drill;

pub mod clone;

pub mod prune;

pub mod health;

pub mod notify;

pub mod daemon;

pub mod cli;

pub use engine::wal::{Ahead, Expected, fetch_ahead, verify_log};
pub use health::{Health, SourceStatus, status};
pub use host::{
    CRASH_POINTS, Exit, Limits, Meter, PRUNE_CRASH_POINTS, PUSH_CRASH_POINTS,
    RECOVERY_CRASH_POINTS, Setup,
};
pub use log::LogStore;
pub use repository::removed::{log_floor, tombstone};
pub use repository::{Repository, drills};
pub use transfer::{Outlet, segments};
