use std::collections::BTreeMap;

use drctl_model::{BackupId, BackupSummary, SourceId};
use rusqlite::Connection;

use crate::error::Fault;
use crate::rows::all;
use crate::{Catalog, CatalogError, backups, findings, jobs, logs, open, reading, verified};

/// In what a catalog and a bucket differ; each list sorted by source and backup.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Difference {
    /// In the bucket, and the catalog does not know it, or not that it was accepted.
    pub missing_in_catalog: Vec<BackupSummary>,
    /// In the catalog, and the bucket does not hold it.
    pub missing_in_bucket: Vec<BackupSummary>,
    /// In both, but not the same; what the catalog says first.
    pub different: Vec<(BackupSummary, BackupSummary)>,
}

impl Difference {
    /// Whether they are equal.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.missing_in_catalog.is_empty()
            && self.missing_in_bucket.is_empty()
            && self.different.is_empty()
    }
}

/// Compares what the catalog says with what a bucket holds, in whatever order.
#[must_use]
pub fn diff(catalog: &[BackupSummary], bucket: &[BackupSummary]) -> Difference {
    let known = by_name(catalog);
    let mut held = by_name(bucket);
    let mut difference = Difference::default();
    for (name, ours) in known {
        match held.remove(&name) {
            Some(theirs) if theirs == ours => {}
            // Somebody accepted it, which the catalog has not heard of yet.
            Some(theirs) if is_same(theirs, ours) => {
                difference.missing_in_catalog.push(theirs.clone());
            }
            Some(theirs) => difference.different.push((ours.clone(), theirs.clone())),
            None => difference.missing_in_bucket.push(ours.clone()),
        }
    }
    difference.missing_in_catalog.extend(held.into_values().cloned());
    difference
        .missing_in_catalog
        .sort_by(|a, b| (&a.source, &a.backup).cmp(&(&b.source, &b.backup)));
    difference
}

/// Whether two rows differ in nothing but what was accepted.
fn is_same(one: &BackupSummary, other: &BackupSummary) -> bool {
    // What was not noted yet differs in nothing.
    let bare = |one: &BackupSummary| BackupSummary {
        accepted: None,
        signer: String::new(),
        objects: None,
        ..one.clone()
    };
    bare(one) == bare(other)
}

fn by_name(backups: &[BackupSummary]) -> BTreeMap<(&SourceId, &BackupId), &BackupSummary> {
    backups.iter().map(|backup| ((&backup.source, &backup.backup), backup)).collect()
}

impl Catalog {
    /// Reads the whole catalog: SQLite's own check, references, every row, every job's log.
    ///
    /// # Errors
    /// [`Corrupt`](CatalogError::Corrupt), [`Busy`](CatalogError::Busy), [`Io`](CatalogError::Io).
    pub async fn integrity(&self) -> Result<(), CatalogError> {
        self.call(|connection| integrity(connection)).await
    }
}

impl Catalog {
    /// Reads all that tells which backups and signed objects there are or were, twice: the rows and their
    /// index. For every time that it is opened, as [`integrity`](Self::integrity) takes as long as there is log;
    /// once something damaged was met, all of it is read.
    ///
    /// # Errors
    /// As there.
    pub async fn soundness(&self) -> Result<(), CatalogError> {
        if open::is_in_doubt(self.path()) {
            self.integrity().await?;
            open::end_doubt(self.path());
        }
        self.call(|connection| {
            const TABLES: [&str; 9] = [
                "repository",
                "backups",
                "expired",
                "jobs",
                "named",
                "newer",
                "lost",
                "statements",
                "documents",
            ];
            for table in TABLES {
                let check = format!("PRAGMA integrity_check('{table}')");
                let said: Vec<String> = all(connection, &check, [], |row| Ok(row.get(0)?))?;
                if said != ["ok"] {
                    return Err(Fault::Damage(said.join("; ")));
                }
            }
            backups::list(connection, None).map(drop)
        })
        .await
    }
}

pub(crate) fn integrity(connection: &Connection) -> Result<(), Fault> {
    let said: Vec<String> =
        all(connection, "PRAGMA integrity_check(10)", [], |row| Ok(row.get(0)?))?;
    if said != ["ok"] {
        return Err(Fault::Damage(said.join("; ")));
    }
    let dangling: Vec<String> =
        all(connection, "PRAGMA foreign_key_check", [], |row| Ok(row.get(0)?))?;
    if let Some(table) = dangling.first() {
        return Err(Fault::Damage(format!("a row of {table} refers to nothing")));
    }
    backups::list(connection, None)?;
    logs::check(connection)?;
    reading::check(connection)?;
    verified::list(connection, None, "")?;
    findings::list(connection, None)?;
    let (ids, read) = jobs::readable_ids(connection);
    read?;
    ids.into_iter().try_for_each(|id| jobs::load(connection, id).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::backup;

    #[test]
    fn differences_are_found_in_any_order() {
        let (a, b, c) = (backup("shop", 1), backup("shop", 2), backup("blog", 1));
        let accepted = BackupSummary { accepted: Some(jiff::Timestamp::UNIX_EPOCH), ..a.clone() };
        let found = diff(std::slice::from_ref(&a), std::slice::from_ref(&accepted));
        assert_eq!((found.missing_in_catalog, found.different), (vec![accepted], vec![]));
        let changed = BackupSummary { host: "elsewhere".into(), ..b.clone() };
        let all = [a.clone(), b.clone(), c.clone()];
        let turned = [c.clone(), a.clone(), b.clone()];
        assert!(diff(&all, &turned).is_empty());
        assert!(diff(&[], &[]).is_empty());
        let found = diff(&all[..2], &[c.clone(), changed.clone()]);
        assert_eq!(found.missing_in_catalog, [c]);
        assert_eq!(found.missing_in_bucket, [a]);
        assert_eq!(found.different, [(b, changed)]);
    }
}
