//! Real servers for tests.
//!
//! Each `start()` gives a fresh server on a free port of 127.0.0.1 with its data in a folder of
//! its own. It ends when it is dropped, and also when the test process dies in any way (see
//! [`process`]). Everything here blocks and may be called from plain and from async tests alike.
//!
//! The servers themselves are installed by `tests/components/install`.

pub mod authority;
pub mod azurite;
pub mod between;
mod component;
pub mod gcs;
pub mod hiding;
mod http;
pub mod minio;
pub mod mongodb;
pub mod mysql;
pub mod pgbouncer;
mod port;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod scripted;
pub mod sts;
pub mod told;

pub use component::promtool;
pub use http::Answer;
pub use port::free_port;
