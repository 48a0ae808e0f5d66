//! An agent whose time goes by at a test's word.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use drctl_tests::agent::Agent;
use drctl_tests::site::{Site, faketime, until};
use serde_json::Value;

/// How an attempt fails whose bound of time was over at once.
const LEAPT: [&str; 2] = ["has said nothing for", "did not answer in time"];

/// An agent whose clock goes ahead, and back again, at a test's word.
pub(crate) struct Timed<'a> {
    site: &'a Site,
    pub(crate) agent: Agent<'a>,
    /// Minutes that its clock is ahead.
    ahead: Cell<u32>,
}

impl<'a> Timed<'a> {
    /// Starts one whose clocks, that of the wall and that which never jumps, go ahead together: as after a sleep
    /// of its host. They never come back, for the latter never does.
    #[track_caller]
    pub(crate) fn start(site: &'a Site) -> Self {
        Timed::start_as(site, site.command(&["agent"]))
    }

    /// Starts one of which only the clock of the wall is moved: as by somebody who sets it.
    #[track_caller]
    pub(crate) fn with_wall_clock(site: &'a Site) -> Self {
        let mut command = site.command(&["agent"]);
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        Timed::start_as(site, command)
    }

    /// The same as at first by another command, such as one in a mount namespace of its own.
    #[track_caller]
    pub(crate) fn start_as(site: &'a Site, mut command: Command) -> Self {
        set_clock(site, 0);
        command.env("LD_PRELOAD", faketime()).env_remove("FAKETIME");
        command.env("FAKETIME_TIMESTAMP_FILE", clock(site)).env("FAKETIME_NO_CACHE", "1");
        command.env("NO_FAKE_STAT", "1");
        let agent = Agent::start_as(site, command);
        let timed = Timed { site, agent, ahead: Cell::new(0) };
        until("the first look", || timed.looked().is_string());
        timed
    }

    /// When it last looked where the sources stand.
    pub(crate) fn looked(&self) -> Value {
        self.site.json(0, &["jobs"])["looked"].clone()
    }

    /// Whether it has told anybody anything of that.
    pub(crate) fn has_told(&self, code: &str) -> bool {
        self.agent.said().contains(&format!("code=\"{code}\""))
    }

    /// Lets time go by.
    pub(crate) fn pass(&self, minutes: u32) {
        self.ahead.set(self.ahead.get() + minutes);
        set_clock(self.site, self.ahead.get());
    }

    /// Lets time go by until a backup is made.
    ///
    /// The library that moves the clock holds no lock while it reads where it is: a bound that is set meanwhile may
    /// be over at once, which ends that attempt. The agent makes another one, as it was told to.
    #[track_caller]
    pub(crate) fn backs_up(&self, minutes: u32) -> Value {
        let job = self.agent.ends("backup", || self.pass(minutes));
        let said = self.agent.said();
        let failed = said.lines().rfind(|line| line.contains("failed: ")).unwrap_or_default();
        let is_leap = LEAPT.iter().any(|words| failed.contains(words));
        match job["last"]["outcome"] == "failed" && is_leap {
            true => self.agent.ends_anew("backup", "succeeded", || self.pass(3)),
            false => {
                assert_eq!(job["last"]["outcome"], "succeeded", "{said}");
                job
            }
        }
    }

    /// Sets its clock right again.
    pub(crate) fn comes_back(&self) {
        self.ahead.set(0);
        set_clock(self.site, 0);
    }

    /// Lets time go by until it looks again.
    #[track_caller]
    pub(crate) fn looks_again(&self) {
        let before = self.looked();
        self.pass(6);
        until("another look", || self.looked() != before);
    }
}

fn clock(site: &Site) -> PathBuf {
    site.path("clock")
}

/// The agent reads it at any time: it is there as a whole, always.
fn set_clock(site: &Site, minutes: u32) {
    let new = site.path("clock.new");
    fs::write(&new, format!("+{minutes}m\n")).expect("a clock");
    fs::rename(new, clock(site)).expect("a clock");
}
