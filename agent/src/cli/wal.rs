use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use drctl_engines::pg::physical::requirements_of;
use drctl_engines::pg::wal::{Requirement, WalWalker};
use drctl_model::{Lsn, WalSegmentSize};
use serde_json::json;

use super::args::{FetchArgs, WalVerb};
use super::screen::Screen;
use crate::engine::wal::{Ahead, Fetched, LogRequest, Push, note_refusal};
use crate::engine::{self, StreamOptions, fetch_of, index, stream};
use crate::host::{AgentError, Exit, Setup, Stop};
use crate::log::{HeldLog, LogStore};
use crate::repository::findings::Findings;
use crate::restore::cluster::take;

/// `drctl wal`.
pub(super) async fn wal(
    screen: Screen,
    setup: &Setup,
    verb: &WalVerb,
    stop: &Stop,
) -> Result<Exit> {
    match verb {
        WalVerb::Push { source, path, .. } => push_one(screen, setup, source, path, stop).await,
        WalVerb::Index { source } => {
            let written = index(setup, source, stop).await?;
            let object = json!({ "source": source, "written": written });
            screen.answer("drctl.wal-index/1", object, || {
                format!("wrote {written} index(es) over the WAL of {source}")
            });
            Ok(Exit::Success)
        }
        WalVerb::Fetch(args) => fetch_one(setup, args).await,
        WalVerb::Take { socket, name, to } => take_one(socket, name, to),
        WalVerb::Stream {
            source,
            interval,
            synchronous,
            puts,
            heartbeat,
            heartbeat_table,
            slot,
        } => {
            let heartbeat = Duration::from_secs(u64::from(*heartbeat));
            let options = StreamOptions {
                interval: Duration::from_secs(u64::from(*interval)),
                synchronous: *synchronous,
                puts: usize::from(*puts),
                slot: slot.clone(),
                heartbeat: Some(heartbeat).filter(|every| !every.is_zero()),
                heartbeat_table: *heartbeat_table,
                bears: None,
                catch_up: None,
                held: HeldLog::default(),
            };
            let say = |text| screen.say(text);
            stream(setup, source, &options, &say, stop).await.map(|()| Exit::Success)
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
    let (id, configured) = setup.source(source)?;
    engine::of(configured).has_log(source, "Nothing was stored: the server keeps the file")?;
    let mut push = Push::new(setup, source, path)?;
    let (done, ahead) = match push.known() {
        Some(done) => (done, 0),
        None => {
            let findings = Findings::of(setup, id);
            if let Some(checked) = push.backlog() {
                // The server's log has it, however quiet we are to be.
                checked.found.iter().for_each(|finding| screen.warn(finding.line()));
                findings.note(checked);
            }
            let (pushed, ()) = tokio::join!(push.run(stop), findings.keep());
            if let Err(error) = &pushed {
                let at = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
                let at = at.parent().unwrap_or(path);
                let whose = format!("pushed from {} on host {}", at.display(), setup.host());
                note_refusal(setup, &whose, error).await;
            }
            pushed?
        }
    };
    let object = json!({ "file": path, "done": done.word(), "ahead": ahead, "agent": false });
    screen.answer("drctl.wal-push/1", object, String::new);
    Ok(Exit::Success)
}

/// Whether the file was fetched ahead, and the server has it now.
pub(super) fn waits(args: &FetchArgs) -> bool {
    let ahead = args.ahead.as_deref().map(Ahead::new);
    ahead.is_some_and(|ahead| ahead.take(&args.name, args.segment_bytes, &args.to).is_some())
}

async fn fetch_one(setup: &Setup, args: &FetchArgs) -> Result<Exit> {
    // Without an identity there is nothing of drctl's own to be opened.
    let own = async || match setup.identities(args.identity.as_deref())? {
        Some(identities) => {
            let source = super::source_id(&args.source)?;
            let log_store = LogStore::reader(&setup.repository().await?, &source);
            Ok(Some((log_store.up_to(args.until.map(Into::into)), identities)))
        }
        None => Ok(None),
    };
    let asked = (&request(args)?, args.segments.as_deref());
    let done = fetch_of((setup, &args.source), asked, own).await?;
    let segment = segment_size(args)?.parse_file_name(&args.name);
    if let (Fetched::Delivered, Ok((timeline, start))) = (done, segment) {
        let mut walk = WalWalker::new(timeline, start, segment_size(args)?);
        let requirements = requirements_of(&args.to, &mut walk);
        let from = args.expect.first().map_or(Lsn(0), |first| first.from);
        let mut replayed = requirements.iter().filter(|requirement| requirement.at >= from);
        if let Some(place) = replayed.find_map(Requirement::place) {
            let _ = std::fs::remove_file(&args.to);
            bail!(AgentError::Place(place.to_owned()));
        }
    }
    answered(done)
}

fn answered(done: Fetched) -> Result<Exit> {
    Ok(match done {
        Fetched::Delivered => Exit::Success,
        // The one answer that a recovering server takes for the end of the log.
        Fetched::Absent => Exit::Failure,
    })
}

fn request(args: &FetchArgs) -> Result<LogRequest<'_>> {
    Ok(LogRequest {
        system_id: args.system_id,
        size: segment_size(args)?,
        name: &args.name,
        to: &args.to,
        // It asks for files beside the log that it keeps.
        own: args.to.parent().unwrap_or(Path::new("")),
        expected: &args.expect,
    })
}

fn segment_size(args: &FetchArgs) -> Result<WalSegmentSize> {
    let size = WalSegmentSize::new(args.segment_bytes);
    Ok(size
        .ok_or_else(|| AgentError::Usage("--segment-bytes: no size of a WAL segment".to_owned()))?)
}

/// `drctl wal take`: in a sandbox, where there is nothing but a socket.
pub(super) fn take_one(socket: &Path, name: &str, to: &Path) -> Result<Exit> {
    answered(take(socket, name, to)?)
}
