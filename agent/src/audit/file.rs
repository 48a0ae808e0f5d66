//! The audit log of this host as it lies in the state directory: written on at its end by whoever has its
//! lock, each entry with the digest of the one before.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use drctl_engines::{Below, unfit_place};
use drctl_model::{
    AUDIT_VERSION, AuditEntry, AuditLogId, AuditOutcome, Clock, Digest, MAX_AUDIT_LINE, NO_ENTRY,
    shown,
};
use drctl_store::digest;
use rustix::process::geteuid;

use super::act::Act;
use super::chain::{CUT, Tail, joined};
use crate::host::locks::wait_for;
use crate::host::{AgentError, Setup, crash_point, private};

/// The log's name in the state directory.
pub(super) const NAME: &str = "audit.log";

/// The lock of whoever ships.
const SHIPPING: &str = "audit.shipping";

/// For how long others may have the log, each of whom writes an entry.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often in a row somebody may move the log away while its lock is waited for.
const MOVED: usize = 100;

/// How much of the log's end is read at first: more than the longest line.
const WINDOW: u64 = 4 * MAX_AUDIT_LINE as u64;

/// The audit log of a host, and what every entry says.
#[derive(Clone)]
pub(crate) struct Log {
    state: PathBuf,
    host: String,
    config: Option<Digest>,
    clock: Arc<dyn Clock>,
}

/// Entries that are about to be written.
struct Writing<'a> {
    log: &'a Log,
    id: AuditLogId,
    seq: u64,
    head: Digest,
    text: String,
}

impl Log {
    /// That of a configuration.
    pub(crate) fn of(setup: &Setup) -> Self {
        let state = setup.config.paths.state_dir.clone();
        let (config, clock) = (setup.files_sha256, Arc::clone(&setup.clock));
        Log { state, host: setup.host(), config, clock }
    }

    #[cfg(test)]
    pub(super) fn at(state: &Path, config: u8) -> Self {
        let clock = Arc::new(drctl_model::SystemClock);
        let config = Some(Digest([config; 32]));
        Log { state: state.to_owned(), host: "db1".to_owned(), config, clock }
    }

    /// Where it lies.
    pub(super) fn path(&self) -> PathBuf {
        self.state.join(NAME)
    }

    /// Whether there is a log here, or can be one: whoever only looks or restores makes no state directory,
    /// and root none of its files in that of another account.
    fn is_here(&self) -> Result<bool> {
        let Ok(found) = self.state.metadata() else { return Ok(false) };
        let owner = found.uid();
        if geteuid().is_root() && owner != 0 {
            return Ok(self.path().exists());
        }
        private::directory(&self.state)?;
        Ok(true)
    }

    /// Puts something on record, on the disk when this returns. False where this host has no state directory,
    /// and so keeps no log.
    ///
    /// # Errors
    /// The file system's; a directory that others can change.
    pub(super) fn append(&self, act: Option<(&Act, AuditOutcome)>) -> Result<bool> {
        if !self.is_here()? {
            return Ok(false);
        }
        let folder = Below::open(&self.state).context("open the state directory")?;
        let mut file = self.locked(&folder)?;
        let length = file.metadata()?.len();
        let text = self.entries(tail(&mut file, length)?, act);
        if text.is_empty() {
            return Ok(true);
        }
        let written = write(&mut file, text.as_bytes());
        if written.is_err() {
            // What is left of it a later writer would tell as cut.
            let _ = file.set_len(length);
        }
        written.context("write into the audit log")?;
        if length == 0 {
            folder.sync().context("bring the audit log to the disk")?;
        }
        Ok(true)
    }

    /// The log with its lock. It may have been moved away while others had that.
    fn locked(&self, folder: &Below) -> Result<File> {
        for _ in 0..MOVED {
            let file = folder.extend(Path::new(NAME)).context("open the audit log")?;
            self.is_private(&file)?;
            wait_for(&file, PATIENCE).context("take the lock of the audit log")?;
            let there = folder.read(Path::new(NAME)).and_then(|there| there.metadata());
            let ours = file.metadata()?;
            if there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
                return Ok(file);
            }
        }
        bail!("{} is moved away again and again", self.path().display())
    }

    /// Ends a last line that is a whole entry and has no end, so that it can be shipped.
    ///
    /// # Errors
    /// The file system's; the line stays back then.
    pub(super) fn close(&self) -> Result<()> {
        let Some(mut file) = self.open()? else { return Ok(()) };
        let length = file.metadata()?.len();
        let tail = tail(&mut file, length)?;
        if tail.is_open && tail.odd.is_empty() {
            self.append(None)
                .context("end the last line of the audit log, which is not shipped")?;
        }
        Ok(())
    }

    /// The lock of whoever ships, to be taken; nothing where this account keeps no log here.
    ///
    /// # Errors
    /// The file system's.
    pub(super) fn shipping(&self) -> Result<Option<File>> {
        if !self.path().exists() {
            return Ok(None);
        }
        private::directory(&self.state)?;
        let folder = Below::open(&self.state).context("open the state directory")?;
        Ok(Some(
            folder
                .extend(Path::new(SHIPPING))
                .with_context(|| format!("open {}", self.state.join(SHIPPING).display()))?,
        ))
    }

    /// The lines that come next.
    fn entries(&self, tail: Tail, act: Option<(&Act, AuditOutcome)>) -> String {
        let before = tail.last.as_ref().and_then(|link| link.entry.config);
        let is_new = tail.last.is_none();
        let (id, seq, head) = match tail.last {
            Some(link) => (link.entry.log, link.entry.seq, link.sha256),
            None => (AuditLogId::new(rand::random()), 0, NO_ENTRY),
        };
        let mut writing = Writing { log: self, id, seq, head, text: String::new() };
        if tail.is_open {
            writing.text.push('\n');
        }
        if !tail.odd.is_empty() {
            let cut = Act::new("audit").object("cut").with(CUT, joined(&tail.odd));
            writing.put(&cut, AuditOutcome::Succeeded);
        } else if is_new {
            let begun = Act::new("audit").object("new").with("drctl", env!("CARGO_PKG_VERSION"));
            writing.put(&begun, AuditOutcome::Begun);
        }
        if let (Some(before), Some(now)) = (before, self.config)
            && before != now
        {
            let change = Act::new("configuration").with("before", before.to_string());
            writing.put(&change, AuditOutcome::Succeeded);
        }
        if let Some((act, outcome)) = act {
            writing.put(act, outcome);
        }
        writing.text
    }

    /// What lies there from an offset on; nothing where there is no log.
    ///
    /// # Errors
    /// The file system's; a log that is shorter.
    pub(super) fn read(&self, from: u64) -> Result<Option<Vec<u8>>> {
        let Some(mut file) = self.open()? else { return Ok(None) };
        if file.metadata()?.len() < from {
            let text = format!("{} is shorter than what was shipped of it", self.path().display());
            return Err(AgentError::AuditBroken(text).into());
        }
        file.seek(SeekFrom::Start(from))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).context("read the audit log")?;
        Ok(Some(text))
    }

    /// Its end; nothing where there is no log.
    ///
    /// # Errors
    /// The file system's.
    pub(super) fn tail(&self) -> Result<Option<Tail>> {
        let Some(mut file) = self.open()? else { return Ok(None) };
        let length = file.metadata()?.len();
        Ok(Some(tail(&mut file, length)?))
    }

    fn open(&self) -> Result<Option<File>> {
        let opened = Below::open(&self.state).and_then(|folder| folder.read(Path::new(NAME)));
        match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => {
                let opened = opened.with_context(|| format!("open {}", self.path().display()))?;
                self.is_private(&opened)?;
                Ok(Some(opened))
            }
        }
    }

    /// An error where another account than drctl's can change it.
    fn is_private(&self, file: &File) -> Result<()> {
        let (found, folder) = (file.metadata()?, self.state.metadata()?);
        let (owner, us) = (folder.uid(), geteuid().as_raw());
        // Root looks at the log of drctl's account.
        let us = if us == 0 { owner } else { us };
        for (place, found) in [(self.path(), &found), (self.state.clone(), &folder)] {
            if let Some(unfit) = unfit_place(found.uid(), found.mode(), us) {
                bail!("{} {unfit}: who can change the audit log could have", place.display());
            }
        }
        Ok(())
    }
}

/// Writes, in two parts where a test ends the process between them.
fn write(file: &mut File, text: &[u8]) -> io::Result<()> {
    let (first, second) = text.split_at(text.len() / 2);
    if cfg!(feature = "crash-points") {
        file.write_all(first)?;
        crash_point("audit-half-written");
        file.write_all(second)?;
    } else {
        file.write_all(text)?;
    }
    file.sync_data()
}

/// The end of a log of this length.
fn tail(file: &mut File, length: u64) -> Result<Tail> {
    let mut window = WINDOW;
    loop {
        let from = length.saturating_sub(window);
        file.seek(SeekFrom::Start(from))?;
        let mut text = Vec::new();
        Read::take(&mut *file, length - from)
            .read_to_end(&mut text)
            .context("read the audit log")?;
        let begin = match from {
            0 => 0,
            // The first line may be cut.
            _ => text.iter().position(|byte| *byte == b'\n').map_or(text.len(), |at| at + 1),
        };
        let tail = Tail::of(&text[begin..]);
        if tail.last.is_some() || from == 0 {
            return Ok(tail);
        }
        window = window.saturating_mul(8);
    }
}

impl Writing<'_> {
    fn put(&mut self, act: &Act, outcome: AuditOutcome) {
        self.seq += 1;
        let mut entry = AuditEntry {
            v: AUDIT_VERSION,
            log: self.id.clone(),
            seq: self.seq,
            prev: self.head,
            at: self.log.clock.now(),
            host: shown(&self.log.host, 255),
            actor: act.actor.clone(),
            verb: act.verb.clone(),
            outcome,
            act: act.id.clone(),
            source: act.source.clone(),
            object: act.object.clone(),
            config: self.log.config,
            details: act.details.clone(),
        };
        let mut line = serde_json::to_string(&entry).expect("an entry is always JSON");
        if line.len() > MAX_AUDIT_LINE {
            entry.details = [("left_out".to_owned(), line.len().to_string())].into();
            line = serde_json::to_string(&entry).expect("an entry is always JSON");
        }
        self.head = digest(line.as_bytes());
        self.text.push_str(&line);
        self.text.push('\n');
    }
}
