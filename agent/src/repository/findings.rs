//! Findings of whoever comes upon them: told at once on standard error, and kept in this host's
//! catalog, so that `drctl status` tells them as long as they stand. What cannot be kept is told all
//! the same, and stops no work.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use drctl_catalog::{Catalog, CatalogError, Loss, Lost, Standing};
use drctl_model::{BackupSummary, Checked, Clock, Finding, FindingCode, Level, SourceId, shown};
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::host::{CATALOG, Setup, private};

/// For how long findings may be on their way into the catalog: whoever waits hears of them all the
/// same.
const KEPT_WITHIN: Duration = Duration::from_secs(10);

/// How much of what speaks against a backup is shown.
const SHOWN: usize = 500;

/// No more wait for a catalog that is in use; what comes then is only told.
const WAITING: usize = 1000;

/// Where the findings of a source go; its clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Findings(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Where they are kept; nothing where they are only told.
    home: Option<Home>,
    waiting: Mutex<Vec<(Timestamp, Checked)>>,
    news: Notify,
    /// Whether it was said that they cannot be kept.
    said: AtomicBool,
}

/// Whose findings are kept, and where.
struct Home {
    source: SourceId,
    directory: PathBuf,
    clock: Arc<dyn Clock>,
}

impl Findings {
    /// Those of a source of this host.
    pub(crate) fn of(setup: &Setup, source: &SourceId) -> Self {
        let (source, clock) = (source.clone(), Arc::clone(&setup.clock));
        let directory = setup.config.paths.state_dir.clone();
        let home = Some(Home { source, directory, clock });
        Findings(Arc::new(Inner { home, ..Inner::default() }))
    }

    /// Tells of one, and keeps it as soon as somebody waits in [`keep`](Self::keep).
    pub(crate) fn tell(&self, finding: Finding) {
        say(&finding);
        self.note(Checked::met(finding));
    }

    /// The same of all that a check found, which was told of already.
    pub(crate) fn note(&self, checked: Checked) {
        let Some(home) = &self.0.home else { return };
        let mut waiting = self.waiting();
        if waiting.len() < WAITING {
            waiting.push((home.clock.now(), checked));
        }
        drop(waiting);
        self.0.news.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<(Timestamp, Checked)>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what comes, beside work that must not wait for a catalog; never ends.
    pub(crate) async fn keep_all(&self) -> Infallible {
        loop {
            self.keep().await;
            self.0.news.notified().await;
        }
    }

    /// Keeps what was told of until now.
    pub(crate) async fn keep(&self) {
        let Some(home) = &self.0.home else { return };
        // They stay until they are kept, should nobody wait for the end of this.
        let batch = self.waiting().clone();
        let found = batch.iter().any(|(_, checked)| !checked.found.is_empty());
        if batch.is_empty() {
            return;
        }
        let kept = timeout(KEPT_WITHIN, keep(home, &batch)).await;
        let kept = kept.context("the catalog is in use").and_then(|kept| kept);
        let mut waiting = self.waiting();
        let done = batch.len().min(waiting.len());
        waiting.drain(..done);
        drop(waiting);
        match kept {
            Ok(()) => {}
            Err(error) if found && !self.0.said.swap(true, Ordering::Relaxed) => {
                tracing::warn!(
                    "`drctl status` will not show this, it could not be recorded: \
                                {error:#}"
                );
            }
            Err(error) => tracing::debug!("findings are not kept: {error:#}"),
        }
    }
}

async fn keep(home: &Home, batch: &[(Timestamp, Checked)]) -> Result<()> {
    let path = home.directory.join(CATALOG);
    // Where nothing was ever kept there is nothing to settle.
    if batch.iter().all(|(_, checked)| checked.found.is_empty()) && !path.exists() {
        return Ok(());
    }
    private::directory(&home.directory)?;
    let catalog = Catalog::open(&path).await.context("open the catalog")?;
    for (at, checked) in batch {
        let noted = catalog.note_findings(&home.source, *at, checked.clone()).await;
        noted.context("note what was found")?;
    }
    Ok(())
}

/// Settles what stands of a source and is not found any more, and begins nothing: for a look that
/// nobody may ever repeat.
pub(crate) async fn settle(setup: &Setup, source: &SourceId, mut checked: Checked) {
    let Some(catalog) = setup.writable_catalog().await else { return };
    let settled = async {
        let standing = catalog.findings(Some(source)).await?;
        let stands = |found: &Finding| standing.iter().any(|one| one.finding.is_same(found));
        checked.found.retain(stands);
        catalog.note_findings(source, setup.clock.now(), checked).await
    };
    if let Err(error) = settled.await {
        tracing::debug!("findings are not settled: {error}");
    }
}

/// Tells of one on standard error. What is bad is heard with `--quiet` too.
pub(crate) fn say(finding: &Finding) {
    let (source, code) = (finding.source.as_str(), finding.code.as_str());
    let _of_it = tracing::error_span!("finding", source, code).entered();
    match finding.level() {
        Level::Bad => tracing::error!("{}", finding.line()),
        Level::Warning => tracing::warn!("{}", finding.line()),
        Level::Good => {}
    }
}

/// What speaks against a backup, in words; nothing against a good one.
pub(crate) fn suspect(backup: &BackupSummary) -> Option<Finding> {
    let (id, why) = (&backup.backup, shown(&backup.suspect.join("; "), SHOWN));
    let text = format!(
        "{id} is suspect ({why}): look at it with `drctl show {id}`; if it is correct, `drctl \
         accept {id}`"
    );
    (!backup.is_good()).then(|| Finding {
        code: FindingCode::BackupSuspect,
        source: backup.source.clone(),
        subject: id.to_string(),
        text,
        hint: None,
    })
}

/// What only whoever streams or archives log comes upon, so that nobody else sees whether it still
/// is so.
pub(crate) const OF_LOG: [FindingCode; 6] = [
    FindingCode::LogStandsStill,
    FindingCode::CommitsWait,
    FindingCode::ArchivingFails,
    FindingCode::LogWaits,
    FindingCode::SlotLost,
    FindingCode::SlotFills,
];

/// Whose log was refused, of one source or of all, in words: it never came to lie in the bucket, so
/// that this host's catalog alone can tell of it, until somebody has seen it.
///
/// # Errors
/// The catalog's.
pub(crate) async fn refusals(
    catalog: &Catalog,
    source: Option<&SourceId>,
) -> Result<Vec<Lost>, CatalogError> {
    Ok(refused(&catalog.findings(source).await?))
}

/// The same of findings that are known.
pub(crate) fn refused(standing: &[Standing]) -> Vec<Lost> {
    let refused = standing.iter().filter(|one| one.finding.code == FindingCode::LogRefused);
    refused.cloned().map(in_words).collect()
}

/// The same, and what else nobody settles who does not stream or archive any more: what an operator
/// may forget.
///
/// # Errors
/// The catalog's.
pub(crate) async fn forgettable(
    catalog: &Catalog,
    source: &SourceId,
) -> Result<Vec<Lost>, CatalogError> {
    let standing = catalog.findings(Some(source)).await?.into_iter();
    let may = |code: FindingCode| code == FindingCode::LogRefused || OF_LOG.contains(&code);
    Ok(standing.filter(|one| may(one.finding.code)).map(in_words).collect())
}

/// What begins the key of a finding, where it is told among what is gone.
fn word(code: FindingCode) -> &'static str {
    match code {
        FindingCode::LogRefused => "refused",
        code => code.as_str(),
    }
}

fn in_words(Standing { finding, first, .. }: Standing) -> Lost {
    let key = format!("{}: {}", word(finding.code), finding.subject);
    Lost { key, source: finding.source, loss: Loss::Gone, why: finding.text, at: first }
}

/// Code and subject of one that was told [in words](forgettable); nothing of an object's key.
pub(crate) fn behind(key: &str) -> Option<(FindingCode, String)> {
    let (begins, subject) = key.split_once(": ")?;
    let code = FindingCode::ALL.iter().find(|code| word(**code) == begins)?;
    Some((*code, subject.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use drctl_model::SystemClock;

    use super::*;

    fn at(directory: &Path) -> Findings {
        let source = "shop".parse().unwrap();
        let home = Home { source, directory: directory.to_owned(), clock: Arc::new(SystemClock) };
        Findings(Arc::new(Inner { home: Some(home), ..Inner::default() }))
    }

    fn gap(subject: &str) -> Finding {
        Finding {
            code: FindingCode::LogGap,
            source: "shop".parse().unwrap(),
            subject: subject.to_owned(),
            text: "GAP".to_owned(),
            hint: None,
        }
    }

    #[tokio::test]
    async fn what_is_told_is_kept_beside_the_work_and_settled() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let findings = at(&state);
        // To settle what nobody has kept makes no catalog.
        findings.note(Checked::all(&[FindingCode::LogGap], vec![]));
        findings.keep().await;
        assert!(!state.exists());
        findings.tell(gap("one"));
        let work = async {
            let standing = async || {
                let catalog = Catalog::open_read_only(&state.join(CATALOG)).await.ok()?;
                catalog.findings(None).await.ok()
            };
            loop {
                if let Some(all) = standing().await.filter(|all| !all.is_empty()) {
                    return all;
                }
                tokio::task::yield_now().await;
            }
        };
        let kept = tokio::select! {
            kept = work => kept,
            never = findings.keep_all() => match never {},
        };
        assert_eq!((kept.len(), &kept[0].finding), (1, &gap("one")));
        findings.note(Checked::all(&[FindingCode::LogGap], vec![]));
        findings.keep().await;
        let catalog = Catalog::open_read_only(&state.join(CATALOG)).await.unwrap();
        assert_eq!(catalog.findings(None).await.unwrap(), []);
    }

    #[tokio::test]
    async fn what_cannot_be_kept_is_told_and_stops_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        std::fs::write(&state, "no directory").unwrap();
        let findings = at(&state);
        for subject in ["one", "two"] {
            findings.tell(gap(subject));
            findings.keep().await;
        }
        assert!(findings.0.said.load(Ordering::Relaxed), "it is said that it is not kept");
        assert!(findings.waiting().is_empty(), "nothing piles up");
    }

    #[test]
    fn a_finding_among_what_is_gone_leads_back() {
        let finding = |code| Finding {
            code,
            source: "shop".parse().unwrap(),
            subject: "slot: one".to_owned(),
            text: String::new(),
            hint: None,
        };
        for code in [FindingCode::LogRefused, FindingCode::CommitsWait] {
            let at = Timestamp::UNIX_EPOCH;
            let told = in_words(Standing { finding: finding(code), first: at, last: at });
            assert_eq!(behind(&told.key), Some((code, "slot: one".to_owned())), "{}", told.key);
        }
        assert_eq!(behind("s/shop/b/x/manifest.json"), None);
    }
}
