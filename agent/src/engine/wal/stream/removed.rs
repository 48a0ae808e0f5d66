//! What a stream does where the server has log no more that it is asked for.

use drctl_engines::EngineError;
use drctl_engines::pg::ServerError;
use drctl_model::{Finding, FindingCode, SourceId};
use drctl_policies::recovery::Unproven;

use super::Run;
use super::begin::{ResumeFrom, Unsure};
use super::health::slot_named;
use crate::repository::findings::Findings;

/// What is left to ask a server for that has removed what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// The same, without the segment before it.
    Forward,
    /// What is behind, or what the slot keeps.
    Later,
}

impl Run {
    /// What is left to ask for; nothing where nothing is. Changes nothing.
    pub(super) fn left(&self) -> Option<Left> {
        if self.unsure.is_some() {
            return Some(Left::Forward);
        }
        let asked = self.cluster.is_some() && !matches!(self.resume, ResumeFrom::Slot(_));
        asked.then_some(Left::Later)
    }

    /// Goes on with what there is, and tells what is not.
    pub(super) fn go_on(
        &mut self,
        left: Left,
        (error, slot): (&anyhow::Error, &str),
        findings: &Findings,
        source: &SourceId,
    ) {
        if left == Left::Forward {
            if let Some(unsure) = self.unsure.take() {
                if unsure.doubtful.is_some() {
                    findings.tell(unproven(source, &unsure));
                }
                self.bare = Some(unsure);
            }
            return;
        }
        // Who made the slot told of what was missing then.
        if self.earlier && self.resume == ResumeFrom::Resume {
            tracing::info!("WAL before the slot is gone from the server: {error:#}");
        } else {
            findings.tell(removed(source, slot, error));
        }
        // What lies between the end of the bucket's log and the slot may still be there.
        self.resume = match self.resume {
            ResumeFrom::Behind => ResumeFrom::Slot(self.kept),
            _ => ResumeFrom::Behind,
        };
    }
}

/// Tells that log is missing which the server has not any more; where it begins is not known.
fn removed(source: &SourceId, slot: &str, error: &anyhow::Error) -> Finding {
    Finding {
        code: FindingCode::LogGap,
        source: source.clone(),
        subject: slot_named(slot),
        text: format!(
            "GAP: the server has removed WAL that is not in the bucket ({error:#}); continuing \
             with what it still has"
        ),
        hint: Some(format!("take a base backup now with `drctl backup {source}`")),
    }
}

/// Tells that nobody can know whether the log that comes follows what the bucket holds: as a look at the
/// bucket tells it too, once the first piece is there.
fn unproven(source: &SourceId, Unsure { timeline, from, doubtful }: &Unsure) -> Finding {
    let commits = doubtful.as_ref().and_then(|before| before.holds.commits);
    let at = commits.map(|(_, last)| last);
    Finding {
        code: FindingCode::LogDoubtful,
        source: source.clone(),
        subject: String::new(),
        text: Unproven { timeline: *timeline, lsn: *from, at }.to_string(),
        hint: Some(format!("take a base backup now with `drctl backup {source}`")),
    }
}

/// Whether the server does not have a segment any more that was asked for (`XLogFileReadAnyTLI`,
/// `WalSndSegmentOpen`: `ERRCODE_UNDEFINED_FILE`). Of one that it removed while it read it tells the error
/// that the system had last, or `ERRCODE_INTERNAL_ERROR` where that had none (`CheckXLogRemoved`).
pub(super) fn was_removed(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| match cause.downcast_ref().and_then(EngineError::own) {
        Some(ServerError::Query { source, .. }) => {
            source.sqlstate() == Some("58P01") || source.routine() == Some("CheckXLogRemoved")
        }
        _ => false,
    })
}
