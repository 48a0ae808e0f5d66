use serde::{Deserialize, Serialize};

use crate::{Digest, DrillId, Named, total};

/// How a drill went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillRun {
    /// Why this backup or moment was tried.
    pub point: DrillPoint,
    /// The base backup with which the recovered cluster was compared; nothing where it was compared with none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<Named>,
    /// The digest of the manifest of `base`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest_sha256: Option<Digest>,
    /// How much was restored: bytes of the backup before compression, and of the WAL that was replayed; nothing where
    /// nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// What it took, phase by phase, in the order in which they were.
    pub phases: Vec<PhaseClock>,
    /// Where it was done.
    pub on: DrillHost,
    /// What was promised when it was done.
    pub objectives: DrillObjectives,
    /// How old the newest data were that could be restored when it began, in milliseconds; nothing where
    /// other than the newest were wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_ms: Option<u64>,
    /// What an operator wanted to know of what was restored, and whether the answer was the expected one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckDone>,
    /// With which others it was done at once, where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub together: Option<Together>,
    /// Whether it was done with nothing but a recovery kit and the bucket.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_kit: bool,
    /// The recipients of the backup whose identities opened it; nothing where it was not opened.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub opened_by: Vec<String>,
    /// How it differs from what a drill should be, in sentences without names of the data.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deviations: Vec<String>,
    /// Whether all that it made on its host is gone.
    pub cleaned: bool,
    /// [`DrillNames`](crate::DrillNames), compressed and encrypted to the recipients of the backup, in base64; nothing where there are
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
}

impl DrillRun {
    /// How long the restore itself took, in milliseconds: from the making of the server to the last proof.
    #[must_use]
    pub fn restore_ms(&self) -> u64 {
        let phases = self.phases.iter().filter(|clock| clock.phase.is_of_rto());
        total(phases.map(|clock| clock.ms))
    }

    /// How long after its beginning the last proof was done, in milliseconds.
    #[must_use]
    pub fn restored_after_ms(&self) -> u64 {
        let last = self.phases.iter().rposition(|clock| clock.phase.is_of_rto());
        let until = last.map_or(0, |last| last + 1);
        total(self.phases[..until].iter().map(|clock| clock.ms))
    }
}

/// Drills of several sources that were done at once, as after a rack is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Together {
    /// What they have in common.
    pub id: DrillId,
    /// How many they are.
    pub sources: u64,
}

/// A question of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckDone {
    /// Its name, as the policy has it.
    pub name: String,
    /// Whether the answer was the expected one.
    pub passed: bool,
}

/// Why a backup or moment was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillPoint {
    /// Which one was wanted.
    pub wanted: PointWanted,
    /// The number by which one was chosen at random: with it anybody chooses the same among as many.
    #[serde(
        with = "crate::kind::decimal_or_none",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub seed: Option<u64>,
    /// How many there were to choose from; 0 where it was named.
    pub of: u64,
}

/// Which backup or moment a drill is to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PointWanted {
    /// The newest.
    Latest,
    /// The one before the newest, which leads to the newest; the newest, where there is only one.
    Previous,
    /// The oldest that is kept.
    Oldest,
    /// That with the most WAL to replay, or the largest dump.
    Worst,
    /// Any.
    Random,
    /// A moment, chosen at random between the oldest and the newest good backup.
    Moment,
    /// The newest good base backup that lies before a switch of the timeline: its WAL leads across that.
    Timeline,
    /// The newest suspect one.
    Suspect,
    /// A moment.
    Time,
    /// One that somebody has named.
    Named,
}

impl PointWanted {
    /// Its name, as JSON has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            PointWanted::Latest => "latest",
            PointWanted::Previous => "previous",
            PointWanted::Oldest => "oldest",
            PointWanted::Worst => "worst",
            PointWanted::Random => "random",
            PointWanted::Moment => "moment",
            PointWanted::Timeline => "timeline",
            PointWanted::Suspect => "suspect",
            PointWanted::Time => "time",
            PointWanted::Named => "named",
        }
    }
}

/// How long a phase of a drill took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseClock {
    /// Which phase.
    pub phase: DrillPhase,
    /// Milliseconds.
    pub ms: u64,
}

/// The phases of a drill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrillPhase {
    /// The backup is chosen, and what is needed is looked for.
    Planning,
    /// A scratch server is made.
    Provisioning,
    /// A dump is fetched and loaded.
    Loading,
    /// A base backup is fetched, the log replayed, and the server opened at its point.
    Recovering,
    /// What was restored is compared with what was backed up, or digested.
    Verifying,
    /// The base backup with which it is compared is recovered to the same position, and digested.
    Comparing,
    /// All that was made is removed.
    Cleaning,
}

impl DrillPhase {
    /// Its name, as JSON has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            DrillPhase::Planning => "planning",
            DrillPhase::Provisioning => "provisioning",
            DrillPhase::Loading => "loading",
            DrillPhase::Recovering => "recovering",
            DrillPhase::Verifying => "verifying",
            DrillPhase::Comparing => "comparing",
            DrillPhase::Cleaning => "cleaning",
        }
    }

    /// Whether it counts for the RTO: what is done before and after it is no part of a restore.
    #[must_use]
    pub fn is_of_rto(self) -> bool {
        !matches!(self, DrillPhase::Planning | DrillPhase::Comparing | DrillPhase::Cleaning)
    }
}

/// Where a drill was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillHost {
    /// The version of drctl.
    pub drctl: String,
    /// The version of the scratch server's programs.
    pub server: String,
    /// How many processors it has for us.
    pub cpus: u32,
    /// Bytes of memory; nothing where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

/// What a policy promised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillObjectives {
    /// The most that a restore may take, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rto_ms: Option<u64>,
    /// The most that may be lost, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpo_ms: Option<u64>,
}
