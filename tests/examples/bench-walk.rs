//! The walk over an archive of many segments: run by `tests/bench-walk`.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use drctl_engines::backrest::{BackRest, SegmentName, Walk};
use drctl_model::{Lsn, Timeline, WalSegmentSize};

/// How often everything is done; the median counts.
const ROUNDS: usize = 5;

/// Every so many segments one is missing.
const MISSING: u64 = 10_000;

/// An archive as pgBackRest lays it out, of segments without content: to list them it looks into
/// none.
fn make(repo: &Path, segments: u64) -> io::Result<()> {
    let stanza = repo.join("archive").join("bench");
    let size = WalSegmentSize::default();
    fs::create_dir_all(stanza.join("15-1"))?;
    fs::write(stanza.join("archive.info"), "")?;
    for n in (1..=segments).filter(|n| n % MISSING != 0) {
        let name = SegmentName::at(Timeline::FIRST, Lsn(n * size.bytes()), size).to_string();
        let folder = stanza.join("15-1").join(&name[..16]);
        fs::create_dir_all(&folder)?;
        File::create(folder.join(format!("{name}-{n:040x}.zst")))?;
    }
    Ok(())
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

fn main() -> io::Result<()> {
    let segments: u64 =
        std::env::args().nth(1).map_or(Ok(100_000), |n| n.parse()).expect("SEGMENTS");
    let place = tempfile::tempdir()?;
    make(&place.path().join("repo"), segments)?;
    let at = place.path().display();
    let config = place.path().join("pgbackrest.conf");
    fs::write(&config, format!("[global]\nrepo1-path={at}/repo\nlock-path={at}/lock\n"))?;
    let mut rest = BackRest::new("bench");
    rest.config = Some(config);
    let runtime = tokio::runtime::Runtime::new()?;
    let (mut list, mut walk, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let listing = runtime.block_on(rest.listing()).expect("a listing");
        let listed = began.elapsed();
        let archive = listing.of(1).expect("an archive");
        let found = Walk::over(archive, WalSegmentSize::default()).expect("segments");
        let gaps = found.gaps().count() as u64;
        let took = began.elapsed();
        assert_eq!(gaps, (segments - 1) / MISSING);
        list.push(listed);
        walk.push(took.saturating_sub(listed));
        whole.push(took);
    }
    let mut out = io::stdout().lock();
    writeln!(out, "{segments} segments, one of {MISSING} missing")?;
    writeln!(out, "listed by pgBackRest, read  {:8.1} ms", median(list))?;
    writeln!(out, "walked                      {:8.1} ms", median(walk))?;
    writeln!(out, "whole                       {:8.1} ms", median(whole))?;
    Ok(())
}
