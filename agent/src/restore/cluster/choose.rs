//! What becomes of a cluster that is proven to be at its target.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use drctl_engines::Below;
use drctl_engines::pg::physical::{Layout, PickedTable, Recovering, pick_table};

use super::aim::runs_to_end;
use super::serve::Serving;
use super::state::Released;
use super::{
    Choice, Extracted, Opened, Proved, Proving, RecoverRequest, Recovered, RecoveryState,
    STOP_PATIENCE, WhileProving, own,
};
use crate::host::Meter;

/// The name under which the recovering server sees us.
const APPLICATION: &str = "drctl/recovery";

/// Where tables that are taken out lie, in the recovery's directory.
const EXTRACTED: &str = "extracted";

/// Does what was chosen; the server still runs then.
pub(super) async fn choose(
    server: &mut Recovering,
    request: &RecoverRequest<'_>,
    (state, layout): (&mut RecoveryState, &Layout),
    has_opened: bool,
    meter: &Meter,
) -> Result<Recovered> {
    let proof = state.proof().cloned().context("nothing was proven")?;
    let mut done = Recovered::of(proof);
    if has_opened {
        let is_theirs = request.choice == Choice::Promote;
        let released = (!is_theirs).then_some(Released { locks: 0, next_xid: None });
        state.release(released)?;
        own::has_opened(server, state).await?;
        note_opened(&mut done, state)?;
        read(server, request, &mut done, meter).await?;
        return Ok(done);
    }
    if runs_to_end(request.plan) && request.choice != Choice::Promote {
        server.hold().await;
    }
    match &request.choice {
        Choice::Stop => {}
        Choice::Open | Choice::Extract(_) | Choice::Prove(_) => {
            // A transaction that had not ended at the target still holds its locks, and whoever
            // looks at its tables would wait for ever: it ends when the cluster opens.
            let locks = server.dead_locks().await.context("look for locks at the target")?;
            // What is prepared is only shown by one that is open, and the module has to be made.
            let opens = matches!(&request.choice, Choice::Prove(how) if how.digest.is_some() || how.amcheck);
            if locks > 0 || opens {
                meter.label("rolling back open transactions");
                state.release(Some(Released { locks, next_xid: None }))?;
                own::promote(server, request, state, layout).await?;
                note_opened(&mut done, state)?;
            }
            read(server, request, &mut done, meter).await?;
        }
        Choice::Promote => {
            meter.label("promoting");
            own::promote(server, request, state, layout).await?;
            note_opened(&mut done, state)?;
        }
    }
    Ok(done)
}

/// What is to be told of one that has opened, as its state has it.
fn note_opened(done: &mut Recovered, state: &RecoveryState) -> Result<()> {
    done.proof = state.proof().cloned().context("nothing was proven")?;
    (done.promoted, done.released) = (true, state.released().map(|released| released.locks));
    done.prepared = state.prepared().unwrap_or_default().to_vec();
    Ok(())
}

/// Takes out the tables that are wanted, or looks at all.
pub(super) async fn read(
    server: &Recovering,
    request: &RecoverRequest<'_>,
    done: &mut Recovered,
    meter: &Meter,
) -> Result<()> {
    match &request.choice {
        Choice::Extract(tables) => {
            for table in tables {
                meter.label(format!("extracting {table}"));
                done.extracted.push(extract(server, table, &request.directory).await?);
            }
        }
        Choice::Prove(how) => done.proved = Some(Box::new(prove(server, how, done, meter).await?)),
        Choice::Stop | Choice::Open | Choice::Promote => {}
    }
    Ok(())
}

/// Looks at what it holds.
async fn prove(
    server: &Recovering,
    how: &Proving,
    done: &Recovered,
    meter: &Meter,
) -> Result<Proved> {
    let (began, mut proved) = (Instant::now(), Proved::default());
    if let Some(key) = how.digest {
        meter.label("digesting all rows");
        let shape = server.digest_cluster(key, &done.prepared, APPLICATION).await;
        proved.shape = Some(shape.context(WhileProving)?);
    }
    if how.amcheck {
        meter.label("checking indexes and tables");
        let sound = server.check_soundness(APPLICATION).await;
        proved.soundness = Some(sound.context(WhileProving)?);
    }
    if !how.questions.is_empty() {
        meter.label("asking checks");
        let answers = server.ask_all(&how.questions, APPLICATION).await.into_iter();
        proved.answers = answers
            .map(|one| one.map_err(|error| format!("{:#}", anyhow::Error::new(error))))
            .collect();
    }
    Ok(Proved { took: began.elapsed(), ..proved })
}

/// Stops the server, or leaves it open, as was chosen.
pub(super) async fn end(
    server: Recovering,
    request: &RecoverRequest<'_>,
    serving: &Serving<'_>,
    done: Result<Recovered>,
) -> Result<Recovered> {
    match done {
        Ok(done) if request.choice == Choice::Open => {
            let of = server.server();
            let (user, database) = (of.user.clone(), of.maintenance_database.clone());
            serving.leave(Path::new(&of.host)).await?;
            let opened = Opened { socket: server.leave()?, user, database };
            Ok(Recovered { open: Some(opened), ..done })
        }
        Ok(done) => server.stop(STOP_PATIENCE).await.map(|()| done).map_err(Into::into),
        Err(error) => {
            let _ = server.stop(STOP_PATIENCE).await;
            Err(error)
        }
    }
}

async fn extract(server: &Recovering, table: &PickedTable, directory: &Path) -> Result<Extracted> {
    let folder = directory.join(EXTRACTED);
    // No link is followed on the way.
    let below = Below::open(directory).and_then(|below| below.directory(Path::new(EXTRACTED)));
    let below = below.with_context(|| format!("make the directory {}", folder.display()))?;
    let harmless = |c: char| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '_' };
    let name: String = table.to_string().chars().map(harmless).collect();
    // A dump of an earlier attempt stays: it was proven, or its name says that it was not.
    let free = (1..).map(|n| match n {
        1 => format!("{name}.dump"),
        n => format!("{name}.{n}.dump"),
    });
    let taken = |name: &String| below.has(Path::new(name)).unwrap_or(true);
    let file = free.take(10_000).find(|name| !taken(name)).context("too many dumps")?;
    let (part, whole) = (format!("{file}.part"), folder.join(&file));
    let written = || format!("write {}", folder.join(&part).display());
    below.remove(Path::new(&part)).with_context(written)?;
    let to = below.create_new(Path::new(&part), 0o600).with_context(written)?;
    let rows = pick_table(server, table, (to, &whole), APPLICATION).await;
    let rows = rows.with_context(|| format!("extract {table}"))?;
    below.rename(Path::new(&part), Path::new(&file)).with_context(written)?;
    Ok(Extracted { table: table.clone(), file: whole, rows })
}
