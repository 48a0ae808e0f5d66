use std::collections::{BTreeMap, BTreeSet};

use drctl_model::{BackupId, LogEntry, Lsn, Timeline, TimelineHistory};
use jiff::Timestamp;

use super::histories::Histories;
use super::segments::{foreign, proven};
use super::{Base, Piece, RestorePoint, Wal};
use crate::recovery::common::{self, Why};

/// What the bucket holds of one source, made ready for planning.
#[derive(Debug, Clone)]
pub struct Archive {
    pub(super) log: common::Archive<Wal>,
    pub(super) points: Vec<RestorePoint>,
}

/// When the cluster with this system identifier was made by `initdb`, by the clock of its host: PostgreSQL's
/// `BootStrapXLOG` writes the second into the upper half, and the microsecond into the next 20 bits. The
/// earliest time there is for an identifier that holds none.
#[must_use]
pub fn made(system_id: u64) -> Timestamp {
    let made = (system_id >> 32) * 1_000_000 + ((system_id >> 12) & 0xf_ffff);
    let made = i64::try_from(made).ok().and_then(|made| Timestamp::from_microsecond(made).ok());
    made.unwrap_or(Timestamp::MIN)
}

impl Archive {
    /// Sorts and joins what the catalog knows; pieces of no length count for nothing.
    ///
    /// A timeline counts as known when its history is here, or that of one that descends from it.
    /// The first timeline needs none.
    #[must_use]
    pub fn new(
        bases: Vec<Base>,
        pieces: impl IntoIterator<Item = Piece>,
        points: Vec<RestorePoint>,
        histories: Vec<TimelineHistory>,
    ) -> Archive {
        let mut logs: BTreeMap<Timeline, Vec<LogEntry>> = BTreeMap::new();
        let mut pieces = pieces.into_iter().peekable();
        while let Some(timeline) = pieces.peek().map(|piece| piece.timeline) {
            let entries = logs.entry(timeline).or_default();
            while let Some(piece) = pieces.next_if(|piece| piece.timeline == timeline) {
                entries.push(piece.entry());
            }
        }
        Archive::of(bases, logs, points, histories)
    }

    /// The same of pieces that are in few bytes already; those that are in order cost least.
    #[must_use]
    pub fn of(
        bases: Vec<Base>,
        logs: BTreeMap<Timeline, Vec<LogEntry>>,
        points: Vec<RestorePoint>,
        histories: Vec<TimelineHistory>,
    ) -> Archive {
        let common = bases.iter().map(Base::common).collect();
        let mut log = common::Archive::of(common, logs, Histories::default());
        let around = |base: &Base| foreign(base, log.logs.get(&base.timeline)?);
        let foreign = bases.iter().filter_map(|base| Some((base.backup.clone(), around(base)?)));
        log.foreign = foreign.collect();
        for base in &bases {
            let of =
                log.logs.get(&base.timeline).filter(|_| !log.foreign.contains_key(&base.backup));
            let proven = of.map(|of| proven(base, of)).unwrap_or_default();
            log.prove(base.timeline, &proven);
        }
        let of_bases: BTreeSet<Timeline> = bases.iter().map(|base| base.timeline).collect();
        log.known = Histories::new(histories, log.mentions(Timeline::FIRST), of_bases);
        Archive { log, points }
    }

    /// The same with positions from which on the WAL of a timeline cannot be replayed.
    #[must_use]
    pub fn broken_at(mut self, breaks: impl IntoIterator<Item = (Timeline, Lsn)>) -> Archive {
        self.log.bar(breaks, Why::TooLittle);
        self
    }

    /// The same with pieces (their first bytes, and behind their last ones) that were found not to
    /// be the WAL that was written: nothing leads across what no other piece covers of them.
    #[must_use]
    pub fn damaged(mut self, pieces: &[(Timeline, Lsn, Lsn)]) -> Archive {
        self.log.damage(pieces, Why::Damaged);
        self
    }

    /// The same with other pieces in the place of one: together they hold all that it holds, or its
    /// beginning.
    #[must_use]
    pub fn replaced(
        mut self,
        (timeline, start, end): (Timeline, Lsn, Lsn),
        parts: Vec<LogEntry>,
    ) -> Archive {
        self.log.replace(timeline, (start, end), parts);
        self
    }

    /// The same with pieces that are in a format which only a newer drctl reads: the same holds of
    /// them, and they are not damaged.
    #[must_use]
    pub fn newer(mut self, pieces: &[(Timeline, Lsn, Lsn)]) -> Archive {
        self.log.damage(pieces, Why::Newer);
        self
    }

    /// The same with timelines of which there is something, all of it in such a format.
    #[must_use]
    pub fn all_newer(mut self, timelines: impl IntoIterator<Item = Timeline>) -> Archive {
        self.log.was_there(timelines.into_iter().map(|of| (of, Lsn(0))), Why::Newer);
        self
    }

    /// The same, where it is known that WAL of a timeline was there up to a position.
    #[must_use]
    pub fn once_up_to(mut self, known: impl IntoIterator<Item = (Timeline, Lsn)>) -> Archive {
        self.log.was_there(known, Why::Missing);
        self
    }

    /// The same, where objects with names of WAL of a timeline, up to a position, are not believed.
    #[must_use]
    pub fn refused_up_to(mut self, refused: impl IntoIterator<Item = (Timeline, Lsn)>) -> Archive {
        self.log.was_there(refused, Why::Refused);
        self
    }

    /// The pieces of each timeline, in order.
    pub fn pieces(&self) -> impl Iterator<Item = (Timeline, &[LogEntry])> {
        self.log.logs.iter().map(|(timeline, log)| (*timeline, &log.entries[..]))
    }

    /// The same with bases that were found bad: they are shown, and nothing begins with them.
    #[must_use]
    pub fn bad(mut self, is_bad: impl Fn(&BackupId) -> bool) -> Archive {
        let bases = std::mem::take(&mut self.log.bases).into_iter();
        let (bad, others) = bases.partition(|base| is_bad(&base.backup));
        self.log.bases = others;
        self.log.bad.extend::<Vec<_>>(bad);
        self
    }

    /// The same with nothing but this base, also where it was found bad, for somebody who chose it.
    #[must_use]
    pub fn only(mut self, base: &BackupId) -> Archive {
        self = self.despite_bad();
        self.log.bases.retain(|other| other.backup == *base);
        self
    }

    /// The base that a recovery can only begin with, where it is one.
    #[must_use]
    pub fn chosen(&self) -> Option<&BackupId> {
        match &self.log.bases[..] {
            [only] => Some(&only.backup),
            _ => None,
        }
    }

    /// The same where bases that were found bad are only suspect: what they would lead to.
    #[must_use]
    pub fn despite_bad(mut self) -> Archive {
        let bad = std::mem::take(&mut self.log.bad).into_iter();
        self.log.bases.extend(bad.map(|base| common::Base { good: false, ..base }));
        self
    }

    /// The same without a base that is known not to be whole.
    #[must_use]
    pub fn without(mut self, base: &BackupId) -> Archive {
        self.log.bases.retain(|other| other.backup != *base);
        self
    }

    /// The last time of a commit or abort in all WAL, and of all bases: by the clocks of those who
    /// wrote it.
    #[must_use]
    pub fn last_seen(&self) -> Option<Timestamp> {
        self.log.last_seen()
    }

    /// Whether the cluster with this system identifier may have lived at a time: behind [`made`], or the
    /// first commit or base backup. By the clocks of those who wrote them. When it ended nobody knows: its
    /// log may have stayed away before.
    #[must_use]
    pub fn may_have_lived_at(&self, system_id: u64, at: Timestamp) -> bool {
        let made = made(system_id);
        self.log.first_seen().map_or(made, |first| first.min(made)) <= at
    }

    /// Whether log was there once that is not any more, or does not count.
    #[must_use]
    pub fn had_more(&self) -> bool {
        let reach = |timeline| self.log.entries(timeline).iter().map(|entry| entry.end).max();
        self.log.once().any(|(timeline, (until, _))| reach(timeline) < Some(until))
    }

    /// The history of a timeline: without ancestors where it is missing and a base is on it.
    #[must_use]
    pub fn history(&self, timeline: Timeline) -> Option<&TimelineHistory> {
        self.histories().of(timeline)
    }

    /// Where the last record ends that a replay of `timeline`'s WAL up to `reach` comes to.
    #[must_use]
    pub fn last_record(&self, timeline: Timeline, reach: Lsn) -> Option<Lsn> {
        self.log.last_record(timeline, reach)
    }

    /// The pieces of `timeline`'s WAL that end behind `from` and hold a commit of the time `at` or
    /// earlier, as far as pieces tell.
    pub fn early(
        &self,
        timeline: Timeline,
        from: Lsn,
        at: Timestamp,
    ) -> impl Iterator<Item = (Lsn, Lsn)> {
        self.log.early(timeline, from, at)
    }

    /// What is common to all engines of it.
    pub(crate) fn common(&self) -> &common::Archive<Wal> {
        &self.log
    }

    pub(super) fn histories(&self) -> &Histories {
        &self.log.known
    }
}
