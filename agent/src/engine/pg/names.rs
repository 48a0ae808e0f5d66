//! Names of tables, which the WAL knows by numbers, as earlier base backups tell them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use drctl_engines::pg::wal::{Relation, RelationChange};
use drctl_model::{BackupId, Coordinates, Lsn, SourceId};
use drctl_store::{Identities, open_facts};

use crate::repository::Repository;

/// The most backups that are asked.
const MOST_COPIES: usize = 16;

/// The tables of a cluster's databases, as one base backup tells them.
#[derive(Default)]
struct Tables {
    /// By number.
    databases: BTreeMap<u32, String>,
    /// By database and file.
    tables: BTreeMap<(u32, u32), String>,
}

/// Names, by the end of the backup that tells them.
#[derive(Default)]
pub(crate) struct Names(BTreeMap<Lsn, Tables>);

impl Names {
    /// Those of what was done, as `copies` tell them; a backup that cannot be opened tells none.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn of(
        repository: &Repository,
        source: &SourceId,
        copies: &[(BackupId, Coordinates)],
        identities: &Identities,
        changes: impl Iterator<Item = &RelationChange>,
    ) -> Result<Self> {
        let before = |change: &RelationChange| {
            let earlier = copies.iter().filter(|(_, at)| at.stop <= change.at);
            earlier.max_by_key(|(_, at)| at.stop).map(|(id, at)| (at.stop, id.clone()))
        };
        let wanted: BTreeSet<_> = changes.filter_map(before).collect();
        let mut names = Names::default();
        for (stop, id) in wanted.into_iter().rev().take(MOST_COPIES) {
            let Some(proven) = repository.manifest(source, &id).await? else { continue };
            let Ok(facts) = open_facts(&proven.manifest, identities) else { continue };
            let mut tables = Tables::default();
            for database in facts.cluster.into_iter().flat_map(|cluster| cluster.databases) {
                let Some(oid) = database.oid else { continue };
                let files = database.tables.into_iter();
                tables.tables.extend(files.map(|table| ((oid, table.file), table.name)));
                tables.databases.insert(oid, database.name);
            }
            names.0.insert(stop, tables);
        }
        Ok(names)
    }

    /// As the newest backup that ended before tells it.
    fn at(&self, at: Lsn) -> Option<&Tables> {
        self.0.range(..=at).next_back().map(|(_, tables)| tables)
    }

    /// The name of a table at a position.
    pub(crate) fn table(&self, at: Lsn, of: Relation) -> Option<&str> {
        self.at(at)?.tables.get(&(of.database, of.file)).map(String::as_str)
    }

    /// The name of a database at a position.
    pub(crate) fn database(&self, at: Lsn, oid: u32) -> Option<&str> {
        self.at(at)?.databases.get(&oid).map(String::as_str)
    }
}
