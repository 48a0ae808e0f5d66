//! A report, told to whoever is told what is amiss.

use anyhow::{Result, bail};
use drctl_catalog::KEPT;
use drctl_model::{Job, JobKind, JobState, SourceId, shown};
use drctl_policies::Channel;
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};

use crate::health::{Report, report};
use crate::host::{AgentError, Setup, Stop};
use crate::jobs::run;
use crate::notify::{Notice, concerns, deliver};

/// A first report is of so much time.
const FIRST: SignedDuration = SignedDuration::from_hours(7 * 24);

/// No report is of more, whenever the one before it was sent.
const LONGEST: SignedDuration = SignedDuration::from_hours(366 * 24);

/// Tells what was done since the report before that was sent, and where the source stands, as a job on record:
/// in the agent's log, and by each channel that is told of the source.
///
/// # Errors
/// [`AgentError::Interrupted`]; the catalog's; where there are channels and none took it.
pub(super) async fn send(setup: &Setup, source: &SourceId, stop: &Stop) -> Result<()> {
    let begun = setup.clock.now();
    let sending = Box::pin(async {
        let work = async {
            let catalog = setup.known_catalog().await?;
            let before = catalog.last_jobs(JobKind::Report, source, KEPT).await?;
            // The next report goes on where this one ends: when it was begun.
            let is_own = |job: &&Job| job.state == JobState::Running && job.started >= begun;
            let to = before.iter().find(is_own).map_or(begun, |job| job.started);
            let time = (since(&before, to), to);
            let made = report(setup, &catalog, std::slice::from_ref(source), time).await?;
            match made.first() {
                Some(made) => tell(setup, source, made).await,
                None => bail!("{source} is not configured on this host any more"),
            }
        };
        tokio::select! {
            done = work => done,
            () = stop.requested() => Err(AgentError::Interrupted.into()),
        }
    });
    run(setup, (JobKind::Report, vec![source.clone()]), sending, |(), _| None).await
}

/// From when on a report tells: since the last one that was sent, or before the first that was not. Where there may
/// have been more than the catalog keeps, none of which was sent, as far back as a report goes.
fn since(newest_first: &[Job], now: Timestamp) -> Timestamp {
    let back = |from: Timestamp, span| from.checked_sub(span).unwrap_or(Timestamp::MIN);
    // One of the future tells that the clock was set back.
    let before = || newest_first.iter().filter(|job| job.started < now);
    let sent = before().find(|job| job.state == JobState::Succeeded);
    let longest = back(now, LONGEST);
    let of_first = || match before().count() >= KEPT - 1 {
        true => longest,
        false => back(before().next_back().map_or(now, |job| job.started), FIRST),
    };
    sent.map_or_else(of_first, |job| job.started).max(longest)
}

async fn tell(setup: &Setup, source: &SourceId, made: &Report) -> Result<()> {
    let lines = made.lines();
    for line in &lines {
        tracing::info!(source = source.as_str(), "report: {}", shown(line, 500));
    }
    let health = made.health();
    let how = (health.severity(), health.as_str());
    let notice = Notice::report(setup.host(), (source.clone(), made.to), how, lines.join("\n"));
    let is_told = |name: &str, channel: &Channel| {
        let of = (source.as_str(), notice.code.as_str(), notice.subject.as_str());
        channel.way.takes_reports() && concerns((name, channel), of, notice.severity)
    };
    let channels: Vec<_> =
        setup.config.notify.iter().filter(|(name, channel)| is_told(name, channel)).collect();
    let sending = channels.iter().map(async |(name, channel)| {
        let done = deliver(setup, (name, channel), &notice).await;
        done.err().map(|error| format!("{name}: {error}"))
    });
    let failed: Vec<String> = join_all(sending).await.into_iter().flatten().collect();
    if failed.is_empty() {
        return Ok(());
    }
    let why = format!("the report was not taken by {}", shown(&failed.join("; "), 500));
    if failed.len() == channels.len() {
        bail!(why);
    }
    // Whoever has it is told next of what came after it.
    tracing::warn!(source = source.as_str(), "{why}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use drctl_model::JobId;

    use super::*;

    #[test]
    fn a_report_tells_of_the_time_since_the_last_one_that_was_sent() {
        use JobState::{Failed, Running, Succeeded};
        let at = |day: i64| Timestamp::from_second(1_800_000_000 + day * 86_400).unwrap();
        let job = |(day, state): &(i64, JobState)| Job {
            id: JobId(*day),
            kind: JobKind::Report,
            source: "shop".parse().unwrap(),
            backup: None,
            state: *state,
            started: at(*day),
            changed: at(*day),
            code: None,
            message: None,
            run: None,
        };
        for (newest_first, expected) in [
            (&[][..], at(-7)),
            (&[(-1, Failed), (-30, Succeeded), (-60, Succeeded)], at(-30)),
            (&[(-900, Succeeded)], at(-366)),
            // Of the time before the first one nobody was told.
            (&[(-1, Failed), (-30, Failed)], at(-37)),
            // The clock was ahead.
            (&[(5, Succeeded), (-30, Succeeded)], at(-30)),
            (&[(5, Running), (5, Succeeded)], at(-7)),
        ] {
            let jobs: Vec<Job> = newest_first.iter().map(job).collect();
            assert_eq!(since(&jobs, at(0)), expected, "{newest_first:?}");
        }
        let many = i64::try_from(KEPT).unwrap();
        let failed: Vec<Job> = (1..many).map(|day| job(&(-day, Failed))).collect();
        assert_eq!(since(&failed, at(0)), at(-366));
        assert_eq!(since(&failed[1..], at(0)), at(1 - many - 7));
    }
}
