//! A job that runs always.

use jiff::{SignedDuration, Timestamp};

use super::retry::stream_pause_after;
use super::{Action, JobKey, Outcome, Why};

/// A stream that has run for so long is well.
const WELL: SignedDuration = SignedDuration::from_mins(10);

/// One that has failed for so long is told.
pub(crate) const TOLD: SignedDuration = SignedDuration::from_mins(5);

/// A stream, and how it does.
#[derive(Debug, Clone, Default)]
pub(super) struct Stream {
    /// Since when it runs.
    pub(super) running: Option<Timestamp>,
    pub(super) paused: bool,
    /// No longer configured: it goes when it has ended.
    pub(super) gone: bool,
    pub(super) last: Option<(Timestamp, Outcome)>,
    /// When it may begin again.
    pub(super) retry_at: Option<Timestamp>,
    /// Whether it was asked to end.
    stopping: bool,
    /// Failures in a row.
    failed: u32,
    /// The first of them.
    pub(super) failing_since: Option<Timestamp>,
    /// Whether that was told.
    is_told: bool,
}

impl Stream {
    pub(super) fn new(last: Option<(Timestamp, Outcome)>, paused: bool) -> Self {
        Stream { last, paused, ..Stream::default() }
    }

    /// What was noted lies ahead of a clock that was set back since: it counts from now.
    pub(super) fn set_clock(&mut self, now: Timestamp) {
        let latest = now.saturating_add(stream_pause_after(self.failed)).unwrap_or(Timestamp::MAX);
        self.retry_at = self.retry_at.map(|at| at.min(latest));
        self.running = self.running.map(|at| at.min(now));
        self.failing_since = self.failing_since.map(|at| at.min(now));
    }

    pub(super) fn begin_if_it_may(&mut self, key: &JobKey, now: Timestamp, told: &mut Vec<Action>) {
        let waits = self.retry_at.is_some_and(|at| at > now);
        if self.running.is_none() && !self.paused && !self.gone && !waits {
            (self.running, self.stopping) = (Some(now), false);
            told.push(Action::Start { key: key.clone(), due: None, why: Why::Stream });
        }
    }

    /// Tells that it has failed for long, or is well again.
    pub(super) fn tell(&mut self, key: &JobKey, now: Timestamp, told: &mut Vec<Action>) {
        if self.well_at().is_some_and(|at| at <= now) {
            (self.failed, self.failing_since) = (0, None);
            if std::mem::take(&mut self.is_told) {
                told.push(Action::StreamBack { key: key.clone() });
            }
        }
        if let (Some(at), Some(since)) = (self.told_at(), self.failing_since)
            && at <= now
        {
            self.is_told = true;
            told.push(Action::StreamDown { key: key.clone(), since });
        }
    }

    /// When it has run for long enough to be well, if it was not.
    fn well_at(&self) -> Option<Timestamp> {
        let running = self.running.filter(|_| self.failing_since.is_some() || self.is_told)?;
        running.checked_add(WELL).ok()
    }

    /// When it is to be told that it fails.
    fn told_at(&self) -> Option<Timestamp> {
        let quiet = self.running.is_some() || self.is_told || self.paused || self.gone;
        let since = self.failing_since.filter(|_| !quiet)?;
        since.checked_add(TOLD).ok()
    }

    pub(super) fn ended(&mut self, now: Timestamp, outcome: Outcome) {
        if self.running.take().is_none() {
            return;
        }
        self.last = Some((now, outcome));
        if outcome == Outcome::Stopped || std::mem::take(&mut self.stopping) {
            (self.failed, self.failing_since) = (0, None);
        } else {
            self.failed = self.failed.saturating_add(1);
            self.failing_since.get_or_insert(now);
        }
        self.retry_at = now.checked_add(stream_pause_after(self.failed)).ok();
    }

    /// Asks it to end, once.
    pub(super) fn stop(&mut self, key: &JobKey, told: &mut Vec<Action>) {
        if self.running.is_some() && !std::mem::replace(&mut self.stopping, true) {
            told.push(Action::Cancel { key: key.clone() });
        }
    }

    /// When something happens to it by itself.
    pub(super) fn wakes_at(&self) -> Option<Timestamp> {
        let idle = self.running.is_none() && !self.paused && !self.gone;
        let begins = self.retry_at.filter(|_| idle);
        [begins, self.well_at(), self.told_at()].into_iter().flatten().min()
    }
}
