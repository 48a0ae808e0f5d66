//! Plans of removals over many backups and pieces of WAL.

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use drctl::prune::{Planned, PrunePlan};
use drctl_model::{BackupId, BackupSummary, LogEntry, SourceId, Timeline, newest_first};
use drctl_policies::RetentionPolicy;
use drctl_policies::recovery::{Archive, Base, Stood};
use drctl_policies::retention::{Candidate, Holdings, Verdict, decide, log_of};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::made::{SIZE, base, entry};
use super::median;

/// How often everything is done; the median counts.
const ROUNDS: usize = 7;

/// A policy with every rule.
const POLICY: RetentionPolicy = RetentionPolicy {
    last: 10,
    hourly: 48,
    daily: 30,
    weekly: 12,
    monthly: 24,
    yearly: 10,
    within: Some(Duration::from_secs(30 * 86_400)),
    min_backups: 3,
    min_proven: 2,
    max_age: None,
};

/// Measures each part of a plan, and prints them.
pub(crate) fn measure(backups: u64, pieces: u64) -> io::Result<()> {
    let source: SourceId = "bench".parse().expect("a name");
    let zone = TimeZone::get("Europe/Berlin").expect("a time zone");
    let all = (0..backups).map(|n| base(n, (backups, pieces), &source)).collect();
    let all = newest_first(all);
    let entries: Vec<LogEntry> = (0..pieces).map(|n| entry(n, (backups, pieces))).collect();
    let mut took: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    let mut gone = (0, 0);
    for _ in 0..ROUNDS {
        let (summaries, mut log) = (all.clone(), entries.clone());
        let began = Instant::now();
        let bases = summaries.iter().map(known).collect();
        // The WAL that base backups bring along comes behind that of the archive.
        log.extend(summaries.iter().map(brought));
        let archive = Archive::of(bases, BTreeMap::from([(Timeline::FIRST, log)]), vec![], vec![]);
        let ready = Instant::now();
        let candidates: Vec<Candidate> = summaries.iter().map(candidate).collect();
        let holdings = Holdings {
            candidates: &candidates,
            clusters: &[&archive],
            blocked: None,
            now: Timestamp::now(),
        };
        let verdicts = decide(&POLICY, &zone, &holdings);
        let decided = Instant::now();
        let stay: BTreeSet<&BackupId> =
            verdicts.iter().filter(|one| one.stays()).map(|one| &one.backup).collect();
        let cuts = log_of(&archive, |backup| stay.contains(backup));
        drop(black_box(cuts));
        let cut = Instant::now();
        let plan = planned(source.clone(), summaries, verdicts);
        let digest = black_box(plan.digest());
        gone = (plan.going().len(), digest.len() + usize::from(plan.is_much().is_some()));
        let end = Instant::now();
        for (part, from, until) in [
            ("made ready", began, ready),
            ("which backups stay", ready, decided),
            ("which WAL stays", decided, cut),
            ("order and digest", cut, end),
            ("the whole plan", began, end),
        ] {
            took.entry(part).or_default().push(until.duration_since(from));
        }
    }
    let mut out = io::stdout().lock();
    writeln!(out, "{} of {backups} backups go", gone.0)?;
    for (part, times) in took {
        writeln!(out, "{part:20} {:8.0} ms", median(times))?;
    }
    Ok(())
}

fn known(backup: &BackupSummary) -> Base {
    let at = backup.kind.coordinates().expect("a base backup");
    let log = at.log.as_ref().expect("its WAL");
    Base {
        backup: backup.backup.clone(),
        timeline: at.stop_timeline,
        start: at.start,
        stop: at.stop,
        stood: Stood::Log { last_commit: log.last_commit, checkpoint: log.checkpoint },
        segments: log.segments.iter().map(|(at, sha)| (*at, at.plus(SIZE), *sha)).collect(),
        good: true,
    }
}

fn brought(backup: &BackupSummary) -> LogEntry {
    let at = backup.kind.coordinates().expect("a base backup");
    LogEntry::new((at.segment_size.start_of(at.start), at.stop), None, None)
}

fn candidate(backup: &BackupSummary) -> Candidate {
    Candidate {
        backup: backup.backup.clone(),
        taken: backup.taken(),
        stored: Some(backup.finished),
        parent: backup.kind.parent().map(|parent| parent.backup.clone()),
        counts: true,
        proven: false,
        claims: Vec::new(),
    }
}

fn planned(source: SourceId, all: Vec<BackupSummary>, verdicts: Vec<Verdict>) -> PrunePlan {
    let each = all.into_iter().zip(verdicts);
    let backups = each.map(|(summary, Verdict { reasons, .. })| {
        let (objects, bytes) = summary.objects.unwrap_or_default();
        Planned { summary, objects, bytes, reasons }
    });
    PrunePlan {
        source,
        policy: "bench".to_owned(),
        blocked: Vec::new(),
        unattended: None,
        backups: backups.collect(),
        log: Vec::new(),
        rest: Vec::new(),
        orphans: Vec::new(),
    }
}
