//! `PostgreSQL`: databases by `pg_dump`, `pg_dumpall` and `pg_restore`; whole clusters by the
//! replication protocol.

pub(crate) mod dump;
pub mod physical;
pub mod replication;
pub(crate) mod server;
pub mod wal;

pub use dump::{
    Blocker, CODE_NAMED, DatabaseChoice, DatabaseReport, DatabaseTarget, Digested, DumpError,
    DumpShape, DumpWalker, DumpedTable, Equality, Extent, GlobalsTarget, Leftover, Member,
    PgDumpOptions, PgDumpSource, Preflight, RestoreDatabase, RestoreOptions, RoleReport,
    RowDifference, ServerReport, Unreadable, WalkError, compare_rows, count_rows, existing,
    preflight, probe,
};
pub use physical::{PhysicalError, quoted_setting};
pub use server::{
    Acknowledged, Archived, ArchivesBy, ClusterPlace, Copied, FoundTool, Heartbeat, LogHealth,
    PgServer, SILENCE, ServerError, ServerSaid, SlotHealth, acknowledged, archived, archives_by,
    beat, cluster_place, combine_program, goodbye, log_health, major_of, open_to_others, outside,
    replica_lag, sayable, server_program, sweep, typed_ident, written,
};
