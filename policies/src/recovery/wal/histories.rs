use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use drctl_model::{Lsn, Timeline, TimelineHistory};

/// What is known of how timelines branched off from each other.
///
/// A timeline counts as known when its history is here, or that of one that descends from it. The
/// first timeline needs none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Histories {
    known: BTreeMap<Timeline, TimelineHistory>,
    /// Timelines of which two histories tell different things.
    pub(super) disputed: BTreeSet<Timeline>,
    /// Timelines with a base whose histories are missing: nothing older is known to lead to them.
    pub(super) assumed: BTreeSet<Timeline>,
}

impl Histories {
    /// `has_first` tells whether anything lies on the first timeline; `of_bases` are the timelines
    /// on which bases were taken.
    pub(super) fn new(
        histories: Vec<TimelineHistory>,
        has_first: bool,
        of_bases: BTreeSet<Timeline>,
    ) -> Histories {
        let mut all = Histories::default();
        for history in histories {
            all.know(history);
        }
        all.know_ancestors(has_first);
        all.assume(of_bases);
        all
    }

    /// That of a timeline: without ancestors where it is missing and a base is on it.
    pub(super) fn of(&self, timeline: Timeline) -> Option<&TimelineHistory> {
        self.known.get(&timeline)
    }

    /// The timelines that are known, oldest first.
    pub(super) fn timelines(&self) -> impl DoubleEndedIterator<Item = Timeline> {
        self.known.keys().copied()
    }

    /// Their histories, oldest first.
    pub(super) fn all(&self) -> impl DoubleEndedIterator<Item = &TimelineHistory> {
        self.known.values()
    }

    /// The first history of a timeline stands; another one is only remembered as a contradiction.
    fn know(&mut self, history: TimelineHistory) {
        let timeline = history.timeline;
        let known = self.known.entry(timeline).or_insert_with(|| history.clone());
        if !same(known, &history) {
            self.disputed.insert(timeline);
        }
    }

    /// A history tells the histories of its ancestors too.
    fn know_ancestors(&mut self, has_first: bool) {
        let mut told = Vec::new();
        for history in self.known.values() {
            for (index, ancestor) in history.ancestors.iter().enumerate() {
                let ancestors = history.ancestors.iter().take(index).cloned().collect();
                told.push(TimelineHistory { timeline: ancestor.timeline, ancestors });
            }
        }
        if has_first {
            told.push(TimelineHistory::of_first(Timeline::FIRST));
        }
        for history in told {
            self.know(history);
        }
    }

    /// A base on a timeline whose history is missing leads on from there all the same.
    fn assume(&mut self, of_bases: BTreeSet<Timeline>) {
        for timeline in of_bases {
            if let Entry::Vacant(missing) = self.known.entry(timeline) {
                missing.insert(TimelineHistory::of_first(timeline));
                self.assumed.insert(timeline);
            }
        }
    }
}

/// Whether two histories tell the same; the words about the reason don't matter.
fn same(one: &TimelineHistory, other: &TimelineHistory) -> bool {
    let steps = |history: &TimelineHistory| -> Vec<(Timeline, Lsn)> {
        history.ancestors.iter().map(|a| (a.timeline, a.until)).collect()
    };
    steps(one) == steps(other)
}
