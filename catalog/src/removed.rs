//! Backups that were removed on purpose, with a signed tombstone in the bucket.

use std::collections::BTreeSet;

use drctl_model::{BackupId, SourceId, planted};

use crate::schema::write;
use crate::{Catalog, CatalogError};

impl Catalog {
    /// Takes all of these backups of a source out: their rows, what looks found of them, and what is
    /// missed of them, now or later. Their jobs stay on record.
    ///
    /// # Errors
    /// [`Busy`](CatalogError::Busy), [`Full`](CatalogError::Full),
    /// [`ReadOnly`](CatalogError::ReadOnly), [`Io`](CatalogError::Io),
    /// [`Corrupt`](CatalogError::Corrupt): those of any write.
    pub async fn take_out(
        &self,
        source: &SourceId,
        backups: BTreeSet<BackupId>,
    ) -> Result<(), CatalogError> {
        if backups.is_empty() || planted("row-left") {
            return Ok(());
        }
        let source = source.clone();
        self.call(move |connection| {
            let transaction = write(connection)?;
            for backup in &backups {
                let of = [source.as_str(), backup.as_str()];
                // Whoever names it, now or later.
                for sql in [
                    "INSERT OR REPLACE INTO named \
                     SELECT source, backup, manifest_sha256, 'the catalog', 1 FROM backups \
                     WHERE source = ?1 AND backup = ?2",
                    "UPDATE named SET forgotten = 1 WHERE source = ?1 AND backup = ?2",
                    "DELETE FROM backups WHERE source = ?1 AND backup = ?2",
                    "DELETE FROM verified WHERE source = ?1 AND what = ?2",
                    "DELETE FROM expired WHERE source = ?1 AND backup = ?2",
                    "DELETE FROM reading WHERE source = ?1 AND backup = ?2",
                ] {
                    transaction.execute(sql, of)?;
                }
                let key = format!("s/{source}/b/{backup}/manifest.json");
                let sql = "DELETE FROM lost WHERE source = ?1 AND key = ?2";
                transaction.execute(sql, [source.as_str(), &key])?;
            }
            Ok(transaction.commit()?)
        })
        .await
    }
}
