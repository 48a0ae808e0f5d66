//! What `pgbackrest info` says of a stanza, read from its JSON.
//!
//! It ends with status 0 whatever it found: what it found is in the codes of its text.

use drctl_model::{ExternalType, Lsn, label_begun, label_type, shown};
use jiff::Timestamp;

use super::raw::{Raw, RawArchive, RawBackup};

/// The annotation by which a backup is known as one of drctl's: its value is the job's id.
pub const ANNOTATION: &str = "drctl";

/// A stanza in one repository.
#[derive(Debug, Clone, PartialEq)]
pub struct Info {
    /// How the repository is encrypted: `none`, `aes-256-cbc`.
    pub cipher: String,
    /// How the stanza is.
    pub status: StanzaStatus,
    /// Whether a backup or an expiry runs, on this host.
    pub busy: bool,
    /// The clusters that the stanza has had, the newest last.
    pub clusters: Vec<Cluster>,
    /// The first and last segment in the archive of each of them. There may be gaps in between.
    pub archives: Vec<ArchiveBounds>,
    /// The backups, the oldest first.
    pub backups: Vec<Backup>,
    /// Backups that pgBackRest lists and whose directories are gone, or those of what they are
    /// based on.
    pub gone: Vec<Backup>,
    /// Labels of backups whose directories are there, with a manifest, and which pgBackRest does not
    /// list.
    pub unlisted: Vec<String>,
}

/// How a stanza is, as `info` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StanzaStatus {
    /// 0: all is well; 1: no such stanza; 2: no backup yet; 3: files of the stanza are missing;
    /// 4: mixed; 5: it belongs to another cluster; 6: no such backup; 99: something else.
    pub code: u32,
    /// The same in words, of the repository where that has more to say.
    pub message: String,
}

/// A cluster that a stanza has or had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its number in the stanza, from 1.
    pub id: u32,
    /// Its system identifier.
    pub system_id: u64,
    /// PostgreSQL's major version: `15`, `9.6`.
    pub version: String,
}

/// What an archive begins and ends with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveBounds {
    /// The archive's name: `15-1`.
    pub id: String,
    /// The number of its cluster.
    pub database_id: u32,
    /// Its lowest and its highest segment, by name; none where it is empty.
    pub segments: Option<(String, String)>,
}

/// A backup, as `info` tells of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Backup {
    /// Its label.
    pub label: String,
    /// How much it holds itself.
    pub backup_type: ExternalType,
    /// The backup that it was compared with.
    pub prior: Option<String>,
    /// All backups whose files it needs.
    pub references: Vec<String>,
    /// The first and last segment of WAL that make it consistent; none of a backup of a cluster
    /// that was shut down.
    pub wal: Option<(String, String)>,
    /// Where in the WAL it starts and stops; as above.
    pub lsn: Option<(Lsn, Lsn)>,
    /// When it started.
    pub started: Timestamp,
    /// When it stopped.
    pub stopped: Timestamp,
    /// The number of its cluster.
    pub database_id: u32,
    /// Whether pages with wrong checksums were copied.
    pub page_errors: bool,
    /// Bytes of the cluster's files.
    pub bytes: u64,
    /// Bytes of the files that it holds itself.
    pub delta_bytes: u64,
    /// Bytes that those take in the repository, where that is known.
    pub repository_delta_bytes: Option<u64>,
    /// The id of drctl's job that made it; none where something else did.
    pub annotation: Option<String>,
    /// The version of pgBackRest that made it.
    pub version: String,
    /// The version of the repository's form.
    pub format: u32,
}

/// More of one backup.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Detail {
    /// Its tablespaces.
    pub tablespaces: Vec<Tablespace>,
    /// Links out of the data directory, by name: they become directories and files in it.
    pub links: Vec<String>,
    /// Files with pages whose checksums are wrong.
    pub damaged: Vec<String>,
}

/// A tablespace in a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tablespace {
    /// Its oid.
    pub oid: u32,
    /// Its name.
    pub name: String,
    /// Where it lay.
    pub place: String,
}

/// Why the text of `info` is not to be relied on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InfoError(String);

impl InfoError {
    pub(super) fn new(text: impl Into<String>) -> Self {
        InfoError(text.into())
    }
}

impl Info {
    /// Reads the JSON of `info` for `stanza` in repository `repo`.
    ///
    /// # Errors
    /// [`InfoError`] for a text of another form; a stanza's trouble is in [`Info::status`].
    pub fn parse(text: &[u8], stanza: &str, repo: u32) -> Result<Info, InfoError> {
        let raw = find(text, stanza)?;
        let here = raw.repo.iter().find(|found| found.key == repo);
        let (cipher, status) = match here {
            Some(here) => (&here.cipher, &here.status),
            None => (&raw.cipher, &raw.status.inner),
        };
        let of_repo = |key: Option<u32>| key.is_none_or(|key| key == repo);
        let clusters = raw.db.iter().filter(|db| of_repo(db.repo_key));
        let archives = raw.archive.iter().filter(|archive| of_repo(archive.database.repo_key));
        let backups = raw.backup.into_iter().filter(|backup| of_repo(backup.database.repo_key));
        Ok(Info {
            cipher: shown(cipher, 40),
            status: StanzaStatus { code: status.code, message: first_line(&status.message) },
            busy: raw.status.lock.backup.held,
            clusters: clusters
                .map(|db| Cluster {
                    id: db.id,
                    system_id: db.system_id,
                    version: db.version.clone(),
                })
                .collect(),
            archives: archives.map(bounds).collect(),
            backups: backups.map(Backup::read).collect::<Result<_, _>>()?,
            gone: Vec::new(),
            unlisted: Vec::new(),
        })
    }

    /// The backup of this label.
    #[must_use]
    pub fn backup(&self, label: &str) -> Option<&Backup> {
        self.backups.iter().find(|backup| backup.label == label)
    }

    /// The cluster of this number.
    #[must_use]
    pub fn cluster(&self, id: u32) -> Option<&Cluster> {
        self.clusters.iter().find(|cluster| cluster.id == id)
    }

    /// The cluster that the stanza has now.
    #[must_use]
    pub fn current(&self) -> Option<&Cluster> {
        self.clusters.iter().max_by_key(|cluster| cluster.id)
    }

    /// Whether no retention can have taken a backup away that was there: it is in no list and in no
    /// directory, it was the newest, and others are listed.
    #[must_use]
    pub fn misses(&self, label: &str) -> bool {
        let listed = || self.backups.iter().chain(&self.gone).map(|backup| &backup.label);
        let newest = listed().map(|label| label_begun(label)).max();
        newest.is_some_and(|newest| newest < label_begun(label))
            && !self.unlisted.iter().any(|unlisted| unlisted == label)
    }

    /// Whether what it says can be believed as a whole: all is well, or there is no backup yet.
    /// Anything else may be a repository that cannot be read. Then an empty list does not mean that
    /// there are no backups.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        matches!(self.status.code, 0 | 2)
    }
}

impl Detail {
    /// Reads the JSON of `info --set`.
    ///
    /// # Errors
    /// [`InfoError`] for a text of another form, or where the backup is not in it.
    pub fn parse(text: &[u8], stanza: &str, label: &str) -> Result<Detail, InfoError> {
        let raw = find(text, stanza)?;
        let backup = raw.backup.into_iter().find(|backup| backup.label == label);
        let message = raw.status.inner.message;
        let backup =
            backup.ok_or_else(|| InfoError(format!("{label}: {}", first_line(&message))))?;
        let tablespaces = backup.tablespace.unwrap_or_default().into_iter();
        Ok(Detail {
            tablespaces: tablespaces
                .map(|raw| Tablespace { oid: raw.oid, name: raw.name, place: raw.destination })
                .collect(),
            links: backup.link.unwrap_or_default().into_iter().map(|link| link.name).collect(),
            damaged: backup.error_list.unwrap_or_default(),
        })
    }
}

impl Backup {
    fn read(raw: RawBackup) -> Result<Backup, InfoError> {
        let wrong = |what: &str| InfoError(format!("{}: {what}", shown(&raw.label, 60)));
        let (backup_type, _) = label_type(&raw.label).map_err(|error| wrong(&error.to_string()))?;
        let said = match raw.kind.as_str() {
            "full" => ExternalType::Full,
            "diff" => ExternalType::Differential,
            "incr" => ExternalType::Incremental,
            other => return Err(wrong(&format!("`{}` is no type", shown(other, 20)))),
        };
        if said != backup_type {
            return Err(wrong("its type is not that of its label"));
        }
        let lsn = match raw.lsn.as_ref().map(|lsn| (lsn.start.as_deref(), lsn.stop.as_deref())) {
            Some((Some(start), Some(stop))) => {
                let read = |text: &str| text.parse::<Lsn>().map_err(|e| wrong(&e.to_string()));
                Some((read(start)?, read(stop)?))
            }
            _ => None,
        };
        let time =
            |seconds| Timestamp::from_second(seconds).map_err(|_| wrong("its time is invalid"));
        let wal = raw.archive.as_ref().and_then(|wal| wal.start.clone().zip(wal.stop.clone()));
        let (started, stopped) = (time(raw.timestamp.start)?, time(raw.timestamp.stop)?);
        let annotation = raw.annotation.and_then(|mut all| all.remove(ANNOTATION));
        Ok(Backup {
            backup_type,
            prior: raw.prior,
            references: raw.reference.unwrap_or_default(),
            wal,
            lsn,
            started,
            stopped,
            database_id: raw.database.id,
            page_errors: raw.error.unwrap_or(false),
            bytes: raw.info.size,
            delta_bytes: raw.info.delta,
            repository_delta_bytes: raw.info.repository.and_then(|repository| repository.delta),
            annotation,
            version: shown(&raw.backrest.version, 20),
            format: raw.backrest.format,
            label: raw.label,
        })
    }
}

fn find(text: &[u8], stanza: &str) -> Result<Raw, InfoError> {
    // What a wrong passphrase makes of a file is quoted as it is, control characters and all, so
    // that it is no JSON any more. The answer itself has none of them.
    let text: Vec<u8> = text.iter().map(|b| if *b < b' ' { b' ' } else { *b }).collect();
    let all: Vec<Raw> = serde_json::from_str(&String::from_utf8_lossy(&text))
        .map_err(|error| InfoError(format!("its JSON has an unknown format: {error}")))?;
    let found = all.into_iter().find(|raw| raw.name == stanza);
    found.ok_or_else(|| InfoError(format!("it does not mention the stanza `{stanza}`")))
}

fn bounds(raw: &RawArchive) -> ArchiveBounds {
    ArchiveBounds {
        id: raw.id.clone(),
        database_id: raw.database.id,
        segments: raw.min.clone().zip(raw.max.clone()),
    }
}

/// A message's first line: the others may be of a file that could not be deciphered.
fn first_line(message: &str) -> String {
    shown(message.lines().next().unwrap_or_default(), 300)
}
