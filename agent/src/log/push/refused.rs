//! Log that was refused as that of another server, or of another history: it never came to lie in the
//! bucket, so that this host's catalog alone can tell of it, until somebody has seen it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use drctl_catalog::Catalog;
use drctl_model::SourceId;
use drctl_store::{Key, layout};
use tokio::time::timeout;

use crate::host::{AgentError, Setup};

/// For how long the refusal may be noted: the server waits, and hears of it all the same.
const NOTED_WITHIN: Duration = Duration::from_secs(10);

/// Notes that log of a server was refused, where it was for what another one wrote. `whose` says which
/// server that is. What cannot be noted changes nothing of the refusal.
pub(crate) async fn note_refusal(setup: &Setup, whose: &str, error: &anyhow::Error) {
    let Some((source, cluster)) = refused(error) else { return };
    let (whose, why) = (format!("{cluster} {whose}"), format!("{error:#}"));
    let noted = timeout(NOTED_WITHIN, note(setup, &source, &whose, why)).await;
    let noted = noted.context("the catalog is in use").and_then(|noted| noted);
    if let Err(unnoted) = noted {
        tracing::warn!("`drctl status` will not tell of it, it cannot be noted: {unnoted:#}");
    }
}

async fn note(setup: &Setup, source: &SourceId, whose: &str, why: String) -> Result<()> {
    setup.private_directory(&setup.config.paths.state_dir)?;
    let catalog = Catalog::open(&setup.catalog_path()).await.context("open the catalog")?;
    let noted = catalog.remember_refusal(source, setup.clock.now(), whose, why).await;
    noted.context("note what was refused")
}

/// The source, and the cluster and timeline, of log that is refused for other log in the bucket.
fn refused(error: &anyhow::Error) -> Option<(SourceId, String)> {
    let key = error.chain().find_map(|cause| match cause.downcast_ref() {
        Some(AgentError::OtherLog { key, .. } | AgentError::OtherHistory { key, .. }) => Some(key),
        _ => None,
    })?;
    let (source, place) = layout::piece_at(&Key::from(key.as_str()))?;
    Some((source, format!("cluster {} timeline {}", place.system_id, place.timeline)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_for_other_log_is_told_from_what_fails_otherwise() {
        let key = "s/shop/l/0000000000000007-00000002/0000000000100000-0000000000200000.wal";
        let host = || "db1".to_owned();
        let other = AgentError::OtherLog { key: key.to_owned(), host: host() };
        let (source, cluster) = refused(&anyhow::Error::from(other).context("store")).unwrap();
        assert_eq!((source.as_str(), cluster.as_str()), ("shop", "cluster 7 timeline 2"));
        let key = "s/shop/l/0000000000000007-00000002/history".to_owned();
        let written = jiff::Timestamp::UNIX_EPOCH;
        assert!(refused(&AgentError::OtherHistory { key, host: host(), written }.into()).is_some());
        let taken = AgentError::NameTaken { key: host() };
        assert!(refused(&taken.into()).is_none() && refused(&anyhow::anyhow!("x")).is_none());
    }
}
