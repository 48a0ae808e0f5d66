//! The bucket: sealing (zstd and age), signing (DSSE with Ed25519), and the object store.
//!
//! What lies where and in which form is specified in `catalog/FORMAT.md`.

mod acceptance;
mod alarm;
mod answers;
mod audit;
mod beat;
mod bounded;
mod bucket;
mod drill;
mod drill_bundle;
mod dsse;
mod error;
pub mod fault;
mod kept;
mod keys;
pub mod layout;
mod listing;
mod location;
mod log;
mod log_index;
mod manifest;
mod marker;
mod pace;
mod pages;
mod remove;
mod removed;
mod retry;
mod rooted;
mod seal;
mod silence;
mod statement;
mod stream_sealer;
mod trust;
mod versions;
mod walk;

pub use acceptance::{MAX_ACCEPTANCE_BYTES, decode_acceptance, encode_acceptance};
pub use alarm::{Alarm, Odd};
pub use audit::{MAX_AUDIT_BATCH_BYTES, decode_audit_batch, encode_audit_batch};
pub use beat::{MAX_BEAT_BYTES, decode_beat, encode_beat, host_id};
pub use bucket::{Bucket, Entry, Put};
pub use drill::{
    MAX_DRILL_BYTES, decode_drill, encode_drill, open_drill, open_drill_names, seal_drill_names,
};
pub use drill_bundle::{DrillBundle, MAX_BUNDLE_BYTES};
pub use dsse::MAX_ENVELOPE_BYTES;
pub use error::{FormatError, JsonError, KeyError, SealError, StoreError, said_by_client};
pub use kept::{Kept, State, Stored};
pub use keys::{Identities, Recipients, SigningKey, VerifyingKey, new_identity};
pub use location::{Credentials, Location, Options, use_ring};
pub use log::{MAX_PIECE_HEAD_BYTES, decode_signed_head, encode_piece, piece_body};
pub use log_index::{MAX_LOG_INDEX_BYTES, decode_signed_log_index, encode_log_index};
pub use manifest::{MAX_FACTS_BYTES, decode_manifest, encode_manifest, open_facts, seal_facts};
pub use marker::{MAX_MARKER_BYTES, decode_marker, encode_marker};
/// An object's key.
pub use object_store::path::Path as Key;
pub use pace::{Bounds, Pace};
pub use pages::{MAX_PAGE_BYTES, MAX_PAGE_SEGMENTS, PageWriter, StreamTotals, read_page};
pub use remove::Removal;
pub use removed::{
    MAX_REMOVED_BYTES, decode_log_floor, decode_tombstone, encode_log_floor, encode_tombstone,
};
pub use seal::{
    MAX_WINDOW_LOG, Opener, SEGMENT_BYTES, SealedSegment, Sealer, digest, open_bytes, open_segment,
    seal_bytes,
};
pub use silence::silent_for;
pub use statement::{MAX_STATEMENT_BYTES, decode_statement, encode_statement};
pub use stream_sealer::{SealedStream, StreamSealer};
pub use trust::{Signer, Trust};
pub use versions::{LockRule, ObjectVersion, Versions};
pub use walk::Stray;
