//! How long each phase of a drill takes.

use std::time::{Duration, Instant};

use drctl_model::{DrillPhase, PhaseClock};

/// The clock of the phase that is under way, and those of the ones before.
#[derive(Debug)]
pub(super) struct Clocks {
    done: Vec<PhaseClock>,
    phase: DrillPhase,
    since: Instant,
}

impl Clocks {
    /// The first phase begins.
    pub(super) fn begin(phase: DrillPhase) -> Self {
        Clocks { done: Vec::new(), phase, since: Instant::now() }
    }

    /// The next one begins.
    pub(super) fn next(&mut self, phase: DrillPhase) {
        self.note(self.since.elapsed());
        (self.phase, self.since) = (phase, Instant::now());
    }

    /// The next one began so long before this one ended: they were done by turns.
    pub(super) fn next_since(&mut self, phase: DrillPhase, shared: Duration) {
        self.note(self.since.elapsed().saturating_sub(shared));
        let now = Instant::now();
        (self.phase, self.since) = (phase, now.checked_sub(shared).unwrap_or(now));
    }

    /// The one that is under way.
    pub(super) fn phase(&self) -> DrillPhase {
        self.phase
    }

    /// All of them, where the last one ends.
    pub(super) fn end(mut self) -> Vec<PhaseClock> {
        self.note(self.since.elapsed());
        self.done
    }

    fn note(&mut self, took: Duration) {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.done.push(PhaseClock { phase: self.phase, ms });
    }
}
