use anyhow::{Context as _, Result};
use drctl_catalog::{Catalog, Lost, Newer};
use drctl_model::{BackupId, BackupSummary, InForce, SourceId, shown};
use drctl_store::layout;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IsTerminal as _, Write as _};

use super::heard::while_heard;
use super::screen::{Screen, TEXT_SHOWN};
use crate::audit::{Act, Logged};
use crate::health::note_lost_log;
use crate::host::{AgentError, Exit, Failure, Setup};
use crate::repository::Repository;
use crate::repository::findings::{behind, forgettable};
use crate::repository::inventory::not_counted;
use crate::repository::losses::{is_lost, is_of, look_for_losses};
use crate::repository::removed::{Back, back};
use crate::repository::statements::statements;

/// What stands before what would be forgotten.
const WOULD: &str = "these would not be reported any more, which cannot be undone:";

/// How much of what is gone is named to a person.
const LOST_SHOWN: usize = 20;

/// What is gone that was there, as JSON.
pub(super) fn lost_json(lost: &[Lost]) -> serde_json::Value {
    lost.iter().map(|one| json!({ "key": one.key, "why": one.why, "since": one.at })).collect()
}

/// The same for people, a line each.
pub(super) fn lost_text(lost: &[Lost]) -> String {
    let more = lost.len().saturating_sub(LOST_SHOWN);
    let rest = (more > 0).then(|| format!("\nLOST: {more} more"));
    lost.iter().take(LOST_SHOWN).map(told).chain(rest).collect()
}

/// One of them on a line of its own; what is only not trusted here is not lost.
fn told(one: &Lost) -> String {
    let (key, why) = (shown(&one.key, TEXT_SHOWN), shown(&one.why, TEXT_SHOWN));
    let word = if one.is_distrusted() { "" } else { "LOST: " };
    format!("\n{word}{key}: {why}")
}

/// What was removed on purpose and is here all the same, as JSON.
pub(super) fn back_json(back: &[Back]) -> serde_json::Value {
    let entry = |one: &Back| {
        json!({
            "source": one.source, "backup": one.backup, "at": one.at, "signed_by": one.by,
            "why": one.text(),
        })
    };
    back.iter().map(entry).collect()
}

/// The same for people, a line each.
pub(super) fn back_text(back: &[Back]) -> String {
    let line = |one: &Back| format!("\nSTILL THERE: {}/{}: {}", one.source, one.backup, one.text());
    back.iter().map(line).collect()
}

/// What is gone, and why that is not known in full, where the bucket cannot be read.
#[derive(Default)]
pub(super) struct Losses {
    pub(super) lost: Vec<Lost>,
    /// Manifests that do not count, with the reason.
    pub(super) refused: Vec<(SourceId, BackupId, String)>,
    /// Those that only a newer drctl reads, with what to install.
    pub(super) newer: Newer,
    pub(super) unseen: Option<String>,
    /// What was removed on purpose, and is here all the same.
    pub(super) back: Vec<Back>,
    /// What was said of each source that stands.
    pub(super) in_force: BTreeMap<SourceId, InForce>,
}

impl Losses {
    /// Looks in the bucket for what the catalog knows.
    ///
    /// # Errors
    /// The catalog's.
    pub(super) async fn of(
        setup: &Setup,
        catalog: &Catalog,
        source: Option<&SourceId>,
    ) -> Result<Losses> {
        let known = catalog.backups(source).await?;
        let remembered = catalog.lost(source).await?;
        let looked = async {
            let repository = setup.repository().await?;
            let there = repository.sources().await?;
            let mut sources: BTreeSet<&SourceId> =
                remembered.iter().map(|one| &one.source).collect();
            sources.extend(known.iter().map(|backup| &backup.source));
            // Of one that has no backup left signed documents may still tell.
            let is_asked = |id: &&SourceId| source.is_none_or(|source| source == *id);
            sources.extend(setup.config.sources.keys().filter(is_asked));
            sources.extend(there.iter().filter(is_asked));
            let mut losses = Losses::default();
            for source in sources {
                losses.lost.extend(look_for_losses(setup, &repository, catalog, source).await?);
                let (refused, newer) = not_counted(&repository, source, &known).await?;
                let said = statements(&repository, source).await?;
                losses.in_force.insert(source.clone(), said.in_force);
                let all = repository.attempts(source).await?;
                losses.back.extend(back(&repository, source, all).await?);
                losses.refused.extend(refused);
                losses.newer.extend(newer);
            }
            Ok::<_, anyhow::Error>(losses)
        };
        Ok(while_heard(setup, looked).await.unwrap_or_else(|error| {
            let why = shown(&Failure::of(&error).messages.join(": "), 500);
            Losses { lost: remembered.clone(), unseen: Some(why), ..Losses::default() }
        }))
    }

    /// Whether a backup is gone, or some of it.
    pub(super) fn holds(&self, backup: &BackupSummary) -> bool {
        self.lost.iter().any(|one| is_of(one, backup))
    }

    /// Whether it is only not trusted here any more.
    pub(super) fn distrusts(&self, backup: &BackupSummary) -> bool {
        self.lost.iter().any(|one| is_of(one, backup) && one.is_distrusted())
    }

    /// Whether it is gone, so that nothing can be based on it.
    pub(super) fn took(&self, backup: &BackupSummary) -> bool {
        is_lost(&self.lost, backup)
    }
}

/// `drctl catalog forget`: shows what would be forgotten, and forgets what was shown.
pub(super) async fn forget(
    screen: Screen,
    setup: &Setup,
    source: &str,
    yes: Option<&str>,
) -> Result<Exit> {
    let source = super::source_id(source)?;
    setup.known_catalog().await?;
    let repository = setup.repository().await?;
    let catalog = setup.catalog(&repository).await?;
    is_known(setup, &repository, &catalog, &source).await?;
    note_lost_log(setup, &repository, Some(&source)).await?;
    let mut lost = look_for_losses(setup, &repository, &catalog, &source).await?;
    lost.extend(forgettable(&catalog, &source).await?);
    let digest = digest_of(&lost);
    let answer = |done: bool, text: String| {
        let object =
            json!({ "source": source, "lost": lost_json(&lost), "digest": digest, "done": done });
        screen.answer("drctl.catalog-forget/1", object, || text);
    };
    if lost.is_empty() {
        answer(
            false,
            format!("nothing of {source} is lost or refused: there is nothing to forget"),
        );
        return Ok(Exit::Success);
    }
    let all: String = lost.iter().map(line_of).collect();
    if let Some(yes) = yes.filter(|yes| *yes != digest) {
        let text = format!(
            "{yes} is not the digest of what is lost now: run this without --yes, and read what it \
             shows. Nothing was forgotten"
        );
        return Err(AgentError::Usage(text).into());
    }
    let asks = screen.is_terminal() && !screen.json && io::stdin().is_terminal();
    if yes.is_none() && !(asks && asked(&all)?) {
        let text = format!("{WOULD}{all}\n  digest {digest}: --yes={digest} forgets exactly these");
        answer(false, text);
        return Ok(Exit::Success);
    }
    let is_lost = |id: &BackupId| {
        let key = layout::manifest(&source, id);
        lost.iter().any(|one| one.key == key.as_ref())
    };
    let known = catalog.backups(Some(&source)).await?.into_iter().map(|backup| backup.backup);
    let named = catalog.named(&source).await?.into_iter().map(|one| one.named.backup);
    let gone: BTreeSet<BackupId> = known.chain(named).filter(is_lost).collect();
    let met = lost.iter().filter_map(|one| behind(&one.key)).collect();
    let keys = lost.iter().map(|one| one.key.clone()).collect();
    let act = Act::new("catalog forget").of(source.as_str()).with("yes", &digest);
    let logged = Logged::begin(setup, act);
    let done = catalog.forget_lost(&source, keys, gone.into_iter().collect(), met).await;
    let done = done.map_err(anyhow::Error::from);
    logged.end(&done, |_, _| {});
    done?;
    answer(true, format!("these are not reported any more:{all}"));
    Ok(Exit::Success)
}

/// That there is such a source: here, in the bucket, or as far as this host remembers.
async fn is_known(
    setup: &Setup,
    repository: &Repository,
    catalog: &Catalog,
    source: &SourceId,
) -> Result<()> {
    let is_known = setup.config.sources.contains_key(source)
        || repository.sources().await?.contains(source)
        || !catalog.backups(Some(source)).await?.is_empty()
        || !catalog.lost(Some(source)).await?.is_empty()
        || !catalog.named(source).await?.is_empty()
        || !catalog.statements(source).await?.is_empty()
        || !catalog.documents(source).await?.is_empty()
        || !catalog.findings(Some(source)).await?.is_empty();
    if is_known {
        return Ok(());
    }
    let known = setup.config.sources.keys().cloned().collect();
    Err(AgentError::UnknownSource { source_name: source.to_string(), known }.into())
}

/// Whose log was refused, for people, a line each.
pub(super) fn refused_text(refusals: &[Lost]) -> String {
    let line = |one: &Lost| {
        let (key, why) = (shown(&one.key, TEXT_SHOWN), shown(&one.why, TEXT_SHOWN));
        format!("\nREFUSED since {:.0}: {key}: {why}", one.at)
    };
    refusals.iter().take(LOST_SHOWN).map(line).collect()
}

/// One of them on a line of its own, with all that is known of it.
fn line_of(one: &Lost) -> String {
    format!("{}, since {:.0}", told(one), one.at)
}

/// What stands for all of them.
fn digest_of(lost: &[Lost]) -> String {
    let all: String = lost.iter().map(|one| format!("{:?} {:?}\n", one.key, one.why)).collect();
    drctl_store::digest(all.as_bytes()).to_string()[..16].to_owned()
}

/// Whether somebody at the terminal says yes.
fn asked(all: &str) -> Result<bool> {
    let mut stderr = io::stderr();
    write!(stderr, "{WOULD}{all}\nforget them? [y/N] ").context("ask")?;
    stderr.flush().context("ask")?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).context("read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
