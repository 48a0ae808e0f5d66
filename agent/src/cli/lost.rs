use anyhow::Result;
use drctl_catalog::{Catalog, Lost};
use drctl_model::{BackupId, BackupSummary, SourceId, shown};
use drctl_store::layout;
use serde_json::json;
use std::collections::BTreeSet;

use super::screen::{Screen, TEXT_SHOWN};
use super::state::known_catalog;
use crate::losses::look_for_losses;
use crate::problem::Failure;
use crate::{Exit, Setup};

/// How much of what is gone is named to a person.
const LOST_SHOWN: usize = 20;

/// What is gone that was there, as JSON.
pub(super) fn lost_json(lost: &[Lost]) -> serde_json::Value {
    lost.iter().map(|one| json!({ "key": one.key, "why": one.why, "since": one.at })).collect()
}

/// The same for people, a line each.
pub(super) fn lost_text(lost: &[Lost]) -> String {
    let line = |one: &Lost| {
        let (key, why) = (shown(&one.key, TEXT_SHOWN), shown(&one.why, TEXT_SHOWN));
        format!("\nLOST: {key}: {why}")
    };
    let more = lost.len().saturating_sub(LOST_SHOWN);
    let rest = (more > 0).then(|| format!("\nLOST: {more} more"));
    lost.iter().take(LOST_SHOWN).map(line).chain(rest).collect()
}

/// What is gone, and why that is not known in full, where the bucket cannot be read.
pub(super) struct Losses {
    pub(super) lost: Vec<Lost>,
    pub(super) unseen: Option<String>,
}

impl Losses {
    /// Looks in the bucket for what the catalog knows.
    ///
    /// # Errors
    /// The catalog's.
    pub(super) async fn of(
        setup: &Setup,
        catalog: &Catalog,
        known: &[BackupSummary],
        source: Option<&SourceId>,
    ) -> Result<Losses> {
        let remembered = catalog.lost(source).await?;
        let looked = async {
            let repository = setup.repository().await?;
            let mut sources: BTreeSet<&SourceId> =
                remembered.iter().map(|one| &one.source).collect();
            sources.extend(known.iter().map(|backup| &backup.source));
            // Of one that has no backup left signed documents may still tell.
            let is_asked = |id: &&SourceId| source.is_none_or(|source| source == *id);
            sources.extend(setup.config.sources.keys().filter(is_asked));
            let mut lost = Vec::new();
            for source in sources {
                lost.extend(look_for_losses(setup, &repository, catalog, source).await?);
            }
            Ok::<_, anyhow::Error>(lost)
        };
        Ok(match looked.await {
            Ok(lost) => Losses { lost, unseen: None },
            Err(error) => {
                let why = shown(&Failure::of(&error).messages.join(": "), 500);
                Losses { lost: remembered.clone(), unseen: Some(why) }
            }
        })
    }

    /// Whether a backup is gone, or some of it.
    pub(super) fn holds(&self, backup: &BackupSummary) -> bool {
        let key = layout::manifest(&backup.source, &backup.backup);
        self.lost.iter().any(|one| one.key == key.as_ref())
    }
}

/// `drctl catalog forget`.
pub(super) async fn forget(screen: Screen, setup: &Setup, source: &str) -> Result<Exit> {
    let source = super::source_id(source)?;
    known_catalog(setup).await?;
    let repository = setup.repository().await?;
    let catalog = setup.catalog(&repository).await?;
    let lost = look_for_losses(setup, &repository, &catalog, &source).await?;
    let is_lost = |id: &BackupId| {
        let key = layout::manifest(&source, id);
        lost.iter().any(|one| one.key == key.as_ref())
    };
    let known = catalog.backups(Some(&source)).await?.into_iter().map(|backup| backup.backup);
    let named = catalog.named(&source).await?.into_iter().map(|one| one.named.backup);
    let gone: BTreeSet<BackupId> = known.chain(named).filter(is_lost).collect();
    let forgotten = catalog.forget_lost(&source, gone.into_iter().collect()).await?;
    let object = json!({ "source": source, "lost": lost_json(&lost) });
    screen.answer("drctl.catalog-forget/1", object, || match forgotten {
        0 => format!("nothing of {source} is lost: there was nothing to forget"),
        _ => format!("the catalog does not ask for these any more:{}", lost_text(&lost)),
    });
    Ok(Exit::Success)
}
