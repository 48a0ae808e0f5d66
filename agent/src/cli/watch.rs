//! `drctl watch`: which host or job is late, from any place that can read the bucket.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;
use drctl_model::{BeatJob, BeatOutcome, BeatState, SourceId, shown};
use drctl_policies::watch::{Heard, Trouble};
use drctl_store::Alarm;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::args::WatchArgs;
use super::screen::{NAME_SHOWN, Screen, TEXT_SHOWN, alarms_json, alarms_text, line, table};
use crate::health::{Host, Watch, Watched, watch as look};
use crate::host::figures::span;
use crate::host::{AgentError, Exit, Setup};

/// One thing that is amiss.
struct Amiss {
    host: Option<String>,
    job: Option<(SourceId, String)>,
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
    let span = text.parse::<SignedDuration>().ok().filter(SignedDuration::is_positive);
    let wrong = || AgentError::Usage(format!("`{text}` is no span of time, such as 10m or 1h"));
    Ok(span.and_then(|span| Duration::try_from(span).ok()).ok_or_else(wrong)?)
}

/// All that is amiss, host after host.
fn all_amiss(found: &Watched) -> Vec<Amiss> {
    let mut all: Vec<Amiss> = found.hosts.iter().flat_map(of_host).collect();
    let of_all = |code, text| Amiss { host: None, job: None, code, text, late: None };
    if found.none {
        let text = "no host has ever sent a beat: run `drctl agent` on the hosts that are backed up, with \
                    `beat` of [agent] not off";
        all.push(of_all("no_beats", text.to_owned()));
    }
    all.extend(found.foreign.iter().map(|name| {
        let text =
            format!("beat/{name} is the folder of no host: find out who made it, and remove it");
        of_all("foreign", text)
    }));
    all
}

fn of_host(host: &Host) -> Vec<Amiss> {
    let name = shown(&host.name, NAME_SHOWN);
    let of = |code, text| Amiss { host: Some(name.clone()), job: None, code, text, late: None };
    let mut all = Vec::new();
    if host.agents.is_empty() {
        let text = match host.refused.is_empty() && host.newer.is_empty() {
            true => format!("{name} has never sent a beat: see whether `drctl agent` runs there"),
            false => format!("no beat of {name} counts: whether it is alive is not known"),
        };
        all.push(of("host_never", text));
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
            job: trouble.job().map(|job| (job.source.clone(), job.kind.clone())),
            code: trouble.code(),
            text: words(&name, heard, trouble),
            late: trouble.late(),
        }));
    }
    all.extend(host.refused.iter().map(|(seq, why)| {
        let text = format!(
            "beat {seq} of {name} is not believed here ({}): where a host of yours signed it, allow its key \
             in keys.verifying_keys; where a stranger did, find out who writes into the bucket",
            shown(why, TEXT_SHOWN)
        );
        of("beat_refused", text)
    }));
    all.extend(host.newer.iter().map(|(seq, why)| {
        let why = shown(why, TEXT_SHOWN);
        of("beat_newer", format!("only a newer drctl reads beat {seq} of {name}: {why}"))
    }));
    all
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
            format!("{} is LATE by {}: see `drctl jobs` there", job(of), span(by.as_secs_f64()))
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
    }
}

fn amiss_json(one: &Amiss) -> Value {
    let (source, job) = one.job.clone().unzip();
    json!({
        "host": one.host, "source": source, "job": job, "code": one.code, "text": one.text,
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
            "jobs": beat.jobs.iter().map(job_json).collect::<Vec<_>>(),
        })
    };
    json!({
        "host": host.name, "fine": host.is_fine(),
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
    let mut text = if rows.len() > 1 { table(&rows) } else { String::new() };
    for one in amiss {
        let _ = write!(text, "\n{}", line(&one.text));
    }
    text.trim_start().to_owned() + &alarms_text(alarms)
}
