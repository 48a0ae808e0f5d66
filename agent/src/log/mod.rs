//! Log in the bucket: any engine's stored, listed, indexed and learnt; PostgreSQL's write-ahead log pushed
//! by the server, fetched by a recovering one, streamed, and looked at as a whole.

mod ahead;
mod arrived;
mod cutter;
pub(crate) mod fetch;
pub(crate) mod heads;
mod holds;
mod index;
mod indexed;
mod listing;
mod log_engine;
mod log_store;
mod newer;
mod pieces;
mod preceding;
mod push;
mod request;
mod sizes;
mod stream;
mod taken;
#[cfg(test)]
mod tests;
mod timelines;
mod unread;
mod vanished;
mod verify;

pub use ahead::{Ahead, fetch_ahead};
pub(crate) use arrived::not_there;
pub use fetch::{Expected, Fetched};
pub(crate) use fetch::{fetch, segment};
pub(crate) use heads::trust_digest;
pub(crate) use holds::{holds, makes_no_tablespace, of_history};
pub(crate) use indexed::learn_anew;
pub use log_engine::LogEngine;
pub use log_store::LogStore;
pub(crate) use log_store::is_damaged;
pub(crate) use newer::still_newer;
pub(crate) use push::note_refusal;
pub use push::{Push, Pushed};
pub(crate) use request::{LogFile, LogRequest};
pub(crate) use stream::{LogFinding, log_findings, looked_for};
pub use stream::{STANDBY_NAME, Shipping, ship, usual_slot};
pub(crate) use timelines::{
    WalLog, cached_clusters, cached_log, cluster_log, clusters, gap_at, look_again, lost_log,
};
pub use verify::{LogVerdict, verify_log};
