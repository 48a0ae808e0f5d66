//! How a source is doing, in one word.

use super::Judged;
use drctl_policies::Severity;

/// How a source is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// There is a good backup, young enough as far as an objective says.
    Good,
    /// Something needs attention: the last backup failed, the newest backup is suspect.
    Attention,
    /// The objective is breached, or there is no good backup at all.
    Breached,
}

impl Health {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Good => "good",
            Health::Attention => "attention",
            Health::Breached => "breached",
        }
    }

    /// By what was found, the worst first.
    #[must_use]
    pub fn of(worst_first: &[Judged]) -> Self {
        worst_first.first().map_or(Health::Good, |worst| worst.health)
    }

    /// How bad that is for whoever is told.
    pub(crate) fn severity(self) -> Severity {
        match self {
            Health::Breached => Severity::Breached,
            Health::Good | Health::Attention => Severity::Attention,
        }
    }
}
