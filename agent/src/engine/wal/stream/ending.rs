//! What is said when a stream of log ends because somebody wishes it.

use std::time::Duration;

use drctl_engines::pg::replication::WalStream;
use drctl_engines::pg::{PgServer, written};
use drctl_model::SourceId;
use tokio::time::timeout;

use super::STANDBY_NAME;
use crate::host::figures;

/// How long a server is asked at the end up to where it has written.
const LAST_WORD: Duration = Duration::from_secs(3);

/// Where the bucket ends, and what the server has behind that, for whoever ends a stream.
pub(super) async fn tell_what_is_not_safe(
    (source, server): (&SourceId, &PgServer),
    slot: &str,
    stream: &WalStream,
) {
    let (from, heard) = stream.unsafe_wal();
    // What it has written since it was heard last counts too.
    let asked = timeout(LAST_WORD, written(server, STANDBY_NAME)).await;
    let written = asked.ok().and_then(Result::ok).flatten();
    let until = written.map_or(heard, |written| written.max(heard));
    let least = if written.is_some() { "" } else { "at least " };
    match (until.since(from), written) {
        (0, Some(_)) => tracing::info!(
            "the stream of {source} ends: the bucket has all WAL that is written, up to {from}"
        ),
        (0, None) => tracing::info!(
            "the stream of {source} ends: the bucket has all WAL that came, up to {from}"
        ),
        (bytes, _) => tracing::warn!(
            "the stream of {source} ends, and {least}{} of WAL, {from} to {until}, are NOT in the bucket yet: \
             the server keeps them behind the slot {slot} for the next stream",
            figures::bytes(bytes)
        ),
    }
}
