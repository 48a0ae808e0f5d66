//! Where drills and clones put what they restore: a directory for each below a root of ours, marked, and gone
//! afterwards. What one left that was killed goes when the next one begins; nothing else is ever removed.

use std::ffi::CString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use drctl_engines::blocking;
use drctl_model::DrillId;
use rustix::fs::{FlockOperation, OFlags, flock};
use tokio::time::{Instant, interval};

use crate::host::{AgentError, Setup, private, remove_tree};
use crate::restore::place::check_target;

/// How a drill's directory is named, before the drill's identifier, and how a clone's is.
pub(crate) const DRILL: &str = "drill-";
pub(crate) const CLONE: &str = "clone-";

/// How long a server that was ended may take to be gone, and how soon it is looked again.
const ENDS_WITHIN: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(100);

/// The file that says whose it is; whoever works in it holds a lock on it.
const MARK: &str = "drctl-drill";

/// A drill's own directory; removed when dropped, as far as that can be done.
#[derive(Debug)]
pub(crate) struct ScratchDir {
    root: PathBuf,
    name: String,
    _mark: File,
    removed: bool,
}

impl ScratchDir {
    /// Makes one below a root, which is made where it is missing. What killed drills left there goes.
    ///
    /// # Errors
    /// [`AgentError::NotPrivate`](crate::host::AgentError::NotPrivate) for a root that others can change;
    /// the file system's.
    pub(crate) fn make(setup: &Setup, root: &Path, (kind, id): (&str, &DrillId)) -> Result<Self> {
        check_target(setup, root)?;
        private::writable(root)?;
        if root.as_os_str().as_encoded_bytes().contains(&b'\'') {
            let text =
                format!("{} has a quote in it, which no tablespace may have", root.display());
            return Err(AgentError::Target(text).into());
        }
        setup.private_directory(root)?;
        for left in blocking(|| sweep(root)) {
            tracing::warn!("{left}");
        }
        let name = format!("{kind}{id}");
        let path = root.join(&name);
        // Whoever sweeps sees no directory that has no mark yet, and no mark that nobody holds yet.
        let alone = blocking(|| lock(root)).with_context(|| format!("lock {}", root.display()))?;
        let made = DirBuilder::new().mode(0o700).create(&path).and_then(|()| mark(&path, id));
        drop(alone);
        match made {
            Ok(mark) => Ok(ScratchDir { root: root.to_owned(), name, _mark: mark, removed: false }),
            Err(error) => {
                let _ = fs::remove_dir(&path);
                Err(error).with_context(|| format!("make the directory {}", path.display()))
            }
        }
    }

    /// What it is called, below the root.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The directory.
    pub(crate) fn path(&self) -> PathBuf {
        self.root.join(&self.name)
    }

    /// Removes it, with all that is in it: what was ended a moment ago may still write.
    ///
    /// # Errors
    /// The file system's: something of it is still there.
    pub(crate) async fn remove(mut self) -> Result<()> {
        self.removed = true;
        let path = self.path();
        let mut ticks = interval(AGAIN);
        let deadline = Instant::now() + ENDS_WITHIN;
        let removed = loop {
            ticks.tick().await;
            let removed = blocking(|| remove(&self.root, &self.name));
            if removed.is_ok() || Instant::now() >= deadline {
                break removed;
            }
        };
        removed.with_context(|| {
            format!("{}, with what the drill has restored, could not be removed", path.display())
        })
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        if !self.removed
            && let Err(error) = remove(&self.root, &self.name)
        {
            tracing::warn!("{} could not be removed: {error}", self.path().display());
        }
    }
}

/// Marks a directory as a drill's, and says that somebody works in it.
fn mark(path: &Path, drill: &DrillId) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path.join(MARK))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    file.write_all(drill.to_string().as_bytes())?;
    Ok(file)
}

/// The right to make and to look at directories of drills, one at a time.
fn lock(root: &Path) -> io::Result<File> {
    let root = File::open(root)?;
    flock(&root, FlockOperation::LockExclusive)?;
    Ok(root)
}

/// Its mark goes last: what is left without it nobody would ever remove.
fn remove(root: &Path, name: &str) -> io::Result<()> {
    let (name, mark) = (CString::new(name)?, CString::new(MARK)?);
    match remove_tree(root, &name, &mark) {
        // Another one that swept was faster.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            match fs::exists(root.join(name.to_string_lossy().as_ref())) {
                Ok(false) => Ok(()),
                _ => Err(error),
            }
        }
        done => done,
    }
}

/// Removes all that lies below a directory within one of ours, and the directory.
///
/// # Errors
/// The file system's.
pub(crate) fn clear(directory: &Path) -> Result<()> {
    let failed = || format!("remove {}", directory.display());
    let parent = directory.parent().with_context(failed)?;
    let name = directory.file_name().with_context(failed)?;
    let name = CString::new(name.as_encoded_bytes()).with_context(failed)?;
    // Nothing in it has the name of a mark that goes last.
    blocking(|| remove_tree(parent, &name, c"drctl-drill")).with_context(failed)
}

/// The identifier in the name of a drill's or a clone's directory.
pub(crate) fn id_of(name: &str) -> Option<DrillId> {
    let id = name.strip_prefix(DRILL).or_else(|| name.strip_prefix(CLONE))?;
    DrillId::from_str(id).ok()
}

/// Whether somebody works in the directory of a drill or a clone.
pub(crate) fn is_in_use(directory: &Path) -> bool {
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default();
    let mark = OpenOptions::new().read(true).custom_flags(flags).open(directory.join(MARK));
    mark.is_ok_and(|mark| flock(&mark, FlockOperation::NonBlockingLockShared).is_err())
}

/// Removes what killed drills and clones left below a root; tells what could not be removed, and why.
pub(crate) fn sweep(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let ours = entries.filter_map(|entry| {
        let name = entry.file_name().to_str()?.to_owned();
        Some((name.clone(), id_of(&name)?))
    });
    let swept = ours.filter_map(|(name, drill)| {
        let done = sweep_one(root, &name, &drill);
        let path = root.join(&name);
        done.err()
            .map(|error| format!("{} was left by a drill or a clone: {error:#}", path.display()))
    });
    swept.collect()
}

/// Removes what one left, unless somebody works in it.
///
/// # Errors
/// [`AgentError::Target`] for what is no drill's; the file system's.
fn sweep_one(root: &Path, name: &str, drill: &DrillId) -> Result<()> {
    let path = root.join(name);
    let alone = lock(root)?;
    let no =
        |why: &str| Err(AgentError::Target(format!("it is not removed, because {why}")).into());
    if fs::symlink_metadata(&path)?.is_symlink() {
        return no("it is a link");
    }
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let mark = OpenOptions::new().read(true).custom_flags(flags).open(path.join(MARK));
    let mark = match mark {
        // One that was killed before it was marked had made nothing in it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match fs::remove_dir(&path) {
                Err(_) => no("it has no mark of a drill"),
                Ok(()) => Ok(()),
            };
        }
        mark => mark?,
    };
    if !mark.metadata()?.is_file() {
        return no("its mark is no file");
    }
    if flock(&mark, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(());
    }
    drop(alone);
    let text = io::read_to_string(io::Read::take(&mark, 100))?;
    if text != drill.to_string() && !text.is_empty() {
        return no("its mark names another drill");
    }
    Ok(remove(root, name)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use jiff::Timestamp;

    use super::*;

    fn drill(n: u64) -> (String, DrillId) {
        let id = DrillId::new(Timestamp::UNIX_EPOCH, n);
        (format!("{DRILL}{id}"), id)
    }

    #[test]
    fn only_what_a_drill_made_and_nobody_works_in_is_swept() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("scratch");
        let make = |n: u64, text: Option<&str>| {
            let (name, id) = drill(n);
            fs::create_dir_all(root.join(&name).join("data")).unwrap();
            let own = id.to_string();
            if let Some(text) = text {
                fs::write(root.join(&name).join(MARK), if text == "own" { &own } else { text })
                    .unwrap();
            }
            root.join(name)
        };
        let (left, unmarked, other) =
            (make(1, Some("own")), make(2, None), make(3, Some("another")));
        let (name, id) = drill(4);
        let in_use = root.join(name);
        fs::create_dir(&in_use).unwrap();
        let held = mark(&in_use, &id).unwrap();
        let outside = place.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join(MARK), drill(5).1.to_string()).unwrap();
        symlink(&outside, root.join(drill(5).0)).unwrap();
        let empty = root.join(drill(6).0);
        fs::create_dir(&empty).unwrap();
        let pipe = root.join(drill(7).0);
        fs::create_dir(&pipe).unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, pipe.join(MARK), rustix::fs::FileType::Fifo, mode, 0)
            .unwrap();
        let strange = root.join("drill-of-mine");
        fs::create_dir(&strange).unwrap();
        let told = sweep(&root);
        assert!(!left.exists() && !empty.exists());
        let stays = [&unmarked, &other, &in_use, &outside, &strange, &pipe];
        assert!(stays.iter().all(|path| path.exists()), "{told:?}");
        assert_eq!(told.len(), 4, "{told:?}");
        drop(held);
        assert_eq!(sweep(&root).len(), 4);
        assert!(!in_use.exists());
    }
}
