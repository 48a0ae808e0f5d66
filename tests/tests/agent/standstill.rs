//! An agent whose loop stands still, and turns again at a test's word.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Command;

use drctl_tests::agent::Agent;
use drctl_tests::site::{Site, until};
use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;

/// A loop that stands still while it reads its configuration.
pub(crate) struct Standstill<'a> {
    site: &'a Site,
    /// The end of a pipe into which nobody has written.
    end: OwnedFd,
}

impl<'a> Standstill<'a> {
    /// Has an agent read its configuration from a pipe: whoever does waits for its writer.
    #[track_caller]
    pub(crate) fn of(site: &'a Site, agent: &Agent<'_>) -> Self {
        let config = site.config();
        fs::rename(&config, kept(site)).expect("put the configuration aside");
        assert!(Command::new("mkfifo").arg(&config).status().expect("start mkfifo").success());
        agent.signal(Signal::HUP);
        let mut end = None;
        until("the loop to read the configuration", || {
            end = rustix::fs::open(&config, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty()).ok();
            end.is_some()
        });
        Standstill { site, end: end.expect("the pipe's end") }
    }

    /// Has it read what it had, which is in its place again.
    pub(crate) fn ends(self) {
        let (config, kept) = (self.site.config(), kept(self.site));
        let text = fs::read(&kept).expect("a configuration");
        fs::rename(&config, self.site.path("pipe")).expect("put the pipe aside");
        fs::rename(&kept, &config).expect("put the configuration back");
        File::from(self.end).write_all(&text).expect("write into the pipe");
    }
}

fn kept(site: &Site) -> PathBuf {
    site.path("kept.toml")
}
