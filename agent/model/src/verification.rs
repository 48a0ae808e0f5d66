//! What was found when a backup or a log was looked at, and what of that still counts.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{BackupSummary, Manifest, Stream};

/// How closely it was looked, from a glance to all there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Closeness {
    /// Signatures, and that each object is there with its signed length.
    Structure,
    /// Every stored byte too.
    Stored,
    /// Every plain byte too.
    Plain,
}

impl Closeness {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Closeness::Structure => "structure",
            Closeness::Stored => "stored",
            Closeness::Plain => "plain",
        }
    }
}

/// What speaks against a backup or a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The error's stable code.
    pub code: String,
    /// In words.
    pub message: String,
    /// Of a signature that is not believed: by whom it was not, as a digest of the keys that are
    /// trusted. Whoever trusts others judges anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<String>,
}

/// One look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// When.
    pub at: Timestamp,
    /// How closely.
    pub closeness: Closeness,
    /// What was wrong; empty when nothing was.
    pub problems: Vec<Fault>,
}

impl Verification {
    /// Whether nothing was wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }
}

/// The looks that found something wrong and that no later one, as close or closer, has cleared.
pub fn standing(looks: &[Verification]) -> impl Iterator<Item = &Verification> {
    let cleared = move |bad: &&Verification| {
        let clears = |good: &Verification| {
            good.is_good() && good.closeness >= bad.closeness && good.at >= bad.at
        };
        !looks.iter().any(clears)
    };
    looks.iter().filter(|look| !look.is_good()).filter(cleared)
}

/// The newest of them.
#[must_use]
pub fn bad(looks: &[Verification]) -> Option<&Verification> {
    standing(looks).max_by_key(|look| look.at)
}

/// The look that says most: one that found something wrong, else the closest.
#[must_use]
pub fn telling(looks: &[Verification]) -> Option<&Verification> {
    let good = looks.iter().filter(|look| look.is_good());
    bad(looks).or_else(|| good.max_by_key(|look| (look.closeness, look.at)))
}

impl Manifest {
    /// The objects that it names, and their bytes.
    #[must_use]
    pub fn objects(&self) -> (u64, u64) {
        let each = self.streams.iter().map(Stream::objects);
        each.fold((0, 0), |sum, one| (sum.0.saturating_add(one.0), sum.1.saturating_add(one.1)))
    }
}

impl BackupSummary {
    /// Whether nothing speaks against it, or somebody accepted that. Says nothing about a restore having been tried.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.suspect.is_empty() || self.accepted.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(second: i64, closeness: Closeness, good: bool) -> Verification {
        let fault = Fault { code: "segment_damaged".into(), message: "x".into(), trust: None };
        let problems = if good { vec![] } else { vec![fault] };
        Verification { at: Timestamp::from_second(second).unwrap(), closeness, problems }
    }

    #[test]
    fn only_a_later_look_that_is_as_close_clears_what_was_bad() {
        use Closeness::{Plain, Stored, Structure};
        let damaged = look(10, Stored, false);
        let cases = [
            (vec![], None, None),
            (vec![damaged.clone()], Some(10), Some(10)),
            (vec![damaged.clone(), look(20, Structure, true)], Some(10), Some(10)),
            (vec![damaged.clone(), look(5, Plain, true)], Some(10), Some(10)),
            (vec![damaged.clone(), look(20, Plain, true)], None, Some(20)),
            (vec![damaged.clone(), look(20, Stored, true)], None, Some(20)),
            (vec![look(10, Plain, true), look(20, Structure, true)], None, Some(10)),
            (vec![look(10, Plain, true), look(20, Structure, false)], Some(20), Some(20)),
        ];
        for (looks, worst, most) in cases {
            let second = |look: &Verification| look.at.as_second();
            assert_eq!(bad(&looks).map(second), worst, "{looks:?}");
            assert_eq!(telling(&looks).map(second), most, "{looks:?}");
        }
    }
}
