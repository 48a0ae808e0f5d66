//! A cluster brought to a point in time: laid out, replayed, looked at, and only then believed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use drctl_engines::pg::physical::{Layout, Progress, Recovering, Recovery, StopAt, prepare};
use drctl_model::{Lsn, Timeline, WalSegmentSize, shown};
use drctl_policies::recovery::{Leg, RecoveryPlan, Stop as PlanStop, Target};
use drctl_store::Identities;
use jiff::Timestamp;

use crate::problem::Problem;
use crate::wal::{Ahead, Expected, Known, Shelf, fetch_ahead};
use crate::{Meter, Repository, Setup, Stop};

/// How long its last checkpoint may take.
const STOP_PATIENCE: Duration = Duration::from_secs(600);

/// What a recovery came to.
#[derive(Debug, Clone)]
pub struct Recovered {
    /// How far the log was replayed.
    pub replayed: Lsn,
    /// The time of the last commit that the data show, where the log told one.
    pub shows: Option<Timestamp>,
    /// The server's own line about where it stopped.
    pub stopped: Option<String>,
    /// Whether it was made a cluster of its own.
    pub promoted: bool,
}

/// What is to be recovered, and how.
pub struct RecoverRequest<'a> {
    /// The configuration.
    pub setup: &'a Setup,
    /// Where the log lies.
    pub repository: &'a Repository,
    /// The source's name, as the log is fetched by it.
    pub source: &'a str,
    /// What the bucket holds.
    pub known: &'a Known,
    /// The plan.
    pub plan: &'a RecoveryPlan,
    /// The directory into which the base was laid out.
    pub directory: PathBuf,
    /// The file of the identity that opens the log.
    pub identity: PathBuf,
    /// The same, read.
    pub identities: Identities,
    /// The role as which the recovering server is asked.
    pub user: String,
    /// Where the server's programs of the base's version are.
    pub bin_dir: PathBuf,
    /// Whether to make it a cluster of its own once it is where it should be.
    pub promote: bool,
}

/// Replays the log onto a base that was laid out, and proves where that came to.
///
/// # Errors
/// [`Problem::Mismatch`] where the target was not reached: what is there is not to be used.
pub async fn recover(
    request: &RecoverRequest<'_>,
    meter: &Meter,
    stop: &Stop,
) -> Result<Recovered> {
    let layout = Layout::new(&request.directory);
    let base = request.known.base(&request.plan.base).context("the plan's base is gone")?;
    let recovery = Recovery {
        restore_command: restore_command(request, base.segment_size.bytes())?,
        timeline: request.plan.timeline,
        stop: stop_at(request.plan),
    };
    prepare(&layout, &recovery).context("prepare the cluster")?;
    let ahead = ahead(&request.directory);
    ahead.begin()?;
    meter.label("starting the restored server");
    let mut server = Recovering::start(&layout, &request.bin_dir, &request.user)?;
    let arrived = tokio::select! {
        arrived = arrive(&mut server, request, meter) => arrived,
        () = stop.requested() => Err(Problem::Interrupted.into()),
        () = help(request, &ahead, base.segment_size) => Err(Problem::Interrupted.into()),
    };
    ahead.end();
    let arrived = match arrived {
        Ok(arrived) => arrived,
        Err(error) => {
            let _ = server.stop(STOP_PATIENCE).await;
            return Err(error);
        }
    };
    let stopped = server.stop_line();
    prove(request, &arrived, stopped.as_deref())?;
    if request.promote {
        meter.label("promoting");
        promote(&mut server, &layout).await?;
    }
    server.stop(STOP_PATIENCE).await?;
    let replayed = arrived.replayed.context("it tells no position")?;
    Ok(Recovered { replayed, shows: arrived.shows, stopped, promoted: request.promote })
}

/// Where log waits for the server, in the recovery's own directory.
fn ahead(directory: &Path) -> Ahead {
    Ahead::new(&directory.join("ahead"))
}

/// Fetches ahead for as long as it is awaited; does not end by itself.
async fn help(request: &RecoverRequest<'_>, ahead: &Ahead, size: WalSegmentSize) {
    let Ok(source) = request.source.parse() else { return std::future::pending().await };
    let shelf = Shelf::reader(request.repository, &source);
    let legs: Vec<Expected> = request.plan.path.iter().map(expected).collect();
    let fetches = request.setup.limits().fetches;
    let system_id = request.known.system_id;
    fetch_ahead(ahead, &shelf, system_id, size, &legs, fetches, &request.identities).await;
    std::future::pending().await
}

fn expected(leg: &Leg) -> Expected {
    Expected { timeline: leg.timeline, from: leg.from, until: leg.until }
}

/// Whether all the log there is gets replayed: nothing in it tells the server where to stop.
fn runs_to_end(plan: &RecoveryPlan) -> bool {
    plan.stop == PlanStop::AtEnd || plan.target == Target::Latest
}

fn stop_at(plan: &RecoveryPlan) -> StopAt {
    match &plan.target {
        _ if runs_to_end(plan) => StopAt::Standby,
        Target::Time(at) => {
            // The one form that every tool of PostgreSQL reads, in UTC.
            StopAt::Time(at.strftime("%Y-%m-%d %H:%M:%S.%6f+00").to_string())
        }
        Target::Lsn(lsn) => StopAt::Lsn(*lsn),
        Target::Xid { xid, inclusive } => StopAt::Xid { xid: *xid, inclusive: *inclusive },
        Target::Name(name) => StopAt::Name(name.clone()),
        Target::Latest => StopAt::Standby,
    }
}

/// The command by which the server fetches its log: it fails closed over all that the plan needs.
fn restore_command(request: &RecoverRequest<'_>, segment_bytes: u64) -> Result<String> {
    let program = std::env::current_exe().context("find drctl itself")?;
    let quote = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
    let mut command = format!(
        "{} --config {} --quiet wal fetch {} %f \"%p\" --system-id {} --segment-bytes {segment_bytes} \
         --identity {} --ahead {}",
        quote(&program.display().to_string()),
        quote(&std::path::absolute(&request.setup.path)?.display().to_string()),
        request.source,
        request.known.system_id,
        quote(&request.identity.display().to_string()),
        quote(&ahead(&request.directory).path().display().to_string()),
    );
    for leg in &request.plan.path {
        command += &format!(" --expect {}:{}-{}", leg.timeline, leg.from, leg.until);
    }
    Ok(command.replace("%%", "%").replace('%', "%%").replace("%%f", "%f").replace("%%p", "%p"))
}

/// Where the end of the log has been replayed: the end of the last record that is known.
fn end(request: &RecoverRequest<'_>) -> Lsn {
    let plan = request.plan;
    let leg = plan.path.last();
    let last = leg.and_then(|leg| request.known.last_record(leg.timeline, plan.reach));
    last.map_or(plan.consistent, |last| last.max(plan.consistent))
}

async fn arrive(
    server: &mut Recovering,
    request: &RecoverRequest<'_>,
    meter: &Meter,
) -> Result<Progress> {
    let to_end = runs_to_end(request.plan);
    let end = end(request);
    loop {
        if let Some(progress) = server.look().await.context("replay the log")? {
            let shows = progress.shows.map_or("-".to_owned(), |at| at.to_string());
            meter.label(format!("the data show {shows}"));
            let there = match to_end {
                true => progress.replayed.is_some_and(|at| at >= end),
                false => progress.paused,
            };
            if there {
                return Ok(progress);
            }
            if !progress.in_recovery {
                bail!(Problem::Mismatch("the server opened before it was told to".to_owned()));
            }
        }
    }
}

/// Everything that can be known about whether the target was reached, and nothing else.
fn prove(request: &RecoverRequest<'_>, arrived: &Progress, stopped: Option<&str>) -> Result<()> {
    let plan = request.plan;
    let fail = |text: String| Err(Problem::Mismatch(text).into());
    let Some(replayed) = arrived.replayed else {
        return fail("the server does not tell how far it replayed".to_owned());
    };
    if replayed < plan.consistent {
        return fail(format!("it replayed up to {replayed}, before the copy is consistent"));
    }
    if !runs_to_end(plan) && stopped.is_none() {
        return fail("the server paused without saying that it came to the target".to_owned());
    }
    if let (Target::Time(at), Some(shows)) = (&plan.target, arrived.shows)
        && shows > *at
    {
        return fail(format!("the data show {shows}, which is later than {at}"));
    }
    // Not by position order alone: a commit of the plan that is missing is missing data.
    if let (Some(least), Some(shows)) = (plan.last_commit.not_before, arrived.shows) {
        let slack = jiff::SignedDuration::from_secs(1);
        if shows + slack < least {
            return fail(format!("the data show {shows}, and commits up to {least} were planned"));
        }
    }
    Ok(())
}

async fn promote(server: &mut Recovering, layout: &Layout) -> Result<()> {
    server.promote(layout)?;
    loop {
        if let Some(progress) = server.look().await.context("promote the cluster")?
            && !progress.in_recovery
        {
            return Ok(());
        }
    }
}

/// The digest that stands for a plan: `--yes=DIGEST` runs this one and no other.
#[must_use]
pub fn plan_digest(plan: &RecoveryPlan) -> String {
    drctl_store::digest(plan.digest_text().as_bytes()).to_string()[..12].to_owned()
}

/// The timeline that is wanted, from what was typed.
///
/// # Errors
/// [`Problem::Usage`].
pub fn timeline_of(id: Option<u32>) -> Result<Option<Timeline>> {
    id.map(|id| {
        Timeline::new(id).ok_or_else(|| Problem::Usage("there is no timeline 0".to_owned()).into())
    })
    .transpose()
}

/// A time from what was typed: with an offset or `Z`, or in the machine's own time zone, where it
/// must mean one moment.
///
/// # Errors
/// [`Problem::Usage`], also for a time that a change of clocks skips or repeats.
pub fn time_of(text: &str) -> Result<Timestamp> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let wrong = |why: &str| {
        let text = shown(text, 60);
        Problem::Usage(format!(
            "`{text}` {why}; write it as 2026-03-01T01:12:40Z or with an offset"
        ))
    };
    let civil: jiff::civil::DateTime =
        text.parse().map_err(|_| wrong("is no time that can be read"))?;
    let zone = jiff::tz::TimeZone::system();
    let ambiguous = zone.to_ambiguous_zoned(civil);
    if ambiguous.is_ambiguous() {
        return Err(wrong("is skipped or comes twice in this machine's time zone").into());
    }
    Ok(ambiguous.unambiguous().map_err(|_| wrong("is no time of this time zone"))?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_with_an_offset_mean_one_moment() {
        let at = time_of("2026-03-01T01:12:40Z").unwrap();
        assert_eq!(time_of("2026-03-01T02:12:40+01:00").unwrap(), at);
        assert_eq!(time_of("2026-03-01 02:12:40+01").unwrap(), at);
        for text in ["", "yesterday", "2026-13-01T00:00:00Z"] {
            assert!(time_of(text).is_err(), "{text}");
        }
    }
}
