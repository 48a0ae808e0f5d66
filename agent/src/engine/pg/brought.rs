//! What a base backup brings along beside its files: histories of timelines, and log that must be
//! the same as the archive's.

use anyhow::{Context as _, Result};
use drctl_model::{Coordinates, LogPlace, MAX_HISTORY_BYTES, SourceId, Timeline, TimelineHistory};

use crate::engine::wal::of_history;
use crate::host::Setup;
use crate::log::LogStore;
use crate::repository::Repository;
use crate::repository::faults::{is_bad_manifest, is_missing};

/// So many of its last segments are compared.
const COMPARED: usize = 4;

/// Keeps the history of the backup's timeline, without which nothing older leads to it, and looks
/// whether the archive has the same log. What the operator should know of that: the backup is as
/// good.
pub(crate) async fn settle(
    setup: &Setup,
    source: &SourceId,
    at: &Coordinates,
    histories: &[(Timeline, Vec<u8>)],
) -> Option<String> {
    let kept = keep_history(setup, source, at, histories).await;
    let missing = |error| format!("the history of its timeline is not in the bucket: {error:#}");
    kept.err().map(missing)
}

async fn keep_history(
    setup: &Setup,
    source: &SourceId,
    at: &Coordinates,
    histories: &[(Timeline, Vec<u8>)],
) -> Result<()> {
    let timeline = at.stop_timeline;
    let own = histories.iter().find(|(of, _)| *of == timeline);
    let Some((_, bytes)) = own.filter(|_| timeline != Timeline::FIRST) else { return Ok(()) };
    let text =
        std::str::from_utf8(bytes).ok().filter(|text| text.len() as u64 <= MAX_HISTORY_BYTES);
    let history = TimelineHistory::parse(timeline, text.context("it is no text")?)?;
    let log_store = LogStore::open(setup, source.as_str()).await?;
    let place = LogPlace::of_history((at.system_id, timeline));
    log_store.keep(place, bytes.clone(), of_history(&history)).await.map(drop)
}

/// Whether the archive has other log than a base backup brings along: in words where it has.
pub(crate) async fn differs(
    repository: &Repository,
    source: &SourceId,
    at: &Coordinates,
) -> Result<Option<String>> {
    let log_store = LogStore::reader(repository, source);
    let told = at.log.iter().flat_map(|log| log.segments.iter().rev().take(COMPARED));
    for (start, digest) in told {
        let end = start.plus(at.segment_size.bytes());
        let place = LogPlace::of_wal((at.system_id, at.stop_timeline), (*start, end));
        match log_store.head_where(&place, |head| head.plain_sha256 == *digest).await {
            Ok(head) if head.plain_sha256 != *digest => {
                return Ok(Some(format!(
                    "CONFLICT: from {start} on the bucket has other WAL (from host {}) than this \
                     server: two histories of one cluster. The base backup is of this server's \
                     history, and the WAL in the bucket cannot be replayed on it",
                    head.host
                )));
            }
            Ok(_) => {}
            Err(error) if is_missing(&error) || is_bad_manifest(&error) => {}
            Err(error) => {
                return Err(error).context("compare the WAL that the base backup brings along");
            }
        }
    }
    Ok(None)
}
