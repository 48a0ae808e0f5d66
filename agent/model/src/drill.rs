use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    BackupId, DrillId, DrillRun, Header, Lsn, ManifestError, Named, RepositoryId, SourceId,
    Timeline,
};

/// What is signed of a restore drill: that a recovery reached its target and was proven, that a dump was restored and
/// is equal to what was dumped, or that it is not so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drill {
    /// What is read before the rest.
    #[serde(flatten)]
    pub header: Header,
    /// The repository it was written into.
    pub repository: RepositoryId,
    /// The source whose data were recovered.
    pub source: SourceId,
    /// Which drill.
    pub drill: DrillId,
    /// The host that recovered.
    pub host: String,
    /// When it began (clock of the host).
    pub started: Timestamp,
    /// How long it took, in milliseconds: from the command to its end.
    pub took_ms: u64,
    /// The cluster's system identifier, where the backup tells it.
    #[serde(
        with = "crate::kind::decimal_or_none",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub system_id: Option<u64>,
    /// The timeline that was followed; nothing for a dump.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<Timeline>,
    /// The base backup that was extracted, or the dump that was restored; nothing where there was none to
    /// try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<BackupId>,
    /// The newest manifest of the source that was there when it was signed, where one was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Named>,
    /// What was asked for, in words.
    pub target: String,
    /// What it came to.
    #[serde(flatten)]
    pub outcome: DrillOutcome,
    /// How it went; nothing where a recovery by hand was a drill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<DrillRun>,
}

/// What a drill says, by what it came to and by what was promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The data are the source's data, in the promised time.
    Pass,
    /// They are, but it took longer than promised.
    FailRto,
    /// They are, but more would have been lost than promised.
    FailRpo,
    /// They are not, or could not be had.
    FailData,
    /// This host could not try it: neither passed nor failed.
    Inconclusive,
    /// It was ended so that other work of the host goes on: neither passed nor failed.
    Aborted,
    /// It was not begun: neither passed nor failed.
    Skipped,
}

/// The error's name of a drill that was ended so that other work of the host goes on.
pub const DRILL_ABORTED: &str = "drill_aborted";
/// The error's name of a drill that was not begun.
pub const DRILL_SKIPPED: &str = "drill_skipped";

impl Verdict {
    /// Its name, as JSON has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::FailRto => "fail_rto",
            Verdict::FailRpo => "fail_rpo",
            Verdict::FailData => "fail_data",
            Verdict::Inconclusive => "inconclusive",
            Verdict::Aborted => "aborted",
            Verdict::Skipped => "skipped",
        }
    }

    /// What it means, for people: a part of a sentence.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Verdict::Pass => "the data are the source's",
            Verdict::FailRto => "it took longer than the RTO allows",
            Verdict::FailRpo => "more would have been lost than the RPO allows",
            Verdict::FailData => "the data are not proven",
            Verdict::Inconclusive => "it could not be tried on that host",
            Verdict::Aborted => "it was ended so that other work of that host goes on",
            Verdict::Skipped => "it was not begun",
        }
    }

    /// Whether it says anything of the data, good or bad.
    #[must_use]
    pub fn is_of_data(self) -> bool {
        !matches!(self, Verdict::Inconclusive | Verdict::Aborted | Verdict::Skipped)
    }
}

/// What a drill came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum DrillOutcome {
    /// The recovered cluster stood at its target.
    Proven {
        /// How far the log was replayed.
        replayed: Lsn,
        /// The time of the last commit that the data show, where the log told one.
        shows: Option<Timestamp>,
        /// Tables that were taken out and counted, and their rows; no names.
        #[serde(default)]
        counted: Vec<u64>,
        /// What of all that there is was left out, in words, where that was accepted.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        left_out: Vec<String>,
        /// What of it is equal to what another base backup of the cluster holds at the same position; nothing
        /// where it was not compared.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        equal: Option<Equal>,
    },
    /// A dump was restored, and is equal to what was dumped. No names.
    Equal(Equal),
    /// This host could not do it: it says nothing of the backup, neither good nor bad.
    Inconclusive {
        /// The error's name, as `--json` tells it.
        error: String,
    },
    /// It did not get there, or is not equal.
    Failed {
        /// The error's name, as `--json` tells it. Its words stay on the host: they may tell of
        /// the data.
        error: String,
    },
}

/// How much was compared, and is equal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Equal {
    /// Tables of which every row is the one that has to be there.
    pub tables: u64,
    /// The rows of these.
    pub rows: u64,
    /// Large objects, and all else that has a name, and is the same.
    pub others: u64,
    /// Tables of which only the number of rows was compared, and what else could not be compared.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub only_counted: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
pub(crate) fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl DrillOutcome {
    /// Whether the data were proven, in whatever time.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        matches!(self, DrillOutcome::Proven { .. } | DrillOutcome::Equal(_))
    }

    /// What it says, whatever time it took.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            DrillOutcome::Proven { .. } | DrillOutcome::Equal(_) => Verdict::Pass,
            DrillOutcome::Failed { .. } => Verdict::FailData,
            DrillOutcome::Inconclusive { error } => match error.as_str() {
                DRILL_ABORTED => Verdict::Aborted,
                DRILL_SKIPPED => Verdict::Skipped,
                _ => Verdict::Inconclusive,
            },
        }
    }

    /// How much was compared row by row, and is equal; nothing where nothing was.
    #[must_use]
    pub fn equal(&self) -> Option<&Equal> {
        match self {
            DrillOutcome::Equal(equal) => Some(equal),
            DrillOutcome::Proven { equal, .. } => equal.as_ref(),
            DrillOutcome::Failed { .. } | DrillOutcome::Inconclusive { .. } => None,
        }
    }
}

impl Drill {
    /// What that means, for people: a part of a sentence.
    #[must_use]
    pub fn says(&self) -> &'static str {
        match (self.verdict(), &self.outcome) {
            (Verdict::Pass, DrillOutcome::Proven { equal: None, .. }) => {
                "the cluster was recovered; its rows were not compared"
            }
            (Verdict::Pass, DrillOutcome::Proven { .. }) => {
                "its WAL leads to what the next base backup holds"
            }
            (verdict, _) => verdict.words(),
        }
    }

    /// What it says: of several promises that were not kept, that about the time.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let (of_data, Some(run)) = (self.outcome.verdict(), &self.run) else {
            return self.outcome.verdict();
        };
        let exceeds = |found: Option<u64>, most: Option<u64>| {
            found.zip(most).is_some_and(|(found, most)| found > most)
        };
        match of_data {
            Verdict::Pass if exceeds(Some(run.restore_ms()), run.objectives.rto_ms) => {
                Verdict::FailRto
            }
            Verdict::Pass if exceeds(run.lost_ms, run.objectives.rpo_ms) => Verdict::FailRpo,
            of_data => of_data,
        }
    }

    /// Whether this program understands it, and it lies where it says it belongs.
    ///
    /// # Errors
    /// [`ManifestError::Misplaced`]; what only newer programs understand.
    pub fn check(
        &self,
        repository: &RepositoryId,
        source: &SourceId,
        drill: &DrillId,
    ) -> Result<(), ManifestError> {
        let misplaced = |what: String| Err(ManifestError::Misplaced(what));
        if &self.repository != repository {
            return misplaced(format!("repository {}", self.repository));
        }
        if &self.source != source || &self.drill != drill {
            return misplaced(format!("drill {} of {}", self.drill, self.source));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Digest, DrillHost, DrillObjectives, DrillPhase, DrillPoint, PhaseClock, PointWanted,
    };

    fn drill(outcome: DrillOutcome, run: DrillRun) -> Drill {
        let at = Timestamp::UNIX_EPOCH;
        Drill {
            header: Header::new([crate::DRILL_RUN]),
            repository: RepositoryId::new(1),
            source: "shop".parse().unwrap(),
            drill: DrillId::new(at, 2),
            host: "db1".to_owned(),
            started: at,
            took_ms: 1,
            system_id: None,
            timeline: None,
            base: Some(BackupId::new(at, 3)),
            newest: None,
            target: "latest".to_owned(),
            outcome,
            run: Some(run),
        }
    }

    #[test]
    fn a_drill_passes_only_with_its_data_and_its_promises_kept() {
        let clock = |phase, ms| PhaseClock { phase, ms };
        let run = |rto_ms, rpo_ms, lost_ms| DrillRun {
            point: DrillPoint { wanted: PointWanted::Latest, seed: None, of: 3 },
            with: None,
            sealed: None,
            bytes: None,
            checks: Vec::new(),
            manifest_sha256: Some(Digest([1; 32])),
            phases: vec![
                clock(DrillPhase::Planning, 100_000),
                clock(DrillPhase::Provisioning, 10),
                clock(DrillPhase::Loading, 20),
                clock(DrillPhase::Verifying, 30),
                clock(DrillPhase::Cleaning, 100_000),
            ],
            on: DrillHost {
                drctl: "0.1.0".to_owned(),
                server: "15.14".to_owned(),
                cpus: 2,
                memory_bytes: None,
            },
            objectives: DrillObjectives { rto_ms, rpo_ms },
            lost_ms,
            together: None,
            by_kit: false,
            opened_by: Vec::new(),
            deviations: Vec::new(),
            cleaned: true,
        };
        let equal = DrillOutcome::Equal(Equal { tables: 1, rows: 2, others: 3, only_counted: 0 });
        let error = || "x".to_owned();
        let says = |outcome: &DrillOutcome, run| drill(outcome.clone(), run).verdict();
        assert_eq!(says(&equal, run(None, None, Some(9))), Verdict::Pass);
        assert_eq!(says(&equal, run(Some(60), Some(9), Some(9))), Verdict::Pass);
        assert_eq!(says(&equal, run(Some(59), Some(8), Some(9))), Verdict::FailRto);
        assert_eq!(says(&equal, run(Some(60), Some(8), Some(9))), Verdict::FailRpo);
        assert_eq!(says(&equal, run(Some(60), Some(8), None)), Verdict::Pass);
        let failed = DrillOutcome::Failed { error: error() };
        assert_eq!(says(&failed, run(None, None, None)), Verdict::FailData);
        let unknown = DrillOutcome::Inconclusive { error: error() };
        assert_eq!(says(&unknown, run(Some(1), None, None)), Verdict::Inconclusive);
        let ended = |error: &str| DrillOutcome::Inconclusive { error: error.to_owned() };
        assert_eq!(says(&ended(DRILL_ABORTED), run(None, None, None)), Verdict::Aborted);
        assert_eq!(says(&ended(DRILL_SKIPPED), run(None, None, None)), Verdict::Skipped);
    }
}
