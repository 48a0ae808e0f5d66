//! What is remembered of the tables in the last backups of each source.

use std::collections::{BTreeMap, BTreeSet};

use drctl_model::{BackupId, SourceId, TableMarks};
use rusqlite::params;

use crate::error::Fault;
use crate::rows::{all, parsed};
use crate::schema::write;
use crate::{Catalog, CatalogError};

/// Of so many backups of a source it is kept: one of them may be accepted later.
const REMEMBERED: i64 = 16;

impl Catalog {
    /// What is remembered of the tables in these backups of a source, in this order, and how many others
    /// were noted after it, but for those that are known and not among these; nothing of one that is not known here, or whose form this program does not read. Of the
    /// first that is known all, of the others the tables that may be empty or gone.
    ///
    /// # Errors
    /// As [`backups`](Self::backups).
    pub async fn table_marks(
        &self,
        source: &SourceId,
        backups: Vec<BackupId>,
    ) -> Result<Vec<(BackupId, u8, TableMarks)>, CatalogError> {
        let source = source.clone();
        self.call(move |connection| {
            let sql = "SELECT backup, EXISTS (SELECT 1 FROM backups AS known WHERE known.source = noted.source \
                AND known.backup = noted.backup) AS is_known FROM table_marks AS noted WHERE source = ?1 \
                ORDER BY id DESC";
            let noted: Vec<(BackupId, bool)> = all(connection, sql, [source.as_str()], |row| {
                Ok::<_, Fault>((parsed(row, "backup")?, row.get("is_known")?))
            })?;
            let asked: BTreeSet<&BackupId> = backups.iter().collect();
            let counts = noted.into_iter().filter(|(id, is_known)| !is_known || asked.contains(id));
            // There are no more than 17.
            let later: BTreeMap<BackupId, u8> = counts.map(|(id, _)| id).zip(0_u8..).collect();
            let sql = "SELECT marks FROM table_marks WHERE source = ?1 AND backup = ?2";
            let mut statement = connection.prepare(sql)?;
            let mut found = Vec::new();
            for backup in backups {
                let Some(later) = later.get(&backup).copied() else { continue };
                let of = params![source.as_str(), backup.as_str()];
                let marks: Vec<u8> = statement.query_row(of, |row| row.get("marks"))?;
                let Some(mut marks) = TableMarks::decode(&marks) else { continue };
                if !found.is_empty() {
                    marks.0.retain(|_, mark| mark.is_excused());
                }
                found.push((backup, later, marks));
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
