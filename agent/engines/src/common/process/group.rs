//! Process groups whose leaders are ours: what they have done, and their end.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group, setpriority_pgrp};
use tokio::process::Child;
use tokio::sync::Notify;

use crate::common::EngineError;

/// The leaders of all groups that run: for an end that runs no destructors.
static LIVE: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Kills every tool that runs, with its children. For a process that ends at once.
pub fn kill_tools() {
    for leader in LIVE.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        let _ = kill_process_group(leader, Signal::KILL);
    }
}

/// A process group whose leader we have started, or the helper of another account has.
#[derive(Debug)]
pub(in crate::common) struct Group {
    leader: Option<Pid>,
    /// Whether the leader was reaped, after which its number may be another's.
    reaped: AtomicBool,
    /// How often its helper said that it works.
    heard: AtomicU64,
    /// Why its helper says nothing more, and the word that it does.
    lost: (Mutex<Option<EngineError>>, Notify),
}

impl Group {
    pub(super) fn of(child: &Child) -> Self {
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        LIVE.lock().unwrap_or_else(PoisonError::into_inner).extend(leader);
        Group::new(leader)
    }

    /// One that is seen by its helper alone.
    pub(in crate::common) fn elsewhere() -> Self {
        Group::new(None)
    }

    fn new(leader: Option<Pid>) -> Self {
        let (reaped, heard, lost) = Default::default();
        Group { leader, reaped, heard, lost }
    }

    /// Its helper is lost: neither what its processes do is known any more, nor whether they end.
    pub(in crate::common) fn lost(&self, why: EngineError) {
        *self.lost.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        self.lost.1.notify_one();
    }

    /// Waits until its helper is lost.
    pub(super) async fn is_lost(&self) -> EngineError {
        loop {
            self.lost.1.notified().await;
            let why = self.lost.0.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(why) = why {
                return why;
            }
        }
    }

    /// Its helper says that it works.
    pub(in crate::common) fn works(&self) {
        self.heard.fetch_add(1, Ordering::SeqCst);
    }

    /// Has it give way to other processes.
    pub(super) fn give_way(&self, nice: i32) {
        if let Some(leader) = self.leader.filter(|_| !self.reaped.load(Ordering::SeqCst)) {
            // It fails only where the group is gone.
            let _ = setpriority_pgrp(Some(leader), nice);
        }
    }

    /// What its processes have done so far, by the kernel's account: time on a processor, bytes read
    /// and written.
    pub(super) fn done(&self) -> Vec<(i32, String)> {
        if self.leader.is_none() {
            return vec![(0, self.heard.load(Ordering::SeqCst).to_string())];
        }
        let Some(leader) = self.leader.filter(|_| !self.reaped.load(Ordering::SeqCst)) else {
            return Vec::new();
        };
        let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let mut done: Vec<(i32, String)> =
            numbers.filter_map(|pid| Some((pid, done_by(pid, leader)?))).collect();
        done.sort_unstable();
        done
    }

    /// Its leader was reaped.
    pub(super) fn ended(&self) {
        self.reaped.store(true, Ordering::SeqCst);
        LIVE.lock().unwrap_or_else(PoisonError::into_inner).retain(|pid| Some(*pid) != self.leader);
    }

    pub(super) fn signal(&self, signal: Signal) {
        if let Some(leader) = self.leader.filter(|_| !self.reaped.load(Ordering::SeqCst)) {
            // It fails only where the group is gone, and then there is nothing to do.
            let _ = kill_process_group(leader, signal);
        }
    }
}

/// The same of one process, if it is of the group.
fn done_by(pid: i32, leader: Pid) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may hold anything: state, parent, group … the 12th and 13th are times.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if fields.get(2)?.parse() != Ok(leader.as_raw_nonzero().get()) {
        return None;
    }
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    Some(format!("{} {} {io}", fields.get(11)?, fields.get(12)?))
}
