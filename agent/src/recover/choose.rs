//! What becomes of a cluster that is proven to be at its target.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use drctl_engines::pg::physical::{Layout, PickedTable, Recovering, pick_table};

use super::aim::runs_to_end;
use super::begun::{Begun, Released};
use super::serve::Serving;
use super::{Choice, Extracted, Opened, RecoverRequest, Recovered, STOP_PATIENCE, own};
use crate::Meter;

/// The name under which the recovering server sees us.
const APPLICATION: &str = "drctl/recovery";

/// Does what was chosen; the server still runs then.
pub(super) async fn choose(
    server: &mut Recovering,
    request: &RecoverRequest<'_>,
    begun: &mut Begun,
    layout: &Layout,
    meter: &Meter,
) -> Result<Recovered> {
    let proof = begun.proof().cloned().context("nothing was proven")?;
    let mut done = Recovered::of(proof);
    if runs_to_end(request.plan) && request.choice != Choice::Promote {
        server.hold().await;
    }
    match &request.choice {
        Choice::Stop => {}
        Choice::Open | Choice::Extract(_) => {
            // A transaction that had not ended at the target still holds its locks, and whoever
            // looks at its tables would wait for ever: it ends when the cluster opens.
            let locks = server.dead_locks().await.context("look for locks at the target")?;
            if locks > 0 {
                meter.label("ending what had not ended at the target");
                begun.release(Some(Released { locks, next_xid: None }))?;
                own::promote(server, request, begun, layout).await?;
                done.proof = begun.proof().cloned().context("nothing was proven")?;
                (done.promoted, done.released) = (true, Some(locks));
            }
            read(server, request, &mut done, meter).await?;
        }
        Choice::Promote => {
            meter.label("promoting");
            own::promote(server, request, begun, layout).await?;
            done.proof = begun.proof().cloned().context("nothing was proven")?;
            done.promoted = true;
        }
    }
    Ok(done)
}

/// Takes out the tables that are wanted.
pub(super) async fn read(
    server: &Recovering,
    request: &RecoverRequest<'_>,
    done: &mut Recovered,
    meter: &Meter,
) -> Result<()> {
    let Choice::Extract(tables) = &request.choice else { return Ok(()) };
    for table in tables {
        meter.label(format!("extracting {table}"));
        done.extracted.push(extract(server, table, &request.directory).await?);
    }
    Ok(())
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
    let folder = directory.join("extracted");
    std::fs::create_dir_all(&folder).context("make the directory")?;
    let harmless = |c: char| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '_' };
    let name: String = table.to_string().chars().map(harmless).collect();
    // A dump of an earlier attempt stays: it was proven, or its name says that it was not.
    let free = (1..).map(|n| match n {
        1 => folder.join(format!("{name}.dump")),
        n => folder.join(format!("{name}.{n}.dump")),
    });
    let file = free.take(10_000).find(|path| !path.exists()).context("too many dumps")?;
    let mut part = file.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    let _ = std::fs::remove_file(&part);
    let rows = pick_table(server, table, &part, APPLICATION).await;
    let rows = rows.with_context(|| format!("extract {table}"))?;
    std::fs::rename(&part, &file).with_context(|| format!("rename {}", part.display()))?;
    Ok(Extracted { table: table.clone(), file, rows })
}
