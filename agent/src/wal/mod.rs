//! PostgreSQL's write-ahead log: pushed by the server, fetched by a recovering one, streamed, and
//! looked at as a whole.

mod ahead;
mod archive;
mod fetch;
mod push;
mod shelf;
mod ship;
mod verify;

pub use ahead::{Ahead, fetch_ahead};
pub use archive::{Known, known};
pub use fetch::{Expected, Fetched, fetch};
pub use push::{Pushed, push};
pub use shelf::Shelf;
pub use ship::{STANDBY_NAME, Shipping, ship};
pub use verify::{LogVerdict, verify_log};
