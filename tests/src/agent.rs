//! `drctl agent`, running, as tests speak with it.

use std::fs::File;
use std::process::{Child, Command, Stdio};

use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::site::{Ran, Site, until};

/// An agent that runs until it is stopped, or dropped, which kills it.
pub struct Agent<'a> {
    site: &'a Site,
    child: Child,
    log: String,
}

/// The number of an agent's log: each has one of its own.
fn log_name(site: &Site) -> String {
    let name = |n: u32| format!("agent-{n}.log");
    (0..).map(name).find(|name| !site.path(name).exists()).expect("a free name")
}

impl<'a> Agent<'a> {
    /// Starts one and waits until it can be asked.
    ///
    /// # Panics
    /// If it ends before.
    #[must_use]
    #[track_caller]
    pub fn start(site: &'a Site) -> Self {
        Agent::start_as(site, site.command(&["agent"]))
    }

    /// The same by another command, such as one with a clock of its own.
    ///
    /// # Panics
    /// If it ends before.
    #[must_use]
    #[track_caller]
    pub fn start_as(site: &'a Site, mut command: Command) -> Self {
        let log = log_name(site);
        let file = File::create(site.path(&log)).expect("a log");
        let child = command.env("DRCTL_LOG", "info").stdout(Stdio::null()).stderr(file);
        let child = child.spawn().expect("start the agent");
        let mut agent = Agent { site, child, log };
        until("the agent to be ready", || {
            if let Some(status) = agent.child.try_wait().expect("look at the agent") {
                panic!("the agent ended with {status}: {}", agent.said());
            }
            agent.said().contains("the agent is ready")
        });
        agent
    }

    /// What it has said so far.
    ///
    /// # Panics
    /// If its log cannot be read.
    #[must_use]
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.site.path(&self.log)).expect("a log")
    }

    /// Waits until it has said something.
    ///
    /// # Panics
    /// If it never does.
    #[track_caller]
    pub fn says(&self, words: &str) {
        until(words, || self.said().contains(words));
    }

    /// What `drctl jobs` tells of one job of `shop`.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    #[track_caller]
    pub fn job(&self, kind: &str) -> Value {
        let object = self.site.json(0, &["jobs"]);
        let jobs = object["jobs"].as_array().expect("a list");
        let job = jobs.iter().find(|job| job["source"] == "shop" && job["kind"] == kind);
        job.unwrap_or_else(|| panic!("no {kind} in {object}")).clone()
    }

    /// Waits until a job of `shop` is due that is due each minute: what comes then takes time of its own.
    ///
    /// # Panics
    /// If it has no next run within a minute.
    #[track_caller]
    pub fn is_due(&self, kind: &str) {
        let next = self.job(kind)["next"].as_str().expect("a time").parse::<Timestamp>();
        let next = next.expect("a time");
        until("it to be due", || Timestamp::now() >= next);
    }

    /// Waits until that has come about.
    ///
    /// # Panics
    /// If it never does.
    #[track_caller]
    pub fn job_is(&self, kind: &str, done: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        until(&format!("the {kind} to get there: {}", self.said()), || {
            last = self.job(kind);
            done(&last)
        });
        last
    }

    /// Lets a job of `shop` come to an end that it had not come to before, and gives the job as it is then. A
    /// job that ended in the same way earlier is not taken for it.
    ///
    /// # Panics
    /// If it never ends, or in another way.
    #[track_caller]
    pub fn ends_anew(&self, kind: &str, outcome: &str, begin: impl FnOnce()) -> Value {
        let job = self.ends(kind, begin);
        assert_eq!(job["last"]["outcome"], outcome, "{}", self.said());
        job
    }

    /// The same, however it ends.
    ///
    /// # Panics
    /// If it never ends.
    #[track_caller]
    pub fn ends(&self, kind: &str, begin: impl FnOnce()) -> Value {
        let ended = |job: &Value| job["last"]["ended"].clone();
        let before = ended(&self.job(kind));
        begin();
        self.job_is(kind, |job| ended(job) != before && job["state"] != "running")
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// If it is gone.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("send a signal");
    }

    /// Stops it as a service manager does, and gives how it ended.
    ///
    /// # Panics
    /// If it cannot be waited for.
    #[must_use]
    pub fn stop(self) -> Ran {
        self.signal(Signal::TERM);
        self.ended()
    }

    /// Waits for its end, and gives how it ended.
    ///
    /// # Panics
    /// If it cannot be waited for.
    #[must_use]
    pub fn ended(mut self) -> Ran {
        let status = self.child.wait().expect("wait for the agent");
        Ran { code: status.code(), out: String::new(), err: self.said() }
    }

    /// Kills it, and waits for its end.
    ///
    /// # Panics
    /// If it cannot be waited for.
    pub fn kill(mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait().expect("wait for the agent");
    }

    /// Whether it still runs.
    ///
    /// # Panics
    /// If that cannot be told.
    pub fn lives(&mut self) -> bool {
        self.child.try_wait().expect("look at the agent").is_none()
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
