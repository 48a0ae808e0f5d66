//! What was said of sources, by number: what is missed when the last statements are gone.

use std::collections::BTreeMap;

use drctl_model::{Digest, SourceId};
use rusqlite::{Connection, params};

use crate::error::Fault;
use crate::rows::{all, parsed};
use crate::schema::write;
use crate::{Catalog, CatalogError};

impl Catalog {
    /// The statements of a source that this host has read, each with the digest of its object.
    ///
    /// # Errors
    /// As [`backups`](Self::backups).
    pub async fn statements(
        &self,
        source: &SourceId,
    ) -> Result<BTreeMap<u64, Digest>, CatalogError> {
        let source = source.clone();
        self.call(move |connection| list(connection, &source)).await
    }

    /// Notes statements that were read; what was noted before stays as it is.
    ///
    /// # Errors
    /// [`Busy`](CatalogError::Busy), [`Full`](CatalogError::Full),
    /// [`ReadOnly`](CatalogError::ReadOnly), [`Io`](CatalogError::Io),
    /// [`Corrupt`](CatalogError::Corrupt): those of any write.
    pub async fn note_statements(
        &self,
        source: &SourceId,
        found: BTreeMap<u64, Digest>,
    ) -> Result<(), CatalogError> {
        let source = source.clone();
        self.call(move |connection| {
            let known = list(connection, &source)?;
            let is_new = |(n, _): &(&u64, &Digest)| !known.contains_key(*n);
            let new: Vec<_> = found.iter().filter(is_new).collect();
            if new.is_empty() {
                return Ok(());
            }
            let transaction = write(connection)?;
            for (n, sha256) in new {
                put(&transaction, &source, *n, *sha256)?;
            }
            Ok(transaction.commit()?)
        })
        .await
    }
}

fn put(connection: &Connection, source: &SourceId, n: u64, sha256: Digest) -> Result<(), Fault> {
    let sql =
        "INSERT INTO statements (source, n, sha256) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
    connection.execute(sql, params![source.as_str(), n.cast_signed(), sha256.to_string()])?;
    Ok(())
}

fn list(connection: &Connection, source: &SourceId) -> Result<BTreeMap<u64, Digest>, Fault> {
    let sql = "SELECT n, sha256 FROM statements WHERE source = ?1";
    let found = all(connection, sql, [source.as_str()], |row| {
        Ok((row.get::<_, i64>("n")?.cast_unsigned(), parsed(row, "sha256")?))
    });
    Ok(found?.into_iter().collect())
}

/// Forgets the statement that lies under this key, where it is one.
pub(crate) fn forget(connection: &Connection, source: &SourceId, key: &str) -> Result<(), Fault> {
    let sql = "DELETE FROM statements WHERE source = ?1 \
               AND 's/' || source || '/k/' || printf('%06d', n) || '.json' = ?2";
    connection.execute(sql, [source.as_str(), key])?;
    Ok(())
}
