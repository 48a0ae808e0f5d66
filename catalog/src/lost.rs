//! What was there once and is gone: remembered until it is there again, or an operator says otherwise.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use drctl_model::{BackupId, FindingCode, SourceId};
use jiff::Timestamp;
use rusqlite::{Connection, params};

use crate::error::Fault;
use crate::rows::{all, parsed, time};
use crate::schema::write;
use crate::{Catalog, CatalogError, documents, findings, statements};

/// The most rows that are kept of one look: a bucket that was emptied would give millions.
const MOST: usize = 10_000;

/// In what way something that was known is not there any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// It is gone, or some of it, or what lies there is not what it was.
    Gone,
    /// A good document of another content is in its place.
    Replaced,
    /// It is there as it was, and the key that signed it is not trusted here any more.
    Distrusted,
}

impl Loss {
    const ALL: [Loss; 3] = [Loss::Gone, Loss::Replaced, Loss::Distrusted];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Loss::Gone => "gone",
            Loss::Replaced => "replaced",
            Loss::Distrusted => "distrusted",
        }
    }
}

/// A text that names none of them.
#[derive(Debug)]
pub struct UnknownLoss(String);

impl fmt::Display for UnknownLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no way in which something is lost", self.0)
    }
}

impl std::error::Error for UnknownLoss {}

impl FromStr for Loss {
    type Err = UnknownLoss;

    fn from_str(text: &str) -> Result<Self, UnknownLoss> {
        let found = Loss::ALL.into_iter().find(|loss| loss.as_str() == text);
        found.ok_or_else(|| UnknownLoss(text.to_owned()))
    }
}

/// In what way something is lost, and what is said of that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// In what way.
    pub loss: Loss,
    /// What is wrong with it.
    pub text: String,
}

impl From<String> for Why {
    /// Of what is [gone](Loss::Gone).
    fn from(text: String) -> Self {
        Why { loss: Loss::Gone, text }
    }
}

/// Something that was known and is not there any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The source.
    pub source: SourceId,
    /// The object's key, or that of a stretch of log.
    pub key: String,
    /// In what way.
    pub loss: Loss,
    /// What is wrong with it.
    pub why: String,
    /// When that was found.
    pub at: Timestamp,
}

impl Lost {
    /// Whether it is there as it was, and only not trusted here any more.
    #[must_use]
    pub fn is_distrusted(&self) -> bool {
        self.loss == Loss::Distrusted
    }
}

impl Catalog {
    /// What is gone of one source or of all, in the order of the keys.
    ///
    /// # Errors
    /// As [`backups`](Self::backups).
    pub async fn lost(&self, source: Option<&SourceId>) -> Result<Vec<Lost>, CatalogError> {
        let source = source.cloned();
        self.call(move |connection| list(connection, source.as_ref())).await
    }

    /// Says what is gone of a source, with the reason, as far as it was looked at: what was gone
    /// before stays so unless it is one of `back`, which is there again.
    ///
    /// # Errors
    /// [`Busy`](CatalogError::Busy), [`Full`](CatalogError::Full),
    /// [`ReadOnly`](CatalogError::ReadOnly), [`Io`](CatalogError::Io),
    /// [`Corrupt`](CatalogError::Corrupt): those of any write.
    pub async fn remember_lost(
        &self,
        source: &SourceId,
        at: Timestamp,
        gone: BTreeMap<String, impl Into<Why>>,
        back: Vec<String>,
    ) -> Result<(), CatalogError> {
        let gone: BTreeMap<String, Why> =
            gone.into_iter().map(|(key, why)| (key, why.into())).collect();
        if gone.is_empty() && back.is_empty() {
            return Ok(());
        }
        let source = source.clone();
        self.call(move |connection| {
            let transaction = write(connection)?;
            for key in back.iter().filter(|key| !gone.contains_key(*key)) {
                let sql = "DELETE FROM lost WHERE source = ?1 AND key = ?2";
                transaction.execute(sql, [source.as_str(), key])?;
            }
            for (key, Why { loss, text }) in gone.iter().take(MOST) {
                let sql = "INSERT INTO lost (source, key, loss, why, at) VALUES (?1, ?2, ?3, ?4, ?5) \
                           ON CONFLICT (source, key) DO UPDATE \
                           SET loss = excluded.loss, why = excluded.why";
                let (source, loss) = (source.as_str(), loss.as_str());
                transaction.execute(sql, params![source, key, loss, text, time(at)])?;
            }
            Ok(transaction.commit()?)
        })
        .await
    }

    /// Forgets these of what is gone of a source, the backups of it that are named, whatever signed
    /// documents say of them, and findings by code and subject; says how much that was.
    ///
    /// # Errors
    /// [`Busy`](CatalogError::Busy), [`Full`](CatalogError::Full),
    /// [`ReadOnly`](CatalogError::ReadOnly), [`Io`](CatalogError::Io),
    /// [`Corrupt`](CatalogError::Corrupt): those of any write.
    pub async fn forget_lost(
        &self,
        source: &SourceId,
        keys: Vec<String>,
        backups: Vec<BackupId>,
        met: Vec<(FindingCode, String)>,
    ) -> Result<u64, CatalogError> {
        let source = source.clone();
        self.call(move |connection| {
            let transaction = write(connection)?;
            let mut gone = 0;
            for key in &keys {
                let sql = "DELETE FROM lost WHERE source = ?1 AND key = ?2";
                gone += transaction.execute(sql, [source.as_str(), key])?;
                statements::forget(&transaction, &source, key)?;
                documents::forget(&transaction, &source, key)?;
            }
            for backup in &backups {
                // Whoever names it, now or later.
                let sql = "INSERT OR REPLACE INTO named \
                           SELECT source, backup, manifest_sha256, 'the catalog', 1 FROM backups \
                           WHERE source = ?1 AND backup = ?2";
                transaction.execute(sql, [source.as_str(), backup.as_str()])?;
                let sql = "DELETE FROM backups WHERE source = ?1 AND backup = ?2";
                gone += transaction.execute(sql, [source.as_str(), backup.as_str()])?;
                let sql = "UPDATE named SET forgotten = 1 WHERE source = ?1 AND backup = ?2";
                transaction.execute(sql, [source.as_str(), backup.as_str()])?;
            }
            for one in &met {
                gone += findings::forget(&transaction, &source, one)?;
            }
            transaction.commit()?;
            Ok(gone as u64)
        })
        .await
    }
}

fn list(connection: &Connection, source: Option<&SourceId>) -> Result<Vec<Lost>, Fault> {
    let sql = "SELECT source, key, loss, why, at FROM lost WHERE ?1 IN ('', source) \
               ORDER BY source, key";
    all(connection, sql, [source.map_or("", SourceId::as_str)], |row| {
        Ok(Lost {
            source: parsed(row, "source")?,
            key: row.get("key")?,
            loss: parsed(row, "loss")?,
            why: row.get("why")?,
            at: parsed(row, "at")?,
        })
    })
}

/// Copies all of it into a catalog that is made anew, and what the old one knew of backups that the
/// new one does not: those are gone too.
pub(crate) fn carry_over(old: &Connection, new: &Connection, is_sound: bool) -> Result<(), Fault> {
    let pair = |row: &rusqlite::Row<'_>| {
        Ok::<(String, String), Fault>((row.get("source")?, row.get("backup")?))
    };
    for Lost { source, key, loss, why, at } in list(old, None)? {
        let sql = "INSERT OR IGNORE INTO lost (source, key, loss, why, at) \
                   VALUES (?1, ?2, ?3, ?4, ?5)";
        new.execute(sql, params![source.as_str(), key, loss.as_str(), why, time(at)])?;
    }
    // What a damaged one tells of backups may never have been there.
    if !is_sound {
        return Ok(());
    }
    let sql = "SELECT source, backup FROM backups";
    let known: std::collections::BTreeSet<_> = all(new, sql, [], pair)?.into_iter().collect();
    for (source, backup) in all(old, sql, [], pair)? {
        if known.contains(&(source.clone(), backup.clone())) {
            continue;
        }
        let key = format!("s/{source}/b/{backup}/manifest.json");
        let sql = "INSERT OR IGNORE INTO lost (source, key, why, at) \
                   VALUES (?1, ?2, ?3, strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))";
        new.execute(sql, [&source, &key, "the catalog knew it, and the bucket has it no more"])?;
    }
    Ok(())
}
