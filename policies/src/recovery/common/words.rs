use drctl_model::BackupId;
use jiff::Timestamp;

use super::Lines;

/// A backup from which the log can be replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base<L: Lines> {
    pub(crate) backup: BackupId,
    /// The lineage on which it was taken.
    pub(crate) lineage: L::Lineage,
    /// The log is needed from here on.
    pub(crate) start: L::At,
    /// Consistent from here on, and no earlier.
    pub(crate) stop: L::At,
    /// When that was.
    pub(crate) stood: Stood,
    /// Whether it counts.
    pub(crate) good: bool,
}

/// When a base ended. Never by the clock of the host that copied, where the log tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stood {
    /// By the log that it brings along: its last commit, where it has one; when the checkpoint was
    /// begun with which it begins, in whole seconds.
    Log {
        /// The last commit or abort before its end.
        last_commit: Option<Timestamp>,
        /// When its checkpoint was begun.
        checkpoint: Timestamp,
    },
    /// By the clock of the server; rounded up where it was rounded.
    Server(Timestamp),
    /// By that of the host that copied: it counts only where no log tells.
    Host(Timestamp),
}

impl Stood {
    /// The moment that it tells, whatever it is worth.
    #[must_use]
    pub fn told(&self) -> Timestamp {
        match self {
            Stood::Log { last_commit, checkpoint } => last_commit.unwrap_or(*checkpoint),
            Stood::Server(at) | Stood::Host(at) => *at,
        }
    }
}

/// A position, and the time that it stands for where it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place<L: Lines> {
    pub(crate) position: L::At,
    pub(crate) at: Option<Timestamp>,
}

/// Log that should be there and is not, or that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gap<L: Lines> {
    /// Whose log is missing first.
    pub(crate) lineage: L::Lineage,
    pub(crate) from: L::At,
    /// Where log is there again; nothing where all from there on is missing.
    pub(crate) until: Option<L::At>,
    pub(crate) why: Why,
}

/// A place in the log of which nobody knows whether what lies behind it follows what lies before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unproven<L: Lines> {
    pub(crate) lineage: L::Lineage,
    pub(crate) at: L::At,
    /// The last commit before it, where one is known.
    pub(crate) last: Option<Timestamp>,
}

/// Why nothing leads across a place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Why {
    /// What lies under its names is not believed: it may be log, or an object of somebody else.
    Refused,
    /// Log is missing.
    Missing,
    /// The server wrote too little from there on.
    TooLittle,
    /// What is there follows another history than what lies before it.
    OtherHistory,
    /// What is there is not the log that was written: somebody has read it.
    Damaged,
    /// What is there is in a format that only a newer program reads.
    Newer,
}

/// A stretch of one lineage's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leg<L: Lines> {
    pub(crate) lineage: L::Lineage,
    pub(crate) from: L::At,
    pub(crate) until: L::At,
}
