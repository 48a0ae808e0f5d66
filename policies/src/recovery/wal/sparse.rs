use std::collections::BTreeMap;

use drctl_model::{Holds, LogEntry, Lsn, Timeline, micros};

use super::Target;

/// How many segments without a commit are read one after the other in search of one. A server that
/// is idle for so long has little to lose; what is then not known is never claimed.
const IDLE: usize = 512;

/// How many segments without a commit are read between two that have some. Where they lie, a
/// commit between the two is looked for by the server itself.
const BETWEEN: usize = 64;

/// Segments of one timeline without a gap, of which nothing is known but those that were read.
///
/// Whoever wants to know where a time is in thousands of segments reads a few: times grow along
/// the WAL, but for the moments by which commits overtake each other and for clocks that are set
/// back. Where one was set back by more than a segment holds, the server may stop earlier than is
/// told here; a recovery's proof shows that.
#[derive(Debug, Clone)]
pub struct Run {
    /// Whose WAL.
    pub timeline: Timeline,
    /// The first byte.
    pub start: Lsn,
    /// Bytes of a segment.
    pub size: u64,
    /// How many segments.
    pub count: usize,
    read: BTreeMap<usize, LogEntry>,
}

/// What is to be known of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Its last commits.
    Last,
    /// Its first commits and its last ones.
    Ends,
    /// Also where this time is, in microseconds of the epoch.
    Time(i64),
    /// Also the segment that holds this position.
    At(Lsn),
    /// Every segment.
    All,
}

impl Want {
    /// What has to be known to plan a recovery; without a target, to show what can be reached.
    #[must_use]
    pub fn of(target: Option<&Target>) -> Want {
        match target {
            None => Want::Ends,
            Some(Target::Latest) => Want::Last,
            Some(Target::Time(at)) => Want::Time(micros(*at)),
            Some(Target::Lsn { lsn, .. }) => Want::At(*lsn),
            // Ranges of transactions and names of points lie anywhere.
            Some(Target::Xid { .. } | Target::Name(_)) => Want::All,
        }
    }
}

impl Run {
    /// `count` segments of `size` bytes from `start` on.
    #[must_use]
    pub fn new(timeline: Timeline, start: Lsn, size: u64, count: usize) -> Run {
        Run { timeline, start, size, count, read: BTreeMap::new() }
    }

    /// Where the segment of this number begins; the end of the run for `count`.
    #[must_use]
    pub fn at(&self, index: usize) -> Lsn {
        self.start.plus(self.size.saturating_mul(index as u64))
    }

    /// Remembers what a segment holds.
    pub fn learn(&mut self, index: usize, holds: &Holds) {
        let range = (self.at(index), self.at(index.saturating_add(1)));
        self.read.insert(index, LogEntry::of(range, holds));
    }

    /// The next segment that has to be read, if one has.
    #[must_use]
    pub fn next(&self, want: Want) -> Option<usize> {
        if want == Want::All {
            return (0..self.count).find(|index| !self.read.contains_key(index));
        }
        let last = self.idle((0..self.count).rev());
        if want == Want::Last {
            return last;
        }
        last.or_else(|| self.idle(0..self.count)).or_else(|| match want {
            Want::Time(at) => self.between(at),
            Want::At(lsn) => self.holding(lsn).filter(|index| !self.read.contains_key(index)),
            Want::Last | Want::Ends | Want::All => None,
        })
    }

    /// What is likely to be asked for next, where `index` was: as many as that on the way on which it
    /// is, if the one before it on that way had no commits. To read them at once saves time.
    #[must_use]
    pub fn likely(&self, index: usize, most: usize) -> Vec<usize> {
        let is_idle = |at: Option<usize>| {
            at.and_then(|at| self.read.get(&at)).is_some_and(|entry| entry.commits().is_none())
        };
        let way: Vec<usize> = if is_idle(index.checked_add(1)) {
            (0..=index).rev().take(most).collect()
        } else if is_idle(index.checked_sub(1)) {
            (index..self.count).take(most).collect()
        } else {
            vec![index]
        };
        way.into_iter().take_while(|at| !self.read.contains_key(at)).collect()
    }

    /// The next unread segment on the way to the first one that has commits.
    fn idle(&self, way: impl Iterator<Item = usize>) -> Option<usize> {
        for index in way.take(IDLE) {
            match self.read.get(&index) {
                None => return Some(index),
                Some(entry) if entry.commits().is_some() => return None,
                Some(_) => {}
            }
        }
        None
    }

    /// An unread segment halfway between the last one that is known to hold nothing later than a
    /// time, and the first one that is known to do.
    fn between(&self, at: i64) -> Option<usize> {
        let timed = || self.read.iter().filter_map(|(i, e)| Some((*i, e.commits()?.1)));
        let (later, _) = timed().find(|(_, last)| *last > at)?;
        let before = timed().take_while(|(index, _)| *index < later).last();
        let first = before.map_or(0, |(index, _)| index.saturating_add(1));
        let unread = |index: &usize| !self.read.contains_key(index);
        if self.read.range(first..later).count() >= BETWEEN {
            return None;
        }
        let half = first.midpoint(later);
        (half..later).find(unread).or_else(|| (first..half).rev().find(unread))
    }

    fn holding(&self, lsn: Lsn) -> Option<usize> {
        let inside = lsn >= self.start && lsn < self.at(self.count);
        let index = lsn.since(self.start).checked_div(self.size).filter(|_| inside)?;
        usize::try_from(index).ok()
    }

    /// The run as pieces for the planner. What was not read belongs to the piece of the next
    /// segment with commits behind it: what is told of a piece is true of all of it.
    #[must_use]
    pub fn entries(&self, want: Want) -> Vec<LogEntry> {
        let cut = match want {
            Want::At(lsn) => self.holding(lsn),
            _ => None,
        };
        // Everything before `from` is told of; what lies from there on is not yet.
        let (mut entries, mut from, mut last) = (Vec::new(), 0, None);
        if let (Want::Last, Some(first)) = (want, self.read.keys().next().filter(|i| **i > 0)) {
            // Nobody looks for a time in it.
            entries.push(LogEntry::new((self.start, self.at(*first)), None, None));
            from = *first;
        }
        for (index, entry) in &self.read {
            let next = index.saturating_add(1);
            let alone = from == *index;
            let timed = entry.commits();
            if timed.is_some() || alone || cut == Some(*index) || next == self.count {
                entries.push(entry.extended(self.at(from), last.filter(|_| !alone)));
                from = next;
            }
            last = timed.map(|(_, last)| last).or(last);
        }
        if from < self.count {
            entries.push(LogEntry::new((self.at(from), self.at(self.count)), None, None));
        }
        entries
    }
}
