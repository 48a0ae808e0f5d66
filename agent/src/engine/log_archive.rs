//! The log of one cluster for a recovery, wherever it lies: pieces in the bucket, an archive that
//! another tool keeps, or both.

use std::path::Path;

use anyhow::Result;
use drctl_model::{Lsn, Timeline, WalSegmentSize};
use drctl_store::Identities;

use super::pgbackrest::{self, StanzaView};
use super::wal::{self, Ahead, Expected, Fetched, LogRequest};
use crate::host::AgentError;
use crate::log::LogStore;

/// Where the log of a cluster lies.
pub(crate) struct LogArchive<'a> {
    /// The cluster.
    pub(crate) system_id: u64,
    /// The size of its segments.
    pub(crate) size: WalSegmentSize,
    /// The archive of another tool, which is asked first.
    pub(crate) stanza: Option<&'a StanzaView>,
    /// drctl's own, with what opens it.
    pub(crate) stored: Option<(LogStore, &'a Identities)>,
}

impl LogArchive<'_> {
    /// The bytes of a segment as far as they are there; a private `folder` holds what another tool
    /// delivers while it is read.
    ///
    /// # Errors
    /// The other tool's; the store's; log that is not what was written.
    pub(crate) async fn segment(
        &self,
        timeline: Timeline,
        start: Lsn,
        folder: &Path,
    ) -> Result<Option<Vec<u8>>> {
        let of = (self.system_id, timeline);
        if let Some(stanza) = self.stanza
            && let Some(bytes) = pgbackrest::segment(stanza, of, (start, self.size), folder).await?
        {
            return Ok(Some(bytes));
        }
        let Some((log_store, identities)) = &self.stored else { return Ok(None) };
        wal::segment(log_store, of, self.size, start, identities).await
    }

    /// Fetches a file of the log for a recovering server; another tool's `segments` may have been
    /// noted.
    ///
    /// # Errors
    /// Everything else than an absence that is proven; [`AgentError::NoIdentityToTest`] where nothing
    /// can be opened.
    pub(crate) async fn fetch(&self, asked: &LogRequest<'_>, segments: &Path) -> Result<Fetched> {
        let stored = async || match &self.stored {
            Some((log_store, identities)) => {
                wal::fetch(log_store, asked, identities).await.map(Some)
            }
            None => Ok(None),
        };
        match self.stanza {
            Some(stanza) => {
                pgbackrest::fetch(&stanza.backrest, asked, Some(segments), stored).await
            }
            None => Ok(stored().await?.ok_or(AgentError::NoIdentityToTest)?),
        }
    }

    /// Fetches what `legs` need ahead of a server that asks for it, `fetches` segments at once.
    /// Never fails: what cannot be had is left to the server's own question.
    pub(crate) async fn fetch_ahead(&self, ahead: &Ahead, legs: &[Expected], fetches: usize) {
        let of = (self.system_id, self.size);
        match (self.stanza, &self.stored) {
            (Some(stanza), _) => pgbackrest::fetch_ahead(ahead, stanza, of, legs, fetches).await,
            (None, Some((log_store, identities))) => {
                wal::fetch_ahead(ahead, log_store, of, legs, fetches, identities).await;
            }
            (None, None) => {}
        }
    }
}
