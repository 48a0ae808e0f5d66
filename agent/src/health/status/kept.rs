//! Why nothing of a source could be removed now.

use drctl_catalog::Catalog;
use tokio::time::Instant;

use super::{SourceStatus, late, why, within};
use crate::host::Setup;
use crate::prune::reasons;
use crate::repository::Repository;
use crate::repository::statements::statements;

/// Asks what a plan of a removal would say, after all else was looked at.
pub(super) async fn note(
    (setup, repository, catalog): (&Setup, &Repository, &Catalog),
    all: &mut [SourceStatus],
    deadline: Option<Instant>,
) {
    for status in all.iter_mut().filter(|status| status.unreadable.is_none()) {
        let asking = async {
            let said = statements(repository, &status.source).await?;
            let of = (&status.source, &said, status.vanished.clone());
            reasons(setup, repository, catalog, of).await
        };
        let asked = within(deadline, asking).await.unwrap_or_else(|| Err(late()));
        status.kept = asked.unwrap_or_else(|error| {
            vec![format!("whether something may go is not known: {}", why(&error))]
        });
    }
}

impl SourceStatus {
    /// Those that no finding tells, for people. What another tool keeps is never removed by us.
    #[must_use]
    pub fn keeps(&self) -> Vec<&str> {
        let newest = self.newest_good.as_ref().or(self.suspect.as_ref());
        if newest.is_some_and(|one| one.kind.external().is_some()) {
            return Vec::new();
        }
        let findings = self.findings();
        let is_told = |why: &&String| findings.iter().any(|one| one.text.contains(why.as_str()));
        self.kept.iter().filter(|why| !is_told(why)).map(String::as_str).collect()
    }
}
