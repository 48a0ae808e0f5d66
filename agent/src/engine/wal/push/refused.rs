//! Log that was refused as that of another server, or of another history: it never came to lie in the
//! bucket, so that this host's catalog alone can tell of it, until somebody has seen it.

use drctl_model::{Checked, Finding, FindingCode, SourceId};
use drctl_store::{Key, layout};

use crate::engine::wal::timelines::whose;
use crate::host::{AgentError, Setup};
use crate::repository::findings::Findings;

/// Notes that log of a server was refused, where it was for what another one wrote. `whose` says which
/// server that is. What cannot be noted changes nothing of the refusal.
pub(crate) async fn note_refusal(setup: &Setup, whose: &str, error: &anyhow::Error) {
    let Some((source, cluster)) = refused(error) else { return };
    let findings = Findings::of(setup, &source);
    findings.note(Checked::met(Finding {
        code: FindingCode::LogRefused,
        source,
        subject: format!("{cluster} {whose}"),
        text: format!("{error:#}"),
        hint: None,
    }));
    findings.keep().await;
}

/// The source, and the cluster and timeline, of log that is refused for other log in the bucket.
fn refused(error: &anyhow::Error) -> Option<(SourceId, String)> {
    let key = error.chain().find_map(|cause| match cause.downcast_ref() {
        Some(AgentError::OtherLog { key, .. } | AgentError::OtherHistory { key, .. }) => Some(key),
        _ => None,
    })?;
    let (source, place) = layout::piece_at(&Key::from(key.as_str()))?;
    Some((source, whose(&place)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_for_other_log_is_told_from_what_fails_otherwise() {
        let key = "s/shop/l/0000000000000007-00000002/0000000000100000-0000000000200000.log";
        let host = || "db1".to_owned();
        let other = AgentError::OtherLog { key: key.to_owned(), host: host() };
        let (source, cluster) = refused(&anyhow::Error::from(other).context("store")).unwrap();
        assert_eq!((source.as_str(), cluster.as_str()), ("shop", "cluster 7 timeline 2"));
        let key = "s/shop/l/0000000000000007-00000002/notes/history".to_owned();
        let written = jiff::Timestamp::UNIX_EPOCH;
        assert!(refused(&AgentError::OtherHistory { key, host: host(), written }.into()).is_some());
        let taken = AgentError::NameTaken { key: host() };
        assert!(refused(&taken.into()).is_none() && refused(&anyhow::anyhow!("x")).is_none());
    }
}
