//! `drctl policy simulate`: what a policy would keep if backups go on as now, and what that costs.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use drctl_model::{BackupSummary, SourceId, newest_first};
use drctl_policies::Source;
use drctl_policies::retention::{Candidate, GoesOn, Month, simulate};
use drctl_store::layout;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::args::{PolicyVerb, SimulateArgs};
use super::screen::{Screen, table};
use super::state::known_catalog;
use crate::engine;
use crate::host::figures::{bytes, number};
use crate::host::{AgentError, Exit, Setup};

/// The seconds of a day.
const DAY: u128 = 86_400;

/// How far base backups must be apart to tell how much WAL there is in a day.
const SHORTEST: SignedDuration = SignedDuration::from_hours(1);

/// The most runs that are made up.
const MOST: usize = 50_000;

/// What is known of how a source goes on.
struct Outlook {
    source: SourceId,
    policy: String,
    months: Vec<Month>,
}

/// `drctl policy`.
pub(super) async fn policy(screen: Screen, setup: &Setup, verb: &PolicyVerb) -> Result<Exit> {
    let PolicyVerb::Simulate(args) = verb;
    let sources: Vec<(&SourceId, &Source)> = match &args.source {
        Some(name) => vec![expired_here(setup.source(name)?)?],
        // Those that another tool keeps have no figures here.
        None => setup.config.sources.iter().filter(|one| expired_here(*one).is_ok()).collect(),
    };
    let price = price(args)?;
    let mut all = Vec::new();
    for (id, source) in sources {
        let of = outlook(setup, (id, source), args).await;
        all.push(of.with_context(|| format!("simulate {id}"))?);
    }
    let cost = |month: &Month| price.map(|price| cost_of(month, price));
    let entry = |one: &Outlook| {
        let month = |month: &Month| -> Value {
            json!({
                "month": month.month, "backups": month.backups, "bytes": month.bytes,
                "log_bytes": month.log_bytes, "cost": cost(month),
            })
        };
        let months: Vec<Value> = one.months.iter().map(month).collect();
        json!({ "source": one.source, "policy": one.policy, "months": months })
    };
    let object = json!({ "sources": all.iter().map(entry).collect::<Vec<_>>() });
    screen.answer("drctl.policy-simulate/1", object, || {
        let texts: Vec<String> = all.iter().map(|one| text(one, &cost)).collect();
        texts.join("\n\n")
    });
    Ok(Exit::Success)
}

/// A source whose backups a policy of drctl expires.
fn expired_here<'a>(
    (id, source): (&'a SourceId, &'a Source),
) -> Result<(&'a SourceId, &'a Source)> {
    if !engine::is_kept_elsewhere(source) {
        return Ok((id, source));
    }
    let text = format!(
        "pgBackRest expires the backups of {id} by its own settings (repo1-retention-full): the \
         retention of a policy does not apply to them"
    );
    Err(AgentError::Usage(text).into())
}

/// Of a month, at a price for a GB (10⁹ bytes) and month.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn cost_of(month: &Month, price: f64) -> f64 {
    let all = month.bytes.saturating_add(month.log_bytes) as f64;
    (all / 1e9 * price * 1e6).round() / 1e6
}

/// A cost with as many digits as it needs to be more than nothing.
fn cost_text(cost: f64) -> String {
    if cost < 1.0 { format!("{cost:.4}") } else { format!("{cost:.2}") }
}

fn price(args: &SimulateArgs) -> Result<Option<f64>> {
    let Some(text) = &args.price else { return Ok(None) };
    let price = text.parse::<f64>().ok().filter(|price| price.is_finite() && *price >= 0.0);
    let wrong = || format!("--price is a number, such as 0.023; not `{text}`");
    Ok(Some(price.ok_or_else(|| AgentError::Usage(wrong()))?))
}

async fn outlook(
    setup: &Setup,
    (id, source): (&SourceId, &Source),
    args: &SimulateArgs,
) -> Result<Outlook> {
    let catalog = known_catalog(setup).await?;
    let known = newest_first(catalog.backups(Some(id)).await?);
    let now = setup.clock.now();
    let zone = source.policy.timezone.clone();
    let span = args.span.parse::<jiff::Span>().ok();
    if span.is_some_and(|span| span.get_minutes() != 0) {
        let text = format!("`{}` are minutes: months are `mo`, as in 6mo", args.span);
        return Err(AgentError::Usage(text).into());
    }
    let until = span.and_then(|span| now.to_zoned(zone.clone()).checked_add(span).ok());
    let Some(until) = until.map(|until| until.timestamp()).filter(|until| *until > now) else {
        let text = format!("--for is a length of time, such as 18mo or 2y; not `{}`", args.span);
        return Err(AgentError::Usage(text).into());
    };
    let size = |of: Option<&BackupSummary>| of.map(|of| of.sealed_bytes);
    let is_full = |one: &&BackupSummary| one.kind.parent().is_none();
    let Some(full) = size(known.iter().find(is_full)) else {
        let text =
            format!("there is no backup of {id} yet: nobody knows how large the next ones are");
        return Err(AgentError::Usage(text).into());
    };
    let part = size(known.iter().find(|one| !is_full(one)));
    let incremental = part.map(|part| (between(&known), part));
    let candidate = |one: &BackupSummary| Candidate {
        backup: one.backup.clone(),
        taken: one.taken(),
        stored: None,
        parent: one.kind.parent().map(|parent| parent.backup.clone()),
        counts: one.is_good(),
        proven: false,
        claims: Vec::new(),
    };
    let there = known.iter().map(|one| (candidate(one), one.sealed_bytes)).collect();
    let runs = runs(source, &known, (now, until))?;
    let log_per_day = log_per_day(setup, id, &known).await?;
    let goes_on = GoesOn { there, runs, full, incremental, log_per_day };
    let months = simulate(&source.policy.retention, &zone, goes_on);
    Ok(Outlook { source: id.clone(), policy: source.policy.name.to_string(), months })
}

/// How many incremental ones followed the last full one that was followed by another, or follow the newest.
fn between(known: &[BackupSummary]) -> usize {
    let mut parts = known.split(|one| one.kind.parent().is_none()).map(<[BackupSummary]>::len);
    let newest = parts.next().unwrap_or_default();
    parts.next().unwrap_or_default().max(newest)
}

/// When backups would be made: by the schedule, and without one as often as the last two were.
fn runs(
    source: &Source,
    known: &[BackupSummary],
    (now, until): (Timestamp, Timestamp),
) -> Result<Vec<Timestamp>> {
    let apart = match known {
        [newest, before, ..] => newest.taken().duration_since(before.taken()),
        _ => SignedDuration::ZERO,
    };
    let schedule = source.policy.schedule.as_ref();
    if schedule.is_none() && apart < SignedDuration::from_mins(1) {
        let text =
            "there is no schedule, and there are no two backups that tell how often they are made";
        return Err(AgentError::Usage(text.to_owned()).into());
    }
    let next = |after: &Timestamp| match schedule {
        Some(schedule) => schedule.next_after(*after),
        None => after.checked_add(apart).ok(),
    };
    let runs = std::iter::successors(next(&now), next).take_while(|at| *at <= until);
    let runs: Vec<Timestamp> = runs.take(MOST + 1).collect();
    match runs.len() > MOST {
        true => {
            let text = format!("that would be more than {} backups", number(MOST as u64));
            Err(AgentError::Usage(text).into())
        }
        false => Ok(runs),
    }
}

/// The bytes of log in a day: as much as there is, over the time that the base backups are apart. Nothing
/// where nobody can tell.
async fn log_per_day(setup: &Setup, id: &SourceId, known: &[BackupSummary]) -> Result<u64> {
    let bases = || known.iter().filter(|one| one.kind.coordinates().is_some());
    let ends = bases().map(BackupSummary::taken).max().zip(bases().map(BackupSummary::taken).min());
    let Some((newest, oldest)) = ends else { return Ok(0) };
    let repository = setup.repository().await?;
    let (_, stored) = repository.count_and_size(&layout::logs(id)).await?;
    let apart = newest.duration_since(oldest);
    let seconds = u128::try_from(apart.as_secs()).unwrap_or_default();
    let per_day = (u128::from(stored) * DAY).checked_div(seconds).filter(|_| apart >= SHORTEST);
    Ok(per_day.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default())
}

fn text(one: &Outlook, cost: &impl Fn(&Month) -> Option<f64>) -> String {
    let mut text = format!("{}, by policy {}, if all goes on as now:\n", one.source, one.policy);
    let head = ["MONTH", "BACKUPS", "BYTES", "WAL", "COST"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for month in &one.months {
        rows.push(vec![
            month.month.clone(),
            number(month.backups as u64),
            bytes(month.bytes),
            bytes(month.log_bytes),
            cost(month).map_or("-".to_owned(), cost_text),
        ]);
    }
    let _ = write!(text, "{}", table(&rows));
    text
}
