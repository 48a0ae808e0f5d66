use drctl_model::{BackupId, InForce, Statement};

/// Why a backup stays whatever the policy says.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept {
    /// That it is pinned: the reason.
    pub(super) pinned: Option<String>,
    /// The same of a legal hold, of the backup or of its source.
    pub(super) held: Option<String>,
}

impl Kept {
    pub(super) fn of(said: &InForce, backup: &BackupId) -> Self {
        let reason = |said: Option<&Statement>| said.map(|said| said.reason.clone());
        let held = said.holds.get(backup).or(said.hold.as_ref());
        Kept { pinned: reason(said.pins.get(backup)), held: reason(held) }
    }

    /// In words, behind its state.
    pub(super) fn words(&self) -> &'static str {
        match (&self.held, &self.pinned) {
            (Some(_), Some(_)) => ", pinned, held",
            (Some(_), None) => ", held",
            (None, Some(_)) => ", pinned",
            (None, None) => "",
        }
    }

    /// A line for each.
    pub(super) fn lines(&self) -> impl Iterator<Item = (&'static str, String)> {
        let pinned = self.pinned.iter().map(|why| ("pinned", why.clone()));
        pinned.chain(self.held.iter().map(|why| ("legal hold", why.clone())))
    }
}
