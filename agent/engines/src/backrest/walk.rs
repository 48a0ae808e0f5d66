//! Where a stanza's archive has gaps, and where it has two contents for one segment. Pure.
//!
//! pgBackRest's own `info` and `verify` say that all is well of an archive that lacks segments in
//! its middle, or those without which a backup cannot be made consistent.

use drctl_model::{Lsn, LsnError, Timeline, WalSegmentSize};

use super::listing::{ClusterArchive, SegmentName};

/// A walk over the archive of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk {
    /// What is there, by timeline and position.
    pub runs: Vec<Run>,
    /// Segments that are there with more than one content: two servers have written under this
    /// stanza. pgBackRest delivers none of the two.
    pub doubles: Vec<SegmentName>,
    /// Bytes of a segment.
    size: WalSegmentSize,
}

/// Segments of one timeline that follow each other without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Their timeline.
    pub timeline: Timeline,
    /// Where the first begins.
    pub from: Lsn,
    /// Where the last ends.
    pub to: Lsn,
}

/// Segments that are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The timeline that lacks them.
    pub timeline: Timeline,
    /// Where the first that is missing begins.
    pub from: Lsn,
    /// Where the last that is missing ends.
    pub to: Lsn,
    /// Bytes of a segment.
    size: WalSegmentSize,
}

impl Gap {
    /// How many segments are missing.
    #[must_use]
    pub fn segments(&self) -> u64 {
        self.to.since(self.from) / self.size.bytes()
    }

    /// The first that is missing.
    #[must_use]
    pub fn first(&self) -> SegmentName {
        SegmentName::at(self.timeline, self.from, self.size)
    }

    /// The last that is missing.
    #[must_use]
    pub fn last(&self) -> SegmentName {
        SegmentName::at(self.timeline, Lsn(self.to.0 - self.size.bytes()), self.size)
    }
}

impl Walk {
    /// Walks over all segments of a cluster, which are in order.
    ///
    /// # Errors
    /// [`LsnError`] for a segment that cannot be with this size.
    pub fn over(archive: &ClusterArchive, size: WalSegmentSize) -> Result<Walk, LsnError> {
        let (mut runs, mut doubles) = (Vec::<Run>::new(), Vec::new());
        let mut before = None;
        for segment in &archive.segments {
            let name = segment.name;
            if before == Some(name) {
                if doubles.last() != Some(&name) {
                    doubles.push(name);
                }
                continue;
            }
            before = Some(name);
            let (timeline, from) = (name.timeline, name.start(size)?);
            let to = from.plus(size.bytes());
            match runs.last_mut() {
                Some(run) if run.timeline == timeline && run.to == from => run.to = to,
                _ => runs.push(Run { timeline, from, to }),
            }
        }
        Ok(Walk { runs, doubles, size })
    }

    /// Bytes of a segment.
    #[must_use]
    pub fn segment_size(&self) -> WalSegmentSize {
        self.size
    }

    /// The gaps between the first and the last segment of each timeline.
    pub fn gaps(&self) -> impl Iterator<Item = Gap> {
        let pairs = self.runs.windows(2).filter(|pair| pair[0].timeline == pair[1].timeline);
        pairs.map(|pair| self.gap(pair[0].timeline, pair[0].to, pair[1].from))
    }

    /// Where the WAL of a timeline ends: behind the last of all its segments.
    #[must_use]
    pub fn end_of(&self, timeline: Timeline) -> Option<Lsn> {
        self.runs.iter().rev().find(|run| run.timeline == timeline).map(|run| run.to)
    }

    /// What is missing of the segments from `first` to `last`, both counted.
    ///
    /// Where they are of two timelines (a backup from a standby that was promoted meanwhile), a
    /// segment counts as there on any timeline from the one to the other.
    ///
    /// # Errors
    /// [`LsnError`] for a name that cannot be with segments of this size.
    pub fn missing(&self, first: SegmentName, last: SegmentName) -> Result<Vec<Gap>, LsnError> {
        let (mut at, end) =
            (first.start(self.size)?, last.start(self.size)?.plus(self.size.bytes()));
        let timelines = first.timeline..=last.timeline;
        let mut runs: Vec<&Run> =
            self.runs.iter().filter(|run| timelines.contains(&run.timeline)).collect();
        runs.sort_by_key(|run| run.from);
        let mut gaps = Vec::new();
        for run in runs {
            if run.from > at && at < end {
                gaps.push(self.gap(first.timeline, at, run.from.min(end)));
            }
            at = at.max(run.to);
        }
        if at < end {
            gaps.push(self.gap(last.timeline, at, end));
        }
        Ok(gaps)
    }

    fn gap(&self, timeline: Timeline, from: Lsn, to: Lsn) -> Gap {
        Gap { timeline, from, to, size: self.size }
    }
}

impl Gap {
    /// Whether this may be what pgBackRest's own expiry leaves, and no loss: it keeps of the time
    /// before the oldest backup whose WAL is retained only what each older backup needs to be
    /// consistent. `needed` has the first and last segments of the backups that are there.
    ///
    /// Then no point in time between the two backups can be reached, which is what was configured
    /// (`repo-retention-archive`).
    #[must_use]
    pub fn may_be_expired(&self, needed: &[(SegmentName, SegmentName)]) -> bool {
        let of = |name: SegmentName| name.start(self.size).ok();
        let begins = needed.iter().any(|(_, last)| {
            last.timeline == self.timeline
                && of(*last).is_some_and(|start| start.plus(self.size.bytes()) == self.from)
        });
        let ends = needed
            .iter()
            .any(|(first, _)| first.timeline == self.timeline && of(*first) == Some(self.to));
        begins && ends
    }
}
