//! A PostgreSQL server: how it is reached and spoken with, and what it says of itself.

pub(crate) mod address;
mod archiver;
pub(crate) mod end_sessions;
pub(crate) mod error;
mod heartbeat;
pub(crate) mod leave;
pub(crate) mod link;
pub(crate) mod options;
mod outside;
mod peer;
pub(crate) mod pgpass;
pub(crate) mod place;
mod replicas;
mod said;
pub(crate) mod session;
pub(crate) mod spelling;
mod tls;
pub(crate) mod tools;

pub use address::{PgServer, SILENCE, typed_ident};
pub use archiver::{
    Acknowledged, Archived, ArchivesBy, LogHealth, SlotHealth, acknowledged, archived, archives_by,
    log_health, written,
};
pub use error::ServerError;
pub use heartbeat::{Heartbeat, beat};
pub use leave::goodbye;
pub(crate) use link::WITHHELD;
pub use outside::{Copied, outside};
pub use peer::open_to_others;
pub use pgpass::sweep;
pub use place::{ClusterPlace, cluster_place};
pub use replicas::replica_lag;
pub use said::ServerSaid;
pub use spelling::sayable;
pub use tools::{FoundTool, combine_program, major_of, server_program};
