//! Whether a backup lacks objects, as far as a listing tells.

use anyhow::{Context as _, Result};
use drctl_model::{BackupId, SourceId};
use drctl_store::layout;

use super::Repository;

/// Of backups with more objects a listing takes too long: what is missing is found when it is
/// fetched.
const MOST_OBJECTS: u64 = 50_000;

impl Repository {
    /// What a backup, or one that it is based on, lacks of what its signed manifest names; nothing
    /// where it lacks nothing.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn is_lacking(
        &self,
        source: &SourceId,
        backup: &BackupId,
    ) -> Result<Option<String>> {
        let Some(proven) = self.manifest(source, backup).await? else {
            return Ok(Some("its manifest is gone".to_owned()));
        };
        for link in self.chain(&proven).await? {
            let manifest = link.manifest;
            let objects: u64 = manifest.streams.iter().map(|stream| stream.objects().0).sum();
            if objects > MOST_OBJECTS {
                continue;
            }
            for stream in &manifest.streams {
                let prefix = layout::stream(source, &manifest.backup, &stream.id);
                let found = self
                    .count_and_size(&prefix)
                    .await
                    .context("list the objects of the base backup")?;
                let expected = stream.objects();
                if found != expected {
                    return Ok(Some(format!(
                        "of stream {} of {} there are {} objects with {} bytes, not {} with {}",
                        stream.id, manifest.backup, found.0, found.1, expected.0, expected.1
                    )));
                }
            }
        }
        Ok(None)
    }
}
