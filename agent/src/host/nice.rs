//! How much this process gives way to others.

use std::collections::BTreeSet;
use std::fs::read_dir;
use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, getpriority_process, setpriority_process};

/// The most that a process can give way.
const MOST: i32 = 19;

/// Gives way to other processes by so much more; so do children. Linux knows of threads alone: those that are
/// there do, and each that they begin.
///
/// # Errors
/// The system's; the thread that asks for it gives way all the same, where it can.
pub(crate) fn give_way_by(nice: i32) -> io::Result<()> {
    let nice = getpriority_process(None)?.saturating_add(nice).min(MOST);
    setpriority_process(None, nice)?;
    let mut done = BTreeSet::new();
    loop {
        let mut is_new = false;
        for thread in read_dir("/proc/self/task")? {
            let name = thread?.file_name();
            let id: Option<i32> = name.to_str().and_then(|name| name.parse().ok());
            let Some(id) = id.filter(|id| done.insert(*id)) else { continue };
            is_new = true;
            match setpriority_process(Pid::from_raw(id), nice) {
                // It has ended since.
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // One that is new may have been begun by one that had not given way.
        if !is_new {
            return Ok(());
        }
    }
}
