//! Why nothing of a source could be removed now.

use drctl_catalog::Catalog;
use drctl_model::{FindingCode, shown};
use tokio::time::Instant;

use super::{Judged, SourceStatus, late, why, within};
use crate::host::Setup;
use crate::prune::{Reason, Reasons, reasons};
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
            let text = format!("whether something may go is not known: {}", why(&error));
            Reasons { passing: vec![text], unknown: true, ..Reasons::default() }
        });
    }
}

impl SourceStatus {
    /// Those that no finding tells, for people. What another tool keeps is never removed by us.
    #[must_use]
    pub fn keeps(&self) -> Vec<&str> {
        if self.is_external() {
            return Vec::new();
        }
        let findings = self.findings();
        let is_told = |why: &&String| findings.iter().any(|one| one.text.contains(why.as_str()));
        self.kept.all().filter(|why| !is_told(why)).map(String::as_str).collect()
    }

    /// That nothing is removed on schedule, for a reason that does not pass by itself and of which nothing
    /// that was `found` tells.
    pub(super) fn of_blocked(&self, found: &[Judged]) -> Option<Judged> {
        if !self.prunes || self.is_external() {
            return None;
        }
        let is_told = |reason: &&Reason| {
            let told = |one: &Judged| Some(one.code) == reason.told_by;
            found.iter().any(|one| told(one) || one.text.contains(&reason.text))
        };
        let untold = self.kept.lasting.iter().filter(|reason| !is_told(reason));
        let all: Vec<&Reason> = untold.chain(&self.kept.unattended).collect();
        let first = all.first()?;
        let more = match all.len() {
            1 => String::new(),
            many => format!(" ({} more: `drctl prune {}`)", many - 1, self.source),
        };
        let text = format!("nothing of it is removed: {}{more}", shown(&first.text, 400));
        let names = all.iter().map(|reason| reason.name);
        Some(Judged::attention(FindingCode::RemovalBlocked, "", text).of_all(names))
    }

    fn is_external(&self) -> bool {
        let newest = self.newest_good.as_ref().or(self.suspect.as_ref());
        newest.is_some_and(|one| one.kind.external().is_some())
    }
}
