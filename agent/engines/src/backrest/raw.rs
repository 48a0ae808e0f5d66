//! The JSON of `pgbackrest info`, as it comes (`info.c`): what is needed of it.

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Deserialize)]
pub(super) struct Raw {
    pub(super) name: String,
    #[serde(default)]
    pub(super) cipher: String,
    pub(super) status: RawStanzaStatus,
    #[serde(default)]
    pub(super) repo: Vec<RawRepo>,
    #[serde(default)]
    pub(super) db: Vec<RawDb>,
    #[serde(default)]
    pub(super) archive: Vec<RawArchive>,
    #[serde(default)]
    pub(super) backup: Vec<RawBackup>,
}

#[derive(Deserialize)]
pub(super) struct RawStanzaStatus {
    #[serde(flatten)]
    pub(super) inner: RawStatus,
    #[serde(default)]
    pub(super) lock: RawLocks,
}

#[derive(Deserialize)]
pub(super) struct RawStatus {
    pub(super) code: u32,
    pub(super) message: String,
}

#[derive(Deserialize, Default)]
pub(super) struct RawLocks {
    #[serde(default)]
    pub(super) backup: RawLock,
}

#[derive(Deserialize, Default)]
pub(super) struct RawLock {
    #[serde(default)]
    pub(super) held: bool,
}

#[derive(Deserialize)]
pub(super) struct RawRepo {
    pub(super) key: u32,
    pub(super) cipher: String,
    pub(super) status: RawStatus,
}

#[derive(Deserialize)]
pub(super) struct RawDb {
    pub(super) id: u32,
    #[serde(rename = "repo-key")]
    pub(super) repo_key: Option<u32>,
    #[serde(rename = "system-id")]
    pub(super) system_id: u64,
    pub(super) version: String,
}

#[derive(Deserialize)]
pub(super) struct RawDatabase {
    pub(super) id: u32,
    #[serde(rename = "repo-key")]
    pub(super) repo_key: Option<u32>,
}

#[derive(Deserialize)]
pub(super) struct RawArchive {
    pub(super) id: String,
    pub(super) database: RawDatabase,
    pub(super) min: Option<String>,
    pub(super) max: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Ends<T> {
    pub(super) start: T,
    pub(super) stop: T,
}

#[derive(Deserialize)]
pub(super) struct RawBackup {
    pub(super) label: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) prior: Option<String>,
    pub(super) reference: Option<Vec<String>>,
    pub(super) archive: Option<Ends<Option<String>>>,
    pub(super) lsn: Option<Ends<Option<String>>>,
    pub(super) timestamp: Ends<i64>,
    pub(super) database: RawDatabase,
    pub(super) error: Option<bool>,
    pub(super) info: RawSizes,
    pub(super) annotation: Option<BTreeMap<String, String>>,
    pub(super) backrest: RawBackrest,
    pub(super) tablespace: Option<Vec<RawTablespace>>,
    pub(super) link: Option<Vec<RawLink>>,
    #[serde(rename = "error-list")]
    pub(super) error_list: Option<Vec<String>>,
}

#[derive(Deserialize)]
pub(super) struct RawSizes {
    pub(super) size: u64,
    pub(super) delta: u64,
    pub(super) repository: Option<RawRepositorySizes>,
}

#[derive(Deserialize)]
pub(super) struct RawRepositorySizes {
    pub(super) delta: Option<u64>,
}

#[derive(Deserialize)]
pub(super) struct RawBackrest {
    pub(super) format: u32,
    pub(super) version: String,
}

#[derive(Deserialize)]
pub(super) struct RawTablespace {
    pub(super) oid: u32,
    pub(super) name: String,
    pub(super) destination: String,
}

#[derive(Deserialize)]
pub(super) struct RawLink {
    pub(super) name: String,
}
