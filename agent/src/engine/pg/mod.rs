//! What only PostgreSQL's WAL and catalogs tell.

mod deeds;
pub(crate) mod names;

pub use deeds::{FoundDeeds, deeds};
pub(crate) use deeds::{committed, one_before};
