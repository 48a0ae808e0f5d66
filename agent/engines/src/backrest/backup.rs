//! A backup by pgBackRest, watched while it runs, and read back when it has ended.

use std::io;
use std::time::Duration;

use drctl_model::{ExternalType, shown};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, BufReader};

use super::info::{Backup, Cluster, InfoError};
use super::{BackRest, Command, call, says};
use crate::common::EngineError;
use crate::common::process::ToolOutput;

/// The longest line of its output that is looked at.
const MAX_LINE: usize = 64 << 10;

/// How far a backup has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackupStep {
    /// Another pgBackRest works on the stanza: waited for, for so long already.
    Busy(Duration),
    /// The server makes a checkpoint.
    Begun,
    /// So many hundredths of a percent of the files are copied.
    Copied(u16),
    /// All files are copied; the last of the WAL that it needs is not archived yet.
    Archiving,
}

/// A backup that pgBackRest made and lists.
#[derive(Debug, Clone, PartialEq)]
pub struct BackedUp {
    /// What `info` says of that very backup.
    pub backup: Backup,
    /// The cluster that it is of.
    pub cluster: Cluster,
    /// How the repository is encrypted.
    pub cipher: String,
    /// What pgBackRest warned of.
    pub warnings: Vec<String>,
}

impl BackRest {
    /// Makes a backup and reads its record back. Nothing expires.
    ///
    /// `annotation` is the job's id, by which the backup is found in `info`; pgBackRest may make a
    /// full one although less was asked for (there is none to base it on). Another pgBackRest that
    /// works on the stanza is waited for, at most `wait`. Dropped, it ends pgBackRest; a backup
    /// that was not complete is none, and what was copied may be taken over by the next.
    ///
    /// # Errors
    /// [`BackRestError::Failed`](super::BackRestError::Failed) where it fails: earlier backups are
    /// not affected. [`BackRestError::Says`](super::BackRestError::Says) where it succeeds and
    /// `info` does not list the backup.
    pub async fn back_up(
        &self,
        kind: ExternalType,
        annotation: &str,
        wait: Duration,
        progress: impl Fn(BackupStep),
    ) -> Result<BackedUp, EngineError> {
        let busy = |waited| progress(BackupStep::Busy(waited));
        let made = call::patiently(wait, busy, || self.attempt(kind, annotation, &progress));
        let (label, warnings) = made.await?;
        let info = self.info().await?;
        let mut ours = info.backups.iter().filter(|b| b.annotation.as_deref() == Some(annotation));
        let unlisted = |problem: String| says("backup")(InfoError::new(problem));
        let (Some(backup), None) = (ours.next(), ours.next()) else {
            return Err(unlisted(
                "it succeeded, but `pgbackrest info` does not list exactly this \
                                 backup"
                    .into(),
            ));
        };
        if label.as_ref().is_some_and(|label| *label != backup.label) {
            return Err(unlisted(
                "it succeeded, but `pgbackrest info` lists it under another label".into(),
            ));
        }
        let cluster = info.cluster(backup.database_id).cloned();
        let cluster = cluster.ok_or_else(|| unlisted("its cluster is not listed".into()))?;
        Ok(BackedUp { backup: backup.clone(), cluster, cipher: info.cipher, warnings })
    }

    /// One attempt: the label, where it was told, and the warnings.
    async fn attempt(
        &self,
        kind: ExternalType,
        annotation: &str,
        progress: &impl Fn(BackupStep),
    ) -> Result<(Option<String>, Vec<String>), EngineError> {
        let annotation = annotation.to_owned();
        let tool = self.tool(Command::Backup { kind, annotation });
        let (output, running) = tool.start_writer().map_err(call::missing(&tool))?;
        let label = running.watch().over(self.silence, read(output, progress)).await?;
        let warnings = call::outcome("backup", running.wait_working(self.silence).await?)?;
        Ok((label, warnings))
    }
}

/// Reads what a backup says to its end; the label, where it was told.
async fn read(
    output: ToolOutput,
    progress: &impl Fn(BackupStep),
) -> Result<Option<String>, EngineError> {
    let (mut output, mut line, mut label) = (BufReader::new(output), Vec::new(), None);
    let mut last = None;
    loop {
        let read = next_line(&mut output, &mut line).await;
        if !read.map_err(EngineError::io("read what pgbackrest writes"))? {
            return Ok(label);
        }
        match parse(&String::from_utf8_lossy(&line)) {
            Some(Said::Label(text)) => label = Some(text),
            Some(Said::Step(step)) if last != Some(step) => {
                last = Some(step);
                progress(step);
            }
            _ => {}
        }
    }
}

/// Reads the next line, of a longer one the first [`MAX_LINE`] bytes; whether there was one.
async fn next_line(
    output: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
) -> io::Result<bool> {
    line.clear();
    loop {
        let come = output.fill_buf().await?;
        if come.is_empty() {
            return Ok(!line.is_empty());
        }
        let end = come.iter().position(|byte| *byte == b'\n');
        let n = end.map_or(come.len(), |end| end + 1);
        let room = MAX_LINE.saturating_sub(line.len());
        line.extend_from_slice(&come[..n.min(room)]);
        output.consume(n);
        if end.is_some() {
            return Ok(true);
        }
    }
}

/// What a line of its output tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    Step(BackupStep),
    Label(String),
}

pub(super) fn parse(line: &str) -> Option<Said> {
    let line = line.trim_end();
    if let Some((_, label)) = line.split_once("INFO: new backup label = ") {
        return Some(Said::Label(shown(label, 60)));
    }
    if line.contains("DETAIL: ") {
        return percent(line).map(|done| Said::Step(BackupStep::Copied(done)));
    }
    let (_, text) = line.split_once("INFO: ")?;
    if text.starts_with("execute") && text.contains("backup start") {
        return Some(Said::Step(BackupStep::Begun));
    }
    let is_stop = text.starts_with("execute") && text.contains("backup stop");
    is_stop.then_some(Said::Step(BackupStep::Archiving))
}

/// `… (768KB, 3.42%) checksum 46f8…`: the hundredths of a percent. Names of files may have
/// parentheses too, so the last one counts that ends so.
fn percent(line: &str) -> Option<u16> {
    let (before, _) = line.rsplit_once("%)")?;
    let (_, number) = before.rsplit_once(", ")?;
    let (whole, part) = number.split_once('.')?;
    if part.len() != 2 {
        return None;
    }
    let (whole, part): (u16, u16) = (whole.parse().ok()?, part.parse().ok()?);
    (whole <= 100).then(|| (whole * 100 + part).min(10_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_a_line_without_an_end_only_its_beginning_is_kept() {
        let text = [&b"one\n\n"[..], &vec![b'x'; 5 * MAX_LINE], b"\ntwo\nlast"].concat();
        let mut output = BufReader::with_capacity(1000, &text[..]);
        let (mut line, mut found) = (Vec::new(), Vec::new());
        while next_line(&mut output, &mut line).await.unwrap() {
            found.push(line.clone());
        }
        let (long, rest) = (found.remove(2), found);
        assert_eq!(rest, [&b"one\n"[..], b"\n", b"two\n", b"last"]);
        assert_eq!(long, vec![b'x'; MAX_LINE]);
        assert!(line.capacity() <= 2 * MAX_LINE);
    }
}
