//! Whether a cluster can be backed up, and was.

use drctl_engines::pg::PgServer;
use drctl_engines::pg::replication::{Identity, Replication};
use drctl_model::{FindingCode, LogPlace, SourceId, Timeline};
use drctl_policies::BaseBackup;

use super::cluster;
use crate::engine::pg::incremental::obstacle;
use crate::host::{Checks, Setup};
use crate::log::LogStore;
use crate::repository::Repository;
use crate::repository::faults::is_missing;

/// Whether a cluster can be backed up, and as it is configured.
pub(super) async fn look(
    setup: &Setup,
    (server, repository): (&PgServer, Option<&Repository>),
    (id, base): (&SourceId, &BaseBackup),
    found: &mut Checks,
) {
    let tried = Replication::open(server, "drctl/doctor").await.map_err(Into::into);
    let check = format!("source.{id}.replication");
    if let Some(mut connection) = found.take(&check, tried) {
        let text = format!("a base backup can be taken of PostgreSQL {}", connection.version());
        found.good(&check, text);
        let check = format!("source.{id}.cluster");
        let identity = connection.identify().await.map_err(Into::into);
        if let Some(identity) = found.take(&check, identity) {
            cluster::copied(setup, id, identity.system_id, found).await;
            history(repository, id, &identity, found).await;
        }
        if base.incremental {
            let check = format!("source.{id}.incremental");
            match found.take(&check, obstacle(&mut connection).await) {
                Some(None) => found.good(&check, "the server keeps summaries of its WAL"),
                Some(Some((text, hint))) => found.warn(&check, text, hint),
                None => {}
            }
        }
    }
}

/// Whether the history of the timeline that the server is on is there, where its log is.
async fn history(
    repository: Option<&Repository>,
    id: &SourceId,
    Identity { system_id, timeline, .. }: &Identity,
    found: &mut Checks,
) {
    let Some(repository) = repository.filter(|_| *timeline != Timeline::FIRST) else { return };
    let check = format!("source.{id}.history");
    let looked = async {
        let log_store = LogStore::reader(repository, id);
        if log_store.cluster_ranges(*system_id).await?.is_empty() {
            return Ok::<_, anyhow::Error>(None);
        }
        let place = LogPlace::of_history((*system_id, *timeline));
        match log_store.head(&place).await {
            Err(error) if is_missing(&error) => Ok(Some(false)),
            head => head.map(|_| Some(true)),
        }
    };
    match found.take(&check, looked.await) {
        Some(Some(true)) => {
            found.good(&check, format!("the history of timeline {timeline} is in the repository"));
        }
        Some(Some(false)) => {
            let text = format!(
                "the history of timeline {timeline}, on which the cluster is, is not in the \
                 repository: no recovery can pass from an older timeline to it"
            );
            let hint = format!(
                "store it: `drctl wal push {id}` with the file {:08X}.history of the server's \
                 pg_wal; `drctl wal stream` does so by itself",
                timeline.id()
            );
            found.finding(FindingCode::LogDoubtful, &check, text, &hint);
        }
        Some(None) | None => {}
    }
}
