use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use object_store::path::Path;

/// How many are kept: a bucket may be full of them.
const MOST: usize = 1000;

/// That somebody meddled with an object, seen while it was read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alarm {
    /// The object's key.
    pub key: String,
    /// What was seen.
    pub odd: Odd,
}

/// What may be odd about an object that can be read all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Odd {
    /// It was deleted, and a version behind that was used.
    Deleted,
    /// Something that does not count was written over it; the first version that counts was used.
    Hidden,
    /// Several of its versions count and say different things; the first one was used.
    Disputed,
    /// It is not there, or is not what it must be, and it was done without it.
    Lost,
}

impl Odd {
    /// A stable name for scripts.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Odd::Deleted => "object_deleted",
            Odd::Hidden => "object_hidden",
            Odd::Disputed => "object_disputed",
            Odd::Lost => "object_lost",
        }
    }
}

impl Alarm {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let what = match self.odd {
            Odd::Deleted => "somebody deleted it; an older version is used",
            Odd::Hidden => "somebody overwrote it; the first valid version is used",
            Odd::Disputed => {
                "several versions of it are signed and differ: somebody with a trusted key wrote \
                 it again; the first one is used"
            }
            Odd::Lost => "it is gone or damaged; drctl continued without it",
        };
        format!("{}: {what}", self.key)
    }
}

/// The alarms of one bucket; its clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Alarms(Arc<Mutex<BTreeSet<Alarm>>>);

impl Alarms {
    /// Keeps one, and says it the first time.
    pub(crate) fn raise(&self, key: &Path, odd: Odd) {
        let alarm = Alarm { key: key.to_string(), odd };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < MOST && !all.contains(&alarm) {
            tracing::warn!("{}", alarm.text());
            all.insert(alarm);
        }
    }

    pub(crate) fn all(&self) -> Vec<Alarm> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
