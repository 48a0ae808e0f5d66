//! A stream's way into the bucket, and back.

pub(crate) mod download;
mod sink;
mod upload;

pub use download::{Outlet, fetch_sealed, fetch_stream, segments};
pub use sink::Sink;
pub use upload::{Intake, Stored, store_stream};
