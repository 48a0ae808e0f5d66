//! What beats of agents tell whoever watches them: which host is late, which job is late, failed or
//! paused. The time is the watcher's.

use std::time::Duration;

use drctl_model::{Beat, BeatAmiss, BeatJob, BeatOutcome, BeatRun, BeatState, JobKind, SourceId};
use jiff::{SignedDuration, Timestamp};

use crate::scheduler::STREAM_TOLD;

/// A span of time as the configuration has it, such as `10m` or `2d`.
#[must_use]
pub fn span_of(text: &str) -> Option<Duration> {
    crate::units::duration(text).ok()
}

/// How far a beat may be dated ahead of the watcher's clock, and still be believed to be new.
const AHEAD: SignedDuration = SignedDuration::from_mins(5);

/// How much later than announced the next beat may come at least.
const LEAST_GRACE: SignedDuration = SignedDuration::from_secs(60);

/// For how long a run may be due without having begun.
pub const JOB_LATE: SignedDuration = SignedDuration::from_hours(1);

/// How old the agent's last look may be when it writes a beat: it looks every five minutes, and one that
/// does not end is given up after ten.
const LOOK_LATE: SignedDuration = SignedDuration::from_mins(30);

/// The same where it has not looked at all: its first beat waits two minutes for its first look.
const NEVER_LOOKED: SignedDuration = SignedDuration::from_mins(1);

/// A beat that is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// What was signed.
    pub beat: Beat,
    /// The identifier of the key that signed it.
    pub signer: String,
    /// When the store got it first, by its own clock, where it tells.
    pub stored: Option<Timestamp>,
}

impl Heard {
    /// When it is counted to be of: neither a clock that is ahead nor a copy makes it younger.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        self.stored.map_or(self.beat.written, |stored| stored.min(self.beat.written))
    }

    /// When the store got it, if that is much later than the beat says.
    #[must_use]
    pub fn came_late(&self) -> Option<Timestamp> {
        self.stored.filter(|stored| stored.duration_since(self.beat.written) > AHEAD)
    }

    fn stands_for(&self, other: &Heard) -> bool {
        self.beat.stands_for(&other.beat, self.signer == other.signer)
    }
}

/// The beats among those of a host in whose place no later one stands: of each of its agents the last.
#[must_use]
pub fn newest(all: &[Heard]) -> Vec<&Heard> {
    let stands = |one: &Heard| all.iter().any(|other| other.stands_for(one));
    all.iter().filter(|one| !stands(one)).collect()
}

/// What is amiss with an agent or one of its jobs, by the last beat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The next beat is late by so much.
    HostLate(SignedDuration),
    /// The beat is dated so far in the future that nobody knows whether it is new.
    Ahead(SignedDuration),
    /// A run of a job should have begun so long ago.
    JobLate(BeatJob, SignedDuration),
    /// The last run of a job failed, or its process died.
    JobFailed(BeatJob, BeatRun),
    /// A stream has been failing since then.
    StreamDown(BeatJob, Timestamp),
    /// Somebody has paused a job.
    JobPaused(BeatJob),
    /// `drctl status` there has findings of a source.
    Findings(BeatAmiss),
    /// The same of the host.
    HostFindings(Vec<String>),
    /// The agent has not been able to look where its sources stand since then.
    NotLooked(Timestamp),
}

impl Trouble {
    /// A stable name for it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Trouble::HostLate(_) => "host_late",
            Trouble::Ahead(_) => "host_clock",
            Trouble::JobLate(..) => "job_late",
            Trouble::JobFailed(..) => "job_failed",
            Trouble::StreamDown(..) => "stream_down",
            Trouble::JobPaused(_) => "job_paused",
            Trouble::Findings(_) | Trouble::HostFindings(_) => "findings",
            Trouble::NotLooked(_) => "not_looked",
        }
    }

    /// The job that it is about.
    #[must_use]
    pub fn job(&self) -> Option<&BeatJob> {
        match self {
            Trouble::HostLate(_)
            | Trouble::Ahead(_)
            | Trouble::Findings(_)
            | Trouble::HostFindings(_)
            | Trouble::NotLooked(_) => None,
            Trouble::JobLate(job, _)
            | Trouble::JobFailed(job, _)
            | Trouble::StreamDown(job, _)
            | Trouble::JobPaused(job) => Some(job),
        }
    }

    /// The source that it is about.
    #[must_use]
    pub fn source(&self) -> Option<&SourceId> {
        match self {
            Trouble::Findings(amiss) => Some(&amiss.source),
            other => other.job().map(|job| &job.source),
        }
    }

    /// By how much host or job are late.
    #[must_use]
    pub fn late(&self) -> Option<SignedDuration> {
        match self {
            Trouble::HostLate(by) | Trouble::JobLate(_, by) => Some(*by),
            _ => None,
        }
    }
}

/// What is amiss by the last beat of an agent. Without `max_age` the next beat is late when it has not
/// come for once more as long as it said.
#[must_use]
pub fn judge(heard: &Heard, now: Timestamp, max_age: Option<Duration>) -> Vec<Trouble> {
    let mut found = Vec::new();
    let ahead = heard.beat.written.duration_since(now);
    if ahead > AHEAD {
        found.push(Trouble::Ahead(ahead));
    }
    let age = now.duration_since(heard.at());
    let next = seconds(heard.beat.next_seconds);
    let (expected, grace) = match max_age {
        Some(longest) => (seconds(longest.as_secs()), SignedDuration::ZERO),
        None => (next, next.max(LEAST_GRACE)),
    };
    let late = age.saturating_sub(expected);
    if late > grace {
        found.push(Trouble::HostLate(late));
    }
    for job in &heard.beat.jobs {
        of_job(job, heard, now, &mut found);
    }
    found.extend(of_look(heard, now));
    found
}

/// What the agent's last look found, and whether there was one.
fn of_look(heard: &Heard, now: Timestamp) -> Vec<Trouble> {
    let told = heard.beat.findings.as_ref();
    let looked = told.map_or(heard.beat.started, |told| told.looked);
    let age = heard.at().min(now).duration_since(looked);
    let most = if told.is_some() { LOOK_LATE } else { NEVER_LOOKED };
    // What is later than the beat was told by a clock that was wrong.
    let is_known = looked.duration_since(heard.beat.written) <= LEAST_GRACE && age <= most;
    let none = (!is_known).then_some(Trouble::NotLooked(looked.min(heard.beat.written)));
    let host = told.filter(|told| !told.host.is_empty());
    let host = host.map(|told| Trouble::HostFindings(told.host.clone()));
    let sources = told.iter().flat_map(|told| &told.sources).cloned().map(Trouble::Findings);
    none.into_iter().chain(host).chain(sources).collect()
}

fn of_job(job: &BeatJob, heard: &Heard, now: Timestamp, found: &mut Vec<Trouble>) {
    if job.state == BeatState::Paused {
        found.push(Trouble::JobPaused(job.clone()));
    } else if let Some(late) = late(job, now).filter(|late| *late > JOB_LATE) {
        found.push(Trouble::JobLate(job.clone(), late));
    }
    if job.kind == JobKind::LogStream.as_str() {
        // It ends and begins again: only what lasts is amiss.
        let down = job.due.filter(|since| heard.beat.written.duration_since(*since) >= STREAM_TOLD);
        found.extend(down.map(|since| Trouble::StreamDown(job.clone(), since)));
        return;
    }
    let failed = |run: &&BeatRun| matches!(run.outcome, BeatOutcome::Failed | BeatOutcome::Died);
    if let Some(run) = job.last.as_ref().filter(failed) {
        found.push(Trouble::JobFailed(job.clone(), run.clone()));
    }
}

/// For how long a run has been due that may begin and, as far as is known, has not; or that cannot, because
/// the one before it still runs.
fn late(job: &BeatJob, now: Timestamp) -> Option<SignedDuration> {
    let next = job.next.filter(|next| *next <= now);
    let since = match job.state {
        BeatState::Idle => next?,
        BeatState::Due => job.due.or(next).filter(|_| next.is_some())?,
        // A backup that goes on beyond the next due time keeps that one from being made.
        BeatState::Running if job.kind == JobKind::Backup.as_str() => job.due.or(next)?,
        BeatState::Running | BeatState::Paused => return None,
    };
    Some(now.duration_since(since))
}

fn seconds(count: u64) -> SignedDuration {
    SignedDuration::from_secs(i64::try_from(count).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use drctl_model::{BeatFindings, Header, RepositoryId};

    use super::*;

    const NOW: i64 = 1_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn job(kind: &str, state: BeatState) -> BeatJob {
        BeatJob {
            source: "shop".parse().expect("a source"),
            kind: kind.to_owned(),
            state,
            since: None,
            due: None,
            next: Some(at(NOW + 60)),
            last: None,
        }
    }

    fn heard(seq: u64, written: i64, jobs: Vec<BeatJob>) -> Heard {
        let beat = Beat {
            header: Header::new([]),
            repository: RepositoryId::new(7),
            host: "db1".to_owned(),
            agent: "0123456789abcdef".to_owned(),
            seq,
            written: at(written),
            version: "0.1.0".to_owned(),
            started: at(0),
            next_seconds: 300,
            jobs,
            findings: Some(BeatFindings {
                looked: at(written),
                host: Vec::new(),
                sources: Vec::new(),
            }),
        };
        Heard { beat, signer: "one".to_owned(), stored: Some(at(written + 1)) }
    }

    fn codes(heard: &Heard) -> Vec<&'static str> {
        judge(heard, at(NOW), None).iter().map(Trouble::code).collect()
    }

    #[test]
    fn a_host_is_late_when_its_next_beat_has_not_come_for_twice_the_time() {
        for (age, late) in [(0, false), (300, false), (600, false), (601, true), (86_400, true)] {
            let found = judge(&heard(1, NOW - age, Vec::new()), at(NOW), None);
            let by = found.iter().find_map(Trouble::late).map(|by| by.as_secs());
            assert_eq!(by, late.then_some(age - 300), "{age}");
        }
        // Frequent beats have a minute of grace, and who watches may say how old is too old.
        let mut often = heard(1, NOW - 65, Vec::new());
        often.beat.next_seconds = 10;
        assert!(codes(&often).is_empty());
        let strict = judge(&often, at(NOW), Some(Duration::from_secs(60)));
        assert_eq!(strict, [Trouble::HostLate(SignedDuration::from_secs(5))]);
        let patient = heard(1, NOW - 7200, Vec::new());
        assert!(judge(&patient, at(NOW), Some(Duration::from_secs(7200))).is_empty());
    }

    #[test]
    fn neither_a_clock_that_is_ahead_nor_a_copy_makes_a_beat_new() {
        // The host's clock is a day ahead, and it fell silent an hour ago.
        let mut ahead = heard(1, NOW + 86_400, Vec::new());
        ahead.stored = Some(at(NOW - 3600));
        assert_eq!(codes(&ahead), ["host_clock", "host_late"]);
        // Somebody stores it again.
        ahead.stored = Some(at(NOW));
        assert_eq!(codes(&ahead), ["host_clock"]);
        // An old one that is stored again is as old as it says.
        let mut again = heard(1, NOW - 3600, Vec::new());
        again.stored = Some(at(NOW));
        assert_eq!(codes(&again), ["host_late"]);
        let mut slightly = heard(1, NOW + 200, Vec::new());
        assert!(codes(&slightly).is_empty());
        slightly.stored = None;
        assert!(codes(&slightly).is_empty(), "the store tells no times");
    }

    #[test]
    fn jobs_are_late_failed_down_or_paused() {
        use BeatState::{Due, Idle, Paused, Running};
        let of = |job: BeatJob| codes(&heard(1, NOW - 10, vec![job]));
        let passed =
            |state, ago: i64| BeatJob { next: Some(at(NOW - ago)), ..job("backup", state) };
        assert!(of(job("backup", Idle)).is_empty());
        assert!(of(passed(Idle, 3600)).is_empty());
        assert_eq!(of(passed(Idle, 3601)), ["job_late"]);
        // As `drctl status` judges it: by the due time that the run keeps from its own.
        let runs = |due: Option<i64>| BeatJob {
            since: Some(at(NOW - 8 * 86_400)),
            due: due.map(|ago| at(NOW - ago)),
            ..job("backup", Running)
        };
        assert!(of(runs(None)).is_empty() && of(runs(Some(3600))).is_empty());
        assert_eq!(of(runs(Some(3601))), ["job_late"]);
        assert_eq!(of(passed(Running, 9000)), ["job_late"]);
        let verify = BeatJob { kind: "verify".to_owned(), ..runs(Some(9000)) };
        assert!(of(verify).is_empty(), "it reads slowly, and goes on where it was");
        assert_eq!(of(passed(Paused, 9000)), ["job_paused"]);
        let waits = BeatJob { due: Some(at(NOW - 9000)), ..passed(Due, 10) };
        assert_eq!(of(waits.clone()), ["job_late"]);
        let window = BeatJob { next: Some(at(NOW + 100)), ..waits };
        assert!(of(window).is_empty(), "it waits for its window");
        let ended = |outcome| Some(BeatRun { ended: at(NOW - 100), outcome });
        for (outcome, told) in [
            (BeatOutcome::Succeeded, false),
            (BeatOutcome::Stopped, false),
            (BeatOutcome::Failed, true),
            (BeatOutcome::Died, true),
        ] {
            let ran = BeatJob { last: ended(outcome), ..job("backup", Idle) };
            assert_eq!(of(ran) == ["job_failed"], told, "{outcome:?}");
        }
        let stream = |due: Option<i64>, state| BeatJob {
            due: due.map(|ago| at(NOW - ago)),
            last: ended(BeatOutcome::Failed),
            next: None,
            ..job("log_stream", state)
        };
        assert!(of(stream(None, Running)).is_empty(), "it was begun again");
        assert!(of(stream(Some(100), Due)).is_empty());
        assert_eq!(of(stream(Some(400), Due)), ["stream_down"]);
    }

    #[test]
    fn what_status_finds_there_is_told_and_that_it_does_not_look() {
        let mut one = heard(1, NOW - 10, Vec::new());
        assert!(codes(&one).is_empty());
        let (source, codes_of) = ("shop".parse().expect("a source"), vec!["damaged".to_owned()]);
        let amiss = BeatAmiss { source, breached: 1, attention: 2, codes: codes_of };
        let (looked, host) = (at(NOW - 1_000), vec!["alert_path".to_owned()]);
        one.beat.findings = Some(BeatFindings { looked, host, sources: vec![amiss.clone()] });
        let found = judge(&one, at(NOW), None);
        let expected =
            [Trouble::HostFindings(vec!["alert_path".to_owned()]), Trouble::Findings(amiss)];
        assert_eq!(found, expected);
        assert_eq!(found[1].source().map(SourceId::as_str), Some("shop"));
        let empty = |ago| {
            let (host, sources) = (Vec::new(), Vec::new());
            Some(BeatFindings { looked: at(NOW - ago), host, sources })
        };
        for (findings, started, told) in [
            (empty(1_800), 0, false),
            (empty(1_900), NOW - 100, true),
            (None, NOW - 60, false),
            (None, NOW - 100, true),
            // A clock that was ahead as the agent looked, or began, says nothing of now.
            (empty(-30), 0, false),
            (empty(-10_000), 0, true),
            (None, NOW + 10_000, true),
        ] {
            one.beat.findings = findings;
            one.beat.started = at(started);
            assert_eq!(codes(&one) == ["not_looked"], told, "{:?}", one.beat);
        }
        // A clock that is ahead says nothing of the look.
        one.beat.written = at(NOW + 86_400);
        one.beat.findings = empty(0);
        assert_eq!(codes(&one), ["host_clock"]);
    }

    #[test]
    fn the_newest_beat_of_each_agent_counts_by_its_number() {
        let shop = || vec![job("backup", BeatState::Idle)];
        let (old, new) = (heard(4, NOW, shop()), heard(5, NOW - 5000, shop()));
        let mut foreign = heard(9, NOW, Vec::new());
        foreign.signer = "other".to_owned();
        let all = [old, new.clone(), foreign.clone()];
        // A clock was set back: the number counts. Another key hides nothing.
        assert_eq!(newest(&all), [&new, &foreign]);
    }
}
