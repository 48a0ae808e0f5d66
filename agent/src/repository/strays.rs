//! Files in a directory repository that are no objects: told, and those of our own killed writers
//! removed.

use std::time::SystemTime;

use drctl_model::{SourceId, shown};
use drctl_store::{StoreError, Stray, layout};
use jiff::{SignedDuration, Timestamp};

use super::Repository;

/// A file that is still being written is younger.
const UNDER_WAY: SignedDuration = SignedDuration::from_hours(1);

/// From then on nobody comes back to what was left.
const LEFT: SignedDuration = SignedDuration::from_hours(24);

/// Removes what our own killed writers left of a source a day ago; that it cannot costs room alone.
pub(crate) async fn sweep(repository: &Repository, source: &SourceId, now: Timestamp) {
    let Ok(before) = now.checked_sub(LEFT).map(SystemTime::from) else { return };
    let below = layout::sources().join(source.as_str());
    if let Err(error) = repository.bucket.sweep(&below, before).await {
        tracing::warn!("files of killed writers could not be removed: {error:#}");
    }
}

/// Those that are not on their way, in words.
///
/// # Errors
/// The store's.
pub(crate) async fn strays(
    repository: &Repository,
    now: Timestamp,
) -> Result<Vec<String>, StoreError> {
    let mut found = repository.bucket.strays().await?;
    let before = SystemTime::from(now.checked_sub(UNDER_WAY).unwrap_or(now));
    found.retain(|stray| !stray.unfinished || stray.modified < before);
    Ok(found.iter().map(words).collect())
}

fn words(stray: &Stray) -> String {
    let (name, at) = (shown(&stray.name, 200), Timestamp::try_from(stray.modified));
    let at = at.map_or(String::new(), |at| format!(" since {at:.0}"));
    match stray.unfinished {
        true => format!("{name}: left{at} by a writer that was killed; nothing reads it"),
        false => format!("{name}: no object has such a name; nothing reads it"),
    }
}
