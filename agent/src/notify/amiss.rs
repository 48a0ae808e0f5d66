//! What is amiss now, as the agent sees it.

use std::collections::BTreeSet;

use drctl_model::SourceId;
use drctl_policies::{Channel, Severity};
use jiff::Timestamp;

use super::extent::Extent;

/// What only the agent knows of a job, and what ends when a run of that job comes to its end.
pub(crate) const OF_JOBS: [&str; 3] = ["gave_up", "runs_missed", "stream_down"];

/// One thing that is amiss.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Amiss {
    /// Whose; `None`: the host's.
    pub(crate) source: Option<SourceId>,
    /// What: a stable name.
    pub(crate) code: String,
    /// What it is about; empty where there can be but one.
    pub(crate) subject: String,
    /// How bad it is.
    pub(crate) severity: Severity,
    /// What failed, and what to do.
    pub(crate) text: String,
    /// What is safe.
    pub(crate) safe: Option<String>,
    /// What to run.
    pub(crate) run: &'static str,
    /// Since when, as far as that is known.
    pub(crate) since: Option<Timestamp>,
    /// All that it stands for, where it is told as one of several.
    pub(crate) extent: Extent,
}

/// Source (empty: the host), code and subject: of these there is one.
pub(crate) type Key = (String, String, String);

impl Amiss {
    pub(crate) fn key(&self) -> Key {
        let source = self.source.as_ref().map_or(String::new(), ToString::to_string);
        (source, self.code.clone(), self.subject.clone())
    }
}

/// All that was seen at one time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// What is amiss.
    pub(crate) amiss: Vec<Amiss>,
    /// The sources that were looked at.
    pub(crate) sources: BTreeSet<SourceId>,
    /// Of these nobody knows: what was told of them stands.
    pub(crate) unknown: BTreeSet<Key>,
    /// Sources of which this host has forgotten what it knew: what only its memory told of them stands, until
    /// somebody has seen that.
    pub(crate) forgotten: BTreeSet<SourceId>,
    /// The jobs, as source and kind, a run of which came to its end since the agent began, and nothing is
    /// amiss with them since.
    pub(crate) well: BTreeSet<(SourceId, String)>,
}

impl Seen {
    /// Whether a thing that is not amiss now is known to be over.
    pub(super) fn is_over(&self, key: &Key) -> bool {
        let (source, code, subject) = key;
        // What stands for several now may stand for this one, too.
        let covered = |one: &Amiss| {
            let (whose, what, _) = one.key();
            one.extent.is_several() && (&whose, &what) == (source, code)
        };
        if self.amiss.iter().any(covered) {
            return false;
        }
        if source.is_empty() {
            return !self.unknown.contains(key);
        }
        let Ok(source) = source.parse::<SourceId>() else { return false };
        if !self.sources.contains(&source) || self.unknown.contains(key) {
            return false;
        }
        let by_look = OF_JOBS.iter().chain(&OF_BUCKET).any(|known| known == code);
        if self.forgotten.contains(&source) && !by_look {
            return false;
        }
        !OF_JOBS.contains(&code.as_str()) || self.well.contains(&(source, subject.clone()))
    }
}

/// Whether a channel is told of it: not of itself, and only what it asks for.
pub(crate) fn concerns(
    (name, channel): (&str, &Channel),
    (source, code, subject): (&str, &str, &str),
    severity: Severity,
) -> bool {
    let of_sources = channel.sources.as_ref().is_none_or(|sources| {
        source.is_empty() || sources.iter().any(|one| one.as_str() == source)
    });
    let of_itself = OF_CHANNELS.contains(&code) && subject == name;
    of_sources && !of_itself && severity >= channel.min_severity
}

/// What is told of a source by what is seen of its bucket alone.
const OF_BUCKET: [&str; 3] = ["bucket_unreadable", "marker_lost", "marker_newer"];

/// What is amiss with a channel, which is its subject: the others tell it.
pub(crate) const OF_CHANNELS: [&str; 2] = ["alert_path", "channel_fails"];
