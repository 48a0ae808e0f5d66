//! Databases by `pg_dump`, `pg_dumpall` and `pg_restore`: dumped, proven, counted, and loaded again.

mod code;
pub(crate) mod counts;
mod databases;
mod digests;
mod empty;
mod equality;
mod error;
mod fit;
mod globals;
mod guard;
mod leftover;
mod members;
mod preflight;
mod probe;
mod restore;
mod script;
mod snapshot;
mod source;
pub(crate) mod stream;
pub(crate) mod tables;
mod there;
mod waits;
mod walker;

pub use code::CODE_NAMED;
pub use counts::{RowDifference, compare_rows, count_rows};
pub use databases::DatabaseChoice;
pub use equality::Equality;
pub use error::{Blocker, DumpError, Unreadable};
pub use globals::GlobalsTarget;
pub use leftover::Leftover;
pub use members::Member;
pub use preflight::{Extent, Preflight, RestoreDatabase, existing, preflight};
pub use probe::{DatabaseReport, RoleReport, ServerReport, probe};
pub use restore::{DatabaseTarget, RestoreOptions};
pub use source::{PgDumpOptions, PgDumpSource};
pub use walker::{Digested, DumpShape, DumpWalker, DumpedTable, WalkError};
