use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::LocaleProvider;

/// What a cluster needs of the host that it runs on, as its server told when it was copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ClusterNeeds {
    /// Libraries that the server loads when it starts (`shared_preload_libraries`); nothing where
    /// the role may not read the setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub libraries: Option<Vec<String>>,
    /// What its server takes of memory when it starts, by the settings' names; a host may give less.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sizes: BTreeMap<String, String>,
    /// Its databases, those that take no connections left out.
    pub databases: Vec<DatabaseNeeds>,
    /// What could not be asked for, and why, in words for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}

/// What one database needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseNeeds {
    /// Its name.
    pub name: String,
    /// `LC_COLLATE`.
    pub collate: String,
    /// `LC_CTYPE`.
    pub ctype: String,
    /// Whose rules it compares text by, where these are not the operating system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<LocaleProvider>,
    /// The version of the rules that its indexes were made with, as the server keeps it
    /// (`datcollversion`); nothing for rules that have none, such as `C`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collation_version: Option<String>,
    /// Its extensions; nothing where the role may not connect to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extensions: Option<Vec<Extension>>,
    /// Its number, by which the WAL names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oid: Option<u32>,
    /// Its tables, the largest first and not too many: the WAL knows them by their files alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TableFile>,
}

/// The file of a table, and its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableFile {
    /// The file's number (`pg_relation_filenode`).
    pub file: u32,
    /// Schema and name, with a dot between.
    pub name: String,
}

/// An extension in a database.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Extension {
    /// Its name, of which its control file is named.
    pub name: String,
    /// Its version in this database.
    pub version: String,
}
