//! Whether a cluster can be copied, and was.

use drctl_catalog::Catalog;
use drctl_engines::pg::PgServer;
use drctl_engines::pg::replication::Replication;
use drctl_model::SourceId;
use drctl_policies::BaseBackup;

use super::{Findings, Level};
use crate::Setup;
use crate::incremental::obstacle;

/// Whether a cluster can be copied, and as it is configured.
pub(super) async fn look(
    setup: &Setup,
    server: &PgServer,
    (id, base): (&SourceId, &BaseBackup),
    found: &mut Findings,
) {
    let tried = Replication::open(server, "drctl/doctor").await.map_err(Into::into);
    let check = format!("source.{id}.replication");
    if let Some(mut connection) = found.take(&check, tried) {
        let text = format!("a copy can be taken of PostgreSQL {}", connection.version());
        found.good(&check, text);
        copied(setup, id, &mut connection, found).await;
        if base.incremental {
            let check = format!("source.{id}.incremental");
            match found.take(&check, obstacle(&mut connection).await) {
                Some(None) => found.good(&check, "the server keeps summaries of its log"),
                Some(Some((text, hint))) => found.warn(&check, text, hint),
                None => {}
            }
        }
    }
}

/// Whether there is a copy of the cluster that the server is now: `initdb` and `pg_upgrade` make
/// another one.
async fn copied(setup: &Setup, id: &SourceId, connection: &mut Replication, found: &mut Findings) {
    let check = format!("source.{id}.cluster");
    let identity = connection.identify().await.map_err(Into::into);
    let Some(identity) = found.take(&check, identity) else { return };
    let Ok(catalog) = Catalog::open_read_only(&setup.catalog_path()).await else { return };
    let Some(backups) = found.take(&check, catalog.backups(Some(id)).await.map_err(Into::into))
    else {
        return;
    };
    let clusters = backups.iter().filter_map(|backup| backup.kind.coordinates());
    let system_id = identity.system_id;
    match clusters.map(|at| at.system_id).any(|other| other == system_id) {
        true => found.good(&check, format!("there is a base backup of the cluster {system_id}")),
        false => {
            let text = format!("there is no base backup of the cluster {system_id} that runs now");
            let hint = format!("run `drctl backup {id}`: nothing of it can be recovered before");
            found.add(Level::Warning, &check, text, Some(&hint));
        }
    }
}
