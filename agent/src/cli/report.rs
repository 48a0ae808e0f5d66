//! `drctl report`: what was done, and where the sources stand.

use anyhow::Result;
use drctl_model::SourceId;
use drctl_policies::watch::span_of;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::args::ReportArgs;
use super::screen::{Screen, line};
use super::state::known_catalog;
use crate::health::{Backups, Judged, Report, Runs, report as look};
use crate::host::{AgentError, Exit, Setup};

/// `drctl report`.
pub(super) async fn report(screen: Screen, setup: &Setup, args: &ReportArgs) -> Result<Exit> {
    let to = setup.clock.now();
    let from = begin(&args.period, to)?;
    let sources: Vec<SourceId> = match args.sources.is_empty() {
        true => setup.config.sources.keys().cloned().collect(),
        false => {
            let named = args.sources.iter().map(|name| Ok(setup.source(name)?.0.clone()));
            named.collect::<Result<_>>()?
        }
    };
    let catalog = known_catalog(setup).await?;
    let reports = look(setup, &catalog, &sources, (from, to)).await?;
    let object = json!({
        "from": from, "to": to, "host": setup.host(),
        "sources": reports.iter().map(source_json).collect::<Vec<_>>(),
    });
    screen.answer("drctl.report/1", object, || {
        let text = |one: &Report| {
            let lines: Vec<String> = one.lines().iter().map(|text| line(text)).collect();
            lines.join("\n  ")
        };
        reports.iter().map(text).collect::<Vec<_>>().join("\n\n")
    });
    Ok(Exit::Success)
}

/// From when on a period tells that ends then.
fn begin(period: &str, to: Timestamp) -> Result<Timestamp> {
    let span = span_of(period).filter(|span| !span.is_zero());
    let begin = span.and_then(|span| to.checked_sub(SignedDuration::try_from(span).ok()?).ok());
    let wrong =
        || AgentError::Usage(format!("`{period}` is no span of time, such as 24h, 7d or 90d"));
    Ok(begin.ok_or_else(wrong)?)
}

fn source_json(one: &Report) -> Value {
    let status = &one.status;
    let finding = |one: &Judged| {
        let (code, health) = (one.code.as_str(), one.health.as_str());
        json!({ "code": code, "health": health, "text": one.text })
    };
    let log = status.log.as_ref().and_then(|log| log.as_ref().ok());
    json!({
        "source": status.source, "health": one.health().as_str(),
        "findings": one.findings.iter().map(finding).collect::<Vec<_>>(),
        "made": backups_json(one.made), "kept": backups_json(one.kept),
        "newest_good": status.newest_good.as_ref().map(|good| &good.backup),
        "age_seconds": status.age.map(|age| age.as_secs()),
        "recoverable_until": log.map(|log| log.recoverable_until.shows),
        "runs": one.runs.as_ref().map(|runs| runs.iter().map(runs_json).collect::<Vec<_>>()),
    })
}

fn backups_json(of: Backups) -> Value {
    json!({ "good": of.good, "suspect": of.suspect, "sealed_bytes": of.sealed_bytes })
}

fn runs_json(of: &Runs) -> Value {
    json!({
        "kind": of.kind.as_str(), "succeeded": of.succeeded, "failed": of.failed,
        "stopped": of.stopped, "unfinished": of.unfinished, "at_least": of.at_least,
    })
}
