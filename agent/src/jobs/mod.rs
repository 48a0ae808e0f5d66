//! What becomes of a job, on record also where it never began.

pub(crate) mod settle;
pub(crate) mod trace;
