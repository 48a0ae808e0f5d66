//! What a listing shows of a source's log: names, bounded before anything is believed of them, and
//! all states of what somebody has written twice or deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use drctl_model::{IndexPlace, Lineage, LogAt, LogPart, LogPlace, NoteName};
use drctl_store::{Bucket, Kept, Key, State, StoreError, Stored, layout};

use super::LogStore;

/// A range of log.
pub(super) type Range = (LogAt, LogAt);

const LISTING: &str = "list the log";

/// What a listing shows of one lineage's log, in order.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    /// Its pieces.
    pub(crate) ranges: Vec<Range>,
    /// What its engine has noted.
    pub(super) notes: BTreeSet<NoteName>,
    /// Its indexes.
    pub(super) indexes: Vec<IndexPlace>,
    /// Those that were written more than once, or deleted.
    pub(super) odd_indexes: Vec<IndexPlace>,
    /// Pieces that were written more than once, or deleted: nothing that is known of them counts
    /// before all of their states were looked at.
    pub(super) odd: BTreeSet<Range>,
    /// The same of notes.
    pub(super) odd_notes: BTreeSet<NoteName>,
    /// The lengths of the objects of all others, in the order of the ranges.
    pub(super) sizes: Vec<(Range, u64)>,
}

impl Listed {
    /// Takes up an object; the length of an odd one says nothing.
    fn add(&mut self, part: &LogPart, bytes: Option<u64>) {
        match part {
            LogPart::Range { start, end } => {
                self.ranges.push((*start, *end));
                match bytes {
                    Some(bytes) => self.sizes.push(((*start, *end), bytes)),
                    None => drop(self.odd.insert((*start, *end))),
                }
            }
            LogPart::Note { name } => {
                self.odd_notes.extend(bytes.is_none().then(|| name.clone()));
                self.notes.insert(name.clone());
            }
        }
    }

    fn sort(&mut self) {
        self.ranges.sort_unstable();
        self.ranges.dedup();
        self.indexes.sort_unstable();
        self.indexes.dedup();
        self.sizes.retain(|(range, _)| !self.odd.contains(range));
        self.sizes.sort_unstable();
    }
}

/// For how many objects the listed states are kept: for all others they are asked for.
const MOST_KEPT: usize = 100_000;

/// What listings have told of the states of objects; clones are the same.
#[derive(Clone, Default)]
pub(super) struct States(Arc<Mutex<Told>>);

#[derive(Default)]
struct Told {
    kept: BTreeMap<Key, Kept>,
    /// Whether whatever is not in it has one state only.
    all: bool,
}

impl States {
    /// The states of an object: as they were listed, or asked for.
    pub(super) async fn of(&self, bucket: &Bucket, key: &Key) -> Result<Kept, StoreError> {
        {
            let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match told.kept.get(key) {
                Some(kept) => return Ok(kept.clone()),
                None if told.all => {
                    return Ok(Kept { states: vec![Stored::newest(key)], deleted: false });
                }
                None => {}
            }
        }
        bucket.kept(key).await
    }

    /// Whether a listing has told that an object was deleted.
    pub(super) fn deleted(&self, key: &Key) -> bool {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.kept.get(key).is_some_and(|kept| kept.deleted)
    }

    /// Forgets what was told of an object: it was written again.
    pub(super) fn forget(&self, key: &Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).kept.remove(key);
    }

    /// Takes up what a listing showed: all of it, or only what is odd and that the rest is not.
    fn learn(&self, mut seen: BTreeMap<Key, Kept>, all: bool) {
        // Where no versions are kept nothing is to be learnt.
        let plain = |kept: &Kept| kept.states.iter().all(|state| state.version.is_none());
        seen.retain(|_, kept| kept.deleted || kept.states.len() != 1 || !plain(kept));
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !all && !told.all && told.kept.len() + seen.len() > MOST_KEPT {
            told.kept.clear();
            if seen.len() > MOST_KEPT {
                return;
            }
        }
        told.all |= all;
        told.kept.extend(seen);
    }
}

/// Collects the states of objects that a listing shows, newest first.
#[derive(Default)]
struct Collector {
    seen: BTreeMap<Key, Kept>,
    /// Keys whose newest state was seen, of which nothing is kept unless more comes.
    plain: bool,
}

impl Collector {
    /// Whether this is the first that is seen of an object which has bytes somewhere.
    fn add(&mut self, state: &State) -> bool {
        if self.plain && state.latest && !state.deleted {
            return true;
        }
        let is_new = !self.seen.contains_key(&state.key);
        let kept = self.seen.entry(state.key.clone()).or_default();
        kept.deleted |= state.latest && state.deleted;
        if !state.deleted {
            kept.states.push(state.stored());
        }
        is_new
    }

    /// First written first. Where the newest state was not kept it is what a plain GET finds.
    fn done(mut self) -> BTreeMap<Key, Kept> {
        for (key, kept) in &mut self.seen {
            kept.states.reverse();
            if self.plain && !kept.deleted {
                kept.states.push(Stored::newest(key));
            }
        }
        self.seen
    }
}

impl LogStore {
    /// The lineages of which there is log.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn lineages(&self) -> Result<BTreeSet<Lineage>> {
        let folders = self.repository.bucket.list_folders(&layout::logs(&self.source)).await;
        let folders = folders.context("list the logs in the bucket")?;
        Ok(folders.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// What is there of the log of some lineages.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn listed(
        &self,
        of: impl Fn(&Lineage) -> bool,
    ) -> Result<BTreeMap<Lineage, Listed>> {
        let mut found: BTreeMap<Lineage, Listed> = BTreeMap::new();
        // Of many pieces only what is odd is kept apart.
        let mut states = Collector { plain: true, ..Collector::default() };
        let each = |state: State| {
            if let Some((_, place)) = layout::piece_at(&state.key) {
                if of(&place.lineage) {
                    states.add(&state);
                    if state.latest && !state.deleted {
                        found.entry(place.lineage).or_default().add(&place.part, Some(state.bytes));
                    }
                }
            } else if let Some((_, index)) = layout::log_index_at(&state.key)
                && of(&index.lineage)
            {
                states.add(&state);
                if state.latest && !state.deleted {
                    found.entry(index.lineage.clone()).or_default().indexes.push(index);
                }
            }
            ControlFlow::Continue(())
        };
        let logs = layout::logs(&self.source);
        let listing = self.repository.bucket.list_states(&logs, None, each);
        listing.await.context(LISTING)?;
        let odd = states.done();
        for (key, _) in odd.iter().filter(|(_, kept)| !kept.states.is_empty()) {
            if let Some((_, place)) = layout::piece_at(key) {
                found.entry(place.lineage).or_default().add(&place.part, None);
            } else if let Some((_, index)) = layout::log_index_at(key) {
                let listed = found.entry(index.lineage.clone()).or_default();
                listed.indexes.push(index.clone());
                listed.odd_indexes.push(index);
            }
        }
        self.states.learn(odd, true);
        found.values_mut().for_each(Listed::sort);
        Ok(found)
    }

    /// What is there of one lineage's log under names from `from` on.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn listed_from(&self, of: &Lineage, from: LogAt) -> Result<Listed> {
        let prefix = layout::lineage(&self.source, of);
        let mut found = Listed::default();
        let each = |state: State| {
            if let Some((_, place)) = layout::piece_at(&state.key).filter(|_| !state.deleted) {
                found.add(&place.part, Some(state.bytes));
            }
            if state.latest && !state.deleted {
                found.indexes.extend(layout::log_index_at(&state.key).map(|(_, index)| index));
            }
            ControlFlow::Continue(())
        };
        let from = from.to_string();
        let listing = self.repository.bucket.list_states(&prefix, Some(&from), each);
        listing.await.context(LISTING)?;
        found.sort();
        Ok(found)
    }

    /// All indexes over the source's log, in order.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn index_places(&self) -> Result<Vec<IndexPlace>> {
        let (mut found, mut states) = (Vec::new(), Collector::default());
        let each = |state: State| {
            if let Some((_, index)) = layout::log_index_at(&state.key) {
                states.add(&state);
                if !state.deleted {
                    found.push(index);
                }
            }
            ControlFlow::Continue(())
        };
        let logs = layout::logs(&self.source);
        let listing = self.repository.bucket.list_states(&logs, None, each);
        listing.await.context(LISTING)?;
        self.states.learn(states.done(), false);
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// All pieces of the source's log, in order.
    ///
    /// # Errors
    /// [`StoreError`](drctl_store::StoreError) of a bucket that cannot be listed.
    pub async fn places(&self) -> Result<Vec<LogPlace>> {
        Ok(self.sized().await?.into_iter().map(|(place, _)| place).collect())
    }

    /// The same with the lengths of their objects; of those that were written more than once none
    /// says anything.
    pub(crate) async fn sized(&self) -> Result<Vec<(LogPlace, Option<u64>)>> {
        let (mut found, mut states) = (Vec::new(), Collector::default());
        let each = |state: State| {
            if let Some((_, LogPlace { lineage, part })) = layout::piece_at(&state.key) {
                states.add(&state);
                if !state.deleted {
                    // Of many pieces the lineage is kept once.
                    let last = found.last().map(|(last, _): &(LogPlace, _)| &last.lineage);
                    let place = LogPlace { lineage: lineage.shared(last), part };
                    found.push((place, state.latest.then_some(state.bytes)));
                }
            }
            ControlFlow::Continue(())
        };
        let logs = layout::logs(&self.source);
        let listing = self.repository.bucket.list_states(&logs, None, each);
        listing.await.context(LISTING)?;
        self.states.learn(states.done(), false);
        found.sort();
        found.dedup_by(|(later, _), (first, bytes)| {
            let same = later == first;
            *bytes = bytes.filter(|_| !same);
            same
        });
        Ok(found)
    }

    /// The ranges of one lineage's log that begin at `from` or later, in order. Where a store lists in
    /// order, no more than one of them begins at `enough` or later. Those that its engine does not
    /// write (`possible`) are none of a piece.
    ///
    /// # Errors
    /// [`StoreError`](drctl_store::StoreError) of a bucket that cannot be listed.
    pub async fn ranges_of(
        &self,
        of: &Lineage,
        possible: impl Fn((LogAt, LogAt)) -> bool,
        from: LogAt,
        enough: Option<LogAt>,
    ) -> Result<Vec<(LogAt, LogAt)>> {
        let prefix = layout::lineage(&self.source, of);
        let bucket = &self.repository.bucket;
        let enough = enough.filter(|_| bucket.lists_in_order());
        let (mut found, mut states) = (Vec::new(), Collector::default());
        let each = |state: State| {
            if let Some((_, LogPlace { part: LogPart::Range { start, end }, .. })) =
                layout::piece_at(&state.key)
                && possible((start, end))
            {
                states.add(&state);
                if !state.deleted {
                    found.push((start, end));
                }
                // Delete markers are listed behind the versions of a page: a piece is enough only
                // where nothing was deleted, or in the next page.
                if enough.is_some_and(|enough| start >= enough) && state.latest && !state.deleted {
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        };
        let after = from.to_string();
        bucket.list_states(&prefix, Some(&after), each).await.context(LISTING)?;
        self.states.learn(states.done(), false);
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_objects_only_the_odd_ones_are_kept_apart() {
        let state = |key: &str, version: &str, latest, deleted| State {
            key: Key::from(key),
            bytes: 1,
            version: Some(version.to_owned()),
            latest,
            deleted,
            stored: None,
        };
        let seen = [
            state("a", "1", true, false),
            state("b", "2", true, false),
            state("b", "1", false, false),
            state("c", "1", false, false),
            state("c", "2", true, true),
        ];
        let mut odd = Collector { plain: true, ..Collector::default() };
        let mut all = Collector::default();
        for state in &seen {
            odd.add(state);
            all.add(state);
        }
        let (odd, all) = (odd.done(), all.done());
        let versions = |kept: &Kept| -> Vec<Option<String>> {
            kept.states.iter().map(|at| at.version.as_deref().map(str::to_owned)).collect()
        };
        let v = |text: &str| Some(text.to_owned());
        let keys: Vec<&str> = odd.keys().map(Key::as_ref).collect();
        assert_eq!(keys, ["b", "c"]);
        assert_eq!(versions(&odd[&Key::from("b")]), [v("1"), None]);
        assert_eq!(versions(&odd[&Key::from("c")]), [v("1")]);
        assert!(odd[&Key::from("c")].deleted && !odd[&Key::from("b")].deleted);
        assert_eq!(versions(&all[&Key::from("a")]), [v("1")]);
        assert_eq!(versions(&all[&Key::from("b")]), [v("1"), v("2")]);
        assert_eq!(versions(&all[&Key::from("c")]), [v("1")]);
    }
}
