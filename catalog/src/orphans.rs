//! Attempts without a manifest, and since when this host knows of them.

use std::collections::{BTreeMap, BTreeSet};

use drctl_model::{BackupId, SourceId};
use jiff::Timestamp;
use rusqlite::{Connection, params};

use crate::error::Fault;
use crate::rows::{all, parsed, time};
use crate::schema::write;
use crate::{Catalog, CatalogError};

impl Catalog {
    /// Notes the attempts without a manifest that there are of a source now, and forgets all others. Gives
    /// when each was noted first.
    ///
    /// # Errors
    /// [`Busy`](CatalogError::Busy), [`Full`](CatalogError::Full),
    /// [`ReadOnly`](CatalogError::ReadOnly), [`Io`](CatalogError::Io),
    /// [`Corrupt`](CatalogError::Corrupt): those of any write.
    pub async fn note_orphans(
        &self,
        source: &SourceId,
        at: Timestamp,
        there: BTreeSet<BackupId>,
    ) -> Result<BTreeMap<BackupId, Timestamp>, CatalogError> {
        let source = source.clone();
        self.call(move |connection| {
            let known = list(connection, &source)?;
            if known.keys().eq(&there) {
                return Ok(known);
            }
            let transaction = write(connection)?;
            for gone in known.keys().filter(|id| !there.contains(*id)) {
                let sql = "DELETE FROM orphans WHERE source = ?1 AND backup = ?2";
                transaction.execute(sql, [source.as_str(), gone.as_str()])?;
            }
            for id in &there {
                let sql = "INSERT INTO orphans (source, backup, first) VALUES (?1, ?2, ?3) \
                           ON CONFLICT DO NOTHING";
                transaction.execute(sql, params![source.as_str(), id.as_str(), time(at)])?;
            }
            let noted = list(&transaction, &source)?;
            transaction.commit()?;
            Ok(noted)
        })
        .await
    }
}

fn list(
    connection: &Connection,
    source: &SourceId,
) -> Result<BTreeMap<BackupId, Timestamp>, Fault> {
    let sql = "SELECT backup, first FROM orphans WHERE source = ?1";
    let found = all(connection, sql, [source.as_str()], |row| {
        Ok((parsed(row, "backup")?, parsed(row, "first")?))
    });
    Ok(found?.into_iter().collect())
}
