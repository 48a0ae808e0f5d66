//! Manifests that signed documents name: what is missed on a host that has never seen them.

use std::collections::BTreeSet;

use drctl_model::{Named, SourceId};
use rusqlite::{Connection, Statement, params};

use crate::error::Fault;
use crate::rows::{all, parsed};
use crate::schema::write;
use crate::{Catalog, CatalogError};

/// A manifest, and the signed document that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedBy {
    /// The manifest.
    pub named: Named,
    /// What names it, in words.
    pub by: String,
    /// Whether an operator has said that it may be gone.
    pub forgotten: bool,
}

impl Catalog {
    /// What signed documents of a source name, as far as this host has read them.
    ///
    /// # Errors
    /// As [`backups`](Self::backups).
    pub async fn named(&self, source: &SourceId) -> Result<Vec<NamedBy>, CatalogError> {
        let source = source.clone();
        self.call(move |connection| list(connection, &source)).await
    }

    /// Notes what signed documents name; what was noted before stays as it is.
    ///
    /// # Errors
    /// [`Busy`](CatalogError::Busy), [`Full`](CatalogError::Full),
    /// [`ReadOnly`](CatalogError::ReadOnly), [`Io`](CatalogError::Io),
    /// [`Corrupt`](CatalogError::Corrupt): those of any write.
    pub async fn note_named(
        &self,
        source: &SourceId,
        found: Vec<(Named, String)>,
    ) -> Result<(), CatalogError> {
        let source = source.clone();
        self.call(move |connection| {
            let known: BTreeSet<Named> =
                list(connection, &source)?.into_iter().map(|one| one.named).collect();
            let new: Vec<_> = found.iter().filter(|(named, _)| !known.contains(named)).collect();
            if new.is_empty() {
                return Ok(());
            }
            let transaction = write(connection)?;
            let mut statement = transaction.prepare(PUT)?;
            for (named, by) in new {
                put(&mut statement, &source, named, by, false)?;
            }
            drop(statement);
            Ok(transaction.commit()?)
        })
        .await
    }
}

/// There may be very many: it is prepared once.
const PUT: &str = "INSERT INTO named (source, backup, manifest_sha256, named_by, forgotten) \
    VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING";

fn put(
    statement: &mut Statement<'_>,
    source: &SourceId,
    named: &Named,
    by: &str,
    forgotten: bool,
) -> Result<(), Fault> {
    let digest = named.manifest_sha256.to_string();
    let backup = named.backup.as_str();
    statement.execute(params![source.as_str(), backup, digest, by, forgotten])?;
    Ok(())
}

fn list(connection: &Connection, source: &SourceId) -> Result<Vec<NamedBy>, Fault> {
    let sql = "SELECT backup, manifest_sha256, named_by, forgotten FROM named WHERE source = ?1";
    all(connection, sql, [source.as_str()], |row| {
        Ok(NamedBy {
            named: Named {
                backup: parsed(row, "backup")?,
                manifest_sha256: parsed(row, "manifest_sha256")?,
            },
            by: row.get("named_by")?,
            forgotten: row.get("forgotten")?,
        })
    })
}

/// Copies all of it into a catalog that is made anew; of a damaged one what was forgotten alone: the
/// rest may never have been there, and the bucket tells it again.
pub(crate) fn carry_over(old: &Connection, new: &Connection, is_sound: bool) -> Result<(), Fault> {
    let sources: Vec<SourceId> =
        all(old, "SELECT DISTINCT source FROM named", [], |row| parsed(row, "source"))?;
    let mut statement = new.prepare(PUT)?;
    for source in sources {
        for NamedBy { named, by, forgotten } in list(old, &source)? {
            if forgotten || is_sound {
                put(&mut statement, &source, &named, &by, forgotten)?;
            }
        }
    }
    Ok(())
}
