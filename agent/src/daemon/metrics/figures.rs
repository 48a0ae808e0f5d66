//! Which figures there are: of each source by the last look, of each job by the scheduler.

use std::collections::BTreeMap;

use drctl_model::{JobKind, Verdict};
use drctl_policies::scheduler::{JobKey, Outcome, Row, State};
use jiff::{SignedDuration, Timestamp};

use super::exposition::{Labels, Metric, count, flag, gauge, seconds, wide};
use super::host::{Host, of_agent};
use super::{Told, word};
use crate::daemon::look::OfHost;
use crate::health::{Health, SourceStatus};
use crate::log::Held;

/// What a look found, in figures.
#[derive(Debug, Default)]
pub(super) struct Seen {
    of: Vec<Source>,
    host: Host,
}

/// The newest good backup of a source.
#[derive(Debug)]
struct Good {
    ended: Timestamp,
    took: SignedDuration,
    plain_bytes: u64,
    stored_bytes: u64,
}

/// One source.
#[derive(Debug, Default)]
struct Source {
    name: String,
    health: u8,
    findings: BTreeMap<(&'static str, &'static str), u64>,
    good: Option<Good>,
    attempt: Option<Timestamp>,
    /// From when on, and up to when, it can be recovered.
    from: Option<Timestamp>,
    until: Option<Timestamp>,
    /// The bytes of all its backups in the bucket.
    stored_bytes: Option<u64>,
    rpo: Option<SignedDuration>,
    /// How long the restore took in the newest drill that proved the data, in milliseconds.
    restored_in: Option<u64>,
    rto: Option<SignedDuration>,
    max_duration: Option<SignedDuration>,
    gaps: Option<usize>,
    overdue: bool,
    frozen: bool,
    /// Whether no drill proves it; nothing where there is nothing to prove.
    unproven: Option<bool>,
    /// When the last drill ended that proved the data.
    drilled: Option<Timestamp>,
    /// What the newest drill said.
    said: Option<Verdict>,
}

/// Takes the figures of what a look found that began `at` a time.
pub(super) fn of_look(at: Timestamp, all: &[SourceStatus], host: &OfHost) -> Seen {
    Seen { of: all.iter().map(|one| of_source(at, one)).collect(), host: Host::of(host) }
}

fn of_source(at: Timestamp, one: &SourceStatus) -> Source {
    let judged = one.findings();
    let mut findings = BTreeMap::new();
    for found in &judged {
        let of = (found.code.as_str(), found.code.level().as_str());
        *findings.entry(of).or_default() += 1;
    }
    let health = match Health::of(&judged) {
        Health::Good => 0,
        Health::Attention => 1,
        Health::Breached => 2,
    };
    let log = one.log.as_ref().and_then(|log| log.as_ref().ok());
    let age = if one.log.is_some() { log.map(|log| log.age) } else { one.age };
    let is_proven = one.drill.passed.is_some() && one.drill.failed.is_none();
    Source {
        name: one.source.to_string(),
        health,
        findings,
        good: one.newest_good.as_ref().map(|good| Good {
            ended: good.finished,
            took: good.finished.duration_since(good.started),
            plain_bytes: good.plain_bytes,
            stored_bytes: good.sealed_bytes,
        }),
        attempt: one.last_job.as_ref().map(|job| job.started),
        from: one.stock.from,
        stored_bytes: one.stock.stored_bytes,
        until: age.and_then(|age| at.checked_sub(age).ok()),
        rpo: one.rpo,
        restored_in: one.drill.passed.as_ref().and_then(|passed| passed.restore_ms),
        rto: one.rto,
        max_duration: one.max_duration,
        gaps: log.map(|log| log.recoverable_until.gaps.len()),
        overdue: one.overdue.is_some(),
        frozen: !one.frozen.is_empty(),
        unproven: one.newest_good.as_ref().map(|_| !is_proven),
        drilled: one.drill.passed.as_ref().map(|passed| passed.at),
        said: one.drill.said,
    }
}

/// Every metric, in the order in which they are told.
pub(super) fn metrics(told: &Told, now: Timestamp) -> Vec<Metric> {
    let mut all = of_agent(told);
    if let Some((at, sources)) = &told.sources {
        all.extend(sources.host.metrics(*at));
        all.extend(of_backups(sources));
        all.extend(of_recovery(sources, now));
        all.extend(of_promises(sources));
        all.push(of_drills(sources));
    }
    all.extend(of_held(&told.held));
    all.extend(of_jobs(&told.rows));
    all.push(runs(told));
    all
}

/// From zero on, so that the first run of a kind is seen to be one more.
fn runs(told: &Told) -> Metric {
    const ALL: [Outcome; 4] =
        [Outcome::Succeeded, Outcome::Failed, Outcome::Stopped, Outcome::Died];
    let series = told.rows.iter().flat_map(|row| {
        ALL.map(|outcome| {
            let mut labels = job_labels(row.key.source.as_str(), row.key.kind);
            labels.push(("outcome", word(outcome).to_owned()));
            let runs = told.runs.get(&(row.key.clone(), word(outcome)));
            (labels, wide(runs.copied().unwrap_or_default()))
        })
    });
    let help = "Runs that ended since the agent's start";
    Metric { name: "drctl_job_runs", help, counts: true, series: series.collect() }
}

/// The series of one figure of every source that has it.
fn each(sources: &Seen, figure: impl Fn(&Source) -> Option<f64>) -> Vec<(Labels, f64)> {
    let of = sources.of.iter();
    of.filter_map(|one| Some((source_labels(&one.name), figure(one)?))).collect()
}

/// How the sources and their backups stand.
fn of_backups(sources: &Seen) -> Vec<Metric> {
    let findings = sources.of.iter().flat_map(|one| {
        one.findings.iter().map(|((code, severity), count)| {
            let mut labels = source_labels(&one.name);
            labels.push(("code", (*code).to_owned()));
            labels.push(("severity", (*severity).to_owned()));
            (labels, wide(*count))
        })
    });
    vec![
        gauge(
            "drctl_source_health",
            "How a source is doing: 0 good, 1 needs attention, 2 breached",
            each(sources, |one| Some(one.health.into())),
        ),
        gauge(
            "drctl_source_unprotected",
            "Whether a source has no good backup at all",
            each(sources, |one| Some(flag(one.good.is_none()))),
        ),
        gauge(
            "drctl_source_unproven",
            "Whether none of the last drills has passed, on any host, or the newest one failed",
            each(sources, |one| one.unproven.map(flag)),
        ),
        gauge(
            "drctl_findings",
            "What is amiss with a source, by code: so many findings stand",
            findings.collect(),
        ),
        gauge(
            "drctl_backup_last_success_timestamp_seconds",
            "When the newest good backup ended",
            each(sources, |one| Some(seconds(one.good.as_ref()?.ended))),
        ),
        gauge(
            "drctl_backup_last_attempt_timestamp_seconds",
            "When this host last began a backup",
            each(sources, |one| one.attempt.map(seconds)),
        ),
        gauge(
            "drctl_backup_plain_bytes",
            "The bytes of the newest good backup before compression",
            each(sources, |one| Some(wide(one.good.as_ref()?.plain_bytes))),
        ),
        gauge(
            "drctl_backup_stored_bytes",
            "The bytes of the newest good backup in the bucket",
            each(sources, |one| Some(wide(one.good.as_ref()?.stored_bytes))),
        ),
        gauge(
            "drctl_backup_duration_seconds",
            "How long the newest good backup took",
            each(sources, |one| Some(one.good.as_ref()?.took.as_secs_f64())),
        ),
        gauge(
            "drctl_source_stored_bytes",
            "The bytes of all backups of a source in the bucket, without its log",
            each(sources, |one| one.stored_bytes.map(wide)),
        ),
        gauge(
            "drctl_backup_overdue",
            "Whether a scheduled backup was due more than an hour ago and has not begun",
            each(sources, |one| Some(flag(one.overdue))),
        ),
    ]
}

/// What the newest drill of each source said, on any host.
fn of_drills(sources: &Seen) -> Metric {
    let said = sources.of.iter().filter_map(|one| {
        let mut labels = source_labels(&one.name);
        labels.push(("verdict", one.said?.as_str().to_owned()));
        Some((labels, 1.0))
    });
    gauge(
        "drctl_drill_last_verdict",
        "What the newest drill said, on any host; always 1",
        said.collect(),
    )
}

/// What is promised of times, and what was measured of restores.
fn of_promises(sources: &Seen) -> Vec<Metric> {
    vec![
        gauge(
            "drctl_backup_duration_objective_seconds",
            "How long a backup may take at the most, by the policy",
            each(sources, |one| one.max_duration.map(|most| most.as_secs_f64())),
        ),
        gauge(
            "drctl_rto_seconds",
            "How long the restore took in the newest drill that proved the data, on any host",
            each(sources, |one| Some(wide(one.restored_in?) / 1000.0)),
        ),
        gauge(
            "drctl_rto_objective_seconds",
            "How long a restore may take at the most, by the policy",
            each(sources, |one| one.rto.map(|rto| rto.as_secs_f64())),
        ),
    ]
}

/// Up to when the sources can be recovered, and whether that was proven.
fn of_recovery(sources: &Seen, now: Timestamp) -> Vec<Metric> {
    let lost = |one: &Source| Some(now.duration_since(one.until?).as_secs_f64().max(0.0));
    vec![
        gauge(
            "drctl_recoverable_from_timestamp_seconds",
            "The moment of the oldest good backup: nothing before it can be recovered",
            each(sources, |one| one.from.map(seconds)),
        ),
        gauge(
            "drctl_recoverable_to_timestamp_seconds",
            "The last moment that can be recovered: of the log, else of the newest good backup",
            each(sources, |one| one.until.map(seconds)),
        ),
        gauge(
            "drctl_recoverable_gaps",
            "Gaps in the log behind the newest base backup",
            each(sources, |one| one.gaps.map(count)),
        ),
        gauge(
            "drctl_rpo_seconds",
            "How much would be lost now: the age of the last moment that can be recovered",
            each(sources, lost),
        ),
        gauge(
            "drctl_rpo_objective_seconds",
            "How much may be lost at the most, by the policy",
            each(sources, |one| one.rpo.map(|rpo| rpo.as_secs_f64())),
        ),
        gauge(
            "drctl_retention_frozen",
            "Whether somebody has said that nothing of a source may be removed",
            each(sources, |one| Some(flag(one.frozen))),
        ),
        gauge(
            "drctl_drill_last_pass_timestamp_seconds",
            "When the last drill ended that proved the data, on any host",
            each(sources, |one| one.drilled.map(seconds)),
        ),
    ]
}

/// What fills the disks of servers whose log is streamed.
fn of_held(held: &[(JobKey, Held)]) -> Vec<Metric> {
    let each = |figure: &dyn Fn(&Held) -> Option<u64>| -> Vec<(Labels, f64)> {
        let of = held.iter();
        of.filter_map(|(key, held)| Some((source_labels(key.source.as_str()), wide(figure(held)?))))
            .collect()
    };
    vec![
        gauge(
            "drctl_log_held_bytes",
            "Log that the server keeps because it is not archived or not read yet",
            each(&|held| Some(held.bytes)),
        ),
        gauge(
            "drctl_log_disk_free_bytes",
            "What is free in the file system of the server's log",
            each(&|held| held.free_bytes),
        ),
    ]
}

fn of_jobs(rows: &[Row]) -> Vec<Metric> {
    let each = |figure: &dyn Fn(&Row) -> Option<f64>| -> Vec<(Labels, f64)> {
        let labels = |row: &Row| job_labels(row.key.source.as_str(), row.key.kind);
        rows.iter().filter_map(|row| Some((labels(row), figure(row)?))).collect()
    };
    let failed = |outcome| matches!(outcome, Outcome::Failed | Outcome::Died);
    vec![
        gauge(
            "drctl_job_running",
            "Whether a job runs",
            each(&|row| Some(flag(row.state == State::Running))),
        ),
        gauge(
            "drctl_job_paused",
            "Whether somebody has paused a job",
            each(&|row| Some(flag(row.state == State::Paused))),
        ),
        gauge(
            "drctl_job_next_due_timestamp_seconds",
            "When the next run of a job begins at the earliest; in the past while it waits",
            each(&|row| row.next.map(seconds)),
        ),
        gauge(
            "drctl_job_missed_runs",
            "Runs that were not begun in time since the last run that ended; it makes up for them",
            each(&|row| Some(wide(row.missed.as_ref().map_or(0, |missed| missed.count)))),
        ),
        gauge(
            "drctl_job_last_end_timestamp_seconds",
            "When the last run of a job ended",
            each(&|row| row.last.map(|(ended, _)| seconds(ended))),
        ),
        gauge(
            "drctl_job_last_failed",
            "Whether the last run of a job failed or died",
            each(&|row| row.last.map(|(_, outcome)| flag(failed(outcome)))),
        ),
    ]
}

fn source_labels(source: &str) -> Labels {
    vec![("source", source.to_owned())]
}

/// Prometheus has a label `job` of its own, by which ours would be renamed.
fn job_labels(source: &str, kind: JobKind) -> Labels {
    vec![("source", source.to_owned()), ("kind", kind.as_str().to_owned())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(all: &[Metric], name: &str) -> Option<f64> {
        let metric = all.iter().find(|metric| metric.name == name).expect("the metric");
        metric.series.first().map(|(_, value)| *value)
    }

    #[test]
    fn ages_are_counted_when_they_are_asked_for() {
        let at = Timestamp::from_second(1_000_000).expect("a time");
        let later = Timestamp::from_second(1_000_090).expect("a time");
        let source = Source {
            name: "shop".to_owned(),
            until: Some(at),
            gaps: Some(2),
            drilled: Some(at),
            ..Source::default()
        };
        let all = of_recovery(&Seen { of: vec![source], host: Host::default() }, later);
        assert_eq!(value(&all, "drctl_rpo_seconds"), Some(90.0));
        assert_eq!(value(&all, "drctl_recoverable_to_timestamp_seconds"), Some(1_000_000.0));
        assert_eq!(value(&all, "drctl_recoverable_gaps"), Some(2.0));
        assert_eq!(value(&all, "drctl_drill_last_pass_timestamp_seconds"), Some(1_000_000.0));
        // What is dated in the future is no loss below zero.
        let early = Timestamp::from_second(999_000).expect("a time");
        let source = Source { until: Some(at), ..Source::default() };
        let all = of_recovery(&Seen { of: vec![source], host: Host::default() }, early);
        assert_eq!(value(&all, "drctl_rpo_seconds"), Some(0.0));
        assert_eq!(value(&all, "drctl_recoverable_gaps"), None);
    }
}
