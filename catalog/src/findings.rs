//! What this host found amiss, by whatever command came upon it: told until the check that finds it
//! does not find it any more.

use drctl_model::{Checked, Finding, FindingCode, SourceId};
use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, Row, params};

use crate::error::Fault;
use crate::rows::{all, parsed, time};
use crate::schema::write;
use crate::{Catalog, CatalogError};

/// The most findings that are taken of one check.
const MOST: usize = 1000;

/// For how long what is settled is kept.
const SETTLED_KEPT: SignedDuration = SignedDuration::from_hours(24 * 90);

/// A finding that stands, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// What was found.
    pub finding: Finding,
    /// When it was found first.
    pub first: Timestamp,
    /// When it was found last.
    pub last: Timestamp,
}

impl Catalog {
    /// What is amiss with one source or with all, in the order of codes and subjects. What a newer
    /// program has found, and this one has no code for, is left out.
    ///
    /// # Errors
    /// As [`backups`](Self::backups).
    pub async fn findings(&self, source: Option<&SourceId>) -> Result<Vec<Standing>, CatalogError> {
        let source = source.cloned();
        self.call(move |connection| list(connection, source.as_ref())).await
    }

    /// Says what a check of a source found. What stood before and is found again keeps its
    /// beginning; what was looked for and is not found is settled.
    ///
    /// # Errors
    /// [`Busy`](CatalogError::Busy), [`Full`](CatalogError::Full),
    /// [`ReadOnly`](CatalogError::ReadOnly), [`Io`](CatalogError::Io),
    /// [`Corrupt`](CatalogError::Corrupt): those of any write.
    pub async fn note_findings(
        &self,
        source: &SourceId,
        at: Timestamp,
        checked: Checked,
    ) -> Result<(), CatalogError> {
        let source = source.clone();
        self.call(move |connection| {
            // Most checks find nothing and have nothing to settle: no write lock for those.
            if checked.found.is_empty() && settled(connection, &source, &checked)?.is_empty() {
                return Ok(());
            }
            let transaction = write(connection)?;
            for gone in settled(&transaction, &source, &checked)? {
                let sql = "UPDATE findings SET settled = ?4 \
                           WHERE source = ?1 AND code = ?2 AND subject = ?3";
                let of = (source.as_str(), gone.code.as_str(), &gone.subject);
                transaction.execute(sql, params![of.0, of.1, of.2, time(at)])?;
            }
            for found in checked.found.iter().take(MOST) {
                put(&transaction, &source, at, found)?;
            }
            let old = at.checked_sub(SETTLED_KEPT).unwrap_or(Timestamp::MIN);
            let sql = "DELETE FROM findings WHERE source = ?1 AND settled < ?2";
            transaction.execute(sql, [source.as_str(), &time(old)])?;
            Ok(transaction.commit()?)
        })
        .await
    }
}

/// What stands of a source, and does not any more after a check.
fn settled(
    connection: &Connection,
    source: &SourceId,
    checked: &Checked,
) -> Result<Vec<Finding>, Fault> {
    let standing = list(connection, Some(source))?.into_iter().map(|one| one.finding);
    Ok(standing.filter(|finding| checked.settles(finding)).collect())
}

/// Puts one that was found; one that was settled begins anew.
fn put(
    connection: &Connection,
    source: &SourceId,
    at: Timestamp,
    found: &Finding,
) -> Result<(), Fault> {
    let sql = "INSERT INTO findings (source, code, subject, text, hint, first, last) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6) \
               ON CONFLICT (source, code, subject) DO UPDATE SET text = excluded.text, \
               hint = excluded.hint, last = excluded.last, settled = NULL, \
               first = CASE WHEN settled IS NULL THEN first ELSE excluded.first END";
    let Finding { code, subject, text, hint, .. } = found;
    let row = params![source.as_str(), code.as_str(), subject, text, hint, time(at)];
    connection.execute(sql, row)?;
    Ok(())
}

/// Forgets one of a source; says whether it was there.
pub(crate) fn forget(
    connection: &Connection,
    source: &SourceId,
    (code, subject): &(FindingCode, String),
) -> Result<usize, Fault> {
    let sql = "DELETE FROM findings \
               WHERE source = ?1 AND code = ?2 AND subject = ?3 AND settled IS NULL";
    Ok(connection.execute(sql, [source.as_str(), code.as_str(), subject])?)
}

pub(crate) fn list(
    connection: &Connection,
    source: Option<&SourceId>,
) -> Result<Vec<Standing>, Fault> {
    let sql = "SELECT source, code, subject, text, hint, first, last FROM findings \
               WHERE ?1 IN ('', source) AND settled IS NULL ORDER BY source, code, subject";
    let rows = all(connection, sql, [source.map_or("", SourceId::as_str)], read)?;
    Ok(rows.into_iter().flatten().collect())
}

fn read(row: &Row<'_>) -> Result<Option<Standing>, Fault> {
    let Ok(code) = row.get::<_, String>("code")?.parse() else { return Ok(None) };
    let finding = Finding {
        code,
        source: parsed(row, "source")?,
        subject: row.get("subject")?,
        text: row.get("text")?,
        hint: row.get("hint")?,
    };
    let (first, last) = (parsed(row, "first")?, parsed(row, "last")?);
    Ok(Some(Standing { finding, first, last }))
}
