//! What only the records of pgBackRest's segments tell: from where on a server wrote too little to be
//! replayed (`wal_level = minimal`). The segments that a plan needs are read for it, once.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use drctl_model::{Lsn, NotedBreak, SourceId, Timeline};
use drctl_policies::recovery::Leg;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::StanzaArchive;
use super::archive::Digests;
use super::read::{Looked, Reader};
use crate::engine::log_archive::{Replay, Requirements};
use crate::engine::wal::Ahead;
use crate::host::{Setup, private};

/// The most segments that one plan reads: some seconds.
const MOST: usize = 128;

/// Segments that are read at once.
const AT_ONCE: usize = 4;

/// The most segments that are remembered.
const REMEMBERED: usize = 100_000;

/// Reads the segments that `legs` replay, but for those that were read before and tell nothing.
///
/// # Errors
/// pgBackRest's.
pub(super) async fn requirements(
    of: &StanzaArchive<'_>,
    &Replay { system_id, size, legs }: &Replay<'_>,
) -> Result<Requirements> {
    let mut found = Requirements::default();
    let StanzaArchive { setup, source, seen } = of;
    let cluster = seen.cluster(system_id).zip(seen.archive(system_id));
    let Some((cluster, archive)) = cluster else { return Ok(found) };
    let (digests, mut memory) = (Digests(archive), Memory::of(setup, source, system_id));
    let reader = Reader::new(&seen.backrest, cluster, size, of.folder());
    let mut wanted: Vec<(Timeline, Lsn, String)> = Vec::new();
    for leg in legs {
        let starts =
            std::iter::successors(Some(size.start_of(leg.from)), |at| Some(at.plus(size.bytes())));
        for start in starts.take_while(|start| *start < leg.until) {
            // What is not in the archive is drctl's own WAL, whose heads tell.
            let Some(sha1) = digests.of(leg.timeline, start, size) else { continue };
            let mut name = format!("{} ", size.file_name(leg.timeline, start));
            for byte in sha1 {
                let _ = write!(name, "{byte:02x}");
            }
            if !memory.seen.contains(&name) {
                wanted.push((leg.timeline, start, name));
            }
        }
    }
    found.unread = wanted.len().saturating_sub(MOST);
    wanted.truncate(MOST);
    let look = |(timeline, start, name): (Timeline, Lsn, String)| {
        let (reader, sha1) = (&reader, digests.of(timeline, start, size));
        async move {
            Ok::<_, anyhow::Error>((
                timeline,
                start,
                name,
                reader.look(timeline, start, sha1).await?,
            ))
        }
    };
    let mut read = stream::iter(wanted).map(look).buffered(Ahead::at_once(size, AT_ONCE));
    while let Some((timeline, start, name, looked)) = read.try_next().await? {
        // What is damaged is told when it is fetched.
        let Looked::Holds(holds) = looked else { continue };
        let breaks = NotedBreak::of((start, start.plus(size.bytes())), &holds);
        if breaks.is_empty() {
            memory.learn(name);
        }
        // One at the end of the plan, or before its beginning, is not crossed.
        let crossed = breaks.iter().filter(|one| {
            let within =
                |leg: &Leg| leg.timeline == timeline && leg.from <= one.at && one.at < leg.until;
            legs.iter().any(within)
        });
        found.breaks.extend(crossed.map(|one| (timeline, one.at)));
    }
    drop(read);
    memory.keep(setup);
    Ok(found)
}

/// Segments that were read and tell nothing, by name and digest.
struct Memory {
    path: PathBuf,
    seen: BTreeSet<String>,
    more: bool,
}

impl Memory {
    fn of(setup: &Setup, source: &SourceId, system_id: u64) -> Memory {
        let path = setup.config.paths.state_dir.join(format!("{source}-{system_id:016x}.looked"));
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        Memory { path, seen: text.lines().map(str::to_owned).collect(), more: false }
    }

    fn learn(&mut self, name: String) {
        self.more |= self.seen.insert(name);
    }

    /// That it cannot be kept costs time alone.
    fn keep(mut self, setup: &Setup) {
        while self.seen.len() > REMEMBERED {
            self.seen.pop_first();
        }
        let write = || {
            setup.private_directory(&setup.config.paths.state_dir)?;
            let text: String = self.seen.iter().map(|line| format!("{line}\n")).collect();
            private::replace(&self.path, text).context("write it")
        };
        if self.more
            && let Err(error) = write()
        {
            tracing::debug!("what was read of the WAL is not remembered: {error:#}");
        }
    }
}
