//! A recovering server, watched until it stands; where it stands, against the plan.

use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use drctl_engines::Below;
use drctl_engines::pg::physical::{Layout, Look, Progress, Recovering, Stopped};
use drctl_model::{Lsn, Timeline, TimelineHistory};
use drctl_policies::recovery::Target;
use jiff::Timestamp;

use super::aim::runs_to_end;
use super::serve::Serving;
use super::target_reached::reached;
use super::{Proof, Rate, RecoverRequest, RecoveryState, Step, own};
use crate::host::{AgentError, Meter, crash_point};

/// The most bytes of a timeline's history that are read.
const HISTORY_BYTES: u64 = 1 << 20;

/// Where the end of the WAL has been replayed: the end of the last record that is known.
fn end(request: &RecoverRequest<'_>) -> Lsn {
    let plan = request.plan;
    let leg = plan.path.last();
    let last = leg.and_then(|leg| request.known.last_record(leg.timeline, plan.reach));
    last.map_or(plan.consistent, |last| last.max(plan.consistent))
}

/// How far the data are and what they are brought to, for people, short enough for a line: in UTC,
/// to the second, the day only once.
fn told(shows: Option<Timestamp>, target: &Target) -> String {
    let day = shows.map(|at| at.strftime("%Y-%m-%d").to_string());
    let aim = match target {
        Target::Time(at) if day == Some(at.strftime("%Y-%m-%d").to_string()) => {
            at.strftime("%H:%M:%SZ").to_string()
        }
        Target::Time(at) => at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        Target::Latest => "the end".to_owned(),
        other => other.to_string(),
    };
    match shows {
        Some(at) => format!("last commit replayed: {} → {aim}", at.strftime("%Y-%m-%d %H:%M:%SZ")),
        None => format!("replayed: the base backup → {aim}"),
    }
}

/// How long a server may stand still that has said more than once why it cannot go on.
const STILL: Duration = Duration::from_secs(10);

/// A server that makes no progress.
struct Still {
    since: Instant,
    at: Option<Lsn>,
}

impl Still {
    /// What the server says where it has stood still for long. While it fetches WAL, however slow
    /// that is, it does not complain again.
    fn reason(&mut self, server: &Recovering, at: Option<Lsn>) -> Option<String> {
        if self.at != at {
            *self = Still { since: Instant::now(), at };
        }
        (self.since.elapsed() > STILL).then(|| server.complaint()).flatten()
    }
}

/// Waits until the server stands at its target, and tells how fast it came there; nothing where
/// the WAL asks for larger settings than it has. One that lets nobody in at its target, because a transaction with many
/// parts has not ended there, has opened then: it could not be looked at otherwise.
pub(super) async fn arrive(
    server: &mut Recovering,
    request: &RecoverRequest<'_>,
    (state, layout, serving): (&mut RecoveryState, &Layout, &Serving<'_>),
    meter: &Meter,
) -> Result<Option<(Progress, Rate)>> {
    let (plan, to_end) = (request.plan, runs_to_end(request.plan));
    let end = end(request);
    let from = plan.path.first().map_or(plan.consistent, |leg| leg.from);
    let until = if to_end { end } else { plan.until };
    meter.begin(until.since(from));
    meter.label("replaying until the base backup is consistent");
    let mut first: Option<(Instant, Lsn)> = None;
    let mut still = Still { since: Instant::now(), at: None };
    loop {
        let progress = match server.look().await.context("replay the WAL")? {
            Look::At(progress) => progress,
            Look::TooSmall => return Ok(None),
            Look::Silent(why) => {
                if let Some(why) = why {
                    meter.label(format!("the restored server refuses the query: {why}"));
                    continue;
                }
                let stands_still = still.reason(server, None);
                if to_end && (serving.waits() || stands_still.is_some()) && server.is_shut() {
                    meter.label("rolling back open transactions");
                    state.reach(Step::Promoting)?;
                    server.promote(layout)?;
                    let opened = own::opened(server).await?;
                    return Ok(Some((opened, Rate::new(0, Duration::ZERO))));
                }
                if let Some(why) = stands_still {
                    bail!(AgentError::Mismatch(format!("it lets nobody in, and says: {why}")));
                }
                continue;
            }
        };
        meter.label(told(progress.shows, &plan.target));
        let replayed = progress.replayed.unwrap_or(from);
        meter.at(if replayed > from { replayed.since(from) } else { 0 });
        let (began, at) = *first.get_or_insert((Instant::now(), replayed));
        crash_point("recovery-replaying");
        let there = match to_end {
            true => progress.replayed.is_some_and(|at| at >= end),
            false => progress.paused,
        };
        if there {
            let bytes = if replayed > at { replayed.since(at) } else { 0 };
            return Ok(Some((progress, Rate::new(bytes, began.elapsed()))));
        }
        if !progress.in_recovery {
            // Without a snapshot of open transactions it does not pause.
            if !to_end && server.stopped().is_some() {
                return Ok(Some((progress, Rate::new(0, Duration::ZERO))));
            }
            bail!(AgentError::Mismatch("the server opened before it was told to".to_owned()));
        }
        if let Some(why) = still.reason(server, progress.replayed) {
            let text =
                format!("it cannot go on at {replayed}, and the plan's WAL ends at {until}: {why}");
            bail!(AgentError::Mismatch(text));
        }
    }
}

/// Everything that can be known about whether the target was reached, and nothing else.
pub(super) fn prove(
    request: &RecoverRequest<'_>,
    arrived: &Progress,
    stopped: Option<Stopped>,
) -> Result<Proof> {
    let plan = request.plan;
    let fail = |text: String| Err(AgentError::Mismatch(text).into());
    let Some(replayed) = arrived.replayed else {
        return fail("the server does not tell how far it replayed".to_owned());
    };
    if replayed < plan.consistent {
        return fail(format!("it replayed up to {replayed}, before the base backup is consistent"));
    }
    if let (Target::Time(at), Some(shows)) = (&plan.target, arrived.shows)
        && shows > *at
    {
        return fail(format!("the data show {shows}, which is later than {at}"));
    }
    if runs_to_end(plan) {
        // The end of its last record, and so all that was planned.
        let end = end(request);
        if replayed < end {
            return fail(format!("it replayed up to {replayed}, and the plan's WAL ends at {end}"));
        }
    } else if let Err(why) = reached(plan, replayed, stopped.as_ref()) {
        return fail(why);
    }
    let stopped = stopped.map(|stopped| stopped.said);
    Ok(Proof { replayed, shows: arrived.shows, stopped, overtaken: None })
}

/// Where a promoted cluster left the timeline that it followed: the end of the last record that it
/// replayed. The history of its own timeline tells it, the newest in its `pg_wal`.
pub(super) fn opened_at(data: &Path) -> Option<Lsn> {
    // The server that runs on these data may put a link in the place of anything there.
    let folder = Below::open(data).and_then(|data| data.enter(Path::new("pg_wal"))).ok()?;
    let histories = folder.names().ok()?.into_iter().filter_map(|name| {
        let id = u32::from_str_radix(name.to_str()?.strip_suffix(".history")?, 16).ok()?;
        Some((Timeline::new(id)?, name))
    });
    let (timeline, name) = histories.max()?;
    let (file, mut text) = (folder.read(Path::new(&name)).ok()?, String::new());
    file.take(HISTORY_BYTES).read_to_string(&mut text).ok()?;
    Some(TimelineHistory::parse(timeline, &text).ok()?.begins())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_promoted_cluster_opened_is_told_by_its_newest_history() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(opened_at(data.path()), None);
        let wal = data.path().join("pg_wal");
        std::fs::create_dir(&wal).unwrap();
        assert_eq!(opened_at(data.path()), None);
        for (name, text) in [
            ("00000002.history", "1\t0/3000148\tno recovery target specified\n"),
            ("0000000A.history", "1\t0/3000148\told\n\n2\t0/5000028\tnew\n"),
            ("00000009.history", "1\t0/9000000\tanother\n"),
            ("000000FF.history.part", "1\t0/1\tnone\n"),
        ] {
            std::fs::write(wal.join(name), text).unwrap();
        }
        assert_eq!(opened_at(data.path()), Some(Lsn(0x500_0028)));
        std::fs::rename(&wal, data.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", &wal).unwrap();
        assert_eq!(opened_at(data.path()), None, "a link was followed");
    }

    #[test]
    fn progress_tells_where_the_data_are_and_where_they_go() {
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        let until = Target::Time("2026-11-25T01:41:00Z".parse().unwrap());
        for (shows, target, text) in [
            (
                at("2026-11-25T01:12:40.5Z"),
                &until,
                "last commit replayed: 2026-11-25 01:12:40Z → 01:41:00Z",
            ),
            (
                at("2026-11-24T23:59:59Z"),
                &until,
                "last commit replayed: 2026-11-24 23:59:59Z → 2026-11-25 01:41:00Z",
            ),
            (None, &until, "replayed: the base backup → 2026-11-25 01:41:00Z"),
            (None, &Target::Latest, "replayed: the base backup → the end"),
            (
                None,
                &Target::Lsn { lsn: Lsn(0x10), inclusive: false },
                "replayed: the base backup → position 0/10",
            ),
        ] {
            assert_eq!(told(shows, target), text);
        }
    }
}
