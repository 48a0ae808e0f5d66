//! A stanza as it lies in its repository: gaps in the WAL, what backups need, and with the data
//! what pgBackRest's own `verify` says. That ends with status 0 whatever it found.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use drctl_catalog::Subject;
use drctl_engines::backrest::{Info, VerifiedPart};
use drctl_model::Closeness;

use super::StanzaView;
use super::stanza_view::has;
use crate::engine::log_archive::{ArchiveVerdict, Look};
use crate::log::LogVerdict;

/// Looks at a stanza, whether it has any of the backups that are recorded, and whether the manifest and
/// the data of each are there; with `data` pgBackRest reads every file of its repository.
///
/// # Errors
/// Only what keeps it from looking. What is wrong is in the verdict.
pub(super) async fn verify(
    stanza: &StanzaView,
    &Look { data, recorded, .. }: &Look<'_>,
) -> Result<ArchiveVerdict> {
    let truth = stanza.truth()?;
    let faults = truth.faults.into_iter().map(|fault| (fault.code.to_owned(), fault.text));
    let mut verdict = LogVerdict {
        pieces: truth.segments,
        opened: data,
        problems: faults.collect(),
        ..LogVerdict::default()
    };
    let mut backups = BTreeMap::new();
    for backup in &stanza.info.backups {
        let lacks = stanza.backrest.lacks(&backup.label).await;
        let Some(text) = lacks.context("list pgBackRest's backups")? else { continue };
        backups.insert(backup.label.clone(), Some(text));
    }
    let has_any = |info: &Info| recorded.iter().any(|record| has(info, record));
    let mut has_none = !recorded.is_empty() && !has_any(&stanza.info);
    if has_none || !backups.is_empty() {
        // Some may have expired, or have been made, since pgBackRest was asked.
        let now = stanza.backrest.info().await.context("ask pgBackRest for its backups")?;
        has_none &= !has_any(&now);
        let listed =
            |label: &String| now.backups.iter().chain(&now.gone).any(|b| b.label == *label);
        backups.retain(|label, _| listed(label));
    }
    if has_none {
        let text =
            format!("pgBackRest has none of the {} backups that are recorded", recorded.len());
        verdict.problems.push(("no_backup".to_owned(), text));
    }
    let lacking = backups.values().flatten();
    verdict.problems.extend(lacking.map(|text| ("no_backup".to_owned(), text.clone())));
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
    let (closeness, words) = match data {
        true => (Closeness::Stored, "what pgBackRest lists and what its own verify read"),
        false => (Closeness::Structure, "what pgBackRest lists; no byte was read"),
    };
    let (subject, log) = (Subject::Stanza, verdict);
    Ok(ArchiveVerdict { subject, closeness, words, log, backups, tells_gaps: true })
}

fn told(what: &str, part: &VerifiedPart) -> String {
    let state = part.state.as_deref().map_or(String::new(), |state| format!(" ({state})"));
    format!(
        "{what} {}{state}: of {} file(s) {} are good; {} missing, {} with another checksum, {} \
         with another size, {} unreadable",
        part.name, part.checked, part.valid, part.missing, part.checksum, part.size, part.other
    )
}
