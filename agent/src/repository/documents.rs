//! Signed objects beside backups and log that say something of them (statements, tombstones, log floors,
//! drills): what of them does not count, for whoever looks at all that there is.

use anyhow::Result;
use drctl_model::{SourceId, shown};
use drctl_store::layout;

use super::Repository;
use super::drills::drills;
use super::faults::is_newer;
use super::memory::NEWER;
use super::removed;
use super::statements::statements;

/// How much of what is wrong with one goes into a sentence.
const SHOWN: usize = 500;

/// What of a source's does not count.
#[derive(Debug, Clone, Default)]
pub struct Doubtful {
    /// What is there and is not believed, each in a sentence.
    pub refused: Vec<String>,
    /// What only a newer drctl reads, with what to install.
    pub newer: Vec<String>,
    /// Keys of what was there, as the others tell, and why that matters.
    pub missing: Vec<(String, String)>,
}

impl Doubtful {
    /// Adds what there is of another source.
    pub(crate) fn extend(&mut self, other: Doubtful) {
        self.refused.extend(other.refused);
        self.newer.extend(other.newer);
        self.missing.extend(other.missing);
    }
}

/// Reads all statements, tombstones and log floors of a source.
///
/// # Errors
/// The store's.
pub(crate) async fn doubtful(repository: &Repository, source: &SourceId) -> Result<Doubtful> {
    let said = statements(repository, source).await?;
    let missing = said.missing().map(|(n, why)| (layout::statement(source, n).to_string(), why));
    let mut found = Doubtful {
        refused: said.refused().collect(),
        newer: said.newer().collect(),
        missing: missing.collect(),
    };
    for (key, error) in removed::disbelieved(repository, source).await? {
        let why = shown(&format!("{error:#}"), SHOWN);
        match is_newer(&error) {
            true => found.newer.push(format!("only a newer drctl reads {key}: {why}")),
            false => found.refused.push(format!(
                "{key} is not believed here ({why}): what it says was removed counts as lost where \
                 somebody misses it"
            )),
        }
    }
    Ok(found)
}

/// The same and the evidence of drills, where nobody else reads that.
///
/// # Errors
/// The store's.
pub(crate) async fn doubtful_with_drills(
    repository: &Repository,
    source: &SourceId,
) -> Result<Doubtful> {
    let mut found = doubtful(repository, source).await?;
    let mut refused = Vec::new();
    drills(repository, source, &mut refused).await?;
    for one in refused {
        let of = if one.code == NEWER { &mut found.newer } else { &mut found.refused };
        of.push(shown(&one.text, SHOWN));
    }
    Ok(found)
}
