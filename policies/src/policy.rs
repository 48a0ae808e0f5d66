use std::collections::BTreeMap;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Serialize, Serializer};

use crate::diagnostic::{Report, did_you_mean, show};
use crate::drill::DrillPolicy;
use crate::policy_checks;
use crate::reader::{Reader, Text};
use crate::schedule::{Schedule, time_zone};
use crate::timing::{self, LogIndexPolicy, PrunePolicy, ReportPolicy, Timing, VerifyPolicy};
use crate::units::{as_optional_seconds, as_seconds};
use crate::window::{Blackout, Window, may_begin};

/// When a source is backed up, how, and for how long the backups are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// The stem of its file.
    pub name: String,
    /// When a backup is due; `None`: only by hand.
    pub schedule: Option<Schedule>,
    /// The zone of all schedules, of window and blackout, and of the days, weeks, months and years
    /// of retention.
    #[serde(serialize_with = "zone_name")]
    pub timezone: TimeZone,
    /// A run begins later by a part of this. Up to 12 hours, and shorter than the time between two
    /// runs.
    #[serde(rename = "jitter_seconds", serialize_with = "as_seconds")]
    pub jitter: Duration,
    /// When runs may begin; `None`: at any time.
    pub window: Option<Window>,
    /// On which dates none begins.
    pub blackout: Vec<Blackout>,
    /// How often a run that fails is tried. 1 to 20.
    pub attempts: u32,
    /// The zstd level, 1 to 19.
    pub compression_level: i32,
    /// The zstd level of a cluster's log, 1 to 19.
    pub log_compression_level: i32,
    /// Which backups are kept.
    pub retention: RetentionPolicy,
    /// What is promised.
    pub objectives: Objectives,
    /// When what is not kept is removed.
    pub prune: PrunePolicy,
    /// When it is looked whether all is what was signed.
    pub verify: VerifyPolicy,
    /// When the indexes that are missing over the log are written.
    pub log_index: LogIndexPolicy,
    /// When what was done is told, and where the source stands.
    pub report: ReportPolicy,
    /// When backups are tried in scratch servers, and which.
    pub drill: DrillPolicy,
}

impl Policy {
    /// When the run is due that follows one which was begun then, and when it begins at the latest if all is
    /// well: with all of its jitter, in the window, and on no date that is blacked out. Nothing without a
    /// schedule, or where it never may begin any more.
    #[must_use]
    pub fn due_after(&self, begun: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let due = self.schedule.as_ref()?.next_after(begun)?;
        let jitter = SignedDuration::try_from(self.jitter).ok()?;
        let latest = due.checked_add(jitter).ok()?;
        let begins = may_begin(self.window.as_ref(), &self.blackout, &self.timezone, latest)?;
        Some((due, begins))
    }
}

/// Which backups are kept: any rule that a backup meets keeps it. At least one is not 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RetentionPolicy {
    /// So many newest; 0 to 10 000.
    pub last: u32,
    /// The newest of each of so many hours; 0 to 10 000.
    pub hourly: u32,
    /// The newest of each of so many days; 0 to 36 500.
    pub daily: u32,
    /// The newest of each of so many ISO weeks; 0 to 5 200.
    pub weekly: u32,
    /// The newest of each of so many months; 0 to 1 200.
    pub monthly: u32,
    /// The newest of each of so many years; 0 to 100.
    pub yearly: u32,
    /// All that are younger than this; of a source with log, every moment of it. 1 hour to 36 500
    /// days.
    #[serde(rename = "within_seconds", serialize_with = "as_optional_seconds")]
    pub within: Option<Duration>,
    /// So many newest stay whatever their age; 1 to 10 000.
    pub min_backups: u32,
    /// So many newest that were proven stay whatever their age; 1 to 10 000.
    pub min_proven: u32,
    /// What is older goes, whatever other rules say; longer than `within`. 1 hour to 36 500 days.
    #[serde(rename = "max_age_seconds", serialize_with = "as_optional_seconds")]
    pub max_age: Option<Duration>,
}

impl RetentionPolicy {
    /// Whether no rule keeps anything.
    fn keeps_nothing(&self) -> bool {
        let counts = [self.last, self.hourly, self.daily, self.weekly, self.monthly, self.yearly];
        counts.iter().all(|count| *count == 0) && self.within.is_none()
    }
}

/// What is promised for a source; `status` and drills measure against it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Objectives {
    /// The most that may be lost: the age of the newest good backup, or of the last commit that a
    /// cluster's log in the bucket holds. 1 minute to 3 650 days.
    #[serde(rename = "rpo_seconds", serialize_with = "as_optional_seconds")]
    pub rpo: Option<Duration>,
    /// The most that a restore may take. 1 minute to 365 days.
    #[serde(rename = "rto_seconds", serialize_with = "as_optional_seconds")]
    pub rto: Option<Duration>,
    /// The most that a backup may take. 1 minute to 30 days.
    #[serde(rename = "max_duration_seconds", serialize_with = "as_optional_seconds")]
    pub max_duration: Option<Duration>,
}

pub(crate) fn zone_name<S: Serializer>(zone: &TimeZone, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(zone.iana_name().unwrap_or("UTC"))
}

/// Reads a policy file; `has_log`: only sources have it whose log may be kept.
pub(crate) fn read(name: &str, reader: &Reader<'_>, has_log: bool) -> Option<Policy> {
    let timezone = read_zone(reader);
    let Timing { schedule, jitter, window, blackout, prune, verify, log_index, report, drill } =
        timing::read(reader, timezone.as_ref());
    let attempts = reader.number("attempts");
    let compression_level = reader.number("compression_level");
    let log_compression_level = reader.number("log_compression_level");
    let retention_reader = reader.section("retention");
    let retention = retention_reader.as_ref().and_then(read_retention);
    let objectives_reader = reader.section("objectives");
    let objectives = objectives_reader.as_ref().and_then(read_objectives);
    if let Some(schedule) = &schedule {
        if let (Some(at), Some(retention)) = (&retention_reader, &retention) {
            policy_checks::retention(at, retention, schedule);
        }
        if let (Some(at), Some(objectives), false) = (&objectives_reader, &objectives, has_log) {
            policy_checks::objectives(at, objectives, schedule);
        }
    }
    Some(Policy {
        name: name.to_owned(),
        schedule,
        timezone: timezone?,
        jitter: jitter?,
        window,
        blackout,
        attempts: attempts?,
        compression_level: compression_level?,
        log_compression_level: log_compression_level?,
        retention: retention?,
        objectives: objectives?,
        prune: prune?,
        verify: verify?,
        log_index: log_index?,
        report: report?,
        drill: drill?,
    })
}

/// Reads `timezone`.
pub(crate) fn read_zone(reader: &Reader<'_>) -> Option<TimeZone> {
    let text = reader.text("timezone")?;
    match time_zone(text.value) {
        Ok(zone) => Some(zone),
        Err(meant) => {
            let advice = match meant {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => "write an IANA name such as Europe/Berlin, or UTC".to_owned(),
            };
            let message = format!("`{}` is no time zone", show(text.value));
            reader.report.advise(&text.span, message, advice);
            None
        }
    }
}

fn read_retention(reader: &Reader<'_>) -> Option<RetentionPolicy> {
    let counts =
        ["last", "hourly", "daily", "weekly", "monthly", "yearly", "min_backups", "min_proven"];
    let counts = counts.map(|key| reader.number(key));
    let times = ["within", "max_age"].map(|key| (reader.has(key), reader.duration(key)));
    if times.iter().any(|(has, time)| *has && time.is_none()) {
        return None;
    }
    let [last, hourly, daily, weekly, monthly, yearly, min_backups, min_proven] = counts;
    let [(_, within), (_, max_age)] = times;
    let policy = RetentionPolicy {
        last: last?,
        hourly: hourly?,
        daily: daily?,
        weekly: weekly?,
        monthly: monthly?,
        yearly: yearly?,
        within,
        min_backups: min_backups?,
        min_proven: min_proven?,
        max_age,
    };
    if policy.keeps_nothing() {
        reader.report.advise(
            &reader.span,
            "this retention keeps nothing",
            "give at least one of last, hourly, daily, weekly, monthly, yearly and within",
        );
        return None;
    }
    Some(policy)
}

fn read_objectives(reader: &Reader<'_>) -> Option<Objectives> {
    Some(Objectives {
        rpo: reader.duration("rpo"),
        rto: reader.duration("rto"),
        max_duration: reader.duration("max_duration"),
    })
}

/// The name of a policy: letters, digits, `-` and `_`, 1 to 63; it is part of a file name.
pub(crate) fn check_name(name: &str, report: &Report<'_>) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let good = (1..=63).contains(&name.len()) && name.bytes().all(word);
    if !good {
        report.advise(
            &(0..0),
            format!("`{}` is no name of a policy", show(name)),
            "name the file with 1 to 63 letters, digits, - and _, and .toml",
        );
    }
    good
}

/// The policy of that name. A file that is there and wrong has been reported already.
pub(crate) fn find(
    text: &Text<'_>,
    policies: &BTreeMap<String, Option<Policy>>,
    reader: &Reader<'_>,
) -> Option<Policy> {
    if let Some(policy) = policies.get(text.value) {
        return policy.clone();
    }
    let name = show(text.value);
    let advice = did_you_mean(text.value, policies.keys().map(String::as_str))
        .unwrap_or_else(|| format!("write a file {name}.toml in the directory of the policies"));
    reader.report.advise(&text.span, format!("there is no policy `{name}`"), advice);
    None
}

#[cfg(test)]
mod tests {
    use jiff::civil::{date, time};

    use super::*;

    #[test]
    fn a_run_begins_with_all_of_its_jitter_in_the_window_and_on_no_black_date() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let berlin = time_zone("Europe/Berlin").unwrap();
        let objectives = Objectives { rpo: None, rto: None, max_duration: None };
        let mut policy = Policy {
            name: "daily".to_owned(),
            schedule: Some(Schedule::new("0 1 * * *", berlin.clone()).unwrap()),
            timezone: berlin,
            jitter: Duration::ZERO,
            window: None,
            blackout: Vec::new(),
            attempts: 1,
            compression_level: 3,
            log_compression_level: 1,
            retention: RetentionPolicy::default(),
            objectives,
            prune: PrunePolicy { schedule: None },
            verify: VerifyPolicy { schedule: None, within: Duration::ZERO, bytes_per_second: None },
            log_index: LogIndexPolicy { schedule: None },
            report: ReportPolicy { schedule: None },
            drill: DrillPolicy {
                schedule: None,
                checks: Vec::new(),
                amcheck: true,
                weights: crate::DrillWeights {
                    latest: 1,
                    previous: 0,
                    worst: 0,
                    random: 0,
                    oldest: 0,
                    moment: 0,
                    timeline: 0,
                },
                max_duration: Duration::from_secs(86_400),
            },
        };
        let begun = at("2026-03-01T00:00:10Z");
        let due = at("2026-03-02T00:00:00Z");
        assert_eq!(policy.due_after(begun), Some((due, due)));
        policy.jitter = Duration::from_secs(4 * 3600);
        assert_eq!(policy.due_after(begun), Some((due, at("2026-03-02T04:00:00Z"))));
        policy.window = Window::new(time(22, 0, 0, 0), time(4, 0, 0, 0));
        assert_eq!(policy.due_after(begun), Some((due, at("2026-03-02T21:00:00Z"))));
        policy.blackout = vec![Blackout::new(date(2026, 3, 2), date(2026, 3, 4)).unwrap()];
        assert_eq!(policy.due_after(begun), Some((due, at("2026-03-04T23:00:00Z"))));
        policy.schedule = None;
        assert_eq!(policy.due_after(begun), None);
    }
}
