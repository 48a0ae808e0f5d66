use anyhow::{Context as _, Result};
use drctl_model::shown;
use serde_json::json;

use super::backups::Judged;
use super::screen::{Screen, TEXT_SHOWN};
use crate::host::{Exit, Setup};
use crate::repository::accept as take_for_good;
use crate::repository::losses::find;

/// `drctl accept`.
pub(super) async fn accept(screen: Screen, setup: &Setup, backup: &str) -> Result<Exit> {
    let repository = setup.repository().await?;
    let (source, wanted) = match backup.split_once('/') {
        Some((source, id)) => (Some(super::source_id(source)?), id),
        None => (None, backup),
    };
    let found = find(setup, &repository, source.as_ref(), wanted).await?;
    let done = take_for_good(setup, &repository, &found).await;
    let done = done.with_context(|| format!("accept {}", found.manifest.backup))?;
    let backup = Judged::alone(&done).json();
    screen.answer("drctl.accept/1", json!({ "backup": backup }), || {
        format!(
            "{} of {} counts as good, although {}",
            done.backup,
            done.source,
            shown(&done.suspect.join("; "), TEXT_SHOWN)
        )
    });
    Ok(Exit::Success)
}
