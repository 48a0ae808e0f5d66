//! How long each phase of a drill takes.

use std::time::{Duration, Instant};

use drctl_model::{DrillPhase, PhaseClock};
use tokio::sync::watch;
use tokio::time::timeout;

/// How long a phase may take in which nothing is restored, replayed or compared: these take as long as there are
/// data, and `max_duration` bounds them.
const SHORT: Duration = Duration::from_secs(30 * 60);

/// The clock of the phase that is under way, and those of the ones before.
#[derive(Debug)]
pub(crate) struct Clocks {
    done: Vec<PhaseClock>,
    phase: DrillPhase,
    since: Instant,
    tells: watch::Sender<DrillPhase>,
}

/// Tells of a phase that takes too long.
#[derive(Debug)]
pub(crate) struct Watched(watch::Receiver<DrillPhase>);

impl Watched {
    /// Waits until a phase takes longer than it may, and tells which one, in words.
    pub(crate) async fn too_long(&mut self) -> String {
        loop {
            let phase = *self.0.borrow_and_update();
            let within = bound(phase);
            let never = std::future::pending::<()>();
            let ends = async {
                match within {
                    Some(within) => drop(timeout(within, never).await),
                    None => never.await,
                }
            };
            tokio::select! {
                () = ends => {
                    let minutes = within.unwrap_or_default().as_secs() / 60;
                    return format!("its phase `{}` took longer than {minutes} minutes", phase.as_str());
                }
                changed = self.0.changed() => if changed.is_err() {
                    std::future::pending::<()>().await;
                },
            }
        }
    }
}

/// How long a phase may take; nothing where only all of it is bounded.
fn bound(phase: DrillPhase) -> Option<Duration> {
    match phase {
        DrillPhase::Planning | DrillPhase::Provisioning | DrillPhase::Cleaning => Some(SHORT),
        DrillPhase::Loading
        | DrillPhase::Recovering
        | DrillPhase::Verifying
        | DrillPhase::Comparing => None,
    }
}

impl Clocks {
    /// The first phase begins.
    pub(crate) fn begin(phase: DrillPhase) -> Self {
        let tells = watch::Sender::new(phase);
        Clocks { done: Vec::new(), phase, since: Instant::now(), tells }
    }

    /// What tells of a phase that takes too long.
    pub(crate) fn watched(&self) -> Watched {
        Watched(self.tells.subscribe())
    }

    /// The next one begins.
    pub(crate) fn next(&mut self, phase: DrillPhase) {
        self.note(self.since.elapsed());
        (self.phase, self.since) = (phase, Instant::now());
        self.tells.send_replace(phase);
    }

    /// The next one began so long before this one ended: they were done by turns.
    pub(crate) fn next_since(&mut self, phase: DrillPhase, shared: Duration) {
        self.note(self.since.elapsed().saturating_sub(shared));
        let now = Instant::now();
        (self.phase, self.since) = (phase, now.checked_sub(shared).unwrap_or(now));
        self.tells.send_replace(phase);
    }

    /// The one that is under way.
    pub(crate) fn phase(&self) -> DrillPhase {
        self.phase
    }

    /// All of them, where the last one ends.
    pub(crate) fn end(mut self) -> Vec<PhaseClock> {
        self.note(self.since.elapsed());
        self.done
    }

    fn note(&mut self, took: Duration) {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.done.push(PhaseClock { phase: self.phase, ms });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_phase_that_takes_too_long_is_told_and_the_next_one_has_its_own_time() {
        let mut clocks = Clocks::begin(DrillPhase::Planning);
        let mut watched = clocks.watched();
        let began = tokio::time::Instant::now();
        let late = SHORT - Duration::from_secs(1);
        assert!(tokio::time::timeout(late, watched.too_long()).await.is_err());
        // What is restored takes as long as it takes.
        clocks.next(DrillPhase::Loading);
        assert!(tokio::time::timeout(10 * SHORT, watched.too_long()).await.is_err());
        clocks.next(DrillPhase::Provisioning);
        let said = watched.too_long().await;
        assert_eq!(said, "its phase `provisioning` took longer than 30 minutes");
        assert_eq!(began.elapsed(), late + 11 * SHORT);
    }
}
