//! `[drill]`: when backups are tried in scratch servers, which, and what is asked of them.

use std::ops::Range;
use std::time::Duration;

use drctl_model::PointWanted;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::diagnostic::show;
use crate::keys::Kind::{Flag, Named, Text};
use crate::keys::{DAY, Key, MINUTE, duration, number};
use crate::reader::Reader;
use crate::schedule::Schedule;
use crate::timing::read_schedule;
use crate::units::as_seconds;

pub(crate) static DRILL: &[Key] = &[
    Key::optional(
        "schedule",
        Text,
        "When to try a backup in a scratch server; absent: only by hand.",
    ),
    weight("latest", "4", "The weight of the newest good backup."),
    weight("previous", "2", "The weight of the good backup before the newest."),
    weight("worst", "2", "The weight of the good backup with the most WAL to replay."),
    weight("random", "1", "The weight of any good backup."),
    weight("oldest", "1", "The weight of the oldest good backup."),
    weight(
        "moment",
        "0",
        "The weight of a random moment between the oldest and the newest good backup.",
    ),
    weight(
        "timeline",
        "0",
        "The weight of the newest good base backup before a switch of the timeline.",
    ),
    Key::with_default(
        "max_duration",
        duration(10 * MINUTE, 30 * DAY),
        "24h",
        "A drill that takes longer is ended.",
    ),
    Key::with_default(
        "amcheck",
        Flag,
        "true",
        "Whether indexes and tables of recovered clusters are checked by PostgreSQL's amcheck.",
    ),
    Key::optional("checks", Named(CHECKS), "What is asked of what was restored."),
];

static CHECKS: &[Key] = &[
    Key::required("database", Text, "The database in which it is asked."),
    Key::required(
        "sql",
        Text,
        "The statement: one column of one row is looked at. It may change nothing.",
    ),
    Key::with_default("expect", Text, "t", "What that has to be, as text."),
    Key::with_default("timeout", duration(1, DAY), "10m", "It fails if it takes longer."),
];

/// How often a drill tries this backup, beside the others.
const fn weight(name: &'static str, default: &'static str, is: &'static str) -> Key {
    Key::with_default(name, number(0, 1_000), default, is)
}

/// When a backup is tried in a scratch server, and which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DrillPolicy {
    /// When it is due; `None`: only by hand.
    pub schedule: Option<Schedule>,
    /// How often each is tried beside the others; together at least 1.
    pub weights: DrillWeights,
    /// Whether indexes and tables of a recovered cluster are checked by PostgreSQL's module `amcheck`.
    pub amcheck: bool,
    /// What is asked of what was restored, by name.
    pub checks: Vec<DrillCheck>,
    /// What takes longer is ended. 10 minutes to 30 days.
    #[serde(rename = "max_duration_seconds", serialize_with = "as_seconds")]
    pub max_duration: Duration,
}

/// How often a drill tries which backup, beside the others. Each 0 to 1 000.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct DrillWeights {
    /// The newest good one.
    pub latest: u32,
    /// The good one before it.
    pub previous: u32,
    /// The good one with the most WAL to replay, or the largest dump.
    pub worst: u32,
    /// Any good one.
    pub random: u32,
    /// The oldest good one.
    pub oldest: u32,
    /// A random moment between the oldest and the newest good one.
    pub moment: u32,
    /// The newest good base backup before a switch of the timeline.
    pub timeline: u32,
}

impl DrillWeights {
    /// Each, in the order in which a number chooses among them.
    #[must_use]
    pub fn each(&self) -> [(PointWanted, u32); 7] {
        let DrillWeights { latest, previous, worst, random, oldest, moment, timeline } = *self;
        [
            (PointWanted::Latest, latest),
            (PointWanted::Previous, previous),
            (PointWanted::Worst, worst),
            (PointWanted::Random, random),
            (PointWanted::Oldest, oldest),
            (PointWanted::Moment, moment),
            (PointWanted::Timeline, timeline),
        ]
    }
}

/// A question to what was restored, and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DrillCheck {
    /// What people call it: evidence has it.
    pub name: String,
    /// The database in which it is asked.
    pub database: String,
    /// The statement.
    pub sql: String,
    /// What the first column of its first row has to be, as text.
    pub expect: String,
    /// It fails if it takes longer. 1 second to 1 day.
    #[serde(rename = "timeout_seconds", serialize_with = "as_seconds")]
    pub timeout: Duration,
}

pub(crate) fn read_drill(reader: &Reader<'_>, zone: &TimeZone) -> Option<DrillPolicy> {
    let schedule = read_schedule(reader, zone);
    let weights = DrillWeights {
        latest: reader.number("latest")?,
        previous: reader.number("previous")?,
        worst: reader.number("worst")?,
        random: reader.number("random")?,
        oldest: reader.number("oldest")?,
        moment: reader.number("moment")?,
        timeline: reader.number("timeline")?,
    };
    if weights.each().iter().all(|(_, weight)| *weight == 0) {
        let message = "these weights choose no backup";
        let advice = "give one of latest, previous, worst, random, oldest, moment and timeline a weight above 0";
        reader.report.advise(&reader.span, message, advice);
        return None;
    }
    let max_duration = reader.duration("max_duration")?;
    let checks = reader.named("checks");
    let checks = checks.iter().map(|(name, (span, at))| read_check(name, span, at));
    // Each is read, so that all that is wrong is told.
    let checks: Vec<Option<DrillCheck>> = checks.collect();
    Some(DrillPolicy {
        schedule,
        weights,
        amcheck: reader.flag("amcheck")?,
        checks: checks.into_iter().collect::<Option<_>>()?,
        max_duration,
    })
}

fn read_check(name: &str, span: &Range<usize>, reader: &Reader<'_>) -> Option<DrillCheck> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let is_name = !name.is_empty() && name.len() <= 60 && name.chars().all(is_word);
    if !is_name {
        let message = format!("`{}` is no name of a check", show(name));
        let advice = "write at most 60 letters, digits, dots, underscores and hyphens";
        reader.report.advise(span, message, advice);
    }
    let text = |key: &str| Some(reader.text(key)?.value.to_owned());
    let (database, sql, expect) = (text("database"), text("sql"), text("expect"));
    let timeout = reader.duration("timeout");
    is_name.then_some(())?;
    Some(DrillCheck {
        name: name.to_owned(),
        database: database?,
        sql: sql?,
        expect: expect?,
        timeout: timeout?,
    })
}
