//! What is remembered of the tables in the last backups of each source.

use std::collections::BTreeSet;

use drctl_model::{BackupId, SourceId, TableMarks};
use rusqlite::params;

use crate::rows::{all, parsed};
use crate::schema::write;
use crate::{Catalog, CatalogError};

/// Of so many backups of a source it is kept: one of them may be accepted later.
const REMEMBERED: i64 = 16;

impl Catalog {
    /// What is remembered of the tables in these backups of a source, in this order; nothing of one that is
    /// not known here, or whose form this program does not read. Of the first that is known all, of the others
    /// the tables that may be empty or gone.
    ///
    /// # Errors
    /// As [`backups`](Self::backups).
    pub async fn table_marks(
        &self,
        source: &SourceId,
        backups: Vec<BackupId>,
    ) -> Result<Vec<(BackupId, TableMarks)>, CatalogError> {
        let source = source.clone();
        self.call(move |connection| {
            let sql = "SELECT backup FROM table_marks WHERE source = ?1";
            let known: BTreeSet<BackupId> =
                all(connection, sql, [source.as_str()], |row| parsed(row, "backup"))?
                    .into_iter()
                    .collect();
            let sql = "SELECT marks FROM table_marks WHERE source = ?1 AND backup = ?2";
            let mut statement = connection.prepare(sql)?;
            let mut found: Vec<(BackupId, TableMarks)> = Vec::new();
            for backup in backups.into_iter().filter(|backup| known.contains(backup)) {
                let of = params![source.as_str(), backup.as_str()];
                let marks: Vec<u8> = statement.query_row(of, |row| row.get("marks"))?;
                let Some(mut marks) = TableMarks::decode(&marks) else { continue };
                if !found.is_empty() {
                    marks.0.retain(|_, mark| mark.is_excused());
                }
                found.push((backup, marks));
            }
            Ok(found)
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
