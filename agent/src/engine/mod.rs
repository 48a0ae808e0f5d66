//! What only one engine knows, a folder for each; and which one backs a source up.

mod backup;
pub(crate) mod found;
mod handed;
mod index;
mod log_archive;
mod mongodb;
mod mysql;
pub mod pg;
pub mod pgbackrest;
mod pieces;
mod source_engine;
mod stream;
pub mod wal;

use drctl_policies::{Engine, Source};

#[cfg(feature = "crash-points")]
pub(crate) use backup::back_up_by;
pub use backup::backup;
pub use handed::{Choices, HandsLog, Route};
pub(crate) use index::index;
pub(crate) use log_archive::{
    ArchiveVerdict, ArchivedLog, Extent, LogArchive, LogArchives, Look, Replay, Search, fetch_of,
};
pub(crate) use pieces::Pieces;
pub(crate) use source_engine::{Looked, Replaced, SourceEngine, StreamOptions, Streaming};
pub(crate) use stream::stream;

/// The engine of a source: a line for each.
pub(crate) fn of(source: &Source) -> Box<dyn SourceEngine + '_> {
    match &source.engine {
        Engine::PgDump(settings) => Box::new(pg::Dump { source, settings }),
        Engine::BaseBackup(settings) => Box::new(pg::BaseBackups { source, settings }),
        Engine::Pgbackrest(settings) => Box::new(pgbackrest::Stanza { source, settings }),
    }
}

/// Whether another tool keeps the backups of a source, and expires them by its own rules.
pub(crate) fn is_kept_elsewhere(source: &Source) -> bool {
    matches!(source.engine, Engine::Pgbackrest(_))
}
