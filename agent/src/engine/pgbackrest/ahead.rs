//! Segments of pgBackRest's archive fetched ahead of a recovering server. As with drctl's own WAL:
//! a help and never an answer. What is not whole is left to `wal fetch`.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use anyhow::Result;
use drctl_engines::backrest::{Got, SegmentName};
use drctl_model::{Lsn, Timeline, WalSegmentSize};

use super::StanzaView;
use super::archive::Digests;
use super::read::{Scratch, examine};
use crate::engine::wal::{Ahead, Expected, makes_no_tablespace};

/// Fetches what `legs` need, `fetches` segments at once, until all of it was fetched. Never fails:
/// what cannot be had, or has no room, is left to the server's own command.
pub(crate) async fn fetch_ahead(
    ahead: &Ahead,
    stanza: &StanzaView,
    (system_id, size): (u64, WalSegmentSize),
    legs: &[Expected],
    fetches: usize,
) {
    let Some(archive) = stanza.archive(system_id) else { return };
    let places = legs.iter().flat_map(|leg| leg.segments(size).map(|at| (leg.timeline, at)));
    let is_there = |(of, at): &(Timeline, Lsn)| archive.has(SegmentName::at(*of, *at, size));
    let wanted = places.filter(is_there).map(|place| (size.file_name(place.0, place.1), place));
    let fetch =
        async |name: &str, place| fetch((ahead, name), stanza, (system_id, size), place).await;
    let _ = ahead.fetch((size, fetches), wanted, fetch).await;
}

/// Keeps a segment if it is the WAL that was written. What fails inside is that nothing can be kept
/// any more.
async fn fetch(
    (ahead, name): (&Ahead, &str),
    stanza: &StanzaView,
    (system_id, size): (u64, WalSegmentSize),
    (timeline, start): (Timeline, Lsn),
) -> Result<std::io::Result<()>> {
    let file = Scratch::new(ahead.path(), name);
    let cluster = stanza.cluster(system_id);
    if stanza.backrest.get_segment(cluster, name, file.path()).await? == Got::Missing {
        return Ok(Ok(()));
    }
    let sha1 = stanza.archive(system_id).and_then(|of| Digests(of).of(timeline, start, size));
    let (ahead, name) = (ahead.clone(), name.to_owned());
    let work = move || {
        let looked = examine(file.path(), (timeline, start, size), system_id, sha1)?;
        let holds = looked.map_err(anyhow::Error::msg)?;
        let byte = |at| {
            let mut one = [0];
            let file = File::open(file.path()).ok()?;
            file.read_exact_at(&mut one, at).ok().map(|()| one[0])
        };
        let quiet = makes_no_tablespace(&holds, start, size, byte);
        Ok(ahead.keep_file(&name, file.path(), quiet))
    };
    tokio::task::spawn_blocking(work).await?
}
