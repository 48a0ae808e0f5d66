//! When jobs run: pure, told of events, answering with what to do.
//!
//! The agent asks [`Scheduler::handle`] at every event, waits until [`Scheduler::next_wake`] (and
//! never for longer than a minute, so that a clock that is set is seen soon), and does what the
//! [`Action`]s say. It tells how each run that was started ended, whatever came of it.
//!
//! # What is due
//!
//! A due time is served by any run of the job that began at or after it: so one run makes up for
//! all due times before it. It is *missed*, and told once, if the run could not begin within a
//! minute because the agent was not there, or the job was paused. What waits for something else
//! (its window, another job, a place, the next attempt) is not missed. A run that failed is tried
//! again inside its window, until it succeeds, the attempts are used up, or the next due time
//! begins anew.
//!
//! # When the clock is set
//!
//! Due times are settled in the order of the schedule, and a clock that is set neither skips nor
//! doubles one:
//!
//! - Forward: what lies between is missed, and one run makes up for it.
//! - Back by up to two hours: what had its run gets no other.
//! - Back by more: the dates that lie ahead are taken for those of a wrong clock, and set aside.
//!   The schedule goes on from the last date before, so that a wrong clock that is mended keeps
//!   nothing silent for more than two hours. If the clock leaps over those dates before anything
//!   has begun, they count again.
//!
//! The record of an earlier life of the agent is read in the same way: the order of the runs
//! counts, and of their dates what later runs and the clock do not belie.

mod jitter;
mod job;
mod past;
mod queue;
mod retry;
mod rows;
mod slots;
mod stream;
#[cfg(test)]
mod tests;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use drctl_model::SourceId;
use jiff::Timestamp;

use job::Job;
use slots::Slots;
use stream::Stream;

pub use jitter::part_of_jitter;
pub(crate) use stream::TOLD as STREAM_TOLD;
pub use words::{
    Action, Event, JobKey, JobSpec, Missed, Outcome, PastRun, Rhythm, Row, State, Why, WhyMissed,
};

/// Decides when jobs run.
#[derive(Debug, Clone)]
pub struct Scheduler {
    jobs: BTreeMap<JobKey, Job>,
    streams: BTreeMap<JobKey, Stream>,
    at_once: usize,
    /// Sources whose promise is broken.
    breached: BTreeSet<SourceId>,
    /// Whether all is paused, also what is configured later.
    all_paused: bool,
    stopping: bool,
    /// What the record of earlier runs has to tell.
    untold: Vec<Action>,
}

impl Scheduler {
    /// A scheduler of these jobs, with the runs that are on record, the newest of each first. Of a
    /// job without any counts what has been due since it was `configured`.
    ///
    /// What was missed meanwhile is told with the first event.
    #[must_use]
    pub fn new(
        specs: BTreeMap<JobKey, JobSpec>,
        past: &BTreeMap<JobKey, Vec<PastRun>>,
        at_once: usize,
        (configured, now): (Timestamp, Timestamp),
    ) -> Self {
        let mut scheduler = Scheduler {
            jobs: BTreeMap::new(),
            streams: BTreeMap::new(),
            at_once,
            breached: BTreeSet::new(),
            all_paused: false,
            stopping: false,
            untold: Vec::new(),
        };
        for (key, spec) in specs {
            let runs = past.get(&key).map_or(&[][..], Vec::as_slice);
            if spec.rhythm == Rhythm::Always {
                let last = runs.iter().find_map(|run| run.ended);
                scheduler.streams.insert(key, Stream::new(last, false));
            } else {
                let job = past::recall(&key, spec, runs, (configured, now), &mut scheduler.untold);
                scheduler.jobs.insert(key, job);
            }
        }
        scheduler
    }

    /// Takes notice of the time and of an event, and says what to do.
    pub fn handle(&mut self, now: Timestamp, event: Event) -> Vec<Action> {
        let mut told = std::mem::take(&mut self.untold);
        for (key, job) in &mut self.jobs {
            job.notice(key, now, &mut told);
        }
        for stream in self.streams.values_mut() {
            stream.set_clock(now);
        }
        self.apply(now, event, &mut told);
        self.jobs.retain(|_, job| !job.gone || job.running.is_some());
        self.streams.retain(|_, stream| !stream.gone || stream.running.is_some());
        if !self.stopping {
            self.begin(now, &mut told);
        }
        for (key, stream) in &mut self.streams {
            stream.tell(key, now, &mut told);
        }
        told
    }

    fn begin(&mut self, now: Timestamp, told: &mut Vec<Action>) {
        for (key, stream) in &mut self.streams {
            stream.begin_if_it_may(key, now, told);
        }
        while let Some(key) = self.next_to_begin(now) {
            if let Some(job) = self.jobs.get_mut(&key) {
                job.begin(&key, now, told);
            }
        }
    }

    fn apply(&mut self, now: Timestamp, event: Event, told: &mut Vec<Action>) {
        match event {
            Event::Tick => {}
            Event::Ended { key, outcome } => {
                if let Some(job) = self.jobs.get_mut(&key) {
                    job.ended(&key, (now, outcome), self.stopping, told);
                }
                if let Some(stream) = self.streams.get_mut(&key) {
                    stream.ended(now, outcome);
                }
            }
            Event::RpoBreached { source, breached: true } => {
                self.breached.insert(source);
            }
            Event::RpoBreached { source, breached: false } => {
                self.breached.remove(&source);
            }
            Event::Run { key } => {
                if let Some(job) = self.jobs.get_mut(&key).filter(|job| job.running.is_none()) {
                    job.by_hand = job.by_hand.or(Some(now)).filter(|_| !job.gone);
                }
                if let Some(stream) = self.streams.get_mut(&key) {
                    (stream.paused, stream.retry_at) = (false, None);
                }
            }
            Event::Pause { of } => self.pause(of.as_ref(), true, told),
            Event::Resume { of } => self.pause(of.as_ref(), false, told),
            Event::Cancel { key } => {
                if let Some(job) = self.jobs.get_mut(&key) {
                    job.cancel(&key, told);
                }
                if let Some(stream) = self.streams.get_mut(&key) {
                    stream.stop(&key, told);
                }
            }
            Event::Reload { specs, at_once } => self.reload(now, specs, at_once, told),
            Event::Stopping => self.stopping = true,
        }
    }

    fn pause(&mut self, of: Option<&JobKey>, paused: bool, told: &mut Vec<Action>) {
        if of.is_none() {
            self.all_paused = paused;
        }
        let meant = |key: &JobKey| of.is_none_or(|of| of == key);
        for (_, job) in self.jobs.iter_mut().filter(|(key, _)| meant(key)) {
            job.paused = paused;
        }
        for (key, stream) in self.streams.iter_mut().filter(|(key, _)| meant(key)) {
            stream.paused = paused;
            if paused {
                stream.stop(key, told);
            } else {
                stream.retry_at = None;
            }
        }
    }

    fn reload(
        &mut self,
        now: Timestamp,
        mut specs: BTreeMap<JobKey, JobSpec>,
        at_once: usize,
        told: &mut Vec<Action>,
    ) {
        self.at_once = at_once;
        for (key, stream) in &mut self.streams {
            stream.gone = specs.remove(key).is_none();
            if stream.gone {
                stream.stop(key, told);
            }
        }
        for (key, job) in &mut self.jobs {
            match specs.remove(key) {
                Some(spec) => job.reload(key, spec, now, told),
                None => (job.gone, job.owed, job.by_hand) = (true, None, None),
            }
        }
        for (key, spec) in specs {
            let paused = self.all_paused;
            if spec.rhythm == Rhythm::Always {
                self.streams.insert(key, Stream::new(None, paused));
            } else {
                let mut job = Job::new(Slots::from(now, &spec), spec);
                job.paused = paused;
                self.jobs.insert(key, job);
            }
        }
    }

    /// When something happens by itself, if nothing is told before; `None`: nothing does.
    ///
    /// Later than the last event: what can happen at an event has happened then.
    #[must_use]
    pub fn next_wake(&self, now: Timestamp) -> Option<Timestamp> {
        if self.stopping {
            return None;
        }
        let jobs = self.jobs.iter().filter(|(_, job)| !job.gone);
        let jobs = jobs.flat_map(|(key, job)| {
            let due = job.slots.next().map(|slot| job.spec.begins(slot));
            let waits =
                job.running.is_none().then(|| job.opens(key, now, &self.breached)).flatten();
            // What could begin now waits for another job to end, which is an event.
            [due, waits.filter(|at| *at > now), job.slots.comes_close_at()]
        });
        let streams = self.streams.values().map(Stream::wakes_at);
        jobs.chain(streams).flatten().min().map(|at| at.max(now))
    }
}
