//! `PostgreSQL`: databases by `pg_dump`, `pg_dumpall` and `pg_restore`; whole clusters by the
//! replication protocol.

mod archiver;
mod code;
mod conf;
mod counts;
mod databases;
mod dump;
mod empty;
mod end_sessions;
mod globals;
mod guard;
mod heartbeat;
mod leave;
mod link;
mod members;
mod options;
mod pgpass;
pub mod physical;
mod place;
mod preflight;
mod probe;
pub mod replication;
mod restore;
mod script;
mod server;
mod session;
mod snapshot;
mod spelling;
mod stream;
mod tables;
mod tls;
mod tools;
mod waits;
pub mod wal;
mod walker;

pub use archiver::{
    Acknowledged, Archived, ArchivesBy, LogHealth, SlotHealth, acknowledged, archived, archives_by,
    log_health,
};
pub use code::CODE_NAMED;
pub use conf::quoted as quoted_setting;
pub use counts::{RowDifference, compare_rows, count_rows};
pub use dump::{DatabaseChoice, PgDumpOptions, PgDumpSource};
pub use globals::GlobalsTarget;
pub use heartbeat::{Heartbeat, beat};
pub use leave::goodbye;
pub(crate) use link::WITHHELD;
pub use members::Member;
pub use pgpass::sweep;
pub use place::{ClusterPlace, cluster_place};
pub use preflight::{Extent, Preflight, RestoreDatabase, filled, preflight};
pub use probe::{DatabaseReport, RoleReport, ServerReport, probe};
pub use restore::{DatabaseTarget, RestoreOptions};
pub use server::typed_ident;
pub use server::{PgServer, SILENCE};
pub use spelling::sayable;
pub use tools::{FoundTool, combine_program, major_of, server_program};
pub use walker::{DumpShape, DumpWalker, DumpedTable, WalkError};
