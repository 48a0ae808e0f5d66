//! What the programs in a sandbox may take of the host: a control group of their own, below one that systemd has
//! handed over to us (`Delegate=`). See `Documentation/admin-guide/cgroup-v2.rst` of the kernel.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::geteuid;

/// Where control groups are.
const ROOT: &str = "/sys/fs/cgroup";

/// Where our own processes go: a group with processes hands no controllers on to those below it.
const OWN: &str = "drctl-own";

/// How the groups of sandboxes are named, before their name.
const PREFIX: &str = "drctl-sandbox-";

/// What is wished for: one of them it must have.
const CONTROLLERS: [&str; 4] = ["memory", "pids", "cpu", "io"];

/// How much of processor and disk it gets beside others that want them: an ordinary unit has 100.
const WEIGHT: &str = "10";

/// How many processes and threads it may have.
const MOST_PROCESSES: &str = "4096";

/// How often it is tried to move all processes, and to remove a group whose processes were just killed.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(20);

/// A control group for a sandbox; all that runs in it ends when this is dropped.
#[derive(Debug, PartialEq, Eq)]
pub struct Limits {
    group: PathBuf,
    /// Controllers that it has to do without.
    lacks: Vec<&'static str>,
}

impl Limits {
    /// Makes one: half of the host's memory before it is slowed down, three quarters at the most, 4,096 processes,
    /// and a tenth of what others have of processor and disk where these are wanted.
    ///
    /// # Errors
    /// Why there can be none, as a [`String`] for people: no group was handed over to us, or the kernel does not let us.
    pub fn make(name: &str) -> Result<Self, String> {
        Limits::below(&delegated(Path::new(ROOT))?, name)
    }

    fn below(base: &Path, name: &str) -> Result<Self, String> {
        let lacks = hand_on(base).map_err(|error| format!("{}: {error}", base.display()))?;
        let group = base.join(format!("{PREFIX}{name}"));
        let made = DirBuilder::new().mode(0o755).create(&group);
        made.map_err(|error| format!("{}: {error}", group.display()))?;
        // From here on it is removed when something fails.
        let limits = Limits { group, lacks };
        let memory = memory(base).ok_or("how much memory there is is not known")?;
        let all = [
            ("memory", "memory.high", (memory / 2).to_string()),
            ("memory", "memory.max", (memory / 4 * 3).to_string()),
            ("pids", "pids.max", MOST_PROCESSES.to_owned()),
            ("cpu", "cpu.weight", WEIGHT.to_owned()),
            ("io", "io.weight", WEIGHT.to_owned()),
        ];
        for (controller, file, value) in all {
            if !limits.lacks.contains(&controller) {
                let set = limits.set(file, &value);
                set.map_err(|error| format!("{}: {file}: {error}", limits.group.display()))?;
            }
        }
        Ok(limits)
    }

    /// What it does without, in words; nothing where it has all.
    fn lacks(&self) -> Option<String> {
        (!self.lacks.is_empty()).then(|| format!("no control of {}", self.lacks.join(", ")))
    }

    /// What of it is missing, in words, where there is one or why there is none; nothing where it has all.
    #[must_use]
    pub fn missing(limits: &Result<Arc<Self>, String>) -> Option<String> {
        limits.as_ref().map_or_else(|why| Some(why.clone()), |limits| limits.lacks())
    }

    /// The file by which a process enters it.
    pub(super) fn entry(&self) -> PathBuf {
        self.group.join("cgroup.procs")
    }

    fn set(&self, file: &str, value: &str) -> io::Result<()> {
        fs::write(self.group.join(file), value)
    }
}

impl Drop for Limits {
    fn drop(&mut self) {
        let _ = self.set("cgroup.kill", "1");
        for _ in 0..TRIES {
            match fs::remove_dir(&self.group) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => sleep(PAUSE),
                _ => return,
            }
        }
    }
}

/// The group that was handed over to us.
fn delegated(root: &Path) -> Result<PathBuf, String> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    let own = own.map(|own| root.join(own)).filter(|own| own.join("cgroup.controllers").exists());
    let own = own.ok_or("this host has no unified control groups (version 2)")?;
    let base = match own.file_name().is_some_and(|name| name == OWN) {
        true => own.parent().unwrap_or(&own).to_owned(),
        false => own,
    };
    let is_ours = fs::metadata(&base).is_ok_and(|meta| meta.uid() == geteuid().as_raw());
    let mut says = [0; 1];
    let said = rustix::fs::getxattr(&base, "user.delegate", &mut says);
    match is_ours && said == Ok(1) && &says == b"1" {
        true => Ok(base),
        false => Err("no control group was handed over to drctl (Delegate= of a unit)".to_owned()),
    }
}

/// Hands the controllers on to the groups below; tells those that are not to be had.
fn hand_on(base: &Path) -> io::Result<Vec<&'static str>> {
    let words = |file: &str| fs::read_to_string(base.join(file));
    let (there, on) = (words("cgroup.controllers")?, words("cgroup.subtree_control")?);
    let has = |all: &str, name: &str| all.split_whitespace().any(|word| word == name);
    let (wanted, lacks): (Vec<_>, Vec<_>) =
        CONTROLLERS.into_iter().partition(|name| has(&there, name));
    if wanted.is_empty() {
        return Err(io::Error::other(format!("it has no control of {}", lacks.join(", "))));
    }
    if wanted.iter().all(|name| has(&on, name)) {
        return Ok(lacks);
    }
    let own = base.join(OWN);
    match fs::create_dir(&own) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    for _ in 0..TRIES {
        let ids = words("cgroup.procs")?;
        if ids.is_empty() {
            break;
        }
        for id in ids.lines() {
            // It may have ended.
            let _ = fs::write(own.join("cgroup.procs"), id);
        }
    }
    let on: Vec<String> = wanted.iter().map(|name| format!("+{name}")).collect();
    fs::write(base.join("cgroup.subtree_control"), on.join(" "))?;
    Ok(lacks)
}

/// The memory of the host, or what its group may have of it, in bytes.
fn memory(base: &Path) -> Option<u64> {
    let bound = fs::read_to_string(base.join("memory.max")).unwrap_or_default();
    let found = rustix::system::sysinfo();
    let whole = u64::from(found.mem_unit).checked_mul(found.totalram);
    bound.trim().parse().ok().into_iter().chain(whole).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with the files of a group that the kernel would have; nothing is moved and nothing ends in it.
    fn like_a_group(controllers: &str) -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        let files = [
            ("cgroup.controllers", controllers),
            ("cgroup.subtree_control", ""),
            ("cgroup.procs", ""),
        ];
        for (name, text) in files {
            fs::write(place.path().join(name), text).unwrap();
        }
        place
    }

    #[test]
    fn what_can_be_controlled_is_limited_and_the_rest_is_told() {
        let place = like_a_group("cpuset cpu pids memory");
        let limits = Limits::below(place.path(), "one").unwrap();
        let of = |file: &str| fs::read_to_string(limits.group.join(file)).unwrap();
        assert_eq!((of("pids.max").as_str(), of("cpu.weight").as_str()), ("4096", "10"));
        let (high, most): (u64, u64) =
            (of("memory.high").parse().unwrap(), of("memory.max").parse().unwrap());
        assert!(high > 0 && high < most, "{high} {most}");
        assert_eq!(limits.lacks().unwrap(), "no control of io");
        let on = fs::read_to_string(place.path().join("cgroup.subtree_control")).unwrap();
        assert_eq!(on, "+memory +pids +cpu");
        assert!(
            place.path().join(OWN).is_dir()
                && limits.entry().ends_with("drctl-sandbox-one/cgroup.procs")
        );
        let none = like_a_group("cpuset hugetlb");
        let why = Limits::below(none.path(), "one").unwrap_err();
        assert!(why.ends_with("it has no control of memory, pids, cpu, io"), "{why}");
        assert!(delegated(none.path()).is_err());
    }
}
