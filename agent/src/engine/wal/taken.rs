//! What to do where the name of a piece is taken by somebody else's object: the same log is stored
//! under other names.

use drctl_model::{Lsn, WalPart};
use drctl_store::{Key, layout};

use crate::host::AgentError;

/// Positions of records are multiples of it (`MAXIMUM_ALIGNOF`).
const ALIGNMENT: u64 = 8;

/// The range of log whose name is taken.
pub(super) fn taken(error: &anyhow::Error) -> Option<(Lsn, Lsn)> {
    let Some(AgentError::NameTaken { key }) = error.downcast_ref() else { return None };
    match layout::piece_at(&Key::from(key.as_str()))?.1.wal()?.part {
        WalPart::Range { start, end } => Some((start, end)),
        WalPart::History => None,
    }
}

/// Whether the name of a timeline's history is taken. No other name stands for it.
pub(super) fn history_taken(error: &anyhow::Error) -> bool {
    let Some(AgentError::NameTaken { key }) = error.downcast_ref() else { return false };
    let place = layout::piece_at(&Key::from(key.as_str())).and_then(|(_, place)| place.wal());
    place.is_some_and(|place| place.part == WalPart::History)
}

/// What is told of log that is stored without the history of its timeline.
pub(super) fn tell_history(error: &anyhow::Error) {
    tracing::error!(
        "the history file of the timeline is not stored, but its WAL is: {error:#}. Remove that \
         object with the bucket's own client: until then no recovery leads from another timeline \
         to this one"
    );
}

/// A position within a range, where nobody can guess it.
pub(super) fn within((start, end): (Lsn, Lsn)) -> Lsn {
    let places = (end.since(start) / ALIGNMENT).saturating_sub(1).max(1);
    start.plus((1 + rand::random::<u64>() % places) * ALIGNMENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_within() {
        for length in [16, 24, 1 << 20] {
            let range = (Lsn(1 << 20), Lsn((1 << 20) + length));
            let at = within(range);
            assert!(range.0 < at && at < range.1, "{at}");
        }
        let key = "s/shop/l/0000000000000007-00000001/0000000000100000-0000000000200000.log";
        let error = anyhow::Error::from(AgentError::NameTaken { key: key.to_owned() });
        assert!(!history_taken(&error));
        assert_eq!(taken(&error.context("store")), Some((Lsn(1 << 20), Lsn(2 << 20))));
        let key = "s/shop/l/0000000000000007-00000002/notes/history";
        let error = anyhow::Error::from(AgentError::NameTaken { key: key.to_owned() });
        assert_eq!((taken(&error), history_taken(&error.context("store"))), (None, true));
    }
}
