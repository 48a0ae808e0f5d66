//! The clock that wakes the agent. What is due when is worked out by the
//! [scheduler](drctl_policies::scheduler), and handed to tokio-cron-scheduler as a one-shot job: of its own it
//! keeps the offset that a time zone had at the start, runs a job over itself, and knows nothing of runs that
//! were missed.
//!
//! Its jobs follow the wall clock as it is when they are made. So a second pulse, by the clock that never
//! jumps, has it look again: after a sleep of the host, or a step of its clock.

use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_cron_scheduler::{Job, JobScheduler};
use uuid::Uuid;

/// How often is looked whatever the clock says.
const PULSE: Duration = Duration::from_secs(15);

/// What wakes the agent.
pub(super) struct Alarm {
    clock: JobScheduler,
    /// What is armed, and for when.
    armed: Option<(Uuid, Timestamp)>,
    rings: mpsc::Receiver<()>,
    ring: mpsc::Sender<()>,
    pulse: Interval,
}

impl Alarm {
    /// One that is armed for nothing.
    ///
    /// # Errors
    /// Those of the clock's start.
    pub(super) async fn new() -> Result<Self> {
        let clock = JobScheduler::new().await.context("start the clock")?;
        clock.start().await.context("start the clock")?;
        let (ring, rings) = mpsc::channel(1);
        let mut pulse = interval(PULSE);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Alarm { clock, armed: None, rings, ring, pulse })
    }

    /// Has it ring at a time, and at none that was said before.
    ///
    /// # Errors
    /// Those of the clock.
    pub(super) async fn set(&mut self, now: Timestamp, at: Option<Timestamp>) -> Result<()> {
        if self.armed.map(|(_, armed)| armed) == at {
            return Ok(());
        }
        if let Some((job, _)) = self.armed.take() {
            // One that has rung is gone already.
            let _ = self.clock.remove(&job).await;
        }
        let Some(at) = at else { return Ok(()) };
        let after = at.duration_since(now).max(jiff::SignedDuration::ZERO).unsigned_abs();
        let ring = self.ring.clone();
        let job = Job::new_one_shot(after, move |_, _| {
            // Whoever is awake needs no second ring.
            let _ = ring.try_send(());
        });
        let job = self.clock.add(job.context("set the clock")?).await.context("set the clock")?;
        self.armed = Some((job, at));
        Ok(())
    }

    /// Waits until it rings, or for a while.
    pub(super) async fn rung(&mut self) {
        tokio::select! {
            // The other end is ours.
            _ = self.rings.recv() => self.armed = None,
            _ = self.pulse.tick() => {}
        }
    }
}
