//! How a server's log fares, and whether what it was told is stored lies in the bucket.

use drctl_catalog::Catalog;
use drctl_engines::pg::{PgServer, acknowledged, log_health};
use drctl_model::{Checked, FindingCode, SourceId, shown};

use crate::engine::wal::{LogFinding, log_findings, looked_for, not_there, usual_slot};
use crate::host::{Checks, Setup};
use crate::log::LogStore;
use crate::repository::Repository;
use crate::repository::findings::{refusals, settle};

/// How much of a refusal is shown.
const SHOWN: usize = 600;

/// What waits, what fails, what a slot keeps.
pub(crate) async fn look(setup: &Setup, server: &PgServer, id: &SourceId, found: &mut Checks) {
    let health = log_health(server, "drctl/doctor").await.map_err(Into::into);
    let check = format!("source.{id}.log");
    if let Some(health) = found.take(&check, health) {
        let seen = log_findings(&health);
        let amiss = seen.iter().filter_map(|one| one.finding(id)).collect();
        settle(setup, id, Checked { looked_for: looked_for(&health), found: amiss }).await;
        for LogFinding { level, code, text, hint, .. } in seen {
            match (code, &hint) {
                (Some(code), Some(hint)) => found.finding(code, &check, text, hint),
                _ => found.add(level, &check, text, hint.as_deref()),
            }
        }
    }
}

/// Whose log was refused, as this host's catalog has it.
pub(super) async fn refused(setup: &Setup, id: &SourceId, found: &mut Checks) {
    let path = setup.catalog_path();
    if !path.exists() {
        return;
    }
    let noted = async { refusals(&Catalog::open_read_only(&path).await?, Some(id)).await }.await;
    let check = format!("source.{id}.refused");
    for one in found.take(&check, noted.map_err(Into::into)).unwrap_or_default() {
        let text = shown(&format!("{} since {:.0}: {}", one.key, one.at, one.why), SHOWN);
        let hint = format!(
            "stop the wrong one of the two servers, or give it a source of its own; then `drctl \
             catalog forget {id}`"
        );
        found.finding(FindingCode::LogRefused, &check, text, &hint);
    }
}

/// The end of the log by the server's own words and by the bucket's list, which is made later.
pub(super) async fn compare(
    server: &PgServer,
    repository: Option<&Repository>,
    id: &SourceId,
    found: &mut Checks,
) {
    let (check, Some(repository)) = (format!("source.{id}.stored"), repository) else { return };
    let told = acknowledged(server, "drctl/doctor", &usual_slot(id)).await.map_err(Into::into);
    let Some(told) = found.take(&check, told) else { return };
    if told.pushed.is_none() && told.streamed.is_none() {
        return;
    }
    let lost = not_there(&LogStore::reader(repository, id), &told).await;
    match found.take(&check, lost) {
        Some(Some(text)) => {
            let hint = format!(
                "WAL was lost, or removed: take a base backup with `drctl backup {id}`, and find \
                 out who can delete in the bucket"
            );
            found.finding(FindingCode::LogGap, &check, text, &hint);
        }
        Some(None) => {
            found.good(&check, "the bucket has the WAL that the server was told is stored")
        }
        None => {}
    }
}
