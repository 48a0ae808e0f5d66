//! `drctl drill run` of several sources at once.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;
use drctl_model::shown;
use serde_json::{Value, json};

use super::drill::{done_json, done_text, exit};
use super::forecast::{forecast_json, forecast_words};
use super::progress::Progress;
use super::screen::{Screen, TEXT_SHOWN};
use crate::drill::{AllDone, DrillRequest, drill_together};
use crate::host::figures::{number, span};
use crate::host::{AgentError, Exit, Failure, Meter, Setup, Stop};

/// Tries all of them at once.
pub(super) async fn run(
    screen: Screen,
    setup: &Setup,
    requests: Vec<DrillRequest>,
    stop: &Stop,
) -> Result<Exit> {
    let names: BTreeSet<_> = requests.iter().map(|request| &request.source).collect();
    if names.len() < requests.len() {
        let text = "a source is named twice. Nothing was done";
        return Err(AgentError::Usage(text.to_owned()).into());
    }
    let meter = Meter::default();
    let progress = Progress::show(screen, &meter);
    let done = Box::pin(drill_together(setup, requests, &meter, stop)).await;
    drop(progress);
    let done = done?;
    screen.answer("drctl.drill-together/1", object(&done), || text(&done));
    let exits = done.each.iter().map(|(_, one)| match one {
        Ok(one) => exit(one.drill.verdict(), one.is_clean()),
        Err(error) => Failure::of(error).exit,
    });
    // That data are not the source's is the worst; then whatever kept one from being tried.
    let rank = |exit: &Exit| match exit {
        Exit::Success => 0,
        Exit::Degraded => 1,
        Exit::Objective => 2,
        Exit::Verification => 4,
        _ => 3,
    };
    Ok(exits.max_by_key(rank).unwrap_or(Exit::Success))
}

fn object(done: &AllDone) -> Value {
    let each = done.each.iter().map(|(source, one)| match one {
        Ok(one) => json!({ "source": source, "drill": done_json(one), "error": null }),
        Err(error) => {
            let failure = Failure::of(error);
            let error = json!({ "code": failure.code, "messages": failure.messages });
            json!({ "source": source, "drill": null, "error": error })
        }
    });
    json!({
        "together": done.together.id, "restore_ms": done.restore_ms,
        "forecast": done.forecast.as_ref().map(forecast_json),
        "sources": each.collect::<Vec<_>>(),
    })
}

fn text(done: &AllDone) -> String {
    let mut text = String::new();
    for (source, one) in &done.each {
        let _ = match one {
            Ok(one) => writeln!(text, "{}", done_text(one)),
            Err(error) => {
                let why = Failure::of(error).messages.join(": ");
                writeln!(text, "{source}: no drill: {}", shown(&why, TEXT_SHOWN))
            }
        };
    }
    let many = number(done.together.sources);
    let _ = match done.restore_ms {
        Some(ms) => {
            let took = span(Duration::from_millis(ms).as_secs_f64());
            write!(text, "all {many} together were restored and proven after {took}")
        }
        None => write!(text, "NOT all {many} together were restored and proven"),
    };
    if let Some(told) = &done.forecast {
        let _ = write!(text, "\n  {}", forecast_words(told));
    }
    text
}
