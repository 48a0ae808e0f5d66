//! The stable name of each problem, and how a command ends that meets it.

use drctl_model::{Class, Classified};

use super::AgentError;

impl AgentError {
    fn classify(&self) -> (&'static str, Class) {
        match self {
            AgentError::NoConfiguration(_) => ("no_configuration", Class::Configuration),
            AgentError::Configuration(_) => ("bad_configuration", Class::Configuration),
            AgentError::Secret { .. } => ("secret_unavailable", Class::Key),
            AgentError::NotPrivate { .. } | AgentError::Changeable { .. } => {
                ("not_private", Class::Configuration)
            }
            AgentError::UnknownSource { .. } => ("unknown_source", Class::Usage),
            AgentError::Busy { .. } => ("busy", Class::Busy),
            AgentError::SecondAgent(..) => ("agent_running", Class::Busy),
            AgentError::NoAgent(..) => ("no_agent", Class::Failure),
            AgentError::AgentSilent(_) => ("agent_silent", Class::Failure),
            AgentError::AgentRefused(_) => ("agent_refused", Class::Failure),
            AgentError::Hook(..) => ("hook_failed", Class::Failure),
            AgentError::NotLogged(_) => ("not_logged", Class::Failure),
            AgentError::AuditBroken(_) => ("audit_broken", Class::Verification),
            AgentError::NoBackup(_) => ("no_backup", Class::NoTarget),
            AgentError::NotARepository { .. } => ("not_a_repository", Class::Storage),
            AgentError::OtherRepository { .. } => ("other_repository", Class::Storage),
            AgentError::MarkerLost { .. } => ("marker_lost", Class::Storage),
            AgentError::RepositoryExists { .. } => ("repository_exists", Class::Storage),
            AgentError::Exists(_) => ("exists", Class::Target),
            AgentError::Segment { .. } => ("segment_damaged", Class::Verification),
            AgentError::BrokenChain(_) => ("broken_chain", Class::Verification),
            AgentError::Mismatch(_) => ("mismatch", Class::Verification),
            AgentError::Incomplete(_) => ("store_incomplete", Class::Storage),
            AgentError::OtherLog { .. } => ("log_conflict", Class::Verification),
            AgentError::OtherHistory { .. } => ("log_other_history", Class::Verification),
            AgentError::NameTaken { .. } => ("name_taken", Class::Storage),
            AgentError::NotWal { .. } => ("log_damaged", Class::Verification),
            AgentError::Unfinished { .. } => ("log_unfinished", Class::Usage),
            AgentError::BadSegment { .. } => ("log_damaged", Class::Verification),
            AgentError::LogGap { .. } => ("log_gap", Class::Verification),
            AgentError::NoPlan(..) => ("no_plan", Class::NoTarget),
            AgentError::Target(_) => ("target_unfit", Class::Target),
            AgentError::DrillAborted(_) => ("drill_aborted", Class::Target),
            AgentError::DrillSkipped(_) => ("drill_skipped", Class::Target),
            AgentError::NoSandbox(..) => ("no_sandbox", Class::Target),
            AgentError::Place(_) => ("source_place", Class::Target),
            AgentError::Runs { .. } => ("runs_code", Class::Target),
            AgentError::Usage(_) => ("usage", Class::Usage),
            AgentError::NoIdentity(_) => ("no_identity", Class::Key),
            AgentError::NoIdentityToTest => ("no_identity", Class::Key),
            AgentError::NoSigningKey => ("no_signing_key", Class::Key),
            AgentError::Unpinned(_) => ("signing_key_unpinned", Class::Key),
            AgentError::Interrupted => ("interrupted", Class::Interrupted),
        }
    }
}

impl Classified for AgentError {
    fn code(&self) -> &'static str {
        self.classify().0
    }

    fn class(&self) -> Class {
        self.classify().1
    }

    fn hint(&self) -> Option<String> {
        AgentError::hint(self)
    }
}
