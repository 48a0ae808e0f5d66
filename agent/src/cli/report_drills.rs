//! The drills of a report, for scripts, and in the words of a table.

use std::time::Duration;

use drctl_model::{Drill, DrillRun, Verdict, shown};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::drill::drill_json;
use super::forecast::forecast_json;
use super::screen::NAME_SHOWN;
use crate::health::{DrillRecord, DueDrill};
use crate::host::figures::span;

/// For scripts.
pub(super) fn drills_json(record: &DrillRecord) -> Value {
    let one = |one: &DueDrill| {
        let drill = one.drill.as_ref().map(|drill| without_names(drill_json(drill, None)));
        json!({ "due": one.due, "drill": drill, "missed": one.missed })
    };
    let (days_30, days_90, kept) = record.proven;
    json!({
        "all": record.drills.iter().map(one).collect::<Vec<_>>(),
        "missed": record.missed(), "scheduled": record.scheduled,
        "keys": record.keys.iter().map(|(recipient, proven)| json!({
            "recipient": recipient, "proven": proven,
        })).collect::<Vec<_>>(),
        "proven": { "days_30": days_30, "days_90": days_90, "kept": kept },
        "forecast": record.forecast.as_ref().map(forecast_json),
    })
}

/// Names are for whoever asks for one drill.
fn without_names(mut drill: Value) -> Value {
    if let Some(run) = drill["run"].as_object_mut() {
        run.remove("sealed");
    }
    drill
}

/// The head of the table of drills.
pub(super) const HEAD: [&str; 8] = [
    "due",
    "began",
    "result",
    "backup",
    "point",
    "restored in",
    "would have been lost",
    "evidence",
];

/// How a row of that table is to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// All was as promised.
    Good,
    /// It was not, or it was missed.
    Bad,
    /// It says nothing.
    Neither,
}

/// A row of the table, and how it is to be seen.
pub(super) fn row(one: &DueDrill) -> ([String; 8], Tone) {
    let due = one.due.map_or_else(|| "by hand".to_owned(), minute);
    let Some(drill) = &one.drill else {
        let (what, tone) = match one.missed {
            true => ("MISSED: none was run", Tone::Bad),
            false => ("not run yet", Tone::Neither),
        };
        let mut cells: [String; 8] = Default::default();
        (cells[0], cells[2]) = (due, what.to_owned());
        return (cells, tone);
    };
    let tone = match drill.verdict() {
        Verdict::Pass => Tone::Good,
        Verdict::FailData | Verdict::FailRto | Verdict::FailRpo => Tone::Bad,
        Verdict::Inconclusive | Verdict::Aborted | Verdict::Skipped => Tone::Neither,
    };
    let run = drill.run.as_ref();
    let cells = [
        due,
        minute(drill.started),
        result(drill),
        drill.base.as_ref().map_or_else(String::new, ToString::to_string),
        run.map_or("by hand", |run| run.point.wanted.as_str()).to_owned(),
        run.map_or_else(String::new, |run| milliseconds(run.restore_ms())),
        run.and_then(|run| run.lost_ms).map_or_else(String::new, milliseconds),
        format!("{} on {}", drill.drill, shown(&drill.host, NAME_SHOWN)),
    ];
    (cells, tone)
}

/// A time, for people who read many of them: in UTC.
pub(super) fn minute(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M").to_string()
}

fn result(drill: &Drill) -> String {
    let verdict = drill.verdict().as_str().to_uppercase().replace('_', " ");
    let left = drill.run.as_ref().is_some_and(|run: &DrillRun| !run.cleaned);
    let left = if left { "; what it restored was not removed" } else { "" };
    format!("{verdict}: {}{left}", drill.says())
}

/// Milliseconds, for people.
pub(super) fn milliseconds(ms: u64) -> String {
    span(Duration::from_millis(ms).as_secs_f64())
}
