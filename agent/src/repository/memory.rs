//! What earlier looks at backups and logs found: remembered by this host's catalog, and obeyed.

use std::collections::BTreeSet;

use anyhow::Result;
use drctl_catalog::{Catalog, Look, Looks, Subject};
use drctl_model::{
    BackupId, BackupSummary, Checked, Closeness, Digest, Fault, Finding, FindingCode, IndexPlace,
    LogPlace, SourceId, Verification, bad, shown, standing, telling,
};
use drctl_store::{Key, layout};
use jiff::Timestamp;

use super::Repository;
use super::drills::IN_DOUBT;
use crate::host::{Setup, private};

/// What is shown of what was wrong, in characters.
const SHOWN: usize = 300;

/// Codes of what is wrong with log that is not damaged.
const ELSEWHERE: [&str; 4] = ["log_gap", "log_conflict", "log_other_history", CONTRADICTS];

/// The code of an index that tells of log what the signed heads of its pieces do not.
pub(crate) const CONTRADICTS: &str = "index_contradicts";

/// Codes of signatures that are not believed: by others they may be.
const UNBELIEVED: [&str; 2] = ["untrusted", "wrong_signer"];

/// The code of what only a newer drctl reads, which is no fault.
pub(crate) const NEWER: &str = "format_newer";

/// What the catalog remembers.
#[derive(Debug, Clone, Default)]
pub struct Memory(Looks);

impl Memory {
    /// Of one source or of all.
    ///
    /// # Errors
    /// [`CatalogError`](drctl_catalog::CatalogError).
    pub async fn of(catalog: &Catalog, source: Option<&SourceId>) -> Result<Self> {
        Ok(Memory(catalog.looks(source).await?))
    }

    /// The same where there may be no catalog, or one of another repository.
    pub async fn at_hand(setup: &Setup, repository: &Repository, source: &SourceId) -> Self {
        let Some(catalog) = setup.log_cache(repository).await else { return Memory::default() };
        let found = Memory::of(&catalog, Some(source)).await;
        found
            .inspect_err(|error| tracing::debug!("nothing remembered: {error:#}"))
            .unwrap_or_default()
    }

    fn looks(&self, source: &SourceId, subject: Subject) -> &[Verification] {
        self.0.get(&(source.clone(), subject)).map(Vec::as_slice).unwrap_or_default()
    }

    /// The look at a backup that says most.
    #[must_use]
    pub fn telling(&self, backup: &BackupSummary) -> Option<&Verification> {
        telling(self.looks(&backup.source, Subject::Backup(backup.backup.clone())))
    }

    /// What a look found wrong with a backup, and no later one has cleared.
    #[must_use]
    pub fn bad(&self, source: &SourceId, backup: &BackupId) -> Option<&Verification> {
        bad(self.looks(source, Subject::Backup(backup.clone())))
    }

    /// The same of all that has to do with a source, each with what it is.
    #[must_use]
    pub fn all_bad(&self, source: &SourceId) -> Vec<(&Subject, &Verification)> {
        let of_source = self.0.iter().filter(|((name, _), _)| name == source);
        of_source.filter_map(|((_, subject), looks)| Some((subject, worst(looks)?))).collect()
    }

    /// The pieces of a source's log that were read and found not to be what was stored.
    #[must_use]
    pub fn damaged_log(&self, source: &SourceId) -> Vec<LogPlace> {
        let faults = standing(self.looks(source, Subject::Log)).flat_map(|look| &look.problems);
        // Others tell what is not there, or of which history it is, which plans know by themselves.
        let is_damage = |code: &str| !ELSEWHERE.contains(&code) && code != NEWER;
        places(source, faults.filter(|fault| is_damage(&fault.code)))
    }

    /// The pieces of a source's log that were met in a format that only a newer drctl reads.
    #[must_use]
    pub fn newer_log(&self, source: &SourceId) -> Vec<LogPlace> {
        let faults = standing(self.looks(source, Subject::Log)).flat_map(|look| &look.problems);
        places(source, faults.filter(|fault| fault.code == NEWER))
    }

    /// The indexes over a source's log that were found to contradict the heads of its pieces.
    #[must_use]
    pub(crate) fn contradicted(&self, source: &SourceId) -> BTreeSet<IndexPlace> {
        let faults = standing(self.looks(source, Subject::Log)).flat_map(|look| &look.problems);
        let faults = faults.filter(|fault| fault.code == CONTRADICTS);
        let words = faults.flat_map(|fault| fault.message.split_whitespace());
        let place = |word: &str| {
            let (of, place) = layout::log_index_at(&Key::from(word.trim_end_matches(':')))?;
            (of == *source).then_some(place)
        };
        words.filter_map(place).collect()
    }

    /// All of it, by name, with what was found.
    #[must_use]
    pub fn told(&self) -> Vec<(String, String)> {
        let all = self.0.iter();
        let one = |((source, subject), looks): (&(SourceId, Subject), &Vec<Verification>)| {
            let found = worst(looks)?;
            Some((format!("{source}/{subject}"), words(found)))
        };
        all.filter_map(one).collect()
    }

    /// The same as findings, each with what it is.
    fn findings(&self, source: &SourceId) -> Vec<Finding> {
        let finding = |(subject, found): (&Subject, &Verification)| {
            let text = words(found);
            let code = match is_of_drill(found) {
                true => FindingCode::DrillInDoubt,
                false => FindingCode::Damaged,
            };
            let (source, subject) = (source.clone(), subject.to_string());
            Finding { code, source, text: format!("{subject}: {text}"), subject, hint: None }
        };
        self.all_bad(source).into_iter().map(finding).collect()
    }

    /// Lets what was found bad count as suspect, whatever was accepted.
    pub fn mark(&self, backups: &mut [BackupSummary]) {
        for backup in backups {
            if let Some(found) = self.bad(&backup.source, &backup.backup) {
                backup.suspect.push(words(found));
                backup.accepted = None;
            }
        }
    }
}

/// The newest look that found something wrong, and no later one has cleared: what only a newer drctl
/// reads is no fault.
fn worst(looks: &[Verification]) -> Option<&Verification> {
    let is_bad = |look: &&Verification| look.problems.iter().any(|fault| fault.code != NEWER);
    standing(looks).filter(is_bad).max_by_key(|look| look.at)
}

/// The pieces of a source's log that faults name.
fn places<'a>(source: &SourceId, faults: impl Iterator<Item = &'a Fault>) -> Vec<LogPlace> {
    let words = faults.flat_map(|fault| fault.message.split_whitespace());
    let place = |word: &str| {
        let key = word.trim_end_matches([':', ',', ';']);
        let (of, place) = layout::piece_at(&Key::from(key))?;
        (of == *source).then_some(place)
    };
    words.filter_map(place).collect()
}

/// The weightiest first: an index that lies, what is damaged, what only a newer drctl reads, and what a
/// drill left.
fn rank(fault: &Fault) -> u8 {
    match fault.code.as_str() {
        CONTRADICTS => 0,
        NEWER => 2,
        IN_DOUBT => 3,
        _ => 1,
    }
}

/// The weightiest of what a look found wrong. What a drill left is the least of what may be wrong; what an
/// index tells is told by itself.
fn weightiest(found: &Verification) -> Option<&Fault> {
    let is_worse = |fault: &&Fault| ![NEWER, CONTRADICTS, IN_DOUBT].contains(&fault.code.as_str());
    found.problems.iter().find(is_worse).or(found.problems.first())
}

/// Whether nothing weightier is wrong than what a drill left.
pub(crate) fn is_of_drill(found: &Verification) -> bool {
    weightiest(found).is_some_and(|fault| fault.code == IN_DOUBT)
}

/// What a look found wrong, for people.
#[must_use]
pub fn words(found: &Verification) -> String {
    let first = weightiest(found).map(|fault| fault.message.as_str()).unwrap_or_default();
    format!("a check at {:.0} found it BAD: {}", found.at, shown(first, SHOWN))
}

/// Who remembers, where somebody can.
pub struct Notebook {
    catalog: Option<Catalog>,
    at: Timestamp,
    trust: String,
}

impl Notebook {
    /// Opens the catalog; where that fails, what is found is told and not remembered.
    pub async fn open(setup: &Setup, repository: &Repository) -> Self {
        let opened = setup.catalog(repository).await;
        let opened =
            opened.inspect_err(|error| match private::runs_it(&setup.config.paths.state_dir) {
                Some(account) => {
                    tracing::warn!("verified, but not recorded: run this as {account}");
                }
                None => tracing::warn!("what is found is not remembered: {error:#}"),
            });
        let trust = repository.trust.digest();
        Notebook { catalog: opened.ok(), at: setup.clock.now(), trust }
    }

    async fn write(&self, look: Look) {
        let Some(catalog) = &self.catalog else { return };
        if let Err(error) = catalog.remember(vec![look]).await {
            tracing::warn!("what was found is not remembered: {error}");
        }
    }

    /// Notes what was found of a backup with this manifest, where that could be believed.
    pub async fn backup(
        &self,
        (source, backup, manifest_sha256): (&SourceId, &BackupId, Option<Digest>),
        closeness: Closeness,
        problems: &[(String, String)],
    ) {
        let mut found = self.found(closeness, problems);
        found.problems.retain(|fault| fault.code != NEWER);
        let subject = Subject::Backup(backup.clone());
        self.write(Look { source: source.clone(), subject, manifest_sha256, found }).await;
    }

    /// Notes what was found of a log, or of a stanza.
    pub async fn log(
        &self,
        source: &SourceId,
        subject: Subject,
        closeness: Closeness,
        problems: &[(String, String)],
    ) {
        let found = self.found(closeness, problems);
        let source = source.clone();
        self.write(Look { source, subject, manifest_sha256: None, found }).await;
    }

    /// Notes of a log what a recovery came upon, beside what was found before.
    pub async fn met(&self, source: &SourceId, problem: (String, String)) {
        let Some(catalog) = &self.catalog else { return };
        let known = Memory::of(catalog, Some(source)).await.unwrap_or_default();
        let closeness = self.found(Closeness::Stored, std::slice::from_ref(&problem)).closeness;
        // What an index tells is compared by every look, and by no recovery.
        let before = standing(known.looks(source, Subject::Log)).flat_map(|look| {
            let all = look.closeness == closeness;
            look.problems.iter().filter(move |fault| all || fault.code == CONTRADICTS)
        });
        let mut problems: Vec<(String, String)> =
            before.map(|fault| (fault.code.clone(), fault.message.clone())).collect();
        if !problems.contains(&problem) {
            // Of many only the first are kept.
            problems.insert(0, problem);
        }
        self.log(source, Subject::Log, closeness, &problems).await;
    }

    /// Keeps as findings what stands of these sources now, after all was looked at.
    pub async fn conclude(&self, sources: impl IntoIterator<Item = &SourceId>) {
        let Some(catalog) = &self.catalog else { return };
        const CODES: [FindingCode; 2] = [FindingCode::Damaged, FindingCode::DrillInDoubt];
        for source in sources {
            let noted = async {
                let found = Memory::of(catalog, Some(source)).await?.findings(source);
                Ok::<_, anyhow::Error>(
                    catalog.note_findings(source, self.at, Checked::all(&CODES, found)).await?,
                )
            };
            if let Err(error) = noted.await {
                tracing::warn!("what was found is not remembered: {error:#}");
            }
        }
    }

    fn found(&self, closeness: Closeness, problems: &[(String, String)]) -> Verification {
        // Another identity than the backup's says nothing against it, and opens nothing.
        let is_key = |(code, _): &(String, String)| code == "wrong_key";
        // Nor does a signature that is not believed say anything of the bytes.
        let is_trust = |(code, _): &(String, String)| UNBELIEVED.contains(&code.as_str());
        // And what is not understood may be as good as any: of a log it is remembered all the same,
        // so that no plan leads there.
        let is_newer = |(code, _): &(String, String)| code == NEWER;
        let closeness = if problems.iter().any(|problem| is_trust(problem) || is_newer(problem)) {
            Closeness::Structure
        } else if problems.iter().any(is_key) {
            closeness.min(Closeness::Stored)
        } else {
            closeness
        };
        let counts = problems.iter().filter(|problem| !is_key(problem));
        let fault = |problem: &(String, String)| Fault {
            code: problem.0.clone(),
            message: problem.1.clone(),
            trust: is_trust(problem).then(|| self.trust.clone()),
        };
        let mut problems: Vec<Fault> = counts.map(fault).collect();
        // Of many only the first are kept: those that plans are led by must be among them.
        problems.sort_by_key(rank);
        Verification { at: self.at, closeness, problems }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_plans_are_led_by_is_kept_however_much_else_is_wrong() {
        let notebook = Notebook { catalog: None, at: Timestamp::UNIX_EPOCH, trust: String::new() };
        let problem = |code: &str, text: &str| (code.to_owned(), text.to_owned());
        let mut problems = vec![problem(IN_DOUBT, "the evidence of the drill x is bad"); 20];
        problems.extend(vec![problem(NEWER, "a newer piece"); 20]);
        problems.extend([problem("segment_damaged", "a piece"), problem(CONTRADICTS, "an index")]);
        let found = notebook.found(Closeness::Plain, &problems);
        let codes: Vec<&str> = found.problems.iter().map(|fault| fault.code.as_str()).collect();
        assert_eq!(codes[..3], [CONTRADICTS, "segment_damaged", NEWER]);
        assert_eq!((codes[21], codes[22], codes.len()), (NEWER, IN_DOUBT, 42));
    }
}
