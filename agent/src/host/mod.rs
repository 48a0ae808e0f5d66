//! The host that it all runs on: configuration, secrets, locks, files, and how work fails or ends.

mod agent_error;
mod checks;
pub(crate) mod clusters;
mod configured;
mod crash;
mod exit;
pub(crate) mod figures;
pub(crate) mod files;
mod hidden;
mod limits;
pub(crate) mod locks;
mod meter;
pub(crate) mod nice;
mod patient;
pub(crate) mod pressure;
pub(crate) mod private;
pub(crate) mod processes;
mod remove_tree;
mod secrets;
mod setup;
mod setup_digest;
pub(crate) mod shell;
mod simulated;
mod stop;
mod waits;
pub(crate) mod zone;

pub use agent_error::{AgentError, Failure};
pub use checks::Check;
pub(crate) use checks::Checks;
pub use crash::{
    CRASH_POINTS, PRUNE_CRASH_POINTS, PUSH_CRASH_POINTS, RECOVERY_CRASH_POINTS, crash_point,
};
pub use drctl_model::Level;
pub use exit::Exit;
pub(crate) use files::unwritable;
pub use files::write_new;
pub use limits::Limits;
pub use locks::SourceLock;
pub use meter::{Meter, Reading};
pub(crate) use patient::{read_certificates, read_within};
pub(crate) use remove_tree::remove_tree;
pub(crate) use secrets::{identity_was_read, read_named};
pub use secrets::{read_optional, read_secret};
pub(crate) use setup::CATALOG;
pub use setup::{Setup, read_files};
#[cfg(feature = "crash-points")]
pub use simulated::{Opens, simulate};
pub use stop::{Stop, Stopper};
pub(crate) use waits::{waited, waits_for_long};
