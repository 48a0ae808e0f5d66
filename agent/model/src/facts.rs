use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{ClusterNeeds, DumpDigests, Outside, StreamId, total};

/// What only a holder of an age identity may read: names, row counts, plaintext digests.
///
/// Compressed and encrypted into the manifest's `sealed` field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Facts {
    /// One entry for each stream of the manifest, in the same order.
    pub streams: Vec<StreamFacts>,
    /// What a cluster that was copied needs of its host; nothing in a backup of dumps, nor in a
    /// base backup by a drctl that did not ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterNeeds>,
    /// What belongs to the source and lies outside of what was copied; nothing where that was not asked,
    /// which says nothing of whether there is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside: Option<Outside>,
}

/// What one stream holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamFacts {
    /// The stream's name in the manifest.
    pub id: StreamId,
    /// XXH3-128 of the plain bytes, as `xxh128sum` prints it; finds faults, not attackers (those
    /// are held off by the signature over the SHA-256 of each sealed segment).
    pub plain_xxh128: String,
    /// What is in it.
    pub content: Content,
}

/// What a stream is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Content {
    /// SQL that makes the server's roles and tablespaces (`pg_dumpall --globals-only`).
    Globals,
    /// A dump of one database in `pg_dump`'s custom format.
    Database(Box<DatabaseFacts>),
    /// A tar archive of a cluster's data directory, or of one of its tablespaces.
    Tablespace(TablespaceFacts),
    /// The server's own list of the files in these archives (`backup_manifest`).
    Listing,
    /// All of a source in one archive, in the format of its engine.
    Archive,
}

/// One archive of a base backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablespaceFacts {
    /// The tablespace's OID; nothing for the data directory itself.
    pub oid: Option<u32>,
    /// Where it lay on the server; empty for the data directory.
    pub path: String,
    /// How many files are in it, each compared with the server's list.
    pub files: u64,
}

/// One dumped database: how to create it again, and what must be in it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DatabaseFacts {
    /// Its name.
    pub name: String,
    /// The role that owns it.
    pub owner: String,
    /// Character encoding, such as `UTF8`.
    pub encoding: String,
    /// `LC_COLLATE`.
    pub collate: String,
    /// `LC_CTYPE`.
    pub ctype: String,
    /// Whose rules it compares text by, where these are not the operating system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<ProviderLocale>,
    /// Its size on the server's disk when it was dumped, in bytes.
    pub bytes: u64,
    /// Rows of every ordinary table, counted on the snapshot that was dumped.
    pub tables: Vec<TableRows>,
    /// Functions that run while its rows are loaded and that no superuser answers for, for people:
    /// where they stand, and whose they are (at most 10,001). Nothing where it was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<Vec<String>>,
    /// The same where it is restored without its owners: everything belongs to the role that restores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs_unowned: Option<Vec<String>>,
    /// Tables whose policies hold for their owner too (at most 20): whoever counts their rows has to be
    /// above policies. Nothing where it was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forced: Option<Vec<String>>,
    /// What its rows and all else in it must be equal to once it was restored; nothing in a dump by a drctl
    /// that made no digests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digests: Option<DumpDigests>,
    /// Tables whose rows are loaded through another one, and may lie in another partition afterwards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub through: Vec<LoadedThrough>,
}

/// A table whose rows are loaded through another one: a partition by the hash of an enum, whose hashes are other
/// ones in another database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedThrough {
    /// The schema it is in.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// The schema of the table through which its rows are loaded.
    pub root_schema: String,
    /// Its name.
    pub root: String,
}

/// The locale of a database that another provider than the operating system's library serves
/// (`pg_database.datlocprovider`, since PostgreSQL 15).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderLocale {
    /// Who serves it.
    pub provider: LocaleProvider,
    /// Its name there, such as `de-AT`.
    pub locale: String,
    /// Collation rules added to it (ICU, since PostgreSQL 16).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<String>,
}

/// Who serves the locale of a database, other than the operating system's library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LocaleProvider {
    /// The ICU library.
    Icu,
    /// PostgreSQL itself, since 17.
    Builtin,
}

impl DatabaseFacts {
    /// The rows of all its tables.
    #[must_use]
    pub fn rows(&self) -> u64 {
        total(self.tables.iter().map(|table| table.rows))
    }

    /// The rows of tables, where those that are loaded through another table are counted as its rows.
    #[must_use]
    pub fn together(&self, tables: &[TableRows]) -> Vec<TableRows> {
        let through = |one: &LoadedThrough| {
            let root = (one.root_schema.clone(), one.root.clone());
            ((one.schema.clone(), one.table.clone()), root)
        };
        let through: BTreeMap<_, _> = self.through.iter().map(through).collect();
        let (mut apart, mut roots) = (Vec::new(), BTreeMap::<&(String, String), u64>::new());
        for one in tables {
            match through.get(&(one.schema.clone(), one.table.clone())) {
                Some(root) => *roots.entry(root).or_default() += one.rows,
                None => apart.push(one.clone()),
            }
        }
        let of_root = |((schema, table), rows): (&(String, String), u64)| TableRows {
            schema: schema.clone(),
            table: table.clone(),
            rows,
        };
        apart.extend(roots.into_iter().map(of_root));
        apart
    }
}

/// The rows of one table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableRows {
    /// The schema it is in.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// How many rows it has itself, those of its children not counted.
    pub rows: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_loaded_through_another_table_is_counted_together() {
        let rows = |table: &str, rows| TableRows { schema: "s".into(), table: table.into(), rows };
        let through = |table: &str| LoadedThrough {
            schema: "s".into(),
            table: table.into(),
            root_schema: "s".into(),
            root: "all".into(),
        };
        let facts = DatabaseFacts {
            name: "shop".into(),
            owner: "shop".into(),
            encoding: "UTF8".into(),
            collate: "C".into(),
            ctype: "C".into(),
            through: vec![through("a"), through("b")],
            ..DatabaseFacts::default()
        };
        let together = facts.together(&[rows("a", 1), rows("b", 2), rows("c", 4)]);
        let all = TableRows { schema: "s".into(), table: "all".into(), rows: 3 };
        assert_eq!(together, [rows("c", 4), all]);
        assert_eq!(facts.together(&[rows("b", 3), rows("c", 4)]), together);
    }
}
