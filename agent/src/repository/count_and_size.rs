//! What a listing shows of backups: objects and bytes, compared with what is signed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use drctl_model::{BackupId, SourceId};
use drctl_store::layout::{self, Kind};
use drctl_store::{Bucket, Key, Odd, State, StoreError};

/// Whose backup.
type Of = (SourceId, BackupId);

/// What a listing shows of one backup's data: objects and bytes, as they are and as they were first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CountAndSize {
    pub(crate) now: (u64, u64),
    first: (u64, u64),
}

impl CountAndSize {
    /// Says how the listed objects of a backup differ from the signed ones. Where the first states
    /// of all of them are there nothing is lost, and an alarm is raised.
    pub(crate) fn lacks(self, bucket: &Bucket, of: &Of, signed: (u64, u64)) -> Option<String> {
        match self.compare(signed) {
            Compared::Whole => None,
            Compared::Behind(odd) => {
                bucket.alarm(&layout::backup(&of.0, &of.1), odd);
                None
            }
            Compared::Lacking => Some(format!(
                "the backup is incomplete: the bucket lists {} objects of it with {} bytes, its \
                 manifest names {} with {}; `drctl verify` names the object",
                self.now.0, self.now.1, signed.0, signed.1
            )),
        }
    }

    fn compare(self, signed: (u64, u64)) -> Compared {
        match self {
            CountAndSize { now, .. } if now == signed => Compared::Whole,
            CountAndSize { now, first } if first == signed && now.0 < signed.0 => {
                Compared::Behind(Odd::Deleted)
            }
            CountAndSize { first, .. } if first == signed => Compared::Behind(Odd::Hidden),
            CountAndSize { .. } => Compared::Lacking,
        }
    }
}

/// What is listed, beside what is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compared {
    Whole,
    /// The first states of all objects are there, behind others.
    Behind(Odd),
    Lacking,
}

/// What a listing has shown so far of backups.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) data: BTreeMap<Of, CountAndSize>,
    /// Manifests of which some state is there.
    pub(crate) manifests: BTreeSet<Of>,
    /// Manifests whose newest word is that they were deleted.
    pub(crate) hidden: BTreeSet<Of>,
    /// The object that was seen last, and the length that it had first.
    last: Option<(Key, u64)>,
}

impl Seen {
    /// Lists what lies below a prefix.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn list(&mut self, bucket: &Bucket, prefix: &Key) -> Result<(), StoreError> {
        let each = |state: State| {
            self.take(&layout::classify(&state.key), &state);
            ControlFlow::Continue(())
        };
        bucket.list_states(prefix, None, each).await
    }

    /// Of one object the newest state comes first, and a delete marker may come after its versions.
    pub(crate) fn take(&mut self, kind: &Kind, state: &State) {
        match kind {
            Kind::Manifest(source, id) => {
                let at = (source.clone(), id.clone());
                if state.deleted {
                    self.hidden.extend(state.latest.then_some(at));
                } else {
                    self.manifests.insert(at);
                }
            }
            Kind::Data(source, id) if !state.deleted => {
                let weight = self.data.entry((source.clone(), id.clone())).or_default();
                if state.latest {
                    weight.now = plus(weight.now, state.bytes);
                }
                // An older state of the same object was there before this one.
                if let Some((_, bytes)) = self.last.take_if(|(key, _)| *key == state.key) {
                    weight.first = (weight.first.0 - 1, weight.first.1.saturating_sub(bytes));
                }
                weight.first = plus(weight.first, state.bytes);
                self.last = Some((state.key.clone(), state.bytes));
            }
            _ => {}
        }
    }
}

fn plus((objects, bytes): (u64, u64), more: u64) -> (u64, u64) {
    (objects + 1, bytes.saturating_add(more))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_states_of_objects_are_weighed_beside_the_newest() {
        let of: Of =
            ("shop".parse().unwrap(), "20260301T000000Z-0000000000000001".parse().unwrap());
        let state = |n: u64, bytes: u64, latest: bool, deleted: bool| State {
            key: layout::segment(&of.0, &of.1, &drctl_model::StreamId::database(0), n),
            bytes,
            version: None,
            latest,
            deleted,
            stored: None,
        };
        let count_and_size = |states: &[State]| {
            let mut seen = Seen::default();
            for state in states {
                seen.take(&layout::classify(&state.key), state);
            }
            seen.data.values().next().copied().unwrap_or_default()
        };
        let judged = |states: &[State]| count_and_size(states).compare((2, 30));
        let (a, b) = (state(0, 10, true, false), state(1, 20, true, false));
        assert_eq!(judged(&[a.clone(), b]), Compared::Whole);
        let (cut, old) = (state(1, 7, true, false), state(1, 20, false, false));
        assert_eq!(judged(&[a.clone(), cut.clone()]), Compared::Lacking);
        assert_eq!(judged(&[a.clone(), cut, old.clone()]), Compared::Behind(Odd::Hidden));
        let marker = state(1, 0, true, true);
        assert_eq!(judged(&[a, old.clone(), marker.clone()]), Compared::Behind(Odd::Deleted));
        assert_eq!(judged(&[old, marker]), Compared::Lacking);
    }
}
