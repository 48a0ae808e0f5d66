use anyhow::{Context as _, Result};
use drctl_model::shown;
use serde_json::json;

use super::backups::Judged;
use super::screen::{Screen, TEXT_SHOWN};
use crate::engine::pg::another_cluster::{has_cluster, is_in_question};
use crate::host::{Exit, Setup};
use crate::repository::losses::find;
use crate::repository::{accept as take_for_good, dated};

/// `drctl accept`.
pub(super) async fn accept(screen: Screen, setup: &Setup, backup: &str) -> Result<Exit> {
    let repository = setup.repository().await?;
    let found = find(setup, &repository, None, backup).await?;
    let known = setup.catalog(&repository).await?.backups(Some(&found.manifest.source)).await?;
    let mut dated = dated(&known, setup.clock.now(), has_cluster).into_owned();
    // One that is dated in the future itself is judged among all.
    if dated.iter().all(|one| one.backup != found.manifest.backup) {
        dated = known;
    }
    let in_question = is_in_question(&dated, &found.summary());
    let done = take_for_good(setup, &repository, (&found, in_question)).await;
    let done = done.with_context(|| format!("accept {}", found.manifest.backup))?;
    let backup = Judged::alone(&done).json();
    screen.answer("drctl.accept/1", json!({ "backup": backup }), || {
        let (id, source) = (&done.backup, &done.source);
        match done.suspect.is_empty() {
            true => format!("the cluster of {id} is that of {source} from now on"),
            false => {
                let why = shown(&done.suspect.join("; "), TEXT_SHOWN);
                format!("{id} of {source} counts as good, although {why}")
            }
        }
    });
    Ok(Exit::Success)
}
