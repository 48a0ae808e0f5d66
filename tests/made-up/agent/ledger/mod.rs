//! A made-up database: how it is backed up, and brought to a position.

mod handed;
mod log;

use anyhow::Result;
use drctl_engines::BackupSource;
use drctl_engines::ledger::LedgerSource;
use drctl_policies::Ledger;

use crate::backup::attempt::back_up;
use crate::backup::streamed::{Begun, Streamed};
use crate::backup::{BackedUp, Order, RequestedKind};
use crate::engine::{HandsLog, Looked, Replaced, SourceEngine, Streaming};
use crate::host::{AgentError, Checks};

/// A source that is a ledger.
pub(crate) struct Books<'a>(pub(crate) &'a Ledger);

#[async_trait::async_trait(?Send)]
impl SourceEngine for Books<'_> {
    fn can_be(&self, _: RequestedKind) -> Result<()> {
        Ok(())
    }

    async fn back_up(&self, order: Order<'_>) -> Result<BackedUp> {
        back_up(order, &mut Copying(self.0)).await
    }

    async fn stream_log(&self, streaming: &Streaming<'_>) -> Result<()> {
        log::stream(&self.0.books, streaming).await
    }

    fn hands_log(&self) -> Option<&dyn HandsLog> {
        Some(self)
    }

    fn archive_command(&self, replaced: &Replaced<'_>) -> Result<Option<String>> {
        let text = format!("`{}` is a ledger: it has no server", replaced.source);
        Err(AgentError::Usage(text).into())
    }

    async fn look(&self, looked: &Looked<'_>, found: &mut Checks) {
        let check = format!("source.{}", looked.id);
        let opened = LedgerSource::open(&self.0.books).map_err(Into::into);
        if found.take(&check, opened).is_some() {
            found.good(&check, format!("a ledger in {}", self.0.books.display()));
        }
    }
}

/// A backup under way.
struct Copying<'a>(&'a Ledger);

#[async_trait::async_trait(?Send)]
impl Streamed for Copying<'_> {
    async fn open(&self, _: &Begun<'_>) -> Result<Box<dyn BackupSource>> {
        Ok(Box::new(LedgerSource::open(&self.0.books)?))
    }
}
