//! Backups that are there as they were, and whose key is not believed here any more: nothing is lost.

use anyhow::Result;
use drctl_catalog::{Loss, Why};
use drctl_model::{BackupSummary, shown};
use drctl_store::{MAX_ENVELOPE_BYTES, StoreError, Stored, digest, layout};

use super::Repository;

/// Whether the manifest that lies there, whoever may sign it here, is the one that this host read.
///
/// # Errors
/// The store's.
pub(crate) async fn is_as_it_was(repository: &Repository, backup: &BackupSummary) -> Result<bool> {
    let key = layout::manifest(&backup.source, &backup.backup);
    let stored = Stored::newest(&key);
    match repository.bucket.get_stored(&stored, MAX_ENVELOPE_BYTES as u64).await {
        Ok(bytes) => Ok(digest(&bytes) == backup.manifest_sha256),
        Err(StoreError::Missing { .. } | StoreError::TooLarge { .. }) => Ok(false),
        Err(StoreError::NoObject { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Why a backup that is as it was does not count here.
pub(crate) fn not_trusted(repository: &Repository, backup: &BackupSummary) -> Why {
    let BackupSummary { source, signer, .. } = backup;
    let name = shown(&repository.trust.name_of(signer), 100);
    let (which, what) = match repository.trust.iter().any(|key| key.keyid() == *signer) {
        true => (
            format!("keys.verifying_keys does not allow for {source}"),
            format!(
                "add {source} to this key's `sources`; if its entry has `roles`, it needs `backup` \
                 among them"
            ),
        ),
        false => {
            let what = "find out why the key is not there: if it is a host's of yours, add it; if it \
                        was taken out because others may have it, leave it out";
            ("keys.verifying_keys does not have".to_owned(), what.to_owned())
        }
    };
    let text =
        format!("NOT TRUSTED HERE: signed by {name}, which {which}. Nothing is lost: {what}");
    Why { loss: Loss::Distrusted, text }
}
