//! A drill with nothing but a recovery kit and the bucket: as on a host that has neither configuration nor catalog.

use std::path::Path;

use anyhow::{Context as _, Result};
use drctl_model::SourceId;
use drctl_policies::{SUPERUSER, Setting, SourceTemplate};

use crate::host::{AgentError, Setup};
use crate::repository::{InitOptions, init, kit_of};

/// Joins the repository of a kit in a bare directory, as the docs have it for a lost host (docs/restore.md, C); gives
/// the configuration that came of it. What this host's own one hides from a restored server stays hidden.
///
/// # Errors
/// What is wrong with the kit; that its repository cannot be reached or is another one.
pub(super) async fn bare(
    own: &Setup,
    (kit, source): (&Path, &SourceId),
    place: &Path,
) -> Result<Setup> {
    let found = kit_of(kit)?;
    let url = match found.setting("url") {
        Some(Setting::Text(url)) => url.clone(),
        _ => {
            let text = format!("the recovery kit {} names no repository", kit.display());
            return Err(AgentError::Usage(text).into());
        }
    };
    let is_its_own = |key: &str| matches!(key, "url" | "id");
    let more = found.repository.iter().filter(|(key, _)| !is_its_own(key)).cloned();
    let below = |name: &str| place.join(name).display().to_string();
    let options = InitOptions {
        config: place.join("drctl.toml"),
        url,
        repository: more.collect(),
        join: true,
        kit: Some(found.clone()),
        state_dir: below("state"),
        runtime_dir: below("run"),
        source: SourceTemplate {
            id: source.clone(),
            policy: "daily".to_owned(),
            host: "/nonexistent".to_owned(),
            port: 5432,
            user: SUPERUSER.to_owned(),
            databases: None,
            password: None,
        },
    };
    let made = init(&options, own.clock.now()).await.context("join the repository by the kit")?;
    let bare = Setup::load(&made.config)?;
    Ok(Setup { clock: own.clock.clone(), also_hidden: own.hidden(), ..bare })
}
