//! `drctl watch`: which host or job is late, from any place that can read the bucket.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;
use drctl_model::{BeatAmiss, BeatJob, BeatOutcome, BeatState, SourceId, shown};
use drctl_policies::watch::{Heard, Trouble, span_of};
use drctl_store::Alarm;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::args::WatchArgs;
use super::screen::{NAME_SHOWN, Screen, TEXT_SHOWN, alarms_json, alarms_text, line, table};
use crate::health::{Host, Uncounted, Watch, Watched, watch as look};
use crate::host::figures::span;
use crate::host::{AgentError, Exit, Setup};

/// One thing that is amiss.
struct Amiss {
    host: Option<String>,
    source: Option<SourceId>,
    job: Option<String>,
    code: &'static str,
    text: String,
    late: Option<SignedDuration>,
}

/// `drctl watch`.
pub(super) async fn watch(screen: Screen, setup: &Setup, args: &WatchArgs) -> Result<Exit> {
    let max_age = args.max_age.as_deref().map(max_age).transpose()?;
    let asked = Watch { expect: args.expect.clone(), ignore: args.ignore.clone(), max_age };
    let repository = setup.repository().await?;
    let now = setup.clock.now();
    let found = look(&repository, now, &asked).await?;
    let (amiss, alarms) = (all_amiss(&found), repository.alarms());
    let name = |key: &str| repository.trust.name_of(key);
    let object = json!({
        "now": now, "hosts": found.hosts.iter().map(|host| host_json(host, now, &name)).collect::<Vec<_>>(),
        "amiss": amiss.iter().map(amiss_json).collect::<Vec<_>>(), "alarms": alarms_json(&alarms),
    });
    screen.answer("drctl.watch/1", object, || text(&found, now, &amiss, &alarms));
    let fine = amiss.is_empty() && alarms.is_empty();
    Ok(if fine { Exit::Success } else { Exit::Degraded })
}

fn max_age(text: &str) -> Result<Duration> {
    let span = span_of(text).filter(|span| !span.is_zero());
    let wrong = || AgentError::Usage(format!("`{text}` is no span of time, such as 10m, 1h or 2d"));
    Ok(span.ok_or_else(wrong)?)
}

/// All that is amiss, host after host.
fn all_amiss(found: &Watched) -> Vec<Amiss> {
    let mut all: Vec<Amiss> = found.hosts.iter().flat_map(of_host).collect();
    let of_all = |code, text| Amiss { host: None, source: None, job: None, code, text, late: None };
    if found.none {
        let text = "no host has ever sent a beat: run `drctl agent` on the hosts that are backed up, with \
                    `beat` of [agent] not off";
        all.push(of_all("no_beats", text.to_owned()));
    }
    if let Some(name) = found.foreign.first() {
        let what = match found.foreign.len() {
            1 => format!("beat/{name} is the folder of no host"),
            many => format!("{many} folders, such as beat/{name}, are those of no host"),
        };
        let text =
            format!("{what}: find out who writes into the bucket, and remove what is no beat");
        all.push(of_all("foreign", text));
    }
    if found.unknown > 0 {
        let text = format!(
            "{} more folders below beat/ hold no beat that counts: name your hosts with --expect, find out \
             who writes into the bucket, and remove what is no beat",
            found.unknown
        );
        all.push(of_all("foreign", text));
    }
    all
}

fn of_host(host: &Host) -> Vec<Amiss> {
    let name = shown(&host.name, NAME_SHOWN);
    let of = |code, text| {
        let host = Some(name.clone());
        Amiss { host, source: None, job: None, code, text, late: None }
    };
    let mut all = Vec::new();
    if host.agents.is_empty() {
        let never = host.refused.is_none() && host.newer.is_none();
        all.push(match never && host.expected {
            true => {
                let text = "has never sent a beat: see whether `drctl agent` runs there";
                of("host_never", format!("{name} {text}"))
            }
            false => {
                let text = "counts: whether it is alive is not known";
                of("host_unknown", format!("no beat of {name} {text}"))
            }
        });
    }
    if let many @ 2.. = host.agents.len() {
        let text = format!(
            "{many} agents of different sources send beats as {name}: give each host a `host` of its own, or \
             remove what a retired one left below beat/"
        );
        all.push(of("two_agents", text));
    }
    for (heard, troubles) in &host.agents {
        all.extend(troubles.iter().map(|trouble| Amiss {
            host: Some(name.clone()),
            source: trouble.source().cloned(),
            job: trouble.job().map(|job| job.kind.clone()),
            code: trouble.code(),
            text: words(&name, heard, trouble),
            late: trouble.late(),
        }));
    }
    all.extend(host.refused.as_ref().map(|refused| {
        let (which, why) = which(refused, &name);
        let text = format!(
            "{which} not believed here ({why}): where a host of yours signed it, allow its key in \
             keys.verifying_keys; where a stranger did, find out who writes into the bucket, and remove what \
             is no beat"
        );
        of("beat_refused", text)
    }));
    all.extend(host.newer.as_ref().map(|newer| {
        let (which, why) = which(newer, &name);
        of("beat_newer", format!("{which} for a newer drctl: {why}"))
    }));
    all
}

/// Which beats do not count, and why.
fn which(uncounted: &Uncounted, name: &str) -> (String, String) {
    let Uncounted { first: (seq, why), count } = uncounted;
    let which = match count {
        1 => format!("beat {seq} of {name} is"),
        many => format!("{many} objects among the beats of {name}, such as beat {seq}, are"),
    };
    (which, shown(why, TEXT_SHOWN))
}

/// What is amiss with an agent or a job, in a sentence.
fn words(name: &str, heard: &Heard, trouble: &Trouble) -> String {
    let job =
        |job: &BeatJob| format!("{name}: the {} of {}", job.kind.replace('_', " "), job.source);
    match trouble {
        Trouble::HostLate(by) => {
            let apart = heard.came_late().map_or(String::new(), |stored| {
                format!(
                    "; the store got that one at {stored:.0} only: the host's clock is behind, or somebody \
                     stored it again"
                )
            });
            format!(
                "{name} is LATE by {}: its last beat is of {:.0}. See whether the host is up, `drctl agent` \
                 runs there, and reaches the bucket{apart}",
                span(by.as_secs_f64()),
                heard.at()
            )
        }
        Trouble::Ahead(by) => format!(
            "the last beat of {name} is dated {} in the future, so that nobody knows whether it is new: set \
             the clock there, or here",
            span(by.as_secs_f64())
        ),
        Trouble::JobLate(of, by) => {
            let runs = of.since.filter(|_| of.state == BeatState::Running);
            let runs =
                runs.map_or(String::new(), |since| format!(" runs since {since:.0}, and the next"));
            format!(
                "{}{runs} is LATE by {}: see `drctl jobs` there",
                job(of),
                span(by.as_secs_f64())
            )
        }
        Trouble::JobFailed(of, run) => {
            let how = if run.outcome == BeatOutcome::Died { "died" } else { "FAILED" };
            format!("{} {how} at {:.0}: see `drctl status` there", job(of), run.ended)
        }
        Trouble::StreamDown(of, since) => {
            format!("{} has been failing since {since:.0}: see `drctl status` there", job(of))
        }
        Trouble::JobPaused(of) => {
            format!("{} is paused: `drctl resume {}` there ends that", job(of), of.source)
        }
        Trouble::Findings(amiss) => found(name, amiss),
        Trouble::HostFindings(codes) => {
            format!("{name}: {}: see `drctl status` there", codes.join(", "))
        }
        Trouble::NotLooked(since) => format!(
            "{name}: its agent does not know where the sources stand since {since:.0}: see its log, and \
             `drctl status` there"
        ),
    }
}

/// What `drctl status` finds of a source, in a sentence.
fn found(name: &str, amiss: &BeatAmiss) -> String {
    let BeatAmiss { source, breached, attention, codes } = amiss;
    let need = |many: &u64| format!("{many} need{} attention", if *many == 1 { "s" } else { "" });
    let counts = match (breached, attention) {
        (0, more) => need(more),
        (bad, 0) => format!("{bad} BREACHED"),
        (bad, more) => format!("{bad} BREACHED, {}", need(more)),
    };
    format!("{name}: {source}: findings: {counts} ({}): see `drctl status` there", codes.join(", "))
}

fn amiss_json(one: &Amiss) -> Value {
    json!({
        "host": one.host, "source": one.source, "job": one.job, "code": one.code, "text": one.text,
        "late_seconds": one.late.map(|late| late.as_secs()),
    })
}

fn host_json(host: &Host, now: Timestamp, name: &dyn Fn(&str) -> String) -> Value {
    let agent = |(heard, _): &(Heard, Vec<Trouble>)| {
        let beat = &heard.beat;
        json!({
            "seq": beat.seq, "written": beat.written, "stored": heard.stored,
            "age_seconds": now.duration_since(heard.at()).as_secs(), "next_seconds": beat.next_seconds,
            "version": beat.version, "started": beat.started, "signed_by": name(&heard.signer),
            "jobs": beat.jobs.iter().map(job_json).collect::<Vec<_>>(), "findings": beat.findings,
        })
    };
    json!({
        "host": host.name, "fine": host.is_fine(),
        "refused": host.refused.as_ref().map_or(0, |refused| refused.count),
        "agents": host.agents.iter().map(agent).collect::<Vec<_>>(),
    })
}

fn job_json(job: &BeatJob) -> Value {
    json!({
        "source": job.source, "kind": job.kind, "state": job.state, "since": job.since, "due": job.due,
        "next": job.next, "last": job.last,
    })
}

fn text(found: &Watched, now: Timestamp, amiss: &[Amiss], alarms: &[Alarm]) -> String {
    let head = ["HOST", "STATE", "LAST BEAT", "AGE", "JOBS", "RUNNING", "NEXT DUE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for host in &found.hosts {
        let state = if host.is_fine() { "fine" } else { "amiss" };
        let name = shown(&host.name, NAME_SHOWN);
        let nothing =
            [name.as_str(), state, "none", "-", "-", "-", "-"].map(str::to_owned).to_vec();
        rows.extend(host.agents.is_empty().then_some(nothing));
        for (heard, _) in &host.agents {
            let jobs = &heard.beat.jobs;
            let running = jobs.iter().filter(|job| job.state == BeatState::Running).count();
            let next = jobs.iter().filter_map(|job| job.next).min();
            let age = now.duration_since(heard.at()).as_secs_f64();
            rows.push(vec![
                name.clone(),
                state.to_owned(),
                format!("{:.0}", heard.at()),
                span(age),
                jobs.len().to_string(),
                running.to_string(),
                next.map_or("-".to_owned(), |next| format!("{next:.0}")),
            ]);
        }
    }
    let mut text = match rows.len() {
        1 if !found.none => "--ignore leaves out every host that has sent beats".to_owned(),
        1 => String::new(),
        _ => table(&rows),
    };
    for one in amiss {
        let _ = write!(text, "\n{}", line(&one.text));
    }
    text.trim_start().to_owned() + &alarms_text(alarms)
}
