//! Databases of a PostgreSQL server, dumped one by one.

use std::time::Duration;

use anyhow::Result;
use drctl_engines::pg::{Copied, DatabaseChoice, PgDumpOptions, PgDumpSource, outside};
use drctl_engines::{BackupSource, Finished};
use drctl_model::{BackupSummary, Content, Facts, Outside, SourceId, StreamFacts};
use drctl_policies::{PgDump, Source};

use super::base_backup::OUTSIDE_PATIENCE;
use super::gone::{Gone, compare, gone};
use super::{another_cluster, doctor, replica_lag};
use crate::backup::attempt::back_up;
use crate::backup::streamed::{Begun, Streamed};
use crate::backup::{BackedUp, Order, RequestedKind};
use crate::engine::{Looked, Replaced, SourceEngine, Streaming};
use crate::host::{AgentError, Checks, Setup};

/// A source of dumps.
pub(crate) struct Dump<'a> {
    pub(crate) source: &'a Source,
    pub(crate) settings: &'a PgDump,
}

#[async_trait::async_trait(?Send)]
impl SourceEngine for Dump<'_> {
    fn can_be(&self, requested: RequestedKind) -> Result<()> {
        if requested == RequestedKind::AsConfigured {
            return Ok(());
        }
        let text = "--full and --incremental are for base backups of clusters (engine = \
                    \"base_backup\" or \"pgbackrest\")";
        Err(AgentError::Usage(text.to_owned()).into())
    }

    async fn back_up(&self, order: Order<'_>) -> Result<BackedUp> {
        let Dump { source, settings } = *self;
        back_up(order, &mut Dumping { source, settings, databases: Vec::new() }).await
    }

    fn has_log(&self, source: &str, left: &str) -> Result<()> {
        let text = format!(
            "the source `{source}` is of dumps (engine = \"pg_dump\"), and WAL cannot be replayed on \
             dumps: make a source with engine = \"base_backup\" for the cluster, and store its WAL \
             under that one. {left}"
        );
        Err(AgentError::Usage(text).into())
    }

    async fn stream_log(&self, _: &Streaming<'_>) -> Result<()> {
        Err(AgentError::Usage("there is no log of dumps".to_owned()).into())
    }

    async fn replica_lag(&self, setup: &Setup) -> Result<Duration> {
        replica_lag(setup, self.source).await
    }

    fn archive_command(&self, replaced: &Replaced<'_>) -> Result<Option<String>> {
        let name = replaced.source;
        let text = format!("`{name}` is backed up by dumps: no cluster takes its server's place");
        Err(AgentError::Usage(text).into())
    }

    fn gone(&self, setup: &Setup, source: &SourceId) -> Vec<Gone> {
        gone(setup, source)
    }

    async fn look(&self, looked: &Looked<'_>, found: &mut Checks) {
        let Some(answer) = doctor::server(looked, self.source, found).await else { return };
        doctor::dumps(looked, self.settings, answer, found).await;
    }
}

/// What is dumped.
pub(super) fn copied(settings: &PgDump) -> Copied {
    Copied::Databases { globals: settings.globals, passwords: settings.role_passwords }
}

/// Dumps under way.
struct Dumping<'a> {
    source: &'a Source,
    settings: &'a PgDump,
    /// Of which databases.
    databases: Vec<String>,
}

#[async_trait::async_trait(?Send)]
impl Streamed for Dumping<'_> {
    async fn open(&self, begun: &Begun<'_>) -> Result<Box<dyn BackupSource>> {
        let (pg, server) = (self.settings, begun.setup.server(self.source)?);
        begun.meter.label("connecting");
        let databases = match &pg.databases {
            Some(names) => DatabaseChoice::Only(names.clone()),
            None => DatabaseChoice::All { exclude: pg.exclude_databases.clone() },
        };
        let options = PgDumpOptions {
            databases,
            globals: pg.globals,
            role_passwords: pg.role_passwords,
            lock_timeout: pg.lock_timeout,
            lock_attempts: pg.lock_attempts,
        };
        Ok(Box::new(PgDumpSource::open(server, options, begun.application()).await?))
    }

    async fn outside(&self, begun: &Begun<'_>) -> Option<Outside> {
        let server = begun.setup.server(self.source).ok()?;
        let copied = copied(self.settings);
        Some(outside(&server, &begun.application(), copied, OUTSIDE_PATIENCE).await)
    }

    async fn finished(&mut self, _: &Begun<'_>, facts: &Facts, _: &mut Finished) -> Vec<String> {
        let name = |stream: &StreamFacts| match &stream.content {
            Content::Database(database) => Some(database.name.clone()),
            _ => None,
        };
        self.databases = facts.streams.iter().filter_map(name).collect();
        Vec::new()
    }

    async fn committed(&mut self, begun: &Begun<'_>, summary: &BackupSummary) -> Vec<String> {
        let this = (begun.backup, summary.is_good());
        let databases = std::mem::take(&mut self.databases);
        let mut notes = compare(begun.setup, begun.source, this, databases);
        notes.extend(another_cluster::of_committed(begun, summary).await);
        notes
    }
}
