//! A database restored by `pg_restore`.

mod create;
mod failures;
mod feed;
mod mark;
mod opening;
mod prove;
mod waits;
mod watch;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use drctl_model::{DatabaseFacts, TableRows, shown};

use super::count_rows;
use super::preflight::occupants;
use crate::common::process::Tool;
use crate::common::{EngineError, RestoreTarget, ToolFeed};
use crate::pg::dump::{DumpError, DumpShape, Leftover};
use crate::pg::server::PgServer;
use crate::pg::server::address::quote_ident;
use crate::pg::server::end_sessions::end_sessions;
use crate::pg::server::session::Session;
use crate::pg::server::spelling;
use crate::pg::server::tools;
use create::Creation;
pub(in crate::pg) use mark::all_whole;

/// How a database is restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreOptions {
    /// How many sessions restore at once. With more than one, the whole dump is first written
    /// to `spool_dir` (in plain, readable by our own user only).
    pub jobs: u32,
    /// Where a dump is kept for more than one job; needs room for all of it.
    pub spool_dir: PathBuf,
    /// Whether owners and privileges are restored, for which the roles must exist.
    pub owner: bool,
    /// Whether what the dump names is remembered, so that it can be [proven](DatabaseTarget::prove).
    pub prove: bool,
}

/// How the target database comes to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Under its own name, as the dump says, with the settings of the database itself.
    AsDumped,
    /// Under another name than it had.
    AsNamed,
    /// It is there, and empty.
    Present,
}

/// A database on a server that a dump is restored into.
///
/// It must be absent or empty. One that this run makes is closed to others, and each bears a mark,
/// until it is [opened](Self::open). A statement that fails is noted, and all behind it run. What a
/// restore leaves behind that did not come to its end is dropped where this run has created the
/// database, and left where it was there before.
#[derive(Debug, Clone)]
pub struct DatabaseTarget {
    creation: Creation,
    options: RestoreOptions,
    /// Whether the tool may have written into a database that was there before.
    entered: Arc<AtomicBool>,
    failed: Arc<Mutex<Vec<String>>>,
    /// What was restored, where it is to be proven.
    fed: Arc<Mutex<Option<DumpShape>>>,
}

impl DatabaseTarget {
    /// The database `target_name` as a target for the dump that `facts` describe.
    ///
    /// `application_name` names all its sessions, and must be this restore's alone: where it fails
    /// all of its role's sessions with that name are ended.
    #[must_use]
    pub fn new(
        server: PgServer,
        facts: DatabaseFacts,
        target_name: String,
        options: RestoreOptions,
        application_name: String,
    ) -> Self {
        let (owner, created) = (options.owner, Arc::default());
        let (name, application) = (target_name, application_name);
        let creation =
            Creation { server, application, facts, name, owner, created, opening: Arc::default() };
        DatabaseTarget {
            creation,
            options,
            entered: Arc::default(),
            failed: Arc::default(),
            fed: Arc::default(),
        }
    }

    /// The statements that failed, for people; complete after the outcome.
    #[must_use]
    pub fn failed(&self) -> Vec<String> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts the rows of every table.
    ///
    /// # Errors
    /// Those of [`count_rows`], and [`DumpError::Waits`].
    pub async fn count(&self) -> Result<Vec<TableRows>, EngineError> {
        let Creation { server, name, application, .. } = &self.creation;
        let counting = count_rows(server, name, application);
        waits::unblocked(server, application, name, counting).await
    }

    /// Lets others in and takes the mark away: what was loaded was looked at.
    ///
    /// # Errors
    /// [`ServerError::Connect`](crate::pg::server::ServerError::Connect) and its like;
    /// [`ServerError::Query`](crate::pg::server::ServerError::Query) where the server refuses: it
    /// stays closed and marked.
    pub async fn open(&self) -> Result<(), EngineError> {
        self.note(self.creation.open().await?);
        Ok(())
    }

    fn note(&self, failed: Vec<String>) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).extend(failed);
    }

    /// Drops the database if this run has created it: for a restore that was given up.
    ///
    /// Drop the [`ToolFeed`] first. Tells what is left.
    ///
    /// # Errors
    /// [`ServerError::Connect`](crate::pg::server::ServerError::Connect) and its like;
    /// [`ServerError::Query`](crate::pg::server::ServerError::Query) where it cannot be dropped: it
    /// is then incomplete, and left.
    pub async fn discard(&self) -> Result<Leftover, EngineError> {
        let Creation { server, name, application, created, .. } = &self.creation;
        if created.swap(false, Ordering::SeqCst) {
            drop_database(server, name, application).await?;
            return Ok(Leftover::Dropped);
        }
        if !self.entered.load(Ordering::SeqCst) {
            return Ok(Leftover::Nothing);
        }
        // What the tool was doing there when it was killed must not go on.
        end_sessions(server, application).await;
        Ok(Leftover::Theirs)
    }

    async fn choose_way(&self, session: &Session) -> Result<Way, EngineError> {
        let Creation { server, name, application, facts, .. } = &self.creation;
        if exists(session, name).await? {
            all_whole(session, server, &[name], application).await?;
            let found = occupants(server, name, application).await?;
            if !found.is_empty() {
                return Err(EngineError::NotEmpty { found });
            }
            return Ok(Way::Present);
        }
        Ok(if *name == facts.name { Way::AsDumped } else { Way::AsNamed })
    }

    fn tool(&self, tool: Tool, reached: &str) -> Tool {
        let tool = match self.options.owner {
            true => tool,
            false => tool.args(&["--no-owner", "--no-privileges"]),
        };
        tool.arg(self.creation.server.dbname(reached))
    }

    /// The outcome of a run, with what becomes of the database when it does not come to its end.
    fn outcome(
        &self,
        run: impl Future<Output = Result<(), EngineError>> + Send + 'static,
    ) -> crate::common::Outcome<()> {
        let entered = Arc::clone(&self.entered);
        let Creation { server, name, application, created, .. } = self.creation.clone();
        Box::pin(async move {
            let run = waits::unblocked(&server, &application, &name, run);
            let Err(source) = run.await else { return Ok(()) };
            let left = match created.swap(false, Ordering::SeqCst) {
                true => match drop_database(&server, &name, &application).await {
                    Ok(()) => Leftover::Dropped,
                    Err(error) => {
                        let said = shown(&format!("{name}: {error}"), 500);
                        tracing::warn!("drop what a failed restore has made: {said}");
                        Leftover::Ours
                    }
                },
                false if entered.swap(false, Ordering::SeqCst) => Leftover::Theirs,
                false => Leftover::Nothing,
            };
            let source = Box::new(source);
            Err(EngineError::from(DumpError::RestoreFailed { database: name, left, source }))
        })
    }
}

#[async_trait]
impl RestoreTarget for DatabaseTarget {
    async fn start(&self) -> Result<ToolFeed, EngineError> {
        let Creation { server, application, .. } = &self.creation;
        let session = Session::open(server, &server.maintenance_database, application).await?;
        let version = session.version().await?;
        let found = tools::find(server, "pg_restore", &version).await?;
        let way = self.choose_way(&session).await?;
        let pgpass = server.pgpass(&found.version)?;
        if way == Way::AsNamed {
            self.creation.as_named().await?;
        }
        let tool = session.reached().tool(&found, application, pgpass.as_ref(), session.superuser);
        let reached = spelling::reached_by(&session.client, &self.creation.name).await;
        let tool = self.tool(tool, &reached);
        if self.options.jobs > 1 {
            return self.spool(tool, way, pgpass);
        }
        if way == Way::Present {
            self.creation.mark_theirs().await?;
        }
        self.feed(&tool, way, pgpass)
    }
}

async fn exists(session: &Session, name: &str) -> Result<bool, EngineError> {
    let query = "SELECT 1 FROM pg_catalog.pg_database WHERE datname = $1";
    let found = session.client.query_opt(query, &[&name]).await;
    Ok(found.map_err(EngineError::query("look for the database"))?.is_some())
}

async fn drop_database(
    server: &PgServer,
    name: &str,
    application: &str,
) -> Result<(), EngineError> {
    // A session of a tool that was killed may still be creating it: then there is nothing to drop
    // yet, and something a moment later.
    end_sessions(server, application).await;
    let session = Session::open(server, &server.maintenance_database, application).await?;
    // Somebody else may have logged in meanwhile.
    let force =
        if tools::major_of(&session.version().await?) >= Some(13) { " (FORCE)" } else { "" };
    let statement = format!("DROP DATABASE IF EXISTS {}{force}", quote_ident(name));
    let failed = EngineError::query(format!("drop database `{name}`"));
    session.patiently(session.client.batch_execute(&statement)).await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use drctl_model::SslMode;

    use super::*;
    use crate::common::Secret;
    use crate::pg::server::FoundTool;

    pub(in crate::pg::dump::restore) fn target(owner: bool) -> DatabaseTarget {
        let server = PgServer {
            host: "/run/postgresql".into(),
            port: 5432,
            user: "postgres".into(),
            maintenance_database: "postgres".into(),
            password: Some(Secret::new("hunter2")),
            sslmode: SslMode::Prefer,
            ssl_root_cert: None,
            require_peer: None,
            bin_dir: None,
            runtime_dir: "/run/drctl".into(),
            options: Vec::new(),
            silence: crate::pg::server::SILENCE,
        };
        let facts = DatabaseFacts {
            name: "shop".into(),
            owner: "shop\"s".into(),
            encoding: "UTF8".into(),
            collate: "C".into(),
            ctype: "it's".into(),
            ..DatabaseFacts::default()
        };
        let options = RestoreOptions { jobs: 1, spool_dir: "/tmp".into(), owner, prove: false };
        DatabaseTarget::new(server, facts, "shop2".into(), options, "drctl/x".into())
    }

    #[test]
    fn arguments_fit_the_way_and_hold_no_password() {
        let found =
            FoundTool { name: "pg_restore", path: "/x/pg_restore".into(), version: "15".into() };
        for owner in [true, false] {
            let target = target(owner);
            let tool = target.creation.server.tool(&found, "drctl/x", None, false);
            let shown = format!("{:?}", target.tool(tool, "shop2"));
            assert!(shown.contains("dbname='shop2'"), "{shown}");
            assert_eq!(shown.contains("--no-owner"), !owner, "{shown}");
            assert_eq!(shown.contains("--no-privileges"), !owner, "{shown}");
            // One statement that fails does not end it.
            assert!(!shown.contains("hunter2") && !shown.contains("--exit-on-error"), "{shown}");
        }
    }
}
