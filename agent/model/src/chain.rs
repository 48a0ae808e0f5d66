//! Chains of backups: an incremental one is based on another, and so on down to a full one.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::iter::successors;

use crate::{BackupId, BackupKind, BackupSummary, External, SourceId, shown};

/// The most backups in a chain, the full one among them: all are extracted at once to be
/// restored.
pub const MAX_CHAIN: usize = 256;

/// Why a chain of backups cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// The base backup that another one is based on is not there.
    #[error("{child} is based on {parent}, which is not there")]
    Missing {
        /// The incremental backup.
        child: BackupId,
        /// What it is based on.
        parent: BackupId,
    },
    /// The base backup that another one is based on has another manifest than that one says.
    #[error("{child} is based on {parent}, whose manifest was replaced")]
    Altered {
        /// The incremental backup.
        child: BackupId,
        /// What it is based on.
        parent: BackupId,
    },
    /// The base backup that another one is based on is not to be trusted.
    #[error("{child} is based on {parent}, which is suspect: {why}")]
    Suspect {
        /// The incremental backup.
        child: BackupId,
        /// What it is based on.
        parent: BackupId,
        /// Why that is suspect.
        why: String,
    },
    /// The base backup that another one is based on cannot be its parent.
    #[error("{child} cannot be based on {parent}: {why}")]
    Unrelated {
        /// The incremental backup.
        child: BackupId,
        /// What it says that it is based on.
        parent: BackupId,
        /// What does not fit.
        why: &'static str,
    },
    /// More backups than anybody makes.
    #[error("the chain of {0} has more than {MAX_CHAIN} backups")]
    TooLong(BackupId),
}

/// Whether `child` is based on `parent`, and `parent` is fit to be its parent.
///
/// # Errors
/// Every [`ChainError`] but `Missing` and `TooLong`.
pub fn follows(parent: &BackupSummary, child: &BackupSummary) -> Result<(), ChainError> {
    let names = || (child.backup.clone(), parent.backup.clone());
    let unrelated = |why: &'static str| {
        let (child, parent) = names();
        Err(ChainError::Unrelated { child, parent, why })
    };
    let BackupKind::Incremental(increment) = &child.kind else {
        return unrelated("it names no parent");
    };
    if parent.source != child.source || parent.backup != increment.parent.backup {
        return unrelated("it names another one");
    }
    if parent.manifest_sha256 != increment.parent.manifest_sha256 {
        let (child, parent) = names();
        return Err(ChainError::Altered { child, parent });
    }
    let Some(before) = parent.kind.coordinates() else {
        return unrelated("that is no base backup");
    };
    let at = &increment.at;
    if before.system_id != at.system_id || before.segment_size != at.segment_size {
        return unrelated("that is of another cluster");
    }
    // The server takes no incremental backup of what begins before its parent has ended.
    let behind = before.ends().partial_cmp(&at.begins()).is_some_and(Ordering::is_le);
    if !behind {
        return unrelated("it begins at another position in the WAL than its parent ended");
    }
    if !parent.is_good() {
        let ((child, parent), why) = (names(), shown(&parent.suspect.join("; "), 500));
        return Err(ChainError::Suspect { child, parent, why });
    }
    Ok(())
}

/// The backups that make up `last`, the full one first and `last` itself the last; a backup
/// that stands alone is its own chain. `find` gives the backups that are known.
///
/// # Errors
/// Every [`ChainError`].
pub fn chain<'a>(
    last: &'a BackupSummary,
    find: impl Fn(&BackupId) -> Option<&'a BackupSummary>,
) -> Result<Vec<&'a BackupSummary>, ChainError> {
    let mut links = vec![last];
    let mut child = last;
    while let Some(named) = child.kind.parent() {
        if links.len() >= MAX_CHAIN {
            return Err(ChainError::TooLong(last.backup.clone()));
        }
        let missing =
            || ChainError::Missing { child: child.backup.clone(), parent: named.backup.clone() };
        let parent = find(&named.backup).ok_or_else(missing)?;
        follows(parent, child)?;
        links.push(parent);
        child = parent;
    }
    links.reverse();
    Ok(links)
}

/// The backups that are based, however far down, on one of which `is_bad` holds, and which are not such
/// themselves; each with what it is based on. Whichever engine made them: neither counts without the other.
pub fn based_on<'a>(
    all: &'a [BackupSummary],
    is_bad: impl Fn(&BackupSummary) -> bool,
) -> Vec<(&'a BackupSummary, &'a BackupSummary)> {
    let bad: Vec<&BackupSummary> = all.iter().filter(|one| is_bad(one)).collect();
    if bad.is_empty() {
        return Vec::new();
    }
    let names = all.iter().map(|one| ((&one.source, &one.backup), one));
    let names: BTreeMap<(&SourceId, &BackupId), &BackupSummary> = names.collect();
    let below = |child: &&'a BackupSummary| {
        names.get(&(&child.source, &child.kind.parent()?.backup)).copied()
    };
    let of = |child: &'a BackupSummary| {
        let on = match child.kind.external() {
            Some(external) => bad.iter().copied().find(|one| {
                let files = one.kind.external().filter(|_| one.source == child.source);
                files.is_some_and(|files| external.needs(files))
            }),
            None => successors(Some(child), below).take(MAX_CHAIN).skip(1).find(|one| is_bad(one)),
        };
        Some((child, on?))
    };
    all.iter().filter(|one| !is_bad(one)).filter_map(of).collect()
}

impl External {
    /// Whether it needs files of another one in the same repository.
    fn needs(&self, other: &External) -> bool {
        let place = |one: &External| (one.at.system_id, one.stanza.clone(), one.repo);
        let mut labels = self.prior.iter().chain(&self.references);
        place(self) == place(other) && labels.any(|label| *label == other.label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Coordinates, Digest, Dumped, Engine, Increment, Lsn, Parent, Timeline, WalSegmentSize,
    };

    fn id(n: u8) -> BackupId {
        format!("202603{n:02}T000000Z-00000000000000{n:02}").parse().unwrap()
    }

    fn at(start: u64, stop: u64) -> Coordinates {
        Coordinates {
            system_id: 7,
            segment_size: WalSegmentSize::new(1 << 20).unwrap(),
            timeline: Timeline::FIRST,
            start: Lsn(start),
            stop: Lsn(stop),
            stop_timeline: Timeline::FIRST,
            listing_sha256: None,
            log: None,
        }
    }

    fn copy(n: u8, kind: BackupKind) -> BackupSummary {
        BackupSummary {
            source: "shop".parse().unwrap(),
            backup: id(n),
            engine: Engine::BaseBackup,
            kind,
            host: "db1".into(),
            started: jiff::Timestamp::UNIX_EPOCH,
            finished: jiff::Timestamp::UNIX_EPOCH,
            plain_bytes: 0,
            sealed_bytes: 0,
            segments: 0,
            suspect: vec![],
            manifest_sha256: Digest([n; 32]),
            accepted: None,
            signer: String::new(),
            objects: None,
        }
    }

    fn on(n: u8, parent: u8, at: Coordinates) -> BackupSummary {
        let parent = Parent { backup: id(parent), manifest_sha256: Digest([parent; 32]) };
        copy(n, BackupKind::Incremental(Increment { parent, at }))
    }

    fn three() -> Vec<BackupSummary> {
        let full = copy(1, BackupKind::Full(at(100, 200)));
        vec![full, on(2, 1, at(200, 300)), on(3, 2, at(400, 500))]
    }

    fn links(of: &[BackupSummary]) -> Result<Vec<BackupId>, ChainError> {
        let last = of.last().unwrap();
        let found = chain(last, |id| of.iter().find(|copy| copy.backup == *id))?;
        Ok(found.into_iter().map(|copy| copy.backup.clone()).collect())
    }

    #[test]
    fn a_chain_leads_down_to_a_full_copy() {
        assert_eq!(links(&three()).unwrap(), [id(1), id(2), id(3)]);
        assert_eq!(links(&three()[..1]).unwrap(), [id(1)]);
    }

    #[test]
    fn a_chain_that_does_not_hold_is_none() {
        type Change = fn(&mut Vec<BackupSummary>);
        let cases: [(&str, Change); 8] = [
            ("is not there", |all| drop(all.remove(0))),
            ("is not there", |all| drop(all.remove(1))),
            ("whose manifest was replaced", |all| all[0].manifest_sha256 = Digest([9; 32])),
            ("suspect: bad pages", |all| all[1].suspect = vec!["bad pages".into()]),
            ("no base backup", |all| all[0].kind = BackupKind::Logical(Dumped::default())),
            ("at another position in the WAL", |all| all[0].kind = BackupKind::Full(at(100, 201))),
            ("another cluster", |all| {
                all[0].kind = BackupKind::Full(Coordinates { system_id: 8, ..at(100, 200) });
            }),
            ("at another position in the WAL", |all| {
                let stop_timeline = Timeline::new(2).unwrap();
                all[0].kind = BackupKind::Full(Coordinates { stop_timeline, ..at(100, 200) });
            }),
        ];
        for (word, change) in cases {
            let mut all = three();
            change(&mut all);
            let said = links(&all).unwrap_err().to_string();
            assert!(said.contains(word), "{word}: {said}");
        }
    }

    /// What pgBackRest keeps: `label` needs the files of others.
    fn kept(n: u8, repo: u32, label: &str, references: &[&str]) -> BackupSummary {
        let external = External {
            tool: crate::PGBACKREST.into(),
            stanza: "main".into(),
            repo,
            label: label.into(),
            backup_type: crate::ExternalType::Full,
            prior: None,
            references: references.iter().map(|label| (*label).into()).collect(),
            wal: (String::new(), String::new()),
            database_id: 1,
            origin: crate::Origin::Drctl,
            page_errors: false,
            cipher: "none".into(),
            bytes: 0,
            delta_bytes: 0,
            repository_bytes: None,
            version: String::new(),
            format: 5,
            at: at(100, 200),
        };
        copy(n, BackupKind::External(Box::new(external)))
    }

    #[test]
    fn what_is_based_on_something_bad_is_named_whoever_made_it() {
        let named = |all: &[BackupSummary], bad: u8| -> Vec<(BackupId, BackupId)> {
            let found = based_on(all, |one| one.backup == id(bad));
            found.into_iter().map(|(one, on)| (one.backup.clone(), on.backup.clone())).collect()
        };
        let own = three();
        assert_eq!(named(&own, 1), [(id(2), id(1)), (id(3), id(1))]);
        assert_eq!(named(&own, 2), [(id(3), id(2))]);
        assert_eq!(named(&own, 3), []);
        let other = BackupSummary { source: "blog".parse().unwrap(), ..own[1].clone() };
        assert_eq!(named(&[own[0].clone(), other], 1), [], "of another source");
        let mut theirs = [
            kept(1, 1, "F", &[]),
            kept(2, 1, "F_D", &["F"]),
            kept(3, 1, "F_I", &["F", "F_D"]),
            kept(4, 2, "F_J", &["F"]),
            kept(5, 1, "G", &[]),
        ];
        assert_eq!(named(&theirs, 1), [(id(2), id(1)), (id(3), id(1))]);
        assert_eq!(named(&theirs, 2), [(id(3), id(2))]);
        theirs[2].source = "blog".parse().unwrap();
        assert_eq!(named(&theirs, 2), []);
        let round = [on(1, 2, at(100, 100)), on(2, 1, at(100, 100))];
        assert_eq!(named(&round, 9), [], "it ends");
        assert_eq!(named(&round, 2), [(id(1), id(2))]);
    }

    #[test]
    fn a_chain_has_an_end() {
        // Digests keep real ones from going round in a circle; a catalog may say anything.
        let all = [on(1, 2, at(100, 100)), on(2, 1, at(100, 100))];
        assert_eq!(links(&all), Err(ChainError::TooLong(id(2))));
    }

    #[test]
    fn a_kind_is_written_as_documented() {
        let text = serde_json::to_value(&three()[1].kind).unwrap();
        assert_eq!(text["type"], "incremental");
        assert_eq!(text["parent"]["backup"], id(1).as_str());
        assert_eq!(text["system_id"], "7");
        assert!(text.get("listing_sha256").is_none(), "{text}");
        assert_eq!(serde_json::from_value::<BackupKind>(text).unwrap(), three()[1].kind);
    }
}
