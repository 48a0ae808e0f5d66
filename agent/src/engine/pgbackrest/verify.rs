//! A stanza as it lies in its repository: gaps in the WAL, what backups need, and with the data
//! what pgBackRest's own `verify` says. That ends with status 0 whatever it found.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use drctl_engines::backrest::VerifiedPart;
use drctl_model::External;

use super::truth_of;
use crate::host::Setup;
use crate::log::LogVerdict;

/// What was found of a stanza.
pub(crate) struct StanzaVerdict {
    /// Of its WAL, and of all of it.
    pub(crate) log: LogVerdict,
    /// What is wrong with each backup that was read, by its label.
    backups: BTreeMap<String, Option<String>>,
}

impl StanzaVerdict {
    /// What is wrong with this backup and those that it is based on; nothing where it was not read.
    pub(crate) fn of(&self, backup: &External) -> Option<Vec<(String, String)>> {
        self.backups.get(&backup.label)?;
        let all = std::iter::once(&backup.label).chain(&backup.references);
        let found = all.filter_map(|label| self.backups.get(label)?.clone());
        Some(found.map(|text| ("segment_damaged".to_owned(), text)).collect())
    }
}

/// Looks at a source's stanza, whether it has any of the backups that are recorded, and whether the
/// manifest and the data of each are there; with `data` pgBackRest reads every file of its repository. Nothing for a source that has none.
///
/// # Errors
/// Only what keeps it from looking. What is wrong is in the verdict.
pub(crate) async fn verify_stanza(
    setup: &Setup,
    source: &str,
    data: bool,
    records: &[&External],
) -> Result<Option<StanzaVerdict>> {
    let Some((stanza, truth, _)) = truth_of(setup, source).await? else { return Ok(None) };
    let faults = truth.faults.into_iter().map(|fault| (fault.code.to_owned(), fault.text));
    let mut verdict = LogVerdict {
        pieces: truth.segments,
        read_bytes: 0,
        opened: data,
        closed: 0,
        problems: faults.collect(),
        covered: Vec::new(),
        signers: std::collections::BTreeMap::new(),
    };
    if !records.is_empty() && !records.iter().any(|record| stanza.has(record)) {
        let text =
            format!("pgBackRest has none of the {} backups that are recorded", records.len());
        verdict.problems.push(("no_backup".to_owned(), text));
    }
    let mut backups = BTreeMap::new();
    for backup in &stanza.info.backups {
        let lacks = stanza.backrest.lacks(&backup.label).await;
        let Some(text) = lacks.context("list pgBackRest's backups")? else { continue };
        verdict.problems.push(("no_backup".to_owned(), text.clone()));
        backups.insert(backup.label.clone(), Some(text));
    }
    if data {
        let found = stanza.backrest.verify(None).await.context("have pgBackRest verify")?;
        let bad = |part: &&VerifiedPart| !part.is_good();
        for part in found.archives.iter().filter(bad) {
            verdict.problems.push(("log_damaged".to_owned(), told("the WAL", part)));
        }
        for part in &found.backups {
            let told = bad(&part).then(|| told("the backup", part));
            let problem = told.clone().map(|text| ("segment_damaged".to_owned(), text));
            verdict.problems.extend(problem);
            // What has no manifest may not be told of at all.
            let before = backups.insert(part.name.clone(), told.clone());
            if let (None, Some(Some(lacks))) = (told, before) {
                backups.insert(part.name.clone(), Some(lacks));
            }
        }
        let said = |text: &String| ("mismatch".to_owned(), format!("pgBackRest says: {text}"));
        verdict.problems.extend(found.problems.iter().map(said));
        if verdict.problems.is_empty() && !found.is_good() {
            let text = format!("pgBackRest's verify says `{}`", found.status);
            verdict.problems.push(("mismatch".to_owned(), text));
        }
    }
    Ok(Some(StanzaVerdict { log: verdict, backups }))
}

fn told(what: &str, part: &VerifiedPart) -> String {
    let state = part.state.as_deref().map_or(String::new(), |state| format!(" ({state})"));
    format!(
        "{what} {}{state}: of {} file(s) {} are good; {} missing, {} with another checksum, {} \
         with another size, {} unreadable",
        part.name, part.checked, part.valid, part.missing, part.checksum, part.size, part.other
    )
}
