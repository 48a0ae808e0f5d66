//! PostgreSQL's write-ahead log: pushed by the server, fetched by a recovering one, streamed, and
//! looked at as a whole.

mod archive;
mod begin;
mod convoy;
mod cutter;
mod fetch;
mod health;
mod push;
mod shelf;
mod ship;
mod verify;
mod watch;

pub use archive::{Known, known};
pub use fetch::{Expected, Fetched, fetch};
pub(crate) use health::{LogFinding, log_findings};
pub use push::{Pushed, push};
pub use shelf::Shelf;
pub use ship::{STANDBY_NAME, Shipping, ship};
pub use verify::{LogVerdict, verify_log};
