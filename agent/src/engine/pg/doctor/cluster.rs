//! Whether a source's backups are of the cluster that its server is now.

use drctl_catalog::Catalog;
use drctl_model::{BackupSummary, FindingCode, SourceId};

use crate::engine::pg::another_cluster::{has_cluster, newest};
use crate::host::{Checks, Level, Setup};
use crate::repository::dated;

/// Whether there is a base backup of the cluster that the server is now: `initdb` and `pg_upgrade`
/// make another one.
pub(super) async fn copied(setup: &Setup, id: &SourceId, system_id: u64, found: &mut Checks) {
    let check = format!("source.{id}.cluster");
    let Some(backups) = known(setup, id, found).await else { return };
    let clusters = backups.iter().filter_map(|backup| backup.kind.coordinates());
    match clusters.map(|at| at.system_id).any(|other| other == system_id) {
        true => found.good(&check, format!("there is a base backup of the cluster {system_id}")),
        false => {
            let text = format!("there is no base backup of the cluster {system_id} that runs now");
            let hint =
                format!("run `drctl backup {id}`: until then nothing of it can be recovered");
            found.finding(FindingCode::LogDoubtful, &check, text, &hint);
        }
    }
}

/// Whether the newest dumps are of the cluster that the server is now.
pub(super) async fn dumped(
    setup: &Setup,
    id: &SourceId,
    cluster: &Result<u64, String>,
    found: &mut Checks,
) {
    let check = format!("source.{id}.cluster");
    let system_id = match cluster {
        Ok(system_id) => *system_id,
        Err(why) => return found.add(Level::Warning, &check, why.as_str(), None),
    };
    let Some(backups) = known(setup, id, found).await else { return };
    match newest(dated(&backups, setup.clock.now(), has_cluster).iter())
        .and_then(|one| Some((one, one.kind.system_id()?)))
    {
        Some((newest, other)) if other != system_id => {
            let text = format!(
                "the server is the cluster {system_id}, and the newest backup, {}, is of {other}",
                newest.backup
            );
            let hint = format!(
                "if there was no initdb, pg_upgrade or restore, another server answers: check host \
                 and port; if there was one, run `drctl backup {id}`"
            );
            found.finding(FindingCode::ClusterChanged, &check, text, &hint);
        }
        Some(_) => found.good(&check, format!("the backups are of the cluster {system_id}")),
        None => {}
    }
}

/// The backups that this host knows of a source; nothing where it has no catalog.
async fn known(setup: &Setup, id: &SourceId, found: &mut Checks) -> Option<Vec<BackupSummary>> {
    let catalog = Catalog::open_read_only(&setup.catalog_path()).await.ok()?;
    let backups = catalog.backups(Some(id)).await.map_err(Into::into);
    found.take(&format!("source.{id}.cluster"), backups)
}
