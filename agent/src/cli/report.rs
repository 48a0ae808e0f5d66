//! `drctl report`: what was done, and where the sources stand.

use anyhow::Result;
use drctl_model::SourceId;
use drctl_policies::watch::span_of;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};
use serde_json::{Value, json};

use super::args::{ReportArgs, ReportFormat};
use super::report_drills::drills_json;
use super::report_page::{Page, html, markdown};
use super::screen::{Screen, line};
use super::state::known_catalog;
use crate::health::{Backups, Judged, Report, Runs, report as look};
use crate::host::{AgentError, Exit, Setup};

/// `drctl report`.
pub(super) async fn report(screen: Screen, setup: &Setup, args: &ReportArgs) -> Result<Exit> {
    let screen = Screen { json: screen.json || args.format == ReportFormat::Json, ..screen };
    let (from, to) = period(&args.period, setup.clock.now())?;
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
    let of = Page { from, to, host: &setup.host(), made: setup.clock.now(), reports: &reports };
    screen.answer("drctl.report/1", object, || match args.format {
        ReportFormat::Html => html(&of),
        ReportFormat::Md => markdown(&of),
        ReportFormat::Text | ReportFormat::Json => {
            let text = |one: &Report| {
                let lines: Vec<String> = one.lines().iter().map(|text| line(text)).collect();
                lines.join("\n  ")
            };
            reports.iter().map(text).collect::<Vec<_>>().join("\n\n")
        }
    });
    Ok(Exit::Success)
}

/// The time that is told of: a span up to now, or a month, a quarter or a year of UTC as far as it is over.
fn period(text: &str, now: Timestamp) -> Result<(Timestamp, Timestamp)> {
    if let Some((from, until)) = calendar(text) {
        if from >= now {
            let text = format!("`{text}` has not begun: nothing can be told of it");
            return Err(AgentError::Usage(text).into());
        }
        return Ok((from, until.min(now)));
    }
    let span = span_of(text).filter(|span| !span.is_zero());
    let begin = span.and_then(|span| now.checked_sub(SignedDuration::try_from(span).ok()?).ok());
    let wrong = || {
        AgentError::Usage(format!(
            "`{text}` is no span of time, such as 24h, 7d or 90d, and no month, quarter or year, such as \
             2026-11, 2026-Q4 or 2026"
        ))
    };
    Ok((begin.ok_or_else(wrong)?, now))
}

/// A month, a quarter or a year, in UTC: its beginning and that of the next one.
fn calendar(text: &str) -> Option<(Timestamp, Timestamp)> {
    let (year, rest) = text.split_once('-').map_or((text, None), |(year, rest)| (year, Some(rest)));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let year: i16 = (year.len() == 4 && digits(year)).then(|| year.parse().ok()).flatten()?;
    let (month, months): (i8, i8) = match rest {
        None => (1, 12),
        Some(rest) => match rest.strip_prefix('Q') {
            Some(quarter) => {
                let quarter: i8 =
                    quarter.parse().ok().filter(|quarter| (1..=4).contains(quarter))?;
                (quarter * 3 - 2, 3)
            }
            None => (rest.parse().ok().filter(|_| rest.len() == 2 && digits(rest))?, 1),
        },
    };
    let first = Date::new(year, month, 1).ok()?;
    let next = first.checked_add(Span::new().months(months)).ok()?;
    let begins = |day: Date| Some(day.to_zoned(TimeZone::UTC).ok()?.timestamp());
    Some((begins(first)?, begins(next)?))
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
        "drills": one.drills.as_ref().ok().map(drills_json),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_a_span_or_a_part_of_the_calendar_as_far_as_it_is_over() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let now = at("2026-11-30T08:00:00Z");
        let told = |text: &str| period(text, now).ok();
        let whole = |from: &str, to: &str| Some((at(from), at(to)));
        assert_eq!(told("2026-Q3"), whole("2026-07-01T00:00:00Z", "2026-10-01T00:00:00Z"));
        assert_eq!(told("2026-02"), whole("2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"));
        assert_eq!(told("2025"), whole("2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z"));
        assert_eq!(told("2025-12"), whole("2025-12-01T00:00:00Z", "2026-01-01T00:00:00Z"));
        assert_eq!(told("2026-Q4"), Some((at("2026-10-01T00:00:00Z"), now)));
        assert_eq!(told("7d"), Some((at("2026-11-23T08:00:00Z"), now)));
        for text in [
            "2027", "2026-12", "2026-Q5", "2026-Q0", "2026-13", "2026-1", "26", "", "0d", "2026-Qx",
        ] {
            assert_eq!(told(text), None, "{text}");
        }
    }
}
