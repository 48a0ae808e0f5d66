//! Jobs, on record from their beginning, and what became of them.

mod hooks;
mod latest;
pub(crate) mod open_job;
mod record;
mod run;
mod run_file;
pub(crate) mod settle;

pub(crate) use hooks::{Came, hooked, look_at};
pub use latest::LastJob;
pub(crate) use latest::{
    Past, has_died, last_runs, latest, noted, own_attempts, past_runs, set_back,
};
pub(crate) use run::{Amiss, meant, run};
