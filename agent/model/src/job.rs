use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{BackupId, Digest, SourceId};

/// The number of a job in one host's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub i64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What tells a job of this host from all others, whatever its kind: the name of the file that its
/// process has locked while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(pub u64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A text that names no run of a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a run of a job is named by 16 hexadecimal digits")]
pub struct NoRun;

impl FromStr for RunId {
    type Err = NoRun;

    fn from_str(text: &str) -> Result<Self, NoRun> {
        let run = u64::from_str_radix(text, 16).map(RunId).map_err(|_| NoRun)?;
        if run.to_string() == text { Ok(run) } else { Err(NoRun) }
    }
}

impl TryFrom<String> for RunId {
    type Error = NoRun;

    fn try_from(text: String) -> Result<Self, NoRun> {
        text.parse()
    }
}

impl From<RunId> for String {
    fn from(run: RunId) -> Self {
        run.to_string()
    }
}

/// What a job does. All kinds begin, fail, are stopped and die alike; only a backup has a manifest
/// that decides whether it counts.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// Takes a backup. What an earlier drctl has logged is of this kind.
    #[default]
    Backup,
    /// Streams the log.
    LogStream,
    /// Looks whether backups and log are what was signed.
    Verify,
    /// Restores or recovers.
    Restore,
    /// Recovers to keep the evidence of it.
    Drill,
    /// Removes what no policy keeps.
    Prune,
    /// Copies backups into another repository.
    Replicate,
    /// Writes the indexes that are missing over the log.
    LogIndex,
    /// Tells what was done, and where the source stands.
    Report,
}

impl JobKind {
    /// Every kind.
    pub const ALL: [JobKind; 9] = [
        JobKind::Backup,
        JobKind::LogStream,
        JobKind::Verify,
        JobKind::Restore,
        JobKind::Drill,
        JobKind::Prune,
        JobKind::Replicate,
        JobKind::LogIndex,
        JobKind::Report,
    ];

    /// The word for it, as it is logged.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            JobKind::Backup => "backup",
            JobKind::LogStream => "log_stream",
            JobKind::Verify => "verify",
            JobKind::Restore => "restore",
            JobKind::Drill => "drill",
            JobKind::Prune => "prune",
            JobKind::Replicate => "replicate",
            JobKind::LogIndex => "log_index",
            JobKind::Report => "report",
        }
    }

    /// What it does, as people read it.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            JobKind::LogStream => "log stream",
            JobKind::LogIndex => "log index",
            other => other.as_str(),
        }
    }

    /// Whether it makes a backup, under an identifier that it has from its beginning.
    #[must_use]
    pub fn makes_a_backup(self) -> bool {
        self == JobKind::Backup
    }
}

/// No kind has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no kind of job")]
pub struct UnknownKind(String);

impl FromStr for JobKind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        let found = JobKind::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| UnknownKind(text.to_owned()))
    }
}

/// Something that happened to a job; the log stores these, states are derived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum JobEvent {
    /// A job for `source` began; before anything was asked of the bucket.
    Started {
        /// What it does.
        #[serde(default)]
        kind: JobKind,
        /// The source that it works for.
        source: SourceId,
        /// Of a backup: the attempt's identifier.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        backup: Option<BackupId>,
    },
    /// Every byte is stored and every child ended well; the manifest is written next.
    Stored {
        /// Plain bytes of all streams.
        plain_bytes: u64,
    },
    /// It came to its end; of anything but a backup.
    Succeeded,
    /// The manifest was read back as it was written.
    Committed {
        /// The digest of the manifest object.
        manifest_sha256: Digest,
    },
    /// The attempt failed; nothing of it counts.
    Failed {
        /// The error's stable code.
        code: String,
        /// What an operator reads.
        message: String,
    },
    /// A person or a service manager stopped it.
    Cancelled,
    /// A later process found that the one that ran it is gone, and no manifest in the bucket.
    FoundDead,
    /// A later process found that the one that ran it is gone, and its manifest in the bucket.
    FoundCommitted {
        /// The digest of the manifest object.
        manifest_sha256: Digest,
    },
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Nothing has happened yet.
    New,
    /// Bytes flow.
    Running,
    /// All bytes are stored, the manifest perhaps.
    Committing,
    /// Done: it counts.
    Committed,
    /// Done: it came to its end, and has no manifest.
    Succeeded,
    /// Done: it does not count.
    Failed,
    /// Done: it was stopped.
    Cancelled,
    /// Done: the process that ran it died.
    Interrupted,
}

/// An event that cannot happen in a state: a fault in drctl or in its log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{event}` cannot happen to a job that is {state:?}")]
pub struct Illegal {
    /// The state it was in.
    pub state: JobState,
    /// The event's name.
    pub event: &'static str,
}

impl JobState {
    /// Whether nothing can follow.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, JobState::New | JobState::Running | JobState::Committing)
    }

    /// The state of a job of this kind after `event`. Total: every state, kind and event has an answer.
    ///
    /// # Errors
    /// [`Illegal`] for an event that cannot happen in this state to a job of this kind.
    pub fn next(self, kind: JobKind, event: &JobEvent) -> Result<JobState, Illegal> {
        use JobEvent as E;
        use JobState as S;
        let backup = kind.makes_a_backup();
        match (self, event) {
            (S::New, E::Started { kind: started, backup: id, .. })
                if *started == kind && id.is_some() == backup =>
            {
                Ok(S::Running)
            }
            (S::Running, E::Stored { .. }) if backup => Ok(S::Committing),
            (S::Running, E::Succeeded) if !backup => Ok(S::Succeeded),
            (S::Committing, E::Committed { .. } | E::FoundCommitted { .. }) => Ok(S::Committed),
            // That all was stored may be lost with the catalog that it was noted in: the manifest tells it.
            (S::Running, E::FoundCommitted { .. }) if backup => Ok(S::Committed),
            (S::Running | S::Committing, E::Failed { .. }) => Ok(S::Failed),
            (S::Running | S::Committing, E::Cancelled) => Ok(S::Cancelled),
            (S::Running | S::Committing, E::FoundDead) => Ok(S::Interrupted),
            (state, event) => Err(Illegal { state, event: event.name() }),
        }
    }
}

impl JobEvent {
    /// The code and the message of a failure.
    #[must_use]
    pub fn failure(&self) -> Option<(String, String)> {
        match self {
            JobEvent::Failed { code, message } => Some((code.clone(), message.clone())),
            _ => None,
        }
    }

    /// The event's name as it stands in the log.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            JobEvent::Started { .. } => "started",
            JobEvent::Stored { .. } => "stored",
            JobEvent::Succeeded => "succeeded",
            JobEvent::Committed { .. } => "committed",
            JobEvent::Failed { .. } => "failed",
            JobEvent::Cancelled => "cancelled",
            JobEvent::FoundDead => "found_dead",
            JobEvent::FoundCommitted { .. } => "found_committed",
        }
    }
}

/// A job as the log tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its number.
    pub id: JobId,
    /// What it does.
    pub kind: JobKind,
    /// The source that it works for.
    pub source: SourceId,
    /// Of a backup: the attempt's identifier.
    pub backup: Option<BackupId>,
    /// Where it stands.
    pub state: JobState,
    /// When it began.
    pub started: Timestamp,
    /// When its last event happened.
    pub changed: Timestamp,
    /// The stable code of the error that it failed with.
    pub code: Option<String>,
    /// What an operator reads of that error.
    pub message: Option<String>,
    /// What names it on this host beside its number, which a catalog gives; none of a job that an
    /// earlier drctl has logged.
    #[serde(skip)]
    pub run: Option<RunId>,
}

/// A job as its own process notes it, beside every catalog: it is known of, and how it ended, also
/// where the catalog cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobNote {
    /// What names it.
    pub run: RunId,
    /// What it does.
    pub kind: JobKind,
    /// The source that it works for.
    pub source: SourceId,
    /// Of a backup: the attempt's identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupId>,
    /// When it began.
    pub started: Timestamp,
    /// When and how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<(Timestamp, JobEvent)>,
}

impl JobNote {
    /// Its first event.
    #[must_use]
    pub fn begun(&self) -> JobEvent {
        JobEvent::Started {
            kind: self.kind,
            source: self.source.clone(),
            backup: self.backup.clone(),
        }
    }

    /// The job that it tells of, which has no number yet.
    ///
    /// # Errors
    /// [`Illegal`] for a note of what cannot have happened.
    pub fn job(&self) -> Result<Job, Illegal> {
        let begun = JobState::New.next(self.kind, &self.begun())?;
        let (changed, state) = match &self.ended {
            Some((at, event)) => (*at, begun.next(self.kind, event)?),
            None => (self.started, begun),
        };
        let failure = self.ended.as_ref().and_then(|(_, event)| event.failure());
        let (code, message) = failure.unzip();
        Ok(Job {
            id: JobId(0),
            kind: self.kind,
            source: self.source.clone(),
            backup: self.backup.clone(),
            state,
            started: self.started,
            changed,
            code,
            message,
            run: Some(self.run),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(kind: JobKind) -> JobEvent {
        let backup = kind.makes_a_backup().then(|| BackupId::new(Timestamp::UNIX_EPOCH, 0));
        JobEvent::Started { kind, source: "shop".parse().unwrap(), backup }
    }

    fn events(kind: JobKind) -> Vec<JobEvent> {
        let manifest_sha256 = Digest([0; 32]);
        vec![
            started(kind),
            JobEvent::Stored { plain_bytes: 1 },
            JobEvent::Committed { manifest_sha256 },
            JobEvent::Succeeded,
            JobEvent::Failed { code: "x".into(), message: "y".into() },
            JobEvent::Cancelled,
            JobEvent::FoundDead,
            JobEvent::FoundCommitted { manifest_sha256 },
        ]
    }

    #[test]
    fn nothing_follows_a_final_state_and_every_other_can_end() {
        use JobState as S;
        for kind in JobKind::ALL {
            for state in [S::Committed, S::Succeeded, S::Failed, S::Cancelled, S::Interrupted] {
                assert!(state.is_final());
                assert!(events(kind).iter().all(|e| state.next(kind, e).is_err()), "{state:?}");
            }
            for state in [S::Running, S::Committing] {
                let ends = |e: &JobEvent| state.next(kind, e).is_ok_and(JobState::is_final);
                assert!(events(kind).iter().any(ends), "{kind:?} {state:?}");
            }
        }
    }

    #[test]
    fn a_job_counts_only_after_everything_was_stored() {
        let (kind, all) = (JobKind::Backup, events(JobKind::Backup));
        let [started, stored, committed, ..] = &all[..] else { unreachable!() };
        let running = JobState::New.next(kind, started).unwrap();
        assert!(running.next(kind, committed).is_err());
        assert!(running.next(kind, &JobEvent::Succeeded).is_err(), "without a manifest");
        let found = all.iter().find(|event| event.name() == "found_committed").unwrap();
        assert_eq!(running.next(kind, found), Ok(JobState::Committed), "the bucket has it");
        let stored = running.next(kind, stored).unwrap();
        assert_eq!(stored.next(kind, committed), Ok(JobState::Committed));
    }

    #[test]
    fn kinds_differ_in_nothing_but_what_a_backup_commits() {
        for kind in JobKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
            for other in JobKind::ALL {
                let begun = JobState::New.next(kind, &started(other));
                assert_eq!(begun.is_ok(), other == kind, "{kind:?} {other:?}");
            }
            let running = JobState::New.next(kind, &started(kind)).unwrap();
            for (event, same) in events(kind).iter().map(|event| {
                let of_a_manifest =
                    ["stored", "succeeded", "found_committed"].contains(&event.name());
                (event, !of_a_manifest)
            }) {
                let verify = running.next(JobKind::Verify, event);
                assert!(!same || running.next(kind, event) == verify, "{kind:?} {event:?}");
            }
            assert_eq!(
                running.next(kind, &JobEvent::Succeeded).is_ok(),
                running.next(kind, &JobEvent::Stored { plain_bytes: 1 }).is_err(),
                "{kind:?}"
            );
        }
    }

    #[test]
    fn a_note_tells_of_its_job_and_of_nothing_that_cannot_be() {
        let ended = |event| Some((Timestamp::MAX, event));
        let note = |kind, ended| JobNote {
            run: RunId(7),
            kind,
            source: "shop".parse().unwrap(),
            backup: None,
            started: Timestamp::UNIX_EPOCH,
            ended,
        };
        let failed = JobEvent::Failed { code: "store_failed".into(), message: "away".into() };
        let cases = [
            (None, Ok(JobState::Running)),
            (ended(JobEvent::Succeeded), Ok(JobState::Succeeded)),
            (ended(failed.clone()), Ok(JobState::Failed)),
            (ended(JobEvent::FoundDead), Ok(JobState::Interrupted)),
            (ended(JobEvent::Stored { plain_bytes: 1 }), Err("stored")),
        ];
        for (ended, state) in cases {
            let note = note(JobKind::Verify, ended);
            let text = serde_json::to_string(&note).unwrap();
            assert_eq!(serde_json::from_str::<JobNote>(&text).unwrap(), note);
            let job = note.job();
            assert_eq!(job.map(|job| job.state).map_err(|illegal| illegal.event), state);
        }
        let job = note(JobKind::Drill, ended(failed)).job().unwrap();
        assert_eq!((job.code.as_deref(), job.changed), (Some("store_failed"), Timestamp::MAX));
        assert!(note(JobKind::Backup, None).job().is_err(), "a backup has an identifier");
    }

    #[test]
    fn a_run_is_named_in_one_way() {
        assert_eq!("00000000000000ff".parse(), Ok(RunId(255)));
        for odd in ["ff", "00000000000000FF", "+0000000000000ff", "../0000000000000", ""] {
            assert_eq!(odd.parse::<RunId>(), Err(NoRun), "{odd}");
        }
    }

    #[test]
    fn what_an_earlier_drctl_logged_is_a_backup() {
        let old =
            r#"{"event":"started","source":"shop","backup":"19700101T000000Z-0000000000000000"}"#;
        assert_eq!(serde_json::from_str::<JobEvent>(old).unwrap(), started(JobKind::Backup));
    }
}
