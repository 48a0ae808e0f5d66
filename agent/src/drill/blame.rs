//! Whether a drill that broke off speaks against the backup, or only tells that this host could not try it;
//! no IO.

use std::fmt;

use drctl_model::{DrillOutcome, DrillPhase};

use crate::host::{Exit, Failure};
use crate::restore::cluster::WhileProving;

/// That no recovery leads where the backup and its log should lead, said beside an error that has other causes
/// too.
#[derive(Debug)]
pub(super) struct LeadsNowhere;

impl fmt::Display for LeadsNowhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the backup and its log do not lead to that point")
    }
}

/// Codes of failures for which the backup is to blame, beside all that end with the exit code of data that
/// are not what the manifest says. What is in neither list is the host's fault: a drill never calls a backup
/// bad that it could not try.
const OF_BACKUP: &[&str] = &[
    "log_gap",
    "pgbackrest_split_brain",
    "store_missing",
    "structure",
    "tool_failed",
    "wrong_key",
];

/// Of these the host is to blame all the same, where such words are said: it lacks what the data need, or its
/// disk is full, or somebody killed the program.
const OF_HOST: &[&str] = &[
    "is not available",
    "extension control file",
    "could not access file",
    "No space left on device",
    "out of shared memory",
    "server closed the connection unexpectedly",
    "terminating connection because of crash of another server process",
    "the database system is in recovery mode",
    "signal: ",
];

/// What a server says of data that it cannot read: of what was recovered such words are the backup's fault, and no
/// others, for a database may well hold what cannot be dumped.
const OF_DATA: &[&str] = &[
    "invalid page in block",
    "could not read block",
    "missing chunk number",
    "unexpected chunk number",
    "data is corrupt",
    "could not access status of transaction",
    "cache lookup failed",
    "could not open relation with OID",
];

/// What a drill comes to that broke off in a phase.
pub(super) fn outcome(error: &anyhow::Error, phase: DrillPhase) -> DrillOutcome {
    let Failure { code, exit, messages, .. } = Failure::of(error);
    let says = |words: &&str| messages.iter().any(|message| message.contains(*words));
    if error.downcast_ref::<WhileProving>().is_some() {
        let error = code.to_owned();
        return match OF_DATA.iter().any(says) {
            true => DrillOutcome::Failed { error },
            false => DrillOutcome::Inconclusive { error },
        };
    }
    // A server that is given its log and ends by itself has met what it cannot replay.
    let replaying = phase == DrillPhase::Recovering && code == "query";
    let blamed = exit == Exit::Verification
        || OF_BACKUP.contains(&code)
        || replaying
        || error.downcast_ref::<LeadsNowhere>().is_some();
    let error = code.to_owned();
    match blamed && !OF_HOST.iter().any(says) {
        true => DrillOutcome::Failed { error },
        false => DrillOutcome::Inconclusive { error },
    }
}

/// The same of statements that failed, where all rows are there.
pub(super) fn of_statements(failed: &[&String]) -> DrillOutcome {
    let error = "mismatch".to_owned();
    let is_of_host = |text: &&String| OF_HOST.iter().any(|words| text.contains(words));
    match failed.iter().all(is_of_host) {
        true => DrillOutcome::Inconclusive { error },
        false => DrillOutcome::Failed { error },
    }
}

/// Failures whose hint is meant for whoever runs a drill; others speak of a server that stays, or of options that a
/// drill does not have.
const HINTED: &[&str] = &[
    "drill_aborted",
    "drill_skipped",
    "no_identity",
    "secret_unavailable",
    "store_denied",
    "store_failed",
    "tool_missing",
    "version_mismatch",
    "wrong_key",
];

/// What to do about a failure.
pub(super) fn hint(failure: Failure) -> Option<String> {
    failure.hint.filter(|_| HINTED.contains(&failure.code))
}

/// Why it broke off: the cause, and whose restore that was. What is said in between is of databases that stay,
/// which those of a drill do not.
pub(super) fn why(failure: &Failure) -> Vec<String> {
    let Some(cause) = failure.messages.last() else { return Vec::new() };
    let cause = cause.replace(" and is kept, but", ", but");
    let whose = failure.messages.iter().rev().skip(1).find_map(|text| {
        let name = text.strip_prefix("restore ")?;
        (!name.contains('(')).then_some(name)
    });
    vec![whose.map_or_else(|| cause.clone(), |name| format!("{name}: {cause}"))]
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use anyhow::anyhow;

    use super::*;
    use crate::host::AgentError;

    #[test]
    fn only_what_speaks_against_the_backup_is_its_fault() {
        let of =
            |error: anyhow::Error| outcome(&error.context("restore shop"), DrillPhase::Loading);
        let failed = |code: &str| DrillOutcome::Failed { error: code.to_owned() };
        let unknown = |code: &str| DrillOutcome::Inconclusive { error: code.to_owned() };
        let mismatch = |text: &str| AgentError::Mismatch(text.to_owned());
        assert_eq!(of(mismatch("other rows").into()), failed("mismatch"));
        // What the host lacks is not the backup's fault, whatever came of it.
        let lacks = "other rows; 1 statement(s) failed: extension \"postgis\" is not available";
        assert_eq!(of(mismatch(lacks).into()), unknown("mismatch"));
        assert_eq!(of(AgentError::NoBackup("none".to_owned()).into()), unknown("no_backup"));
        let no_plan = || AgentError::NoPlan("a gap".to_owned(), "look");
        assert_eq!(of(no_plan().into()), unknown("no_plan"));
        assert_eq!(of(anyhow::Error::new(no_plan()).context(LeadsNowhere)), failed("no_plan"));
        let full = AgentError::Target("no room".to_owned());
        assert_eq!(of(full.into()), unknown("target_unfit"));
        assert_eq!(of(AgentError::Exists(PathBuf::from("/x")).into()), unknown("exists"));
        assert_eq!(of(anyhow!("anything")), unknown("failed"));
    }

    #[test]
    fn what_cannot_be_looked_at_is_only_bad_where_the_server_says_so_of_its_data() {
        let of = |words: &str| {
            let error = anyhow::Error::new(AgentError::Mismatch(words.to_owned()));
            outcome(&error.context(WhileProving).context("drill"), DrillPhase::Recovering)
        };
        let error = || "mismatch".to_owned();
        let odd = "pg_dump: error: invalid memory alloc request size 1200000003";
        assert_eq!(of(odd), DrillOutcome::Inconclusive { error: error() });
        let bad = "ERROR:  invalid page in block 7 of relation base/5/16384";
        assert_eq!(of(bad), DrillOutcome::Failed { error: error() });
    }

    #[test]
    fn what_is_said_is_true_of_what_is_thrown_away() {
        let error =
            AgentError::Mismatch("shop was loaded and is kept, but is not equal".to_owned());
        let error = anyhow::Error::new(error)
            .context("restore shop")
            .context("restored and proven, and kept: other; this failed")
            .context("restore 2026 (the source and the bucket were not touched)");
        let failure = Failure::of(&error);
        assert_eq!(why(&failure), ["shop: shop was loaded, but is not equal"]);
        assert_eq!(hint(failure), None);
    }

    #[test]
    fn every_code_is_one_that_there_is() {
        let page = include_str!("../../../docs/json.md");
        for code in OF_BACKUP.iter().chain(HINTED) {
            assert!(page.contains(&format!("| `{code}` |")), "{code}");
        }
    }
}
