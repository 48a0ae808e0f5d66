//! How jobs stand, for people.

use jiff::Timestamp;

use super::job::Job;
use super::stream::Stream;
use super::{JobKey, Row, Scheduler, State};
use crate::window::may_begin;

impl Scheduler {
    /// How each job stands, by source and kind.
    #[must_use]
    pub fn rows(&self, now: Timestamp) -> Vec<Row> {
        let jobs = self.jobs.iter().filter(|(_, job)| !job.gone || job.running.is_some());
        let mut rows: Vec<Row> = jobs
            .map(|(key, job)| Row {
                key: key.clone(),
                state: self.state(key, job, now),
                next: self.next(key, job, now),
                due: job.owed.map(|owed| owed.since),
                last: job.last,
                missed: job.missed,
            })
            .collect();
        rows.extend(self.streams.iter().map(|(key, stream)| Row {
            key: key.clone(),
            state: of_stream(stream, now),
            next: stream.retry_at.filter(|_| stream.running.is_none() && !stream.paused),
            due: stream.failing_since,
            last: stream.last,
            missed: None,
        }));
        rows.sort_by(|a, b| a.key.cmp(&b.key));
        rows
    }

    fn next(&self, key: &JobKey, job: &Job, now: Timestamp) -> Option<Timestamp> {
        if job.paused {
            return None;
        }
        let owed = job.opens(key, now, &self.breached).filter(|_| job.running.is_none());
        owed.or_else(|| {
            let begins = job.spec.begins(job.slots.next()?).max(now);
            job.may_begin(key, begins, &self.breached)
        })
    }

    fn state(&self, key: &JobKey, job: &Job, now: Timestamp) -> State {
        if job.running.is_some() {
            return State::Running;
        }
        if job.by_hand.is_none() {
            if job.paused {
                return State::Paused;
            }
            let Some(owed) = job.owed else { return State::Idle };
            let from = owed.retry_at.map_or(now, |at| at.max(now));
            if from > now {
                return State::RetryAt(from);
            }
            if job.may_begin(key, now, &self.breached) != Some(now) {
                let spec = &job.spec;
                let days = may_begin(None, &spec.blackout, &spec.zone, now) == Some(now);
                return if days { State::WaitsForWindow } else { State::WaitsForBlackout };
            }
        }
        match self.before(key) {
            Some(kind) => State::WaitsForJob(kind),
            None if !self.has_place(key.kind) => State::WaitsForPlace,
            None => State::Due,
        }
    }
}

fn of_stream(stream: &Stream, now: Timestamp) -> State {
    match stream.retry_at.filter(|at| *at > now) {
        _ if stream.running.is_some() => State::Running,
        _ if stream.paused => State::Paused,
        Some(at) => State::RetryAt(at),
        None => State::Due,
    }
}
