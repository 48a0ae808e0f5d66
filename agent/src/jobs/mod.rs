//! Jobs, on record from their beginning, and what became of them.

pub(crate) mod open_job;
pub(crate) mod settle;
