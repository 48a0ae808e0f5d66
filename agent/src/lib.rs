//! What drctl does, one verb in one file, and the command line around it.

mod accept;
mod backrest;
mod backup;
mod brought;
mod cache;
mod chain;
pub mod cli;
mod combine;
mod commit;
mod crash;
mod doctor;
mod drill;
mod emergency;
mod exit;
mod fetch;
mod first;
mod gone;
mod incremental;
mod init;
mod lacking;
mod limits;
mod locks;
mod losses;
mod memory;
mod meter;
mod named;
mod names;
mod newest;
mod pipeline;
mod plan;
mod plausible;
mod private;
mod problem;
mod reconcile;
mod recover;
mod repository;
mod restore;
mod secrets;
mod settle;
mod setup;
mod shell;
mod sink;
mod status;
mod stop;
mod strays;
mod take_over;
mod target;
mod trace;
mod verify;
mod wal;
mod weight;
mod zone;

pub use accept::{Accepted, accept};
pub use backrest::{Followed, stanza};
pub use backup::{BackedUp, backup};
pub use chain::Chains;
pub use combine::ChainPlan;
pub use crash::{CRASH_POINTS, PUSH_CRASH_POINTS, RECOVERY_CRASH_POINTS, crash_point};
pub use doctor::{Finding, Level, doctor};
pub use drill::{Drilling, drills};
pub use emergency::emergency_script;
pub use exit::Exit;
pub use fetch::{Outlet, fetch_sealed, fetch_stream, segments};
pub use gone::Gone;
pub use incremental::Wish;
pub use init::{InitOptions, Made, init, restore_marker, write_new};
pub use limits::Limits;
pub use locks::SourceLock;
pub use memory::{Memory, Notebook, words};
pub use meter::{Meter, Reading};
pub use pipeline::{Intake, Stored, store_stream};
pub use plan::{Code, Destination, Item, RestorePlan, RestoreRequest, check_room, plan};
pub use plausible::suspicions;
pub use problem::{Failure, Problem};
pub use reconcile::{Compared, Inventory, Renewed, check, inventory, rebuild};
pub use recover::{
    Begun, Choice, Extracted, Identity, Kept, Opened, Overtaken, Proof, Rate, RecoverRequest,
    Recovered, Step, Whose, bound_digest, end_own, forks, is_begun, is_own, kept, last_rate,
    lay_out, left_out, plan_digest, recover, time_of, timeline_of, waits, whose_number,
    with_log_ahead,
};
pub use repository::{Latest, Passed, Proven, Repository};
pub use restore::{Restored, prepare_cluster, restore};
pub use secrets::{read_optional, read_secret};
pub use setup::{Setup, read_files};
pub use sink::Sink;
pub use status::{Health, LogStatus, SourceStatus, status};
pub use stop::{Stop, Stopper};
pub use take_over::{Address, HeirRequest, Heritage, inherit, prepare_take_over};
pub use verify::{Candidate, Depth, Verdict, everything, verify};
pub use wal::{
    Ahead, Expected, Fetched, FoundDeeds, Holes, Known, LogVerdict, OtherCluster, Push, Pushed,
    STANDBY_NAME, Shelf, Shipping, deeds, fetch as fetch_wal, fetch_ahead, known, ship, usual_slot,
    verify_log,
};
