//! What the agent tells people: what its looks find, and what it alone knows.

use std::collections::{BTreeMap, BTreeSet};

use drctl_model::{JobKind, SourceId, shown};
use drctl_policies::Severity;
use drctl_policies::scheduler::{Action, JobKey, Outcome};
use futures_util::future::join;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::look::Look;
use super::reply::missed_text;
use super::work::Running;
use crate::health::{Health, SourceStatus};
use crate::host::Setup;
use crate::notify::{Amiss, Extent, Key, Outbox, Ping, Pings, Seen, new_run};

/// A stream that has been running for so long, and is not said to be down, streams.
const STREAMS: SignedDuration = SignedDuration::from_mins(6);

/// What is known, and whom it is told to.
pub(super) struct Telling {
    outbox: Outbox,
    pings: Pings,
    /// The runs that are under way.
    runs: BTreeMap<JobKey, Uuid>,
    /// What only the agent knows.
    own: BTreeMap<Key, Amiss>,
    well: BTreeSet<(SourceId, String)>,
    /// What the last look found that came to something.
    found: Option<Found>,
}

/// What a look found.
#[derive(Default)]
struct Found {
    amiss: Vec<Amiss>,
    sources: BTreeSet<SourceId>,
    unknown: BTreeSet<Key>,
    forgotten: BTreeSet<SourceId>,
    /// What is safe of each source.
    safe: BTreeMap<SourceId, String>,
}

impl Telling {
    pub(super) fn open(setup: &Setup) -> Self {
        let (own, well) = (BTreeMap::new(), BTreeSet::new());
        let (outbox, pings) = (Outbox::open(setup), Pings::open(setup));
        Telling { outbox, pings, runs: BTreeMap::new(), own, well, found: None }
    }

    /// The configuration was read again.
    pub(super) fn reloaded(&mut self, old: &Setup, new: &Setup) {
        self.is_over("configuration_refused");
        if new.config.agent.beat.is_zero() {
            self.is_over("beat_failed");
        }
        if old.config.notify != new.config.notify || old.host() != new.host() {
            self.outbox = Outbox::open(new);
        }
        if Pings::differ(&old.config, &new.config) {
            self.pings = Pings::open(new);
        }
        self.tell();
    }

    /// A run began.
    pub(super) fn begun(&mut self, key: &JobKey) {
        let run = new_run();
        self.runs.insert(key.clone(), run);
        self.ping(key, Ping::Start, run);
    }

    /// The agent ends.
    pub(super) async fn close(&mut self) {
        join(self.outbox.close(), self.pings.close()).await;
    }

    fn ping(&self, key: &JobKey, ping: Ping, run: Uuid) {
        self.pings.tell(&Some((key.source.clone(), key.kind)), ping, Some(run));
    }

    /// The configuration that lies there now was not taken.
    pub(super) fn refused(&mut self, now: Timestamp, why: &str) {
        let text = format!(
            "the configuration on disk is not taken: {}. Mend it, then `drctl reload`",
            shown(why, 500)
        );
        let safe = "the configuration before goes on";
        self.put(host(now, "configuration_refused", text, safe, "drctl config check"));
        self.tell();
    }

    /// Whether metrics are told; why not, where they are not.
    pub(super) fn metrics(&mut self, now: Timestamp, failing: Option<String>) {
        let Some(text) = failing else {
            self.is_over("metrics_fail");
            return;
        };
        let safe = "backups go on; nobody who scrapes hears of them";
        self.put(host(now, "metrics_fail", text, safe, "drctl config show"));
    }

    /// A beat was written, or was not: why.
    pub(super) fn beaten(&mut self, now: Timestamp, why: Option<&str>) {
        let Some(why) = why else {
            if self.is_over("beat_failed") {
                self.tell();
            }
            return;
        };
        let text = format!(
            "the beat of this host cannot be written into the bucket: {}. `drctl watch` elsewhere will say \
             that the host is late",
            shown(why, 500)
        );
        let safe = "runs go on as scheduled";
        self.put(host(now, "beat_failed", text, safe, "drctl doctor"));
        self.tell();
    }

    /// What the scheduler has to tell.
    pub(super) fn heard(&mut self, now: Timestamp, action: &Action) {
        match action {
            Action::GaveUp { key, attempts } => {
                let text = format!(
                    "after {attempts} failed attempt(s) the {} of {} is not tried again before the next \
                     run is due: look why it failed, and run it by hand",
                    key.kind.words(),
                    key.source
                );
                self.of_job(now, key, "gave_up", text);
            }
            Action::Missed { key, missed } => {
                let text =
                    format!("the {} of {} {}", key.kind.words(), key.source, missed_text(missed));
                self.of_job(now, key, "runs_missed", text);
            }
            Action::StreamDown { key, since } => {
                let text = format!(
                    "the WAL stream of {} has been failing since {since:.0}: new WAL does not reach the \
                     bucket, and the server may have to keep it",
                    key.source
                );
                self.of_job(now, key, "stream_down", text);
            }
            Action::StreamBack { key } => self.is_well(key),
            Action::Start { .. } | Action::Cancel { .. } => return,
        }
        self.tell();
    }

    /// A run came to its end. A backup succeeds only after its manifest was read back, and one that is
    /// suspect does not count. What was stopped is neither: whoever waits for it hears nothing.
    pub(super) fn ended(&mut self, key: &JobKey, outcome: Outcome, suspect: bool) {
        let ping = match outcome {
            Outcome::Succeeded if !suspect => Some(Ping::Success),
            Outcome::Succeeded | Outcome::Failed | Outcome::Died => Some(Ping::Fail),
            Outcome::Stopped => None,
        };
        if let (Some(run), Some(ping)) = (self.runs.remove(key), ping) {
            self.ping(key, ping, run);
        }
        match outcome {
            Outcome::Succeeded => {
                self.is_well(key);
                self.tell();
            }
            Outcome::Failed | Outcome::Died => {
                self.well.remove(&(key.source.clone(), key.kind.as_str().to_owned()));
            }
            Outcome::Stopped => {}
        }
    }

    /// It was looked where the sources stand.
    pub(super) fn looked(&mut self, look: &Look, running: &BTreeMap<JobKey, Running>) {
        for (key, run) in running.iter().filter(|(key, _)| key.kind == JobKind::LogStream) {
            let down = place(key, "stream_down");
            if look.at.duration_since(run.since) >= STREAMS && !self.own.contains_key(&down) {
                self.is_well(key);
            }
        }
        match &look.sources {
            Ok(sources) => {
                self.pings.tell(&None, Ping::Success, None);
                self.is_over("look_failed");
                let mut found = Found::default();
                sources.iter().for_each(|status| found.add(status));
                found.amiss.extend(look.host.unanswered.iter().map(|one| one.amiss()));
                self.found = Some(found);
            }
            Err(why) => {
                let text = format!("where the sources stand is not known: {}", shown(why, 500));
                let safe = "runs go on as scheduled";
                self.put(host(look.at, "look_failed", text, safe, "drctl doctor"));
            }
        }
        self.tell();
    }

    fn of_job(&mut self, now: Timestamp, key: &JobKey, code: &str, text: String) {
        self.well.remove(&(key.source.clone(), key.kind.as_str().to_owned()));
        self.put(Amiss {
            source: Some(key.source.clone()),
            code: code.to_owned(),
            subject: key.kind.as_str().to_owned(),
            severity: Severity::Attention,
            text,
            safe: None,
            run: "drctl jobs",
            since: Some(now),
            extent: Extent::default(),
        });
    }

    /// What only the agent knew of the host stands no more; whether it did.
    fn is_over(&mut self, code: &str) -> bool {
        let before = self.own.len();
        self.own.retain(|(_, known, _), _| known != code);
        self.own.len() < before
    }

    fn is_well(&mut self, key: &JobKey) {
        self.own.retain(|(source, code, kind), _| {
            let of_it = *source == key.source.to_string() && kind == key.kind.as_str();
            !(of_it && crate::notify::OF_JOBS.contains(&code.as_str()))
        });
        self.well.insert((key.source.clone(), key.kind.as_str().to_owned()));
    }

    /// What is amiss already keeps its beginning.
    fn put(&mut self, mut amiss: Amiss) {
        let key = amiss.key();
        if let Some(before) = self.own.get(&key) {
            amiss.since = before.since;
        }
        self.own.insert(key, amiss);
    }

    /// Before the first look nothing is told: it is not known yet what is over.
    fn tell(&self) {
        let looked = self.found.as_ref();
        if looked.is_none() && !self.own.keys().any(|(_, code, _)| code == "look_failed") {
            return;
        }
        let none = Found::default();
        let Found { amiss, sources, unknown, forgotten, safe } = looked.unwrap_or(&none);
        let safe = |source: &Option<SourceId>| source.as_ref().and_then(|of| safe.get(of)).cloned();
        let own = self.own.values().cloned().map(|one| {
            let known = one.safe.clone().or_else(|| safe(&one.source));
            Amiss { safe: known, ..one }
        });
        let amiss = amiss.iter().cloned().chain(own).chain(self.outbox.failing()).collect();
        let (sources, unknown) = (sources.clone(), unknown.clone());
        let (forgotten, well) = (forgotten.clone(), self.well.clone());
        self.outbox.tell(Seen { amiss, sources, unknown, forgotten, well });
    }
}

/// What is amiss with the host.
fn host(now: Timestamp, code: &str, text: String, safe: &str, run: &'static str) -> Amiss {
    Amiss {
        source: None,
        code: code.to_owned(),
        subject: String::new(),
        severity: Severity::Attention,
        text,
        safe: Some(safe.to_owned()),
        run,
        since: Some(now),
        extent: Extent::default(),
    }
}

/// An error that has several lines, as one.
pub(super) fn in_a_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join(" ")
}

fn place(key: &JobKey, code: &str) -> Key {
    (key.source.to_string(), code.to_owned(), key.kind.as_str().to_owned())
}

impl Found {
    /// What a look found of a source, and what of it it could not look at.
    fn add(&mut self, status: &SourceStatus) {
        let source = &status.source;
        self.sources.insert(source.clone());
        let safe = safe(status);
        self.safe.insert(source.clone(), safe.clone());
        for one in status.findings() {
            if one.health == Health::Good {
                continue;
            }
            let severity = one.health.severity();
            let run = if status.unreadable.is_some() { "drctl doctor" } else { "drctl status" };
            self.amiss.push(Amiss {
                source: Some(source.clone()),
                code: one.code.as_str().to_owned(),
                // What stands for several keeps its name, whichever of them comes first.
                subject: if one.all.is_empty() { one.subject } else { String::new() },
                severity,
                text: one.text,
                safe: Some(safe.clone()),
                run,
                since: one.since,
                extent: Extent::of(&one.all),
            });
        }
        if status.forgotten.is_some() {
            self.forgotten.insert(source.clone());
        }
        // What stands and was not looked for is not over.
        let standing = status.met.iter().map(|met| &met.finding);
        self.unknown.extend(standing.flat_map(|finding| {
            // It may have been told by itself, or as one of several.
            [finding.subject.clone(), String::new()]
                .map(|subject| (source.to_string(), finding.code.as_str().to_owned(), subject))
        }));
    }
}

/// What is safe of a source, as far as that is known.
fn safe(status: &SourceStatus) -> String {
    let doubt = match status.unreadable {
        Some(_) => ", as far as this host remembers: the bucket cannot be read",
        None => "",
    };
    match &status.newest_good {
        Some(good) => {
            format!("the newest good backup is {} of {:.0}{doubt}", good.backup, good.taken())
        }
        None => format!("no good backup of {} is known{doubt}", status.source),
    }
}
