//! PostgreSQL's write-ahead log: pushed by the server or streamed from it, fetched by a recovering one, read
//! by timelines, and its records checked across all pieces.

mod ahead;
mod arrived;
mod cutter;
mod fetch;
mod files;
mod holds;
mod preceding;
mod push;
mod records;
mod request;
mod stream;
mod taken;
mod timelines;

pub use ahead::{Ahead, fetch_ahead};
pub(crate) use arrived::not_there;
pub use fetch::{Expected, Fetched};
pub(crate) use fetch::{Segment, assemble, fetch, segment};
pub(crate) use holds::{holds, makes_no_tablespace, of_history};
pub(crate) use push::{MOST_HANDED, Parcel, ParcelLabel, note_refusal};
pub use push::{Push, Pushed};
pub use records::verify_log;
pub(crate) use request::{LogFile, LogRequest};
pub(crate) use stream::{LogFinding, log_findings, looked_for};
pub use stream::{STANDBY_NAME, Shipping, ship, usual_slot};
pub(crate) use timelines::{
    WalLog, cached_clusters, cached_log, cluster_log, clusters, gap_at, look_again, lost_log,
    no_timeline,
};
