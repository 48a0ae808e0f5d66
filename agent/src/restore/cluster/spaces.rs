//! The tablespaces that the WAL makes while it is replayed: their places are made ready in the
//! restore before the server comes to them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, bail};
use drctl_engines::pg::physical::{Layout, is_covered, lead, requirements_of};
use drctl_engines::pg::wal::{Required, Requirement, WalWalker};
use drctl_model::{Lsn, Timeline, WalSegmentSize, shown};

use super::RecoverRequest;
use super::aim::runs_to_end;
use super::command::hidden;
use crate::host::AgentError;

/// Walks that are remembered at the positions where they ended: a server reads ahead, and goes back.
const WALKS: usize = 8;

/// What is known of them.
pub(super) struct Spaces<'a> {
    request: &'a RecoverRequest<'a>,
    size: WalSegmentSize,
    walks: Arc<Mutex<Vec<WalWalker>>>,
    /// Tablespaces at places where something else is seen in the sandbox, and whether a server is still
    /// to be started with them.
    covered: Mutex<(Vec<(u32, PathBuf)>, bool)>,
}

impl<'a> Spaces<'a> {
    /// Nothing is known yet.
    pub(super) fn new(request: &'a RecoverRequest<'a>, size: WalSegmentSize) -> Self {
        Spaces { request, size, walks: Arc::default(), covered: Mutex::default() }
    }

    /// Whether no known record goes on at `start`.
    pub(super) fn is_between(&self, start: Lsn) -> bool {
        let walks = self.walks.lock().unwrap_or_else(PoisonError::into_inner);
        !walks.iter().any(|walk| walk.at() == start && walk.is_within_record())
    }

    /// Makes ready what a segment asks of the server that will replay it.
    pub(super) async fn prepare_for(&self, segment: &Path, start: Lsn) -> Result<()> {
        let (path, walks) = (segment.to_owned(), Arc::clone(&self.walks));
        let of = (self.request.plan.timeline, start, self.size);
        let requirements =
            tokio::task::spawn_blocking(move || requirements(&path, of, &walks)).await?;
        let plan = self.request.plan;
        let from = plan.path.first().map_or(Lsn(0), |leg| leg.from);
        for Requirement { at, what, .. } in requirements {
            let replayed = at >= from && (runs_to_end(plan) || at < plan.until);
            let Required::Tablespace { oid, path } = what else { continue };
            // One without a place lies in the data directory.
            if path.as_os_str().is_empty() {
                continue;
            }
            if self.request.sandbox.is_some() {
                if is_covered(&path, &self.request.bin_dir, &hidden(self.request)) {
                    match replayed {
                        true => self.cover(oid, path.clone())?,
                        false => continue,
                    }
                }
                lead(&Layout::new(&self.request.directory), oid, &path)?;
            } else if replayed {
                bail!(AgentError::Place(path));
            }
        }
        Ok(())
    }

    /// Takes a place into account for the next server, unless this one has it already.
    fn cover(&self, oid: u32, place: PathBuf) -> Result<()> {
        let mut covered = self.covered.lock().unwrap_or_else(PoisonError::into_inner);
        let (led, anew) = &mut *covered;
        if led.iter().any(|(_, other)| *other == place) {
            // Made once more, under another number, or asked for again.
            return if *anew { Err(in_another_sandbox(&place)) } else { Ok(()) };
        }
        let error = in_another_sandbox(&place);
        led.push((oid, place));
        *anew = true;
        Err(error)
    }

    /// Places that lead elsewhere in the sandbox of the next server.
    pub(super) fn led(&self) -> Vec<(u32, PathBuf)> {
        let mut covered = self.covered.lock().unwrap_or_else(PoisonError::into_inner);
        covered.1 = false;
        covered.0.clone()
    }

    /// Whether the WAL has asked for another sandbox than there is.
    pub(super) fn wants_another_sandbox(&self) -> bool {
        self.covered.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

fn in_another_sandbox(place: &Path) -> anyhow::Error {
    let place = shown(&place.to_string_lossy(), 200);
    anyhow::anyhow!(
        "the WAL creates a tablespace at {place}: the server is restarted in another sandbox"
    )
}

/// What a segment asks of its server. A record may have begun in the segment before: the walk over
/// that goes on, where the server asked for it. What is not WAL is left to the server to judge.
fn requirements(
    path: &Path,
    (timeline, start, size): (Timeline, Lsn, WalSegmentSize),
    walks: &Mutex<Vec<WalWalker>>,
) -> Vec<Requirement> {
    let mut walks = walks.lock().unwrap_or_else(PoisonError::into_inner);
    let known = walks.iter().find(|walk| walk.at() == start).cloned();
    let mut walk = known.unwrap_or_else(|| WalWalker::new(timeline, start, size));
    let found = requirements_of(path, &mut walk);
    if walk.at() == start.plus(size.bytes()) {
        walks.retain(|other| other.at() != walk.at());
        walks.push(walk);
        let much = walks.len().saturating_sub(WALKS);
        walks.drain(..much);
    }
    found
}
