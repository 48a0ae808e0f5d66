//! PostgreSQL's write-ahead log: pushed by the server, fetched by a recovering one, streamed, and
//! looked at as a whole.

mod ahead;
mod arrived;
mod cached;
mod cutter;
pub(crate) mod fetch;
pub(crate) mod heads;
mod holds;
mod index;
mod listing;
mod log_store;
mod pieces;
mod preceding;
mod push;
mod request;
mod sizes;
mod stream;
mod taken;
mod vanished;
mod verify;

pub use ahead::{Ahead, fetch_ahead};
pub(crate) use arrived::not_there;
pub(crate) use cached::{cached_clusters, cached_log};
pub use fetch::{Expected, Fetched};
pub(crate) use fetch::{fetch, segment};
pub(crate) use heads::{look_again, trust_digest};
pub(crate) use holds::{holds, makes_no_tablespace, of_history};
pub(crate) use index::gap_at;
pub use log_store::LogStore;
pub(crate) use log_store::is_damaged;
pub(crate) use push::note_refusal;
pub use push::{Push, Pushed};
pub(crate) use request::{LogFile, LogRequest};
pub(crate) use stream::{LogFinding, log_findings, looked_for};
pub use stream::{STANDBY_NAME, Shipping, ship, usual_slot};
pub use verify::{LogVerdict, verify_log};
