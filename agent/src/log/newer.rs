//! Log that a trusted key has signed in a format that only a newer drctl reads: it is there, and does
//! not count.

use drctl_model::{LogEntry, LogPlace, Position, SourceId};

use super::LogStore;
use crate::repository::Repository;
use crate::repository::faults::is_newer;

/// What of one lineage's log only a newer drctl reads.
#[derive(Debug, Clone)]
pub(crate) struct NewerLog<P> {
    /// Its pieces.
    pub(crate) ranges: Vec<(P, P)>,
    /// Which objects, and what to install.
    pub(crate) words: Vec<String>,
}

impl<P> Default for NewerLog<P> {
    fn default() -> Self {
        NewerLog { ranges: Vec::new(), words: Vec::new() }
    }
}

impl<P: Position> NewerLog<P> {
    /// Nothing but that they are there.
    pub(crate) fn entries(&self) -> impl Iterator<Item = LogEntry<P>> {
        self.ranges.iter().map(|range| LogEntry::new(*range, None, None))
    }
}

/// Those of these pieces that only a newer drctl reads, each with which object it is and what to
/// install. They were met as such: whoever was renewed since reads them.
pub(crate) async fn still_newer(
    repository: &Repository,
    source: &SourceId,
    places: Vec<LogPlace>,
) -> Vec<(LogPlace, String)> {
    let log_store = LogStore::reader(repository, source);
    let mut found = Vec::new();
    for place in places {
        if let Err(error) = log_store.head(&place).await
            && is_newer(&error)
        {
            found.push((place, format!("{error:#}")));
        }
    }
    found
}
