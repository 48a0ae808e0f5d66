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
        if self.forgotten.contains(&source) {
            let well = || self.well.contains(&(source.clone(), "backup".to_owned()));
            match code.as_str() {
                code if OF_MEMORY.contains(&code) => return false,
                // A backup that was made since tells that it is over.
                code if OF_BACKUPS.contains(&code) && !well() => return false,
                _ => {}
            }
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

/// What only a host's memory tells, once it was found.
const OF_MEMORY: [&str; 9] = [
    "object_gone",
    "object_meddled",
    "damaged",
    "log_lost",
    "log_refused",
    "statement_in_doubt",
    "verify_failed",
    "drill_failed",
    "drill_in_doubt",
];

/// What its memory tells of backups, until another one was made.
const OF_BACKUPS: [&str; 5] =
    ["no_good_backup", "rpo_breached", "job_failed", "job_stopped", "job_died"];

/// What is amiss with a channel, which is its subject: the others tell it.
pub(crate) const OF_CHANNELS: [&str; 2] = ["alert_path", "channel_fails"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_memory_told_stands_while_that_is_lost() {
        let shop: SourceId = "shop".parse().unwrap();
        let key = |code: &str| ("shop".to_owned(), code.to_owned(), String::new());
        let known = Seen { sources: [shop.clone()].into(), ..Seen::default() };
        let lost = Seen { forgotten: [shop.clone()].into(), ..known.clone() };
        let backed_up = Seen { well: [(shop, "backup".to_owned())].into(), ..lost.clone() };
        for (code, expected) in [
            ("object_gone", [true, false, false]),
            ("damaged", [true, false, false]),
            ("job_failed", [true, false, true]),
            ("rpo_breached", [true, false, true]),
            ("bucket_unreadable", [true, true, true]),
            ("log_gap", [true, true, true]),
        ] {
            let found = [&known, &lost, &backed_up].map(|seen| seen.is_over(&key(code)));
            assert_eq!(found, expected, "{code}");
        }
    }
}
