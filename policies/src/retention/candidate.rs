use std::time::Duration;

use drctl_model::BackupId;
use jiff::{SignedDuration, Timestamp};

/// How far the clocks of a host and of a store may be apart.
const CLOCKS: Duration = Duration::from_mins(10);

/// From how much on a backup is dated before the store got it, in a way that makes its date doubtful.
const LATE: SignedDuration = SignedDuration::from_hours(24);

/// A backup, as retention sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub backup: BackupId,
    /// When it was: [`taken`](drctl_model::BackupSummary::taken).
    pub taken: Timestamp,
    /// When the store got its manifest, by the clock of the store; nothing where it does not tell.
    pub stored: Option<Timestamp>,
    /// What it is based on, where it is incremental.
    pub parent: Option<BackupId>,
    /// Whether nothing speaks against it or against what it is based on.
    pub counts: bool,
    /// Whether it was restored and looked at, with a good end.
    pub proven: bool,
    /// Who needs it, whatever the policy says.
    pub claims: Vec<Claim>,
}

/// Who needs a backup, whatever the policy says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claim {
    /// Somebody pinned it, and why.
    Pinned(String),
    /// It is on legal hold, and why.
    Held(String),
    /// The store keeps its objects up to then.
    Locked(Timestamp),
    /// Something reads it now: a restore, a drill, a backup that is based on it.
    InUse(String),
}

impl Candidate {
    /// Whether it says that it was taken later than the store got it, or later than the present.
    pub(super) fn is_dated_ahead(&self, now: Timestamp) -> bool {
        let known = self.stored.map_or(now, |stored| stored.min(now));
        known.checked_add(CLOCKS).is_ok_and(|latest| self.taken > latest)
    }

    /// When it was taken and, where the store got it much later, that time: a host whose clock was
    /// wrong, or a repository that was copied to another store. Nobody can tell which.
    pub(super) fn times(&self) -> [Timestamp; 2] {
        let late = self.stored.filter(|at| at.duration_since(self.taken) > LATE);
        [self.taken, late.unwrap_or(self.taken)]
    }

    /// The later of the two.
    pub(super) fn youngest(&self) -> Timestamp {
        self.times()[1]
    }
}
