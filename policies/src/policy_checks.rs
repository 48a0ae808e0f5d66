//! What contradicts itself in a policy: each value is fine, together they cannot be met.

use std::time::Duration;

use jiff::SignedDuration;

use crate::policy::{Objectives, RetentionPolicy};
use crate::reader::Reader;
use crate::schedule::Schedule;
use crate::units::show_duration;

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

/// A rule that counts days, weeks, months or years needs a backup in most of them; `within` must
/// reach from one run to the next.
pub(crate) fn retention(reader: &Reader<'_>, policy: &RetentionPolicy, schedule: &Schedule) {
    let Some((shortest, longest)) = schedule.spacing().map(unsigned) else { return };
    // The longest that a period lasts.
    let rules = [
        ("hourly", policy.hourly, HOUR, "hour"),
        ("daily", policy.daily, DAY, "day"),
        ("weekly", policy.weekly, 7 * DAY, "week"),
        ("monthly", policy.monthly, 31 * DAY, "month"),
        ("yearly", policy.yearly, 366 * DAY, "year"),
    ];
    for (key, count, period, word) in rules {
        if count > 0 && shortest > Duration::from_secs(period) {
            let every = show_duration(shortest.as_secs());
            reader.report.advise(
                &reader.span_of(key),
                format!(
                    "`{key}` cannot be reached: the schedule runs every {every} at most, not \
                     every {word}"
                ),
                "use a rule for a longer period or `last`, or run more often",
            );
        }
    }
    let window = policy.within.map(|within| within.saturating_add(longest));
    if let Some((needed, max_age)) = window.zip(policy.max_age).filter(|(window, age)| age < window)
    {
        let (needed, max_age) = (show_duration(needed.as_secs()), show_duration(max_age.as_secs()));
        reader.report.advise(
            &reader.span_of("max_age"),
            format!(
                "`max_age` of {max_age} is too short: `within` needs backups of up to {needed}, since \
                 a recovery to its begin starts from the backup before it"
            ),
            "make it longer, or `within` shorter",
        );
    }
    if let Some(within) = policy.within.filter(|within| *within < longest) {
        let (within, longest) = (show_duration(within.as_secs()), show_duration(longest.as_secs()));
        reader.report.advise(
            &reader.span_of("within"),
            format!("`within` of {within} ends before the next run: the schedule pauses {longest}"),
            "make it longer, or use `last`",
        );
    }
}

/// The age of the newest backup reaches the time between two runs.
pub(crate) fn objectives(reader: &Reader<'_>, objectives: &Objectives, schedule: &Schedule) {
    let Some((_, longest)) = schedule.spacing().map(unsigned) else { return };
    if let Some(rpo) = objectives.rpo.filter(|rpo| *rpo < longest) {
        let (rpo, longest) = (show_duration(rpo.as_secs()), show_duration(longest.as_secs()));
        reader.report.advise(
            &reader.span_of("rpo"),
            format!("an `rpo` of {rpo} cannot be met: the schedule pauses {longest}"),
            "run more often, or set a longer rpo; allow for the duration of the backup itself",
        );
    }
}

/// A run that begins later must not meet the next one.
pub(crate) fn jitter<'a>(
    reader: &Reader<'_>,
    jitter: Duration,
    schedules: impl Iterator<Item = &'a Schedule>,
) {
    let shortest = schedules.filter_map(Schedule::spacing).map(|spacing| unsigned(spacing).0).min();
    if let Some(shortest) = shortest.filter(|shortest| jitter >= *shortest) {
        let (jitter, shortest) =
            (show_duration(jitter.as_secs()), show_duration(shortest.as_secs()));
        reader.report.advise(
            &reader.span_of("jitter"),
            format!("a `jitter` of {jitter} reaches the next run: one is due every {shortest}"),
            "make it shorter, or run less often",
        );
    }
}

/// What is to be read within some time needs a run in it.
pub(crate) fn verify(reader: &Reader<'_>, within: Duration, schedule: &Schedule) {
    let Some((_, longest)) = schedule.spacing().map(unsigned) else { return };
    if within < longest {
        let (within, longest) = (show_duration(within.as_secs()), show_duration(longest.as_secs()));
        reader.report.advise(
            &reader.span_of("within"),
            format!("`within` of {within} ends before the next run: the schedule pauses {longest}"),
            "make it longer, or verify more often",
        );
    }
}

fn unsigned((shortest, longest): (SignedDuration, SignedDuration)) -> (Duration, Duration) {
    (shortest.unsigned_abs(), longest.unsigned_abs())
}
