//! Planning over a catalog of many pieces of log: run by `tests/bench-plan`.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use drctl_catalog::{CachedLog, Catalog};
use drctl_model::{BackupId, Digest, Lineage, LogEntry, LogNotes, Lsn, SourceId, Timeline};
use drctl_policies::recovery::{Archive, Base, Stood, Target, plan};
use jiff::{SignedDuration, Timestamp};

/// How often everything is done; the median counts.
const ROUNDS: usize = 11;

/// Bytes of a piece: a segment.
const SIZE: u64 = 16 << 20;

/// Bases over all of it.
const BASES: u64 = 30;

const TRUST: Digest = Digest([7; 32]);

fn began() -> Timestamp {
    Timestamp::from_second(1_700_000_000).expect("a time")
}

/// When the `n`th piece begins: one in ten seconds.
fn at(n: u64) -> Timestamp {
    began() + SignedDuration::from_secs(i64::try_from(n).expect("few") * 10)
}

fn entry(n: u64) -> LogEntry {
    let first = at(n) + SignedDuration::from_micros(i64::try_from(n % 977).expect("few"));
    let commits = Some((first, first + SignedDuration::from_millis(9_000)));
    let xid = u32::try_from(n * 37 % (1 << 32)).expect("a number");
    LogEntry::new((Lsn(n * SIZE), Lsn((n + 1) * SIZE)), commits, Some((xid, xid.wrapping_add(36))))
}

fn bases(pieces: u64) -> Vec<Base> {
    let base = |k: u64| {
        let n = pieces / BASES * k;
        Base {
            backup: BackupId::new(at(n), k),
            timeline: Timeline::FIRST,
            start: Lsn(n * SIZE + 100),
            stop: Lsn((n + 2) * SIZE + 100),
            stood: Stood::Server(at(n + 3)),
            segments: Vec::new(),
            good: true,
        }
    };
    (0..BASES).map(base).collect()
}

fn targets(pieces: u64) -> Vec<(&'static str, Target)> {
    let time = |part: u64| Target::Time(at(pieces / 10 * part) + SignedDuration::from_secs(5));
    vec![
        ("a time near the beginning", time(1)),
        ("a time in the middle", time(5)),
        ("a time near the end", time(9)),
        ("a position", Target::Lsn { lsn: Lsn(pieces / 2 * SIZE + 5), inclusive: false }),
        ("a transaction", Target::Xid { xid: 4_000_000, inclusive: true }),
        ("the end", Target::Latest),
        ("a time that is refused", Target::Time(at(pieces + 100))),
    ]
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

fn main() -> io::Result<()> {
    let pieces: u64 = std::env::args().nth(1).map_or(Ok(1_000_000), |n| n.parse()).expect("PIECES");
    let runtime = tokio::runtime::Runtime::new()?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("catalog.db");
    let source: SourceId = "bench".parse().expect("a name");
    runtime.block_on(async {
        let catalog = Catalog::open(&path).await.expect("a catalog");
        let entries: Vec<LogEntry> = (0..pieces).map(entry).collect();
        let change = CachedLog::default().change(&entries, &LogNotes::default()).expect("a change");
        let log = Lineage::of_timeline(1, Timeline::FIRST);
        assert!(catalog.change_log(&source, &log, TRUST, change).await.expect("write"));
    });
    let (mut load, mut build) = (Vec::new(), Vec::new());
    let mut plans: BTreeMap<usize, Vec<Duration>> = BTreeMap::new();
    let mut whole: BTreeMap<usize, Vec<Duration>> = BTreeMap::new();
    for _ in 0..ROUNDS {
        // As a command does: it opens the catalog first.
        let began = Instant::now();
        let logs = runtime.block_on(async {
            let catalog = Catalog::open_read_only(&path).await.expect("a catalog");
            catalog.logs(&source, |_| true, TRUST).await.expect("the log")
        });
        let loaded = began.elapsed();
        let logs = logs
            .into_iter()
            .map(|(of, log)| (of.timeline().expect("one").1, log.entries))
            .collect();
        let archive = Archive::of(bases(pieces), logs, Vec::new(), Vec::new());
        let built = began.elapsed();
        load.push(loaded);
        build.push(built.saturating_sub(loaded));
        for (index, (_, target)) in targets(pieces).iter().enumerate() {
            let planning = Instant::now();
            let done = plan(&archive, target, None);
            let took = planning.elapsed();
            assert_eq!(done.is_err(), index == 6, "{target}");
            plans.entry(index).or_default().push(took);
            whole.entry(index).or_default().push(built + took);
        }
    }
    let mut out = io::stdout().lock();
    let file = std::fs::metadata(&path)?.len();
    writeln!(out, "{pieces} pieces, {} bases, a catalog of {} MiB", BASES, file >> 20)?;
    writeln!(out, "load from the catalog       {:8.1} ms", median(load))?;
    writeln!(out, "make ready for planning     {:8.1} ms", median(build))?;
    for (index, (name, _)) in targets(pieces).iter().enumerate() {
        let took = plans.remove(&index).unwrap_or_default();
        let all = whole.remove(&index).unwrap_or_default();
        writeln!(out, "plan: {name:26}{:8.1} ms, whole {:8.1} ms", median(took), median(all))?;
    }
    Ok(())
}
