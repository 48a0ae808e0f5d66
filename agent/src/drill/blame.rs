//! Whether a drill that broke off speaks against the backup, or only tells that this host could not try it;
//! no IO.

use drctl_model::DrillOutcome;

use crate::host::{Exit, Failure};

/// Codes of failures for which the backup is to blame, beside all that end with the exit code of data that
/// are not what the manifest says. What is in neither list is the host's fault: a drill never calls a backup
/// bad that it could not try.
const OF_BACKUP: &[&str] = &[
    "broken_chain",
    "format_newer",
    "log_gap",
    "no_backup",
    "no_plan",
    "no_table",
    "store_missing",
    "structure",
    "tool_failed",
    "untrusted",
    "wrong_key",
    "wrong_signer",
];

/// What a drill comes to that broke off.
pub(super) fn outcome(error: &anyhow::Error) -> DrillOutcome {
    let Failure { code, exit, .. } = Failure::of(error);
    let error = code.to_owned();
    match exit == Exit::Verification || OF_BACKUP.contains(&code) {
        true => DrillOutcome::Failed { error },
        false => DrillOutcome::Inconclusive { error },
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use anyhow::anyhow;

    use super::*;
    use crate::host::AgentError;

    #[test]
    fn only_what_speaks_against_the_backup_is_its_fault() {
        let of = |error: anyhow::Error| outcome(&error.context("restore shop"));
        let failed = |code: &str| DrillOutcome::Failed { error: code.to_owned() };
        let unknown = |code: &str| DrillOutcome::Inconclusive { error: code.to_owned() };
        let other = AgentError::Mismatch("other rows".to_owned());
        assert_eq!(of(other.into()), failed("mismatch"));
        assert_eq!(of(AgentError::NoBackup("none".to_owned()).into()), failed("no_backup"));
        let full = AgentError::Target("no room".to_owned());
        assert_eq!(of(full.into()), unknown("target_unfit"));
        assert_eq!(of(AgentError::Exists(PathBuf::from("/x")).into()), unknown("exists"));
        assert_eq!(of(anyhow!("anything")), unknown("failed"));
    }

    #[test]
    fn every_code_is_one_that_there_is() {
        let page = include_str!("../../../docs/json.md");
        for code in OF_BACKUP {
            assert!(page.contains(&format!("| `{code}` |")), "{code}");
        }
    }
}
