//! What is remembered of the tables in the last backups of each source.

use std::collections::BTreeMap;

use drctl_model::{BackupId, SourceId, TableMarks};
use rusqlite::params;

use crate::error::Fault;
use crate::rows::{all, parsed};
use crate::schema::write;
use crate::{Catalog, CatalogError};

/// Of so many backups of a source it is kept: one of them may be accepted later.
const REMEMBERED: i64 = 16;

impl Catalog {
    /// What is remembered of the tables in backups of a source; nothing of one that is not known here, or
    /// whose form this program does not read.
    ///
    /// # Errors
    /// As [`backups`](Self::backups).
    pub async fn table_marks(
        &self,
        source: &SourceId,
    ) -> Result<BTreeMap<BackupId, TableMarks>, CatalogError> {
        let source = source.clone();
        self.call(move |connection| {
            let sql = "SELECT backup, marks FROM table_marks WHERE source = ?1";
            let found = all(connection, sql, [source.as_str()], |row| {
                let marks: Vec<u8> = row.get("marks")?;
                Ok::<_, Fault>((parsed(row, "backup")?, TableMarks::decode(&marks)))
            })?;
            Ok(found.into_iter().filter_map(|(backup, marks)| Some((backup, marks?))).collect())
        })
        .await
    }

    /// Remembers the tables in a backup that was compared with `before`. What was noted first of a source
    /// goes, but for these two and the last few.
    ///
    /// # Errors
    /// [`Busy`](CatalogError::Busy), [`Full`](CatalogError::Full),
    /// [`ReadOnly`](CatalogError::ReadOnly), [`Io`](CatalogError::Io),
    /// [`Corrupt`](CatalogError::Corrupt): those of any write.
    pub async fn note_tables(
        &self,
        source: &SourceId,
        backup: &BackupId,
        before: Option<&BackupId>,
        marks: &TableMarks,
    ) -> Result<(), CatalogError> {
        let (source, backup) = (source.as_str().to_owned(), backup.as_str().to_owned());
        let before = before.map(|before| before.as_str().to_owned());
        let marks = marks.encode();
        self.call(move |connection| {
            let transaction = write(connection)?;
            transaction.execute(
                "INSERT OR REPLACE INTO table_marks (source, backup, marks) VALUES (?1, ?2, ?3)",
                params![source, backup, marks],
            )?;
            transaction.execute(
                "DELETE FROM table_marks WHERE source = ?1 AND backup IS NOT ?2 AND id NOT IN \
                 (SELECT id FROM table_marks WHERE source = ?1 ORDER BY id DESC LIMIT ?3)",
                params![source, before, REMEMBERED],
            )?;
            Ok(transaction.commit()?)
        })
        .await
    }
}
