//! Signed objects beside backups and pieces of log that this host has read: what is missed when one is gone.

use std::collections::BTreeSet;

use drctl_model::SourceId;
use rusqlite::Connection;

use crate::error::Fault;
use crate::rows::all;
use crate::schema::write;
use crate::{Catalog, CatalogError};

impl Catalog {
    /// The keys of those of a source that this host has read, and believed.
    ///
    /// # Errors
    /// As [`backups`](Self::backups).
    pub async fn documents(&self, source: &SourceId) -> Result<BTreeSet<String>, CatalogError> {
        let source = source.clone();
        self.call(move |connection| list(connection, &source)).await
    }

    /// Notes some that were read, and takes out those that were removed on purpose.
    ///
    /// # Errors
    /// [`Busy`](CatalogError::Busy), [`Full`](CatalogError::Full),
    /// [`ReadOnly`](CatalogError::ReadOnly), [`Io`](CatalogError::Io),
    /// [`Corrupt`](CatalogError::Corrupt): those of any write.
    pub async fn note_documents(
        &self,
        source: &SourceId,
        read: BTreeSet<String>,
        removed: BTreeSet<String>,
    ) -> Result<(), CatalogError> {
        if read.is_empty() && removed.is_empty() {
            return Ok(());
        }
        let source = source.clone();
        self.call(move |connection| {
            let transaction = write(connection)?;
            for key in &read {
                put(&transaction, &source, key)?;
            }
            for key in &removed {
                forget(&transaction, &source, key)?;
            }
            Ok(transaction.commit()?)
        })
        .await
    }
}

fn put(connection: &Connection, source: &SourceId, key: &str) -> Result<(), Fault> {
    let sql = "INSERT INTO documents (source, key) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    connection.execute(sql, [source.as_str(), key])?;
    Ok(())
}

fn list(connection: &Connection, source: &SourceId) -> Result<BTreeSet<String>, Fault> {
    let sql = "SELECT key FROM documents WHERE source = ?1";
    let found = all(connection, sql, [source.as_str()], |row| Ok::<String, Fault>(row.get("key")?));
    Ok(found?.into_iter().collect())
}

/// Forgets the one that lies under this key, where it is one.
pub(crate) fn forget(connection: &Connection, source: &SourceId, key: &str) -> Result<(), Fault> {
    let sql = "DELETE FROM documents WHERE source = ?1 AND key = ?2";
    connection.execute(sql, [source.as_str(), key])?;
    Ok(())
}
