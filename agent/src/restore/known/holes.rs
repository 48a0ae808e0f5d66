//! What of a cluster's log is missing, told apart by whether a later base backup makes up for it.

use drctl_policies::recovery::{Gap, Warning, Why, recoverable_until, timeline_view};

use super::Known;
use crate::log::LogVerdict;

/// What is missing of a cluster's log, in words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Holes {
    /// What keeps, or may keep, a recovery from the end of the log: each needs a new backup, or the
    /// log.
    pub open: Vec<String>,
    /// What lies before a later backup: times are out of reach, and nothing can be done about it.
    pub covered: Vec<String>,
    /// Places that a recovery to the end of the log crosses, and where nobody knows if log follows log:
    /// nothing that is missing or wrong.
    pub unproven: Vec<String>,
}

impl Holes {
    /// Those of a cluster of which something is known.
    #[must_use]
    pub fn of(known: &Known) -> Holes {
        let mut found = Holes::default();
        let recoverable_until = recoverable_until(&known.archive);
        found.open.extend(known.uncopied.map(|id| Warning::NoCopyOf(id).to_string()));
        // What is damaged, newer or refused is found by who reads it, and cleared by who reads it again.
        let missing = |gap: &&Gap| !matches!(gap.why, Why::Damaged | Why::Newer | Why::Refused);
        for gap in recoverable_until
            .iter()
            .flat_map(|recoverable_until| &recoverable_until.gaps)
            .filter(missing)
        {
            found.open.push(gap.to_string());
        }
        for doubt in
            recoverable_until.iter().flat_map(|recoverable_until| &recoverable_until.doubts)
        {
            let unproven = matches!(doubt, Warning::Unproven(_));
            let told = if unproven { &mut found.unproven } else { &mut found.open };
            told.push(doubt.to_string());
        }
        let views = timeline_view(&known.archive);
        let gaps = views.iter().flat_map(|view| &view.gaps).filter(missing);
        for gap in gaps.map(ToString::to_string) {
            if found.open.contains(&gap) || found.covered.contains(&gap) {
                continue;
            }
            match recoverable_until {
                Some(_) => found.covered.push(gap),
                None => found.open.push(gap),
            }
        }
        found
    }
}

impl LogVerdict {
    /// Takes in what is missing.
    pub fn learn(&mut self, holes: Holes) {
        let gap = |text| ("log_gap".to_owned(), text);
        self.problems.extend(holes.open.into_iter().map(gap));
        self.covered.extend(holes.covered);
        self.unproven.extend(holes.unproven);
    }
}
