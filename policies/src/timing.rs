//! When the jobs of a policy run: schedules, and what runs keep clear of.

use std::time::Duration;

use drctl_model::JobKind;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::diagnostic::show;
use crate::drill::{DrillPolicy, read_drill};
use crate::keys::Kind::Text;
use crate::keys::{DAY, Key, Kind, duration};
use crate::policy::Policy;
use crate::policy_checks;
use crate::reader::{self, Reader};
use crate::schedule::Schedule;
use crate::units::as_seconds;
use crate::window::{Blackout, Window, blackout, time_of_day};

pub(crate) static WINDOW: &[Key] = &[
    Key::required("from", Text, "When it opens, on the wall clock of `timezone`: 22:00."),
    Key::required("until", Text, "When it closes; earlier than `from`: on the next day."),
];

pub(crate) static PRUNE: &[Key] = &[Key::optional(
    "schedule",
    Text,
    "When to remove what [retention] does not keep; absent: only by hand.",
)];

pub(crate) static VERIFY: &[Key] = &[
    Key::optional("schedule", Text, "When to verify; absent: only by hand."),
    Key::with_default(
        "within",
        duration(DAY, 365 * DAY),
        "30d",
        "In this time all stored bytes are read once.",
    ),
    Key::optional(
        "bytes_per_second",
        Kind::Size { min: 1 << 10, max: 1 << 40 },
        "The most that the agent reads in a second while it verifies; absent: as much as is needed.",
    ),
];

pub(crate) static LOG_INDEX: &[Key] = &[Key::with_default(
    "schedule",
    Text,
    EVERY_NIGHT,
    "When to write the indexes that are missing over the WAL in the bucket; `never`: only by hand.",
)];

pub(crate) static REPORT: &[Key] = &[Key::optional(
    "schedule",
    Text,
    "When to tell [notify] what was done and where the source stands; absent: only by hand.",
)];

/// When indexes are written, where nobody says otherwise.
const EVERY_NIGHT: &str = "40 4 * * *";

/// That they are not written on a schedule.
const NEVER: &str = "never";

/// When the indexes that are missing over the log are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogIndexPolicy {
    /// When it is due; `None`: only by hand.
    pub schedule: Option<Schedule>,
}

/// When what was done is told, and where the source stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReportPolicy {
    /// When it is due; `None`: only by hand.
    pub schedule: Option<Schedule>,
}

/// When what no policy keeps is removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PrunePolicy {
    /// When it is due; `None`: only by hand.
    pub schedule: Option<Schedule>,
}

/// When it is looked whether backups and log are what was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyPolicy {
    /// When it is due; `None`: only by hand.
    pub schedule: Option<Schedule>,
    /// In this time all stored bytes are read once. 1 day to 365 days.
    #[serde(rename = "within_seconds", serialize_with = "as_seconds")]
    pub within: Duration,
    /// The most that is read in a second. 1 KiB to 1 TiB; `None`: as much as is needed.
    pub bytes_per_second: Option<u64>,
}

impl Policy {
    /// When jobs of a kind are due; `None`: only by hand, or there is no schedule for the kind.
    #[must_use]
    pub fn schedule_of(&self, kind: JobKind) -> Option<&Schedule> {
        match kind {
            JobKind::Backup => self.schedule.as_ref(),
            JobKind::Prune => self.prune.schedule.as_ref(),
            JobKind::Verify => self.verify.schedule.as_ref(),
            JobKind::LogIndex => self.log_index.schedule.as_ref(),
            JobKind::Report => self.report.schedule.as_ref(),
            JobKind::Drill => self.drill.schedule.as_ref(),
            _ => None,
        }
    }

    /// The kinds of jobs none of whose runs in a year lies in the window: each of them waits until
    /// it opens.
    #[must_use]
    pub fn always_waits(&self, now: Timestamp) -> Vec<JobKind> {
        let Some(window) = &self.window else { return Vec::new() };
        let end =
            now.saturating_add(SignedDuration::from_hours(366 * 24)).unwrap_or(Timestamp::MAX);
        let waits = |kind: &JobKind| {
            self.schedule_of(*kind).is_some_and(|schedule| {
                let runs = std::iter::successors(schedule.next_after(now), |run| {
                    schedule.next_after(*run)
                });
                !runs.take_while(|run| *run < end).any(|run| window.holds(&self.timezone, run))
            })
        };
        let windowed = [JobKind::Backup, JobKind::Prune, JobKind::Verify, JobKind::Drill];
        windowed.into_iter().filter(waits).collect()
    }
}

/// What a policy says of times.
pub(crate) struct Timing {
    pub(crate) schedule: Option<Schedule>,
    pub(crate) jitter: Option<Duration>,
    pub(crate) window: Option<Window>,
    pub(crate) blackout: Vec<Blackout>,
    pub(crate) prune: Option<PrunePolicy>,
    pub(crate) verify: Option<VerifyPolicy>,
    pub(crate) log_index: Option<LogIndexPolicy>,
    pub(crate) report: Option<ReportPolicy>,
    pub(crate) drill: Option<DrillPolicy>,
}

/// Reads it, of a policy file.
pub(crate) fn read(reader: &Reader<'_>, zone: Option<&TimeZone>) -> Timing {
    // With a bad zone the lines themselves are checked all the same.
    let zone = zone.cloned().unwrap_or(TimeZone::UTC);
    let schedule = read_schedule(reader, &zone);
    let jitter = reader.duration("jitter");
    let prune =
        reader.section("prune").map(|at| PrunePolicy { schedule: read_schedule(&at, &zone) });
    let verify = reader.section("verify").and_then(|at| read_verify(&at, &zone));
    let log_index = reader.section("log_index").map(|at| read_log_index(&at, &zone));
    let report =
        reader.section("report").map(|at| ReportPolicy { schedule: read_schedule(&at, &zone) });
    let drill = reader.section("drill").and_then(|at| read_drill(&at, &zone));
    let of_prune = prune.as_ref().and_then(|prune| prune.schedule.as_ref());
    let of_verify = verify.as_ref().and_then(|verify| verify.schedule.as_ref());
    let of_drill = drill.as_ref().and_then(|drill| drill.schedule.as_ref());
    let schedules = [schedule.as_ref(), of_prune, of_verify, of_drill];
    if let Some(jitter) = jitter {
        policy_checks::jitter(reader, jitter, schedules.into_iter().flatten());
    }
    let window = reader.has("window").then(|| read_window(&reader.section("window")?)).flatten();
    let blackout = read_blackout(reader);
    Timing { schedule, jitter, window, blackout, prune, verify, log_index, report, drill }
}

fn read_log_index(reader: &Reader<'_>, zone: &TimeZone) -> LogIndexPolicy {
    let never = reader.text("schedule").is_some_and(|text| text.value == NEVER);
    let schedule = if never { None } else { read_schedule(reader, zone) };
    LogIndexPolicy { schedule }
}

pub(crate) fn read_schedule(reader: &Reader<'_>, zone: &TimeZone) -> Option<Schedule> {
    let text = reader.text("schedule")?;
    match Schedule::new(text.value, zone.clone()) {
        Ok(schedule) => Some(schedule),
        Err(error) => {
            reader.report.advise(&text.span, error.to_string(), error.hint());
            None
        }
    }
}

fn read_verify(reader: &Reader<'_>, zone: &TimeZone) -> Option<VerifyPolicy> {
    let (schedule, within) = (read_schedule(reader, zone), reader.duration("within"));
    if reader.has("within") && !reader.has("schedule") {
        let message = "`within` has no effect without a `schedule`";
        let advice = "give [verify] a `schedule`, or remove `within`";
        reader.report.advise(&reader.span_of_key("within"), message, advice);
    }
    let (within, bytes_per_second) = (within?, reader.size("bytes_per_second"));
    if let Some(schedule) = &schedule {
        policy_checks::verify(reader, within, schedule);
    }
    Some(VerifyPolicy { schedule, within, bytes_per_second })
}

/// Reads `from` and `until`.
pub(crate) fn read_window(reader: &Reader<'_>) -> Option<Window> {
    let [from, until] = ["from", "until"].map(|key| {
        let text = reader.text(key)?;
        let time = time_of_day(text.value);
        if time.is_none() {
            let message = format!("`{}` is no time of day", show(text.value));
            let advice = "write hours and minutes, 00:00 to 23:59, for example \"22:00\"";
            reader.report.advise(&text.span, message, advice);
        }
        time
    });
    let window = Window::new(from?, until?);
    if window.is_none() {
        let message = "this window ends when it begins";
        let advice = "make them differ, or remove both: then it is the whole day";
        reader.report.advise(&reader.span_of("until"), message, advice);
    }
    window
}

fn read_blackout(reader: &Reader<'_>) -> Vec<Blackout> {
    let texts = reader.texts("blackout").unwrap_or_default();
    let read = |text: &reader::Text<'_>| {
        let days = blackout(text.value);
        if days.is_none() {
            let message = format!("`{}` is no date and no range of dates", show(text.value));
            let advice =
                "write \"2026-12-24\", or \"2026-12-24..2027-01-02\" with the earlier one first";
            reader.report.advise(&text.span, message, advice);
        }
        days
    };
    texts.iter().filter_map(read).collect()
}
