//! What was found when backups and logs were looked at.

use std::collections::BTreeMap;

use drctl_model::{
    BackupId, BackupSummary, Digest, Fault as Found, SourceId, Verification, bad, based_on,
    standing,
};
use rusqlite::{Connection, params};
use serde_json::Value;

use crate::error::Fault;
use crate::rows::{all, bad_json, parsed, time};
use crate::schema::write;
use crate::{Catalog, CatalogError, backups};

/// How many problems of one look are kept.
const KEPT: usize = 20;

/// What was looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A backup.
    Backup(BackupId),
    /// The log of the source's clusters.
    Log,
    /// What another tool keeps of it.
    Stanza,
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}

impl Subject {
    fn text(&self) -> &str {
        match self {
            Subject::Backup(id) => id.as_str(),
            Subject::Log => "log",
            Subject::Stanza => "stanza",
        }
    }

    fn of(text: &str) -> Result<Self, Fault> {
        match text {
            "log" => Ok(Subject::Log),
            "stanza" => Ok(Subject::Stanza),
            id => id
                .parse()
                .map(Subject::Backup)
                .map_err(|error| Fault::Damage(format!("column what: {error}"))),
        }
    }
}

/// One look at one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The source.
    pub source: SourceId,
    /// What was looked at.
    pub subject: Subject,
    /// Of a backup: the digest of its manifest; unknown where that could not be believed.
    pub manifest_sha256: Option<Digest>,
    /// What was found.
    pub found: Verification,
}

/// All looks, by what was looked at.
pub type Looks = BTreeMap<(SourceId, Subject), Vec<Verification>>;

impl Catalog {
    /// Remembers what was found, all of it or nothing. Of a backup that the catalog knows by another
    /// manifest, or not at all, nothing is remembered.
    ///
    /// # Errors
    /// [`Busy`](CatalogError::Busy), [`Full`](CatalogError::Full),
    /// [`ReadOnly`](CatalogError::ReadOnly), [`Io`](CatalogError::Io),
    /// [`Corrupt`](CatalogError::Corrupt): those of any write.
    pub async fn remember(&self, looks: Vec<Look>) -> Result<(), CatalogError> {
        self.call(move |connection| {
            let transaction = write(connection)?;
            for look in &looks {
                put(&transaction, look)?;
            }
            Ok(transaction.commit()?)
        })
        .await
    }

    /// What was found of one source or of all; of a backup that is based on a bad one what was found of
    /// that.
    ///
    /// # Errors
    /// As [`backups`](Self::backups).
    pub async fn looks(&self, source: Option<&SourceId>) -> Result<Looks, CatalogError> {
        let (source, trust) = (source.cloned(), self.trust.clone());
        self.call(move |connection| list(connection, source.as_ref(), &trust)).await
    }
}

fn put(connection: &Connection, look: &Look) -> Result<(), Fault> {
    let digest = match &look.subject {
        Subject::Backup(id) => {
            let sql = "SELECT manifest_sha256 FROM backups WHERE source = ?1 AND backup = ?2";
            let known = all(connection, sql, [look.source.as_str(), id.as_str()], |row| {
                Ok(row.get::<_, String>(0)?)
            })?;
            let Some(known) = known.into_iter().next() else { return Ok(()) };
            match &look.manifest_sha256 {
                Some(digest) if digest.to_string() != known => return Ok(()),
                _ => known,
            }
        }
        Subject::Log | Subject::Stanza => String::new(),
    };
    insert(connection, look, &digest)
}

/// Puts a look with the digest of the manifest that it was of.
fn insert(connection: &Connection, look: &Look, digest: &str) -> Result<(), Fault> {
    let kept: Vec<&Found> = look.found.problems.iter().take(KEPT).collect();
    let problems = serde_json::to_string(&kept).map_err(bad_json("problems"))?;
    connection.execute(
        "INSERT OR REPLACE INTO verified (source, what, closeness, at, manifest_sha256, problems) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            look.source.as_str(),
            look.subject.text(),
            look.found.closeness.as_str(),
            time(look.found.at),
            digest,
            problems,
        ],
    )?;
    Ok(())
}

const SELECT: &str = "SELECT source, what, closeness, at, manifest_sha256, problems FROM verified";

/// A look, and the digest of the manifest that it was of.
fn read(row: &rusqlite::Row<'_>) -> Result<(Look, String), Fault> {
    let closeness = Value::String(row.get("closeness")?);
    let digest: String = row.get("manifest_sha256")?;
    let found = Verification {
        at: parsed(row, "at")?,
        closeness: serde_json::from_value(closeness).map_err(bad_json("closeness"))?,
        problems: serde_json::from_str(&row.get::<_, String>("problems")?)
            .map_err(bad_json("problems"))?,
    };
    let subject = Subject::of(&row.get::<_, String>("what")?)?;
    let look = Look { source: parsed(row, "source")?, subject, manifest_sha256: None, found };
    Ok((look, digest))
}

/// Only what was found of the manifests that the catalog knows now, and what those who trust these
/// keys would find too.
pub(crate) fn list(
    connection: &Connection,
    source: Option<&SourceId>,
    trust: &str,
) -> Result<Looks, Fault> {
    let sql = format!(
        "{SELECT} WHERE (source = ?1 OR ?1 IS NULL) AND (manifest_sha256 = '' OR EXISTS \
         (SELECT 1 FROM backups b WHERE b.source = verified.source AND b.backup = verified.what \
          AND b.manifest_sha256 = verified.manifest_sha256))"
    );
    let mut looks = Looks::new();
    for (mut look, _) in all(connection, &sql, params![source.map(SourceId::as_str)], read)? {
        let problems = &mut look.found.problems;
        let before = problems.len();
        problems.retain(|fault| fault.trust.as_deref().is_none_or(|other| other == trust));
        // It was not good either.
        if problems.is_empty() && before > 0 {
            continue;
        }
        looks.entry((look.source, look.subject)).or_default().push(look.found);
    }
    hand_down(connection, source, &mut looks)?;
    Ok(looks)
}

/// What is wrong with a backup is wrong with those that are based on it. Only a look at that one clears
/// it: none at them.
fn hand_down(
    connection: &Connection,
    source: Option<&SourceId>,
    looks: &mut Looks,
) -> Result<(), Fault> {
    let is_backup = |subject: &Subject| matches!(subject, Subject::Backup(_));
    if !looks.iter().any(|((_, subject), looks)| is_backup(subject) && bad(looks).is_some()) {
        return Ok(());
    }
    let all = backups::list(connection, source)?;
    let found = based_on(&all, |one| is_bad(looks, &one.source, &one.backup));
    let name = |of: &BackupSummary| (of.source.clone(), Subject::Backup(of.backup.clone()));
    let inherited = found.into_iter().map(|(child, on)| {
        let theirs = looks.get(&name(on)).map(Vec::as_slice).unwrap_or_default();
        let mut theirs: Vec<Verification> = standing(theirs).cloned().collect();
        for fault in theirs.iter_mut().flat_map(|look| &mut look.problems) {
            fault.message = format!("it is based on {}: {}", on.backup, fault.message);
        }
        (name(child), theirs)
    });
    let inherited: Vec<_> = inherited.collect();
    looks.extend(inherited);
    Ok(())
}

/// Takes all over that can be read of another catalog's; whether that was all.
pub(crate) fn copy(old: &Connection, new: &Connection) -> Result<(), Fault> {
    let mut found = Vec::new();
    let read = all(old, SELECT, [], |row| {
        found.push(read(row)?);
        Ok(())
    });
    for (look, digest) in &found {
        insert(new, look, digest)?;
    }
    read.map(drop)
}

/// Whether something is known to be wrong with a backup.
pub(crate) fn is_bad(looks: &Looks, source: &SourceId, backup: &BackupId) -> bool {
    let key = (source.clone(), Subject::Backup(backup.clone()));
    looks.get(&key).is_some_and(|looks| bad(looks).is_some())
}
