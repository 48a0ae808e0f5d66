//! What drctl asks of any engine, for a cluster that pgBackRest backs up.

use anyhow::Result;
use drctl_policies::{Pgbackrest, Source};

use super::{attempt, doctor, not_as_root, stanza};
use crate::backup::{BackedUp, Order, RequestedKind};
use crate::engine::pg::doctor::server;
use crate::engine::pg::stream_log;
use crate::engine::{Looked, Replaced, SourceEngine, Streaming};
use crate::host::{AgentError, Checks};

/// A source whose backups pgBackRest makes.
pub(crate) struct Stanza<'a> {
    pub(crate) source: &'a Source,
    pub(crate) settings: &'a Pgbackrest,
}

#[async_trait::async_trait(?Send)]
impl SourceEngine for Stanza<'_> {
    fn can_be(&self, _: RequestedKind) -> Result<()> {
        not_as_root(self.settings)
    }

    async fn back_up(&self, order: Order<'_>) -> Result<BackedUp> {
        attempt::back_up(order, self.settings).await
    }

    async fn stream_log(&self, streaming: &Streaming<'_>) -> Result<()> {
        stream_log(self.source, streaming).await
    }

    fn archive_command(&self, replaced: &Replaced<'_>) -> Result<Option<String>> {
        if replaced.streamed {
            let name = replaced.source;
            let text = format!("the WAL of `{name}` is archived by pgBackRest: without --streamed");
            return Err(AgentError::Usage(text).into());
        }
        Ok(Some(stanza::leads_to(self.settings, replaced.data)?))
    }

    fn runs_restored(&self) -> bool {
        true
    }

    async fn look(&self, looked: &Looked<'_>, found: &mut Checks) {
        let Some((server, _)) = server(looked, self.source, found).await else { return };
        doctor::look(looked, &server, self.settings, found).await;
    }
}
