//! What a recovering server asks for, and what it may be told: pure. Only an absence that is proven is
//! told as one, for a server takes it for the end of the log.

use std::path::Path;

use anyhow::Result;
use drctl_model::{Lsn, Timeline, WalSegmentSize};

use super::Expected;
use crate::host::AgentError;

/// A file of a cluster's log that a recovering server asks for.
pub(crate) struct LogRequest<'a> {
    /// Which cluster's.
    pub(crate) system_id: u64,
    /// The size of its segments.
    pub(crate) size: WalSegmentSize,
    /// The file's name.
    pub(crate) name: &'a str,
    /// Where it is wanted.
    pub(crate) to: &'a Path,
    /// Where the server keeps the log that it has.
    pub(crate) own: &'a Path,
    /// What a plan needs; nothing: there is no plan.
    pub(crate) expected: &'a [Expected],
}

/// What a name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFile {
    /// The history of a timeline.
    History(Timeline),
    /// A segment of a timeline, by its first byte.
    Segment(Timeline, Lsn),
}

impl LogRequest<'_> {
    /// Which file is asked for.
    ///
    /// # Errors
    /// [`AgentError::Usage`] for a name that is none.
    pub(crate) fn file(&self) -> Result<LogFile> {
        if let Some(id) = self.name.strip_suffix(".history") {
            let timeline = u32::from_str_radix(id, 16).ok().and_then(Timeline::new);
            let none = || AgentError::Usage(format!("{}: no timeline", self.name));
            return Ok(LogFile::History(timeline.ok_or_else(none)?));
        }
        let parsed = self.size.parse_file_name(self.name);
        let (timeline, start) = parsed.map_err(|error| AgentError::Usage(error.to_string()))?;
        Ok(LogFile::Segment(timeline, start))
    }

    /// Whether the server has the file already: its base backup brought it along.
    pub(crate) fn has_own(&self) -> bool {
        self.own.join(self.name).exists()
    }

    /// Up to where a segment may be given: a plan may end within it. Nothing where it ends before.
    pub(crate) fn given_until(&self, timeline: Timeline, start: Lsn) -> Option<Lsn> {
        let end = start.plus(self.size.bytes());
        let last = self.expected.iter().find(|leg| leg.last && leg.timeline == timeline);
        Some(last.map_or(end, |leg| leg.until.min(end))).filter(|last| *last > start)
    }

    /// What to do with a segment that is there as far as `reach`, without a gap from its start.
    ///
    /// A server reads ahead of its target: what no plan needs may be missing there, and it refuses
    /// by itself to end before the target. Without a plan nothing behind what is missing may be
    /// there: `later` tells that.
    ///
    /// # Errors
    /// [`AgentError::LogGap`].
    pub(crate) fn decide(
        &self,
        (timeline, start): (Timeline, Lsn),
        reach: Lsn,
        own: bool,
        later: bool,
    ) -> Result<Told, AgentError> {
        let end = start.plus(self.size.bytes());
        if reach >= end {
            return Ok(Told::Given);
        }
        if own {
            return Ok(Told::Absent);
        }
        let needed = |e: &Expected| e.timeline == timeline && reach.max(e.from) < e.until.min(end);
        let is_gap =
            if self.expected.is_empty() { later } else { self.expected.iter().any(needed) };
        if is_gap {
            return Err(AgentError::LogGap { timeline, at: reach });
        }
        Ok(if reach == start { Told::Absent } else { Told::Given })
    }
}

/// What a server is told of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// It is given what is there of it.
    Given,
    /// It is not there, and nothing needs it.
    Absent,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 1 << 20;

    fn leg(from: u64, until: u64, last: bool) -> Expected {
        let (from, until) = (Lsn(from), Lsn(until));
        Expected { timeline: Timeline::FIRST, from, until, last }
    }

    fn request<'a>(name: &'a str, expected: &'a [Expected]) -> LogRequest<'a> {
        let size = WalSegmentSize::new(SIZE).unwrap();
        LogRequest {
            system_id: 7,
            size,
            name,
            to: Path::new("to"),
            own: Path::new("own"),
            expected,
        }
    }

    #[test]
    fn only_a_proven_absence_is_told_as_one() {
        let (start, middle, end) = (SIZE, SIZE + 100, 2 * SIZE);
        // How far it is there, whether the server has its own, whether later log is there; a plan.
        type Case<'a> = (u64, bool, bool, &'a [Expected], Result<Told, u64>);
        let (whole, before, within) =
            ([leg(0, end, false)], [leg(0, start, false)], [leg(0, middle, false)]);
        let cases: &[Case<'_>] = &[
            (end, false, true, &[], Ok(Told::Given)),
            (end, true, false, &whole, Ok(Told::Given)),
            (start, true, true, &whole, Ok(Told::Absent)),
            (start, false, false, &[], Ok(Told::Absent)),
            (start, false, true, &[], Err(start)),
            (middle, false, false, &[], Ok(Told::Given)),
            (middle, false, true, &[], Err(middle)),
            (start, false, false, &whole, Err(start)),
            (start, false, true, &before, Ok(Told::Absent)),
            (start, false, false, &within, Err(start)),
            (middle, false, true, &within, Ok(Told::Given)),
            (middle, false, false, &whole, Err(middle)),
        ];
        for (n, (reach, own, later, expected, told)) in cases.iter().enumerate() {
            let at = (Timeline::FIRST, Lsn(start));
            let decided = request("", expected).decide(at, Lsn(*reach), *own, *later);
            let decided = decided.map_err(|error| match error {
                AgentError::LogGap { at, .. } => at.0,
                other => panic!("{other}"),
            });
            assert_eq!(decided, *told, "case {n}");
        }
    }

    #[test]
    fn nothing_behind_a_plans_end_is_given() {
        let until = |legs: &[Expected]| {
            request("", legs).given_until(Timeline::FIRST, Lsn(SIZE)).map(|until| until.0)
        };
        assert_eq!(until(&[]), Some(2 * SIZE));
        assert_eq!(until(&[leg(0, SIZE + 5, false)]), Some(2 * SIZE));
        assert_eq!(until(&[leg(0, SIZE + 5, true)]), Some(SIZE + 5));
        assert_eq!(until(&[leg(0, 9 * SIZE, true)]), Some(2 * SIZE));
        assert_eq!(until(&[leg(0, SIZE, true)]), None);
    }

    #[test]
    fn names_are_those_of_the_server() {
        let file = |name| request(name, &[]).file();
        assert_eq!(file("00000002.history").unwrap(), LogFile::History(Timeline::new(2).unwrap()));
        let segment = LogFile::Segment(Timeline::FIRST, Lsn(3 * SIZE));
        assert_eq!(file("000000010000000000000003").unwrap(), segment);
        for name in ["", "00000000.history", "x.history", "00000001000000000000000", "../x"] {
            assert!(file(name).is_err(), "{name}");
        }
    }
}
