use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use drctl_model::WalSegmentSize;
use drctl_policies::recovery::{TimelineView, timeline_view};
use serde_json::json;

use super::args::{FetchArgs, WalVerb};
use super::screen::{Screen, table};
use crate::problem::Problem;
use crate::{Exit, Fetched, Push, Pushed, Setup, Shelf, Shipping, Stop, fetch_wal, known, ship};

/// `drctl wal`.
pub(super) async fn wal(
    screen: Screen,
    setup: &Setup,
    verb: &WalVerb,
    stop: &Stop,
) -> Result<Exit> {
    match verb {
        WalVerb::Push { source, path } => push_one(screen, setup, source, path, stop).await,
        WalVerb::Fetch(args) => fetch_one(setup, args).await,
        WalVerb::Stream { source, interval, synchronous, heartbeat, slot } => {
            let (id, configured) = setup.source(source)?;
            let server = setup.server(configured)?;
            let shelf = Shelf::open(setup, source).await?;
            let usual = format!("drctl_{}", id.as_str().replace('-', "_"));
            let slot = slot.clone().unwrap_or(usual);
            let interval = Duration::from_secs(u64::from(*interval));
            let heartbeat = Some(Duration::from_secs(u64::from(*heartbeat)));
            let heartbeat = heartbeat.filter(|every| !every.is_zero());
            let shipping = Shipping { slot, interval, synchronous: *synchronous, heartbeat };
            screen.say(format!("streaming the log of {id} through the slot {}", shipping.slot));
            ship(&shelf, &server, &shipping, stop).await?;
            screen.say("the server has ended the stream");
            Ok(Exit::Success)
        }
    }
}

async fn push_one(
    screen: Screen,
    setup: &Setup,
    source: &str,
    path: &Path,
    stop: &Stop,
) -> Result<Exit> {
    let mut push = Push::new(setup, source, path)?;
    let (done, ahead) = match push.known() {
        Some(done) => (done, 0),
        None => {
            if let Some(warning) = push.warning() {
                screen.warn(warning);
            }
            push.run(stop).await?
        }
    };
    let word = match done {
        Pushed::Stored => "stored",
        Pushed::Present => "present",
        Pushed::Noted => "noted",
        Pushed::NotKept => "not_kept",
    };
    let object = json!({ "file": path, "done": word, "ahead": ahead });
    screen.answer("drctl.wal-push/1", object, String::new);
    Ok(Exit::Success)
}

async fn fetch_one(setup: &Setup, args: &FetchArgs) -> Result<Exit> {
    let source = super::source_id(&args.source)?;
    let size = WalSegmentSize::new(args.segment_bytes)
        .ok_or_else(|| Problem::Usage("--segment-bytes: no size of a WAL segment".to_owned()))?;
    let repository = setup.repository().await?;
    let identities = setup.identities(args.identity.as_deref())?;
    let identities = identities.ok_or(Problem::NoIdentityToTest)?;
    let shelf = Shelf::reader(&repository, &source);
    let done =
        fetch_wal(&shelf, args.system_id, size, &args.name, &args.to, &args.expect, &identities);
    Ok(match done.await? {
        Fetched::Delivered => Exit::Success,
        // The one answer that a recovering server takes for the end of the log.
        Fetched::Absent => Exit::Failure,
    })
}

/// `drctl timeline`.
pub(super) async fn timeline(screen: Screen, setup: &Setup, source: &str) -> Result<Exit> {
    let id = super::source_id(source)?;
    let repository = setup.repository().await?;
    let known = known(&repository, &id).await?;
    let views = timeline_view(&known.archive);
    let gaps = views.iter().any(|view| !view.gaps.is_empty());
    let object = json!({
        "system_id": known.system_id.to_string(), "timelines": views, "refused": known.refused,
    });
    screen.answer("drctl.timeline/1", object, || {
        let mut text = format!("cluster {}", known.system_id);
        for view in &views {
            text.push_str(&describe(view));
        }
        for reason in &known.refused {
            let _ = write!(text, "\nPASSED OVER: {reason}");
        }
        text
    });
    let bad = gaps || !known.refused.is_empty();
    Ok(if bad { Exit::Degraded } else { Exit::Success })
}

fn describe(view: &TimelineView) -> String {
    let mut text = format!("\n\ntimeline {}", view.timeline);
    if let Some((parent, at)) = view.parent {
        let _ = write!(text, ", from timeline {parent} at {at}");
    }
    if !view.known {
        text.push_str(": its history is missing, nothing can be recovered on it");
    }
    let mut rows = Vec::new();
    for base in &view.bases {
        let what = if base.good { "copy" } else { "COPY, SUSPECT" };
        let ended = base.stopped.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
        rows.push((
            base.stop,
            vec![what.to_owned(), base.stop.to_string(), ended, base.backup.to_string()],
        ));
    }
    for span in &view.spans {
        let times =
            span.commits.map_or(String::new(), |(first, last)| format!("{first} to {last}"));
        let range = format!("{} to {}", span.from, span.until);
        rows.push((span.from, vec!["log".to_owned(), range, times, String::new()]));
    }
    for gap in &view.gaps {
        rows.push((
            gap.from,
            vec!["GAP".to_owned(), gap.to_string(), String::new(), String::new()],
        ));
    }
    rows.sort_by_key(|(at, _)| *at);
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(_, row)| row).collect();
    let _ = write!(text, "\n{}", table(&rows));
    for reach in &view.reachable {
        let times =
            reach.times.map_or("no commit".to_owned(), |(from, to)| format!("{from} to {to}"));
        let _ = write!(text, "\nREACHABLE {} to {}: {times}", reach.from, reach.until);
    }
    text
}
