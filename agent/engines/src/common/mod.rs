//! What all engines have in common: the seams by which backups leave them and come back, the errors
//! that any of them can have, and how programs are run, in a sandbox where they must be.

mod apart;
mod at_once;
mod below;
mod error;
mod handed;
pub(crate) mod helper;
mod opened;
pub(crate) mod process;
pub mod sandbox;
mod secret;
mod source;
mod target;
mod way;

pub use apart::ourselves_apart;
pub use at_once::{open_at_once, open_file};
pub use below::{Below, stays_below};
pub use error::{EngineError, OwnError, Stderr};
pub use handed::{hand_to, may_run, run_alone};
pub use helper::{Helper, HelperError, Refusal, Waiting};
pub use opened::{LONGEST_LINE, receive_opened, send_opened};
pub use process::{blocking, kill_tools};
pub use secret::Secret;
pub use source::{BackupSource, Brought, Finished, Outcome, StreamOutcome, ToolRun};
pub use target::{FileTarget, RestoreTarget, ToolFeed};
pub use way::{Unfit, account, temporary, unfit_place, unfit_way};
pub(crate) use way::{believed, name_of, runs, temporary_for_sockets, unfit_way_for};
