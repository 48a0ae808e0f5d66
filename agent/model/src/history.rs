use crate::{Lsn, LsnError, Timeline, shown};

/// A timeline's ancestry, as its `.history` file tells it: oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineHistory {
    /// The timeline whose history it is.
    pub timeline: Timeline,
    /// Its ancestors, oldest first; none for the first timeline.
    pub ancestors: Vec<Ancestor>,
}

/// A timeline that another one branched off from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ancestor {
    /// Its number.
    pub timeline: Timeline,
    /// Where it was left: what it has from here on does not belong to the descendant.
    pub until: Lsn,
    /// Why, in the server's words.
    pub reason: String,
}

/// The most bytes of a history file: some hundred bytes for each promotion.
pub const MAX_HISTORY_BYTES: u64 = 1 << 20;

impl TimelineHistory {
    /// The history of a timeline without ancestors.
    #[must_use]
    pub fn of_first(timeline: Timeline) -> Self {
        TimelineHistory { timeline, ancestors: Vec::new() }
    }

    /// Reads a history file: a line for each ancestor, `parentTLI<TAB>switchLSN<TAB>reason`
    /// (`readTimeLineHistory` in `timeline.c`); comments and empty lines count for nothing.
    ///
    /// # Errors
    /// [`LsnError`] for anything that PostgreSQL would not read either: timelines or positions that
    /// do not grow.
    pub fn parse(timeline: Timeline, text: &str) -> Result<Self, LsnError> {
        let mut ancestors: Vec<Ancestor> = Vec::new();
        for line in text.lines() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = || LsnError::new("line of a timeline history", line);
            let mut words = line.splitn(3, [' ', '\t']);
            let id = words.next().and_then(|word| word.parse().ok()).and_then(Timeline::new);
            let until = words.next().and_then(|word| word.trim().parse().ok());
            let (parent, until): (Timeline, Lsn) = id.zip(until).ok_or_else(wrong)?;
            let grows = ancestors.last().is_none_or(|a| a.timeline < parent && a.until <= until);
            if !grows || parent >= timeline {
                return Err(wrong());
            }
            let reason = shown(words.next().unwrap_or_default().trim(), 200);
            ancestors.push(Ancestor { timeline: parent, until, reason });
        }
        Ok(TimelineHistory { timeline, ancestors })
    }

    /// The file that tells it: an empty one where no ancestor is known, which PostgreSQL takes for a
    /// timeline that has none.
    #[must_use]
    pub fn text(&self) -> String {
        let line = |a: &Ancestor| format!("{}\t{}\t{}\n", a.timeline.id(), a.until, a.reason);
        self.ancestors.iter().map(line).collect()
    }

    /// The timeline whose WAL holds `lsn` on the way to this timeline.
    #[must_use]
    pub fn timeline_at(&self, lsn: Lsn) -> Timeline {
        let ancestor = self.ancestors.iter().find(|ancestor| lsn < ancestor.until);
        ancestor.map_or(self.timeline, |ancestor| ancestor.timeline)
    }

    /// From where on this timeline goes its own way.
    #[must_use]
    pub fn begins(&self) -> Lsn {
        self.ancestors.last().map_or(Lsn(0), |ancestor| ancestor.until)
    }

    /// Where `timeline` was left on the way to this one: nothing for this one itself, and for one
    /// that is no ancestor.
    #[must_use]
    pub fn left(&self, timeline: Timeline) -> Option<Lsn> {
        self.ancestors.iter().find(|a| a.timeline == timeline).map(|a| a.until)
    }

    /// Whether `timeline` is this one or an ancestor of it.
    #[must_use]
    pub fn holds(&self, timeline: Timeline) -> bool {
        timeline == self.timeline || self.left(timeline).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(id: u32) -> Timeline {
        Timeline::new(id).unwrap()
    }

    #[test]
    fn a_history_tells_whose_log_holds_a_position() {
        let text = "1\t0/3000148\tno recovery target specified\n\n# x\n\
                    3\t0/5000000\tbefore 2026-03-01 00:00:00+00\n";
        let history = TimelineHistory::parse(timeline(4), text).unwrap();
        let at = |lsn| history.timeline_at(Lsn(lsn)).id();
        assert_eq!((at(0), at(0x300_0147), at(0x300_0148)), (1, 1, 3));
        assert_eq!((at(0x4ff_ffff), at(0x500_0000), at(u64::MAX)), (3, 4, 4));
        assert_eq!(history.begins(), Lsn(0x500_0000));
        assert_eq!(history.left(timeline(1)), Some(Lsn(0x300_0148)));
        assert_eq!(history.left(timeline(4)), None);
        assert!(history.holds(timeline(3)) && history.holds(timeline(4)));
        assert!(!history.holds(timeline(2)));
        assert_eq!(history.ancestors[1].reason, "before 2026-03-01 00:00:00+00");
        assert_eq!(TimelineHistory::parse(timeline(4), &history.text()), Ok(history.clone()));
        assert_eq!(TimelineHistory::of_first(timeline(4)).text(), "");
    }

    #[test]
    fn a_history_that_cannot_be_is_refused() {
        for text in [
            "x\t0/1\ty",
            "1",
            "0\t0/1\ty",
            "4\t0/1\ty",
            "2\t0/1\ty\n1\t0/2\ty",
            "1\t0/5\ty\n2\t0/2\ty",
        ] {
            assert!(TimelineHistory::parse(timeline(4), text).is_err(), "{text}");
        }
        assert!(TimelineHistory::parse(timeline(1), "").is_ok());
    }
}
