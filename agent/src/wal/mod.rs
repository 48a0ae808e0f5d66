//! PostgreSQL's write-ahead log: pushed by the server, fetched by a recovering one, streamed, and
//! looked at as a whole.

mod ahead;
mod archive;
mod backlog;
mod batch;
mod begin;
mod clusters;
mod convoy;
mod crowd;
mod cutter;
mod deeds;
mod fetch;
mod heads;
mod health;
mod holds;
mod index;
mod notes;
mod preceding;
mod push;
mod shelf;
mod ship;
mod state;
mod take;
mod verify;
mod waiting;
mod watch;

pub use ahead::{Ahead, fetch_ahead};
pub(crate) use archive::{Beside, Copies, learn};
pub use archive::{Known, known};
pub use clusters::OtherCluster;
pub use deeds::{FoundDeeds, deeds};
pub(crate) use fetch::segment;
pub use fetch::{Expected, Fetched, fetch};
pub(crate) use heads::trust_digest;
pub(crate) use health::{LogFinding, log_findings};
pub(crate) use holds::{holds, of_history};
pub use push::{Push, Pushed};
pub use shelf::Shelf;
pub(crate) use shelf::is_missing;
pub use ship::{STANDBY_NAME, Shipping, ship};
pub(crate) use state::log_state;
pub(crate) use take::{ABSENT, DELIVERED, FAILED, LEFT, take};
pub use verify::{LogVerdict, verify_log};
