//! How far the backups were read that are read a part at a time.

use drctl_model::{BackupId, Digest, SourceId};
use rusqlite::{Connection, Row, params};

use crate::error::Fault;
use crate::rows::{all, bad_json, parsed};
use crate::schema::write;
use crate::{Catalog, CatalogError};

/// How far a backup was read that is not at its end yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The backup.
    pub backup: BackupId,
    /// The digest of its manifest: of another one nothing was read.
    pub manifest_sha256: Digest,
    /// So many of its objects were read, in the order of the manifest.
    pub objects: u64,
    /// Their stored bytes.
    pub bytes: u64,
    /// What was wrong with them: codes and words.
    pub problems: Vec<(String, String)>,
}

impl Catalog {
    /// The backups of a source that are being read.
    ///
    /// # Errors
    /// As [`backups`](Self::backups).
    pub async fn readings(&self, source: &SourceId) -> Result<Vec<Reading>, CatalogError> {
        let source = source.clone();
        self.call(move |connection| {
            let sql = "SELECT * FROM reading WHERE source = ?1";
            all(connection, sql, [source.as_str()], read)
        })
        .await
    }

    /// Notes how far a backup was read.
    ///
    /// # Errors
    /// [`Busy`](CatalogError::Busy), [`Full`](CatalogError::Full),
    /// [`ReadOnly`](CatalogError::ReadOnly), [`Io`](CatalogError::Io),
    /// [`Corrupt`](CatalogError::Corrupt): those of any write.
    pub async fn note_reading(
        &self,
        source: &SourceId,
        reading: Reading,
    ) -> Result<(), CatalogError> {
        let source = source.clone();
        self.call(move |connection| {
            let problems =
                serde_json::to_string(&reading.problems).map_err(bad_json("problems"))?;
            let transaction = write(connection)?;
            transaction.execute(
                "INSERT OR REPLACE INTO reading VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    source.as_str(),
                    reading.backup.as_str(),
                    reading.manifest_sha256.to_string(),
                    i64::try_from(reading.objects).unwrap_or(i64::MAX),
                    i64::try_from(reading.bytes).unwrap_or(i64::MAX),
                    problems,
                ],
            )?;
            Ok(transaction.commit()?)
        })
        .await
    }

    /// A backup was read to its end, or is read no more.
    ///
    /// # Errors
    /// As [`note_reading`](Self::note_reading).
    pub async fn end_reading(
        &self,
        source: &SourceId,
        backup: &BackupId,
    ) -> Result<(), CatalogError> {
        let of = [source.as_str().to_owned(), backup.as_str().to_owned()];
        self.call(move |connection| {
            let transaction = write(connection)?;
            transaction.execute("DELETE FROM reading WHERE source = ?1 AND backup = ?2", of)?;
            Ok(transaction.commit()?)
        })
        .await
    }
}

/// Reads all of it.
pub(crate) fn check(connection: &Connection) -> Result<(), Fault> {
    all(connection, "SELECT * FROM reading", [], read).map(drop)
}

fn read(row: &Row<'_>) -> Result<Reading, Fault> {
    let count = |column| Ok::<_, Fault>(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0));
    Ok(Reading {
        backup: parsed(row, "backup")?,
        manifest_sha256: parsed(row, "manifest_sha256")?,
        objects: count("objects")?,
        bytes: count("bytes")?,
        problems: serde_json::from_str(&row.get::<_, String>("problems")?)
            .map_err(bad_json("problems"))?,
    })
}
