//! Databases that a source's backups had, and have no more: told, since nobody may know of it.

use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use drctl_engines::Below;
use drctl_model::{BackupId, SourceId};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::host::Setup;

/// How long one that is gone is told of.
const TOLD: SignedDuration = SignedDuration::from_hours(24 * 30);

/// The most bytes that are read of what was kept.
const MAX_BYTES: u64 = 16 << 20;

/// A database that a backup had, and later ones have not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// Its name.
    pub database: String,
    /// The last good backup from here that has it.
    pub backup: BackupId,
    /// Since when later ones lack it.
    pub since: Timestamp,
}

impl Gone {
    /// The same for people.
    #[must_use]
    pub fn text(&self) -> String {
        format!(
            "database {} is in {} and not in later backups: it was dropped or renamed, takes no \
             connections (ALLOW_CONNECTIONS), was made a template (IS_TEMPLATE), or the \
             configuration leaves it out",
            self.database, self.backup
        )
    }
}

/// What this host knows of the databases of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    backup: BackupId,
    databases: Vec<String>,
    gone: Vec<Gone>,
}

/// Those that are told of.
pub(crate) fn gone(setup: &Setup, source: &SourceId) -> Vec<Gone> {
    let mut gone = read(&place(setup, source).join(FILE)).map_or(Vec::new(), |seen| seen.gone);
    gone.retain(|one| setup.clock.now().duration_since(one.since) < TOLD);
    gone
}

/// Compares a backup with what the last good one had, and keeps what it has if it is good itself.
/// Gives what the operator should know. The backup is committed: that this fails is only told.
pub(crate) fn compare(
    setup: &Setup,
    source: &SourceId,
    (backup, good): (&BackupId, bool),
    databases: Vec<String>,
) -> Vec<String> {
    let now = setup.clock.now();
    let directory = place(setup, source);
    let seen = after(read(&directory.join(FILE)), backup, databases, now);
    let mut notes: Vec<String> = seen.gone.iter().map(Gone::text).collect();
    if good && let Err(error) = keep(setup, &directory, &seen) {
        notes.push(format!(
            "the list of its databases could not be kept for the next backup: \
                            {error:#}"
        ));
    }
    notes
}

fn after(before: Option<Seen>, backup: &BackupId, databases: Vec<String>, now: Timestamp) -> Seen {
    let mut gone = Vec::new();
    if let Some(before) = before {
        let lost = before.databases.into_iter().map(|database| Gone {
            database,
            backup: before.backup.clone(),
            since: now,
        });
        gone.extend(before.gone.into_iter().chain(lost));
    }
    gone.retain(|one| !databases.contains(&one.database) && now.duration_since(one.since) < TOLD);
    Seen { backup: backup.clone(), databases, gone }
}

const FILE: &str = "seen.json";

fn place(setup: &Setup, source: &SourceId) -> PathBuf {
    setup.config.paths.state_dir.join("databases").join(source.as_str())
}

/// What cannot be read is as good as nothing: the next backup begins anew.
fn read(path: &Path) -> Option<Seen> {
    let mut bytes = Vec::new();
    let opened = Below::open(path.parent()?).and_then(|below| below.read(Path::new(FILE)));
    let read = opened.and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes));
    match read {
        Ok(_) => serde_json::from_slice(&bytes).ok(),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!("{} cannot be read: {error}", path.display());
            None
        }
    }
}

fn keep(setup: &Setup, directory: &Path, seen: &Seen) -> Result<()> {
    setup.private_directory(directory)?;
    let bytes = serde_json::to_vec(seen).context("write which databases it has")?;
    let below = Below::open(directory);
    let written = below.and_then(|below| below.replace("new", Path::new(FILE), &bytes));
    written.with_context(|| format!("write below {}", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_told_for_a_while_and_until_it_is_back() {
        let id =
            |n: u8| -> BackupId { format!("2026030{n}T000000Z-0000000000000000").parse().unwrap() };
        let at = |days: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * days);
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let first = after(None, &id(1), names(&["a", "b"]), at(0));
        assert_eq!(first.gone, []);
        let second = after(Some(first), &id(2), names(&["a"]), at(1));
        let b = Gone { database: "b".into(), backup: id(1), since: at(1) };
        assert_eq!(second.gone, std::slice::from_ref(&b));
        assert_eq!(after(Some(second.clone()), &id(3), names(&["a"]), at(30)).gone, [b]);
        assert_eq!(after(Some(second.clone()), &id(3), names(&["a"]), at(31)).gone, []);
        assert_eq!(after(Some(second), &id(3), names(&["a", "b"]), at(2)).gone, []);
    }
}
