use std::fmt;

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

/// Something that happened to a job; the log stores these, states are derived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum JobEvent {
    /// A backup of `source` began under the identifier `backup`.
    Started {
        /// The source that is backed up.
        source: SourceId,
        /// The attempt's identifier.
        backup: BackupId,
    },
    /// Every byte is stored and every child ended well; the manifest is written next.
    Stored {
        /// Plain bytes of all streams.
        plain_bytes: u64,
    },
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

    /// The state after `event`. Total: every pair of state and event has an answer.
    ///
    /// # Errors
    /// [`Illegal`] for an event that cannot happen in this state.
    pub fn next(self, event: &JobEvent) -> Result<JobState, Illegal> {
        use JobEvent as E;
        use JobState as S;
        match (self, event) {
            (S::New, E::Started { .. }) => Ok(S::Running),
            (S::Running, E::Stored { .. }) => Ok(S::Committing),
            (S::Committing, E::Committed { .. }) => Ok(S::Committed),
            (S::Running | S::Committing, E::Failed { .. }) => Ok(S::Failed),
            (S::Running | S::Committing, E::Cancelled) => Ok(S::Cancelled),
            (S::Running | S::Committing, E::FoundDead) => Ok(S::Interrupted),
            (S::Committing, E::FoundCommitted { .. }) => Ok(S::Committed),
            (state, event) => Err(Illegal { state, event: event.name() }),
        }
    }
}

impl JobEvent {
    /// The event's name as it stands in the log.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            JobEvent::Started { .. } => "started",
            JobEvent::Stored { .. } => "stored",
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
    /// The source it backs up.
    pub source: SourceId,
    /// The attempt's identifier.
    pub backup: BackupId,
    /// Where it stands.
    pub state: JobState,
    /// When it began.
    pub started: Timestamp,
    /// When its last event happened.
    pub changed: Timestamp,
    /// The last failure's message.
    pub message: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events() -> Vec<JobEvent> {
        let manifest_sha256 = Digest([0; 32]);
        vec![
            JobEvent::Started {
                source: "shop".parse().unwrap(),
                backup: BackupId::new(Timestamp::UNIX_EPOCH, 0),
            },
            JobEvent::Stored { plain_bytes: 1 },
            JobEvent::Committed { manifest_sha256 },
            JobEvent::Failed { code: "x".into(), message: "y".into() },
            JobEvent::Cancelled,
            JobEvent::FoundDead,
            JobEvent::FoundCommitted { manifest_sha256 },
        ]
    }

    #[test]
    fn nothing_follows_a_final_state_and_every_other_can_end() {
        use JobState as S;
        for state in [S::Committed, S::Failed, S::Cancelled, S::Interrupted] {
            assert!(state.is_final());
            assert!(events().iter().all(|event| state.next(event).is_err()), "{state:?}");
        }
        for state in [S::Running, S::Committing] {
            assert!(events().iter().any(|e| state.next(e).is_ok_and(JobState::is_final)));
        }
    }

    #[test]
    fn a_job_counts_only_after_everything_was_stored() {
        let [started, stored, committed, ..] = &events()[..] else { unreachable!() };
        let running = JobState::New.next(started).unwrap();
        assert!(running.next(committed).is_err());
        assert_eq!(running.next(stored).unwrap().next(committed), Ok(JobState::Committed));
    }
}
