//! Backups whose data another tool kept in its own repository, and does not have any more.

use std::collections::{BTreeMap, BTreeSet};

use drctl_model::{BackupId, BackupSummary, SourceId};
use jiff::Timestamp;
use rusqlite::{Connection, params};

use crate::backups::{Before, put_all};
use crate::error::Fault;
use crate::rows::{all, parsed, time};
use crate::schema::write;
use crate::{Catalog, CatalogError};

impl Catalog {
    /// Takes up backups that were found in the bucket, all of them or none.
    ///
    /// # Errors
    /// As [`adopt`](Self::adopt).
    pub async fn adopt_all(&self, backups: &[BackupSummary]) -> Result<(), CatalogError> {
        let backups = backups.to_vec();
        self.call(move |connection| {
            let transaction = write(connection)?;
            put_all(&transaction, &backups, Before::Any)?;
            Ok(transaction.commit()?)
        })
        .await
    }

    /// The backups of one source or of all whose data is gone, and when that was found.
    ///
    /// # Errors
    /// As [`backups`](Self::backups).
    pub async fn expired(
        &self,
        source: Option<&SourceId>,
    ) -> Result<BTreeMap<(SourceId, BackupId), Timestamp>, CatalogError> {
        let source = source.cloned();
        self.call(move |connection| list(connection, source.as_ref())).await
    }

    /// Says of which backups of a source the data is gone; of all others it is there. Of those that
    /// were known to be gone the time stays.
    ///
    /// # Errors
    /// [`Busy`](CatalogError::Busy), [`Full`](CatalogError::Full),
    /// [`ReadOnly`](CatalogError::ReadOnly), [`Io`](CatalogError::Io),
    /// [`Corrupt`](CatalogError::Corrupt): those of any write.
    pub async fn set_expired(
        &self,
        source: &SourceId,
        at: Timestamp,
        gone: BTreeSet<BackupId>,
    ) -> Result<(), CatalogError> {
        let source = source.clone();
        self.call(move |connection| {
            let known: BTreeSet<BackupId> =
                list(connection, Some(&source))?.into_keys().map(|(_, backup)| backup).collect();
            // Nearly always nothing has changed.
            if known == gone {
                return Ok(());
            }
            let transaction = write(connection)?;
            for backup in known.difference(&gone) {
                let sql = "DELETE FROM expired WHERE source = ?1 AND backup = ?2";
                transaction.execute(sql, [source.as_str(), backup.as_str()])?;
            }
            for backup in gone.difference(&known) {
                let sql = "INSERT OR IGNORE INTO expired (source, backup, at) VALUES (?1, ?2, ?3)";
                transaction.execute(sql, params![source.as_str(), backup.as_str(), time(at)])?;
            }
            Ok(transaction.commit()?)
        })
        .await
    }
}

pub(crate) fn list(
    connection: &Connection,
    source: Option<&SourceId>,
) -> Result<BTreeMap<(SourceId, BackupId), Timestamp>, Fault> {
    let sql = "SELECT source, backup, at FROM expired WHERE source = ?1 OR ?1 IS NULL";
    let rows = all(connection, sql, params![source.map(SourceId::as_str)], |row| {
        Ok(((parsed(row, "source")?, parsed(row, "backup")?), parsed(row, "at")?))
    })?;
    Ok(rows.into_iter().collect())
}
