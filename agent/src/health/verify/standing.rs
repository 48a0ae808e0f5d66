//! What an earlier look found wrong, which saw more than this one: it stands until as close a look clears it.

use drctl_catalog::Subject;
use drctl_model::{Closeness, SourceId, Verification, shown};

use super::{FoundOut, Row, TEXT_SHOWN};
use crate::engine::ArchiveVerdict;
use crate::host::Setup;
use crate::repository::{Memory, Repository};

/// Something of a source, and what is known to be wrong with it.
pub(crate) type Standing = (SourceId, Subject, Verification);

/// What stands of backups and logs with which this look found nothing wrong.
pub(super) async fn standing(
    setup: &Setup,
    repository: &Repository,
    rows: &[Row],
    logs: &[(SourceId, ArchiveVerdict)],
) -> Vec<Standing> {
    let rows = rows.iter().filter(|row| row.verdict.problems.is_empty());
    let rows = rows.map(|row| (&row.source, Subject::Backup(row.id.clone())));
    let logs = logs.iter().filter(|(_, found)| found.log.problems.is_empty());
    let logs = logs.map(|(source, found)| (source, found.subject.clone()));
    let Some(catalog) = setup.log_cache(repository).await else { return Vec::new() };
    let memory = Memory::of(&catalog, None).await;
    let memory = memory.inspect_err(|error| tracing::debug!("nothing remembered: {error:#}"));
    let memory = memory.unwrap_or_default();
    let found = rows.chain(logs).filter_map(|(source, subject)| {
        let all = memory.all_bad(source);
        let (_, found) = all.into_iter().find(|(of, _)| **of == subject)?;
        Some((source.clone(), subject, found.clone()))
    });
    found.collect()
}

impl FoundOut {
    /// What stands of one thing of a source.
    pub(crate) fn standing(&self, source: &SourceId, subject: &Subject) -> Option<&Verification> {
        let mut all = self.standing.iter();
        all.find(|(of, what, _)| of == source && what == subject).map(|(_, _, found)| found)
    }
}

/// That it stands, beside what this look looked at.
pub(crate) fn words(found: &Verification, looked_at: &str) -> String {
    let first = found.problems.first().map(|fault| fault.message.as_str()).unwrap_or_default();
    let how = match found.closeness {
        Closeness::Structure => "structure",
        Closeness::Stored | Closeness::Plain => "data",
    };
    format!(
        "BAD ({how}: found {:.0}: {}); this run looked at {looked_at}: good",
        found.at,
        shown(first, TEXT_SHOWN)
    )
}
