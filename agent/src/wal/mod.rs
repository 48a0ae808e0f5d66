//! PostgreSQL's write-ahead log: pushed by the server, fetched by a recovering one, streamed, and
//! looked at as a whole.

mod ahead;
mod archive;
mod backlog;
mod fetch;
mod notes;
mod push;
mod shelf;
mod ship;
mod verify;
mod waiting;

pub use archive::{Known, known};
pub use fetch::{Expected, Fetched, fetch};
pub use push::{Push, Pushed};
pub use shelf::Shelf;
pub use ship::{STANDBY_NAME, Shipping, ship};
pub use verify::{LogVerdict, verify_log};
