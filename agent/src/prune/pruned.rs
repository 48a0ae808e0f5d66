//! What was removed, what is kept, and why.

use drctl_model::BackupId;
use drctl_store::{Removal, State};

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Backups that are gone.
    pub gone: Vec<BackupId>,
    /// What else is gone: rests, orphans and log, in words.
    pub also: Vec<String>,
    /// Backups, rests and log that the store keeps because they are locked, in its words.
    pub retained: Vec<(String, String)>,
    /// What was not removed for another reason, and why: somebody has to look at it.
    pub left: Vec<(String, String)>,
    /// Objects that were removed.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether it was ended before all was removed.
    pub stopped: bool,
}

impl Pruned {
    /// Counts a state that is gone; gives why it is still there, where it is.
    pub(super) fn count(&mut self, state: &State, removed: Removal) -> Option<Kept> {
        match removed {
            Removal::Gone => {
                self.objects += 1;
                self.bytes = self.bytes.saturating_add(state.bytes);
                None
            }
            Removal::Retained(why) => Some(Kept::Locked(why)),
            Removal::Linked => Some(Kept::Left(LINKED.to_owned())),
        }
    }

    /// Notes what is still there.
    pub(super) fn note(&mut self, what: String, kept: Kept) {
        match kept {
            Kept::Locked(why) => self.retained.push((what, why)),
            Kept::Left(why) => self.left.push((what, why)),
        }
    }

    /// What is gone, in words; nothing where that is nothing.
    pub(super) fn so_far(&self) -> Option<String> {
        let gone: Vec<String> = self.gone.iter().map(ToString::to_string).collect();
        let all = [gone, self.also.clone()].concat();
        let all = if all.is_empty() { "nothing whole".to_owned() } else { all.join(", ") };
        let objects = self.objects;
        let text = || format!("removed before this failed: {all}; {objects} objects in all");
        (objects > 0).then(text)
    }
}

/// Why something is still there.
pub(super) enum Kept {
    /// The store keeps it.
    Locked(String),
    /// We leave it.
    Left(String),
}

/// Why what lies behind a link is left there.
const LINKED: &str = "it lies behind a link: remove it yourself";
