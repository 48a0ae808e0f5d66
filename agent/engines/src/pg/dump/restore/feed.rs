//! The way of a dump into `pg_restore`: straight on, or by a file.

use std::pin::Pin;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::process::ChildStdin;

use super::Way;
use super::failures::failures;
use crate::common::process::{OwnedTask, Tool};
use crate::common::{EngineError, ToolFeed};
use crate::pg::dump::digests::check;
use crate::pg::dump::stream::{WatchedWrite, Watcher};
use crate::pg::dump::{DatabaseTarget, DumpError, DumpShape, DumpWalker};
use crate::pg::server::pgpass::{PgPass, SPOOL_PREFIX, locked};

/// How much is on the way to the tool.
const ON_THE_WAY: usize = 256 << 10;

impl DatabaseTarget {
    /// Hands the dump on to the tool as it comes.
    pub(super) fn feed(
        &self,
        tool: &Tool,
        way: Way,
        pgpass: Option<PgPass>,
    ) -> Result<ToolFeed, EngineError> {
        let watcher = self.watcher();
        let (near, far) = duplex(ON_THE_WAY);
        let (stdin, running) = tool.start_reader()?;
        self.entered.store(way == Way::Present, Ordering::SeqCst);
        let input = Box::pin(WatchedWrite::new(near, watcher.clone()));
        let this = self.clone();
        let passing = OwnedTask::spawn(async move {
            let passed = this.pass(far, stdin, way).await;
            // It knows best why it takes no more.
            let ended = this.watched(running.wait()).await?;
            let judged = failures(ended?);
            match passed {
                Ok(()) => judged,
                Err(broken @ EngineError::Io { .. }) => Err(judged.err().unwrap_or(broken)),
                Err(error) => Err(error),
            }
        });
        let (what, this) = (format!("database {}", self.creation.facts.name), self.clone());
        let run = async move {
            // Lives as long as the tool.
            let _pgpass = pgpass;
            let gone = || EngineError::Config("the restore was cancelled".to_owned());
            let failed = passing.join().await.ok_or_else(gone)??;
            this.is_as_dumped(watcher.read(&what)?)?;
            this.note(failed);
            Ok(())
        };
        Ok(ToolFeed { input, outcome: self.outcome(run) })
    }

    /// Sees the dump go by, and digests it as it was when it was made.
    fn watcher(&self) -> Watcher<DumpWalker> {
        let key = self.creation.facts.digests.as_ref().map(|digests| digests.key);
        let walker = DumpWalker::new().with_key(key);
        Watcher::by(if self.options.prove { walker.with_names() } else { walker })
    }

    /// Whether it holds what was digested when it was made; it is kept where it is to be proven.
    fn is_as_dumped(&self, dump: DumpShape) -> Result<(), EngineError> {
        let what = format!("database {}", self.creation.facts.name);
        check(&self.creation.facts, &dump)
            .map_err(|source| EngineError::from(DumpError::Damaged { what, source }))?;
        if self.options.prove {
            *self.fed.lock().unwrap_or_else(PoisonError::into_inner) = Some(dump);
        }
        Ok(())
    }

    /// Passes the dump on. The tool connects when it has read the table of contents: its last bytes
    /// wait until the database is there.
    async fn pass(
        &self,
        mut from: DuplexStream,
        mut to: ChildStdin,
        way: Way,
    ) -> Result<(), EngineError> {
        let mut walker = (way == Way::AsDumped).then(DumpWalker::new);
        let mut chunk = vec![0; ON_THE_WAY];
        let failed = |error| EngineError::io("feed pg_restore")(error);
        loop {
            let n = from.read(&mut chunk).await.map_err(failed)?;
            if n == 0 {
                return to.shutdown().await.map_err(failed);
            }
            if let Some(seen) = &mut walker {
                // Who writes to us sees the same bytes, and judges them.
                seen.push(&chunk[..n])
                    .map_err(|_| failed(std::io::ErrorKind::InvalidData.into()))?;
                if let Some(own) = seen.contents() {
                    self.note(self.creation.as_dumped(own).await?);
                    walker = None;
                }
            }
            self.watched(to.write_all(&chunk[..n])).await?.map_err(failed)?;
        }
    }

    /// Keeps the dump in a file first, and looks at it before anything is changed.
    pub(super) fn spool(
        &self,
        tool: Tool,
        way: Way,
        pgpass: Option<PgPass>,
    ) -> Result<ToolFeed, EngineError> {
        let dir = &self.options.spool_dir;
        let action = format!("keep the dump in {}", dir.display());
        // Locked as long as it is used: `sweep` takes what a killed process left.
        let file = locked(SPOOL_PREFIX, dir).map_err(EngineError::io(action.clone()))?;
        let writer = file.reopen().map_err(EngineError::io(action))?;
        let watcher = self.watcher();
        let writer = tokio::fs::File::from_std(writer);
        let input: Pin<Box<dyn AsyncWrite + Send>> =
            Box::pin(WatchedWrite::new(writer, watcher.clone()));
        let what = format!("database {}", self.creation.facts.name);
        let tool = tool.arg(format!("--jobs={}", self.options.jobs)).arg(file.path());
        let this = self.clone();
        let run = async move {
            // Both live as long as the tool.
            let _held = (pgpass, file);
            let shape = watcher.read(&what)?;
            let own = shape.own.clone();
            this.is_as_dumped(shape)?;
            if way == Way::AsDumped {
                this.note(this.creation.as_dumped(&own).await?);
            }
            if way == Way::Present {
                this.creation.mark_theirs().await?;
            }
            let running = tool.start_alone()?;
            this.entered.store(way == Way::Present, Ordering::SeqCst);
            this.note(failures(this.watched(running.wait()).await??)?);
            Ok(())
        };
        Ok(ToolFeed { input, outcome: self.outcome(run) })
    }
}
