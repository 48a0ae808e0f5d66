use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use drctl_engines::backrest::BackRest;
use drctl_engines::pg::Heartbeat;
use drctl_model::WalSegmentSize;
use serde_json::json;

use super::args::{FetchArgs, WalVerb};
use super::screen::Screen;
use crate::backrest::{Asked, engine_of, fetch as fetch_from_archive};
use crate::problem::Problem;
use crate::{Ahead, Exit, Fetched, Push, Pushed, Setup, Shelf, Shipping, Stop, fetch_wal, ship};

/// `drctl wal`.
pub(super) async fn wal(
    screen: Screen,
    setup: &Setup,
    verb: &WalVerb,
    stop: &Stop,
) -> Result<Exit> {
    match verb {
        WalVerb::Push { source, path } => push_one(screen, setup, source, path, stop).await,
        WalVerb::Index { source } => {
            let written = Shelf::open(setup, source).await?.index_all().await?;
            let object = json!({ "source": source, "written": written });
            screen.answer("drctl.wal-index/1", object, || {
                format!("wrote {written} index(es) over the log of {source}")
            });
            Ok(Exit::Success)
        }
        WalVerb::Fetch(args) => fetch_one(setup, args).await,
        WalVerb::Stream {
            source,
            interval,
            synchronous,
            puts,
            heartbeat,
            heartbeat_table,
            slot,
        } => {
            let (id, configured) = setup.source(source)?;
            let server = setup.server(configured)?;
            let shelf = Shelf::open(setup, source).await?;
            let usual = format!("drctl_{}", id.as_str().replace('-', "_"));
            let slot = slot.clone().unwrap_or(usual);
            let interval = Duration::from_secs(u64::from(*interval));
            let heartbeat = Some(Duration::from_secs(u64::from(*heartbeat)));
            let kind = if *heartbeat_table { Heartbeat::Table } else { Heartbeat::Message };
            let heartbeat = heartbeat.filter(|every| !every.is_zero()).map(|every| (every, kind));
            let (synchronous, puts) = (*synchronous, usize::from(*puts));
            let shipping = Shipping { slot, interval, synchronous, puts, heartbeat };
            screen.say(format!("streaming the log of {id} through the slot {}", shipping.slot));
            ship(&shelf, &server, &shipping, stop).await?;
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

/// Whether the file was fetched ahead, and the server has it now.
pub(super) fn waits(args: &FetchArgs) -> bool {
    let ahead = args.ahead.as_deref().map(Ahead::new);
    ahead.is_some_and(|ahead| ahead.take(&args.name, args.segment_bytes, &args.to))
}

async fn fetch_one(setup: &Setup, args: &FetchArgs) -> Result<Exit> {
    let done = match engine_of(setup, &args.source)? {
        Some(backrest) => fetch_archived(setup, &backrest, args).await?,
        None => fetch_stored(setup, args).await?,
    };
    Ok(match done {
        Fetched::Delivered => Exit::Success,
        // The one answer that a recovering server takes for the end of the log.
        Fetched::Absent => Exit::Failure,
    })
}

async fn fetch_archived(setup: &Setup, backrest: &BackRest, args: &FetchArgs) -> Result<Fetched> {
    let asked = Asked {
        system_id: args.system_id,
        size: segment_size(args)?,
        name: &args.name,
        to: &args.to,
        expected: &args.expect,
        segments: args.segments.as_deref(),
    };
    // Without an identity there is nothing of drctl's own to be opened.
    let beside = async || match setup.identities(args.identity.as_deref())? {
        Some(_) => fetch_stored(setup, args).await.map(Some),
        None => Ok(None),
    };
    fetch_from_archive(backrest, &asked, beside).await
}

fn segment_size(args: &FetchArgs) -> Result<WalSegmentSize> {
    let size = WalSegmentSize::new(args.segment_bytes);
    Ok(size.ok_or_else(|| Problem::Usage("--segment-bytes: no size of a WAL segment".to_owned()))?)
}

async fn fetch_stored(setup: &Setup, args: &FetchArgs) -> Result<Fetched> {
    let source = super::source_id(&args.source)?;
    let size = segment_size(args)?;
    let repository = setup.repository().await?;
    let identities = setup.identities(args.identity.as_deref())?;
    let identities = identities.ok_or(Problem::NoIdentityToTest)?;
    let shelf = Shelf::reader(&repository, &source);
    fetch_wal(&shelf, args.system_id, size, &args.name, &args.to, &args.expect, &identities).await
}
