//! The words that every other crate shares: identifiers, manifest, facts, job states.
//!
//! No IO, no async, no reads of a clock: a function that needs the time takes it as an argument.

mod acceptance;
mod audit;
mod beat;
mod chain;
mod classified;
mod clock;
mod cluster;
mod digest;
mod drill;
mod drill_names;
mod drill_run;
mod engine;
mod external;
mod facts;
mod finding;
mod header;
mod history;
mod holds;
mod ids;
mod job;
mod kind;
mod level;
mod lineage;
mod log;
mod log_at;
mod log_entry;
mod log_index;
mod log_notes;
mod lsn;
mod manifest;
mod marker;
mod named;
mod newest;
mod outside;
mod position;
mod removed;
mod role;
mod row_digest;
mod server_settings;
mod simulation;
mod sslmode;
mod statement;
mod table_marks;
mod verification;
mod wal_holds;
mod wal_notes;
mod wal_place;

pub use acceptance::Acceptance;
pub use audit::{
    AUDIT_VERSION, AuditActor, AuditBatch, AuditEntry, AuditOutcome, MAX_AUDIT_ENTRIES,
    MAX_AUDIT_LINE, MAX_AUDIT_SEQ, MAX_AUDIT_SHIFT, NO_ENTRY,
};
pub use beat::{
    Beat, BeatAmiss, BeatFindings, BeatJob, BeatOutcome, BeatRun, BeatState, HostId, MAX_BEAT,
    MAX_CODES,
};
pub use chain::{ChainError, MAX_CHAIN, based_on, chain, follows};
pub use classified::{Class, Classified};
pub use clock::{Clock, SystemClock};
pub use cluster::{ClusterNeeds, DatabaseNeeds, Extension, TableFile};
pub use digest::{Digest, DigestError};
pub use drill::{DRILL_ABORTED, DRILL_SKIPPED, Drill, DrillOutcome, Equal, Verdict};
pub use drill_names::{DrillNames, ProvenTable};
pub use drill_run::{
    CheckDone, DrillHost, DrillObjectives, DrillPhase, DrillPoint, DrillRun, PhaseClock,
    PointWanted, Together,
};
pub use engine::Engine;
pub use external::{
    External, ExternalType, LabelError, Origin, PGBACKREST, is_stanza, label_begun, label_type,
};
pub use facts::{
    Content, DatabaseFacts, Facts, LoadedThrough, LocaleProvider, ProviderLocale, StreamFacts,
    TableRows, TablespaceFacts,
};
pub use finding::{Checked, Finding, FindingCode, UnknownFinding};
pub use header::{DRILL_RUN, Feature, Header, INCREMENTAL, WAL, features};
pub use history::{Ancestor, MAX_HISTORY_BYTES, TimelineHistory};
pub use holds::Holds;
pub(crate) use ids::is_line;
pub use ids::{
    AuditLogId, BackupId, DrillId, IdError, NoteName, RepositoryId, SourceId, StreamId, printable,
    printable_json, seen, shown, total,
};
pub use job::{
    Illegal, Job, JobEvent, JobId, JobKind, JobNote, JobState, NoRun, RunId, UnknownKind,
};
pub use kind::{BackupKind, Coordinates, CopiedLog, Dumped, Increment, Parent, Snapshot};
pub use level::Level;
pub use lineage::{Lineage, LineageError, LogPosition};
pub use log::{LogPart, LogPiece, LogPlace, MAX_PIECE_BYTES};
pub use log_at::LogAt;
pub use log_entry::{LOG_ENTRY_BYTES, LogEntry, micros, outermost};
pub use log_index::{IndexPlace, IndexedPiece, LogIndex, MAX_INDEX_PIECES};
pub use log_notes::LogNotes;
pub use lsn::{Lsn, LsnError, Timeline, WalSegmentSize};
pub use manifest::{
    BackupSummary, Child, MAX_SEGMENT_BYTES, MAX_STREAMS, Manifest, ManifestError, PageRef,
    Segment, Stream, max_sealed,
};
pub use marker::{Marker, MarkerError, MarkerHeader};
pub use named::{MOST_NAMED, Named, to_name};
pub use newest::{newest, newest_first};
pub use outside::{FileContent, Outside, OutsideItem};
pub use position::Position;
pub use removed::{LogFloor, Tombstone};
pub use role::Role;
pub use row_digest::{DumpDigests, Folded, RowDigest, RowDigestError, RowKey};
pub use server_settings::{ServerSettings, WalLevel};
pub use simulation::{Call, PLANTED, planted};
#[cfg(feature = "crash-points")]
pub use simulation::{HearsCalls, hear_calls, plant};
pub use sslmode::SslMode;
pub use statement::{
    InForce, MAX_REASON, MAX_STATEMENT, MAX_WITHOUT, MOST_MISSING, Stated, Statement, is_reason,
};
pub use table_marks::{SCHEMA_BYTES, TableKey, TableMark, TableMarks};
pub use verification::{Closeness, Fault, Verification, bad, standing, telling};
pub use wal_holds::{ChangedSettings, WalHolds, xid_precedes};
pub use wal_notes::{NotedBreak, NotedPoint, WalNotes};
pub use wal_place::{LogWords, WalPart, WalPlace};

/// The version of the bucket format that this program writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;
