//! A database restored by `pg_restore`.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use drctl_model::{DatabaseFacts, LocaleProvider, ProviderLocale, shown};
use rustix::fs::{FlockOperation, flock};
use tempfile::NamedTempFile;
use tokio::io::AsyncWrite;
use tokio_postgres::error::SqlState;

use super::pgpass::{PgPass, SPOOL_PREFIX};
use super::preflight::occupants;
use super::server::{Session, quote_ident, quote_literal};
use super::stream::{WatchedWrite, Watcher};
use super::tools;
use super::walker::DumpWalker;
use super::{PgServer, farewell};
use crate::process::Tool;
use crate::{EngineError, Leftover, RestoreTarget, ServerSaid, ToolFeed};

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
}

/// How the target database comes to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// `pg_restore --create` makes it, with the settings of the database itself.
    ByTool,
    /// We make it, under another name than it had.
    ByUs,
    /// It is there, and empty.
    Present,
}

/// A database on a server that a dump is restored into.
///
/// It must be absent or empty. What a failed restore leaves behind is dropped where this run has
/// created the database, and left where it was there before.
#[derive(Debug)]
pub struct DatabaseTarget {
    server: PgServer,
    facts: DatabaseFacts,
    target_name: String,
    options: RestoreOptions,
    application: String,
    created: Arc<AtomicBool>,
    /// Whether the tool may have written into a database that was there before.
    entered: Arc<AtomicBool>,
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
        let application = application_name;
        let (created, entered) = (Arc::default(), Arc::default());
        DatabaseTarget { server, facts, target_name, options, application, created, entered }
    }

    /// Drops the database if this run has created it: for a restore that was given up.
    ///
    /// Drop the [`ToolFeed`] first. Tells what is left.
    ///
    /// # Errors
    /// Where it cannot be dropped: it is then incomplete, and left.
    pub async fn discard(&self) -> Result<Leftover, EngineError> {
        if self.created.swap(false, Ordering::SeqCst) {
            drop_database(&self.server, &self.target_name, &self.application).await?;
            return Ok(Leftover::Dropped);
        }
        if !self.entered.load(Ordering::SeqCst) {
            return Ok(Leftover::Nothing);
        }
        // What the tool was doing there when it was killed must not go on.
        farewell::end_sessions(&self.server, &self.application).await;
        Ok(Leftover::Theirs)
    }

    async fn choose_way(&self, session: &Session) -> Result<Way, EngineError> {
        let name = &self.target_name;
        if exists(session, name).await? {
            let found = occupants(&self.server, name, &self.application).await?;
            if !found.is_empty() {
                return Err(EngineError::NotEmpty { found });
            }
            return Ok(Way::Present);
        }
        Ok(if *name == self.facts.name { Way::ByTool } else { Way::ByUs })
    }

    fn create_statement(&self, owner: bool) -> String {
        let DatabaseFacts { encoding, collate, ctype, provider, .. } = &self.facts;
        let mut statement = format!(
            "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}",
            quote_ident(&self.target_name),
            quote_literal(encoding),
            quote_literal(collate),
            quote_literal(ctype),
        );
        if let Some(ProviderLocale { provider, locale, rules }) = provider {
            let word = match provider {
                LocaleProvider::Icu => "icu ICU_LOCALE",
                LocaleProvider::Builtin => "builtin BUILTIN_LOCALE",
            };
            statement += &format!(" LOCALE_PROVIDER {word} {}", quote_literal(locale));
            if let Some(rules) = rules {
                statement += &format!(" ICU_RULES {}", quote_literal(rules));
            }
        }
        if owner {
            statement += &format!(" OWNER {}", quote_ident(&self.facts.owner));
        }
        statement
    }

    async fn create(&self, session: &Session) -> Result<(), EngineError> {
        let query = "SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = $1";
        let looked = session.client.query_opt(query, &[&self.facts.owner]).await;
        let owner = looked.map_err(EngineError::query("look for the owner"))?.is_some();
        let statement = self.create_statement(owner && self.options.owner);
        session.client.batch_execute(&statement).await.map_err(|error| {
            let source = ServerSaid::from(error);
            let name = self.target_name.clone();
            if source.is(&SqlState::DUPLICATE_DATABASE) {
                return EngineError::Exists { name };
            }
            EngineError::Query { action: format!("create database `{name}`"), source }
        })?;
        self.created.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn tool(&self, tool: Tool, way: Way) -> Tool {
        let tool = tool.arg("--exit-on-error");
        let tool = match self.options.owner {
            true => tool,
            false => tool.args(&["--no-owner", "--no-privileges"]),
        };
        let (tool, database) = match way {
            Way::ByTool => (tool.arg("--create"), &self.server.maintenance_database),
            Way::ByUs | Way::Present => (tool, &self.target_name),
        };
        tool.arg(format!("--dbname={}", self.server.conninfo(database)))
    }

    fn feed(&self, tool: Tool, way: Way, pgpass: Option<PgPass>) -> Result<ToolFeed, EngineError> {
        let watcher = Watcher::<DumpWalker>::new();
        let what = format!("database {}", self.facts.name);
        let (stdin, running) = tool.start_reader()?;
        self.entered.store(way == Way::Present, Ordering::SeqCst);
        if way == Way::ByTool {
            self.created.store(true, Ordering::SeqCst);
        }
        let input = Box::pin(WatchedWrite::new(stdin, watcher.clone()));
        let run = async move {
            // Lives as long as the tool.
            let _pgpass = pgpass;
            running.wait().await?.success()?;
            watcher.read(&what).map(drop)
        };
        Ok(ToolFeed { input, outcome: self.outcome(way, run) })
    }

    /// Keeps the dump in a file first, and looks at it before anything is changed.
    fn spool(&self, tool: Tool, way: Way, pgpass: Option<PgPass>) -> Result<ToolFeed, EngineError> {
        let dir = &self.options.spool_dir;
        let action = format!("keep the dump in {}", dir.display());
        let file = NamedTempFile::with_prefix_in(SPOOL_PREFIX, dir);
        let file = file.map_err(EngineError::io(action.clone()))?;
        // Locked as long as it is used: `sweep` takes what a killed process left.
        flock(file.as_file(), FlockOperation::LockExclusive)
            .map_err(|errno| EngineError::io(action.clone())(errno.into()))?;
        let writer = file.reopen().map_err(EngineError::io(action))?;
        let watcher = Watcher::<DumpWalker>::new();
        let writer = tokio::fs::File::from_std(writer);
        let input: Pin<Box<dyn AsyncWrite + Send>> =
            Box::pin(WatchedWrite::new(writer, watcher.clone()));
        let what = format!("database {}", self.facts.name);
        let tool = tool.arg(format!("--jobs={}", self.options.jobs)).arg(file.path());
        let created = Arc::clone(&self.created);
        let entered = Arc::clone(&self.entered);
        let run = async move {
            // Both live as long as the tool.
            let _held = (pgpass, file);
            watcher.read(&what)?;
            let running = tool.start_alone()?;
            entered.store(way == Way::Present, Ordering::SeqCst);
            if way == Way::ByTool {
                created.store(true, Ordering::SeqCst);
            }
            running.wait().await?.success()
        };
        Ok(ToolFeed { input, outcome: self.outcome(way, run) })
    }

    /// The outcome of a run, with what becomes of the database when it fails.
    fn outcome(
        &self,
        way: Way,
        run: impl Future<Output = Result<(), EngineError>> + Send + 'static,
    ) -> crate::Outcome<()> {
        let (created, entered) = (Arc::clone(&self.created), Arc::clone(&self.entered));
        let (server, application) = (self.server.clone(), self.application.clone());
        let database = self.target_name.clone();
        Box::pin(async move {
            let Err(source) = run.await else { return Ok(()) };
            let ours = created.swap(false, Ordering::SeqCst);
            let left = match (ours, way) {
                // That another one was faster to create it is no reason to drop it.
                (true, Way::ByTool) if was_not_created(&source) => Leftover::Nothing,
                (true, _) => match drop_database(&server, &database, &application).await {
                    Ok(()) => Leftover::Dropped,
                    Err(error) => {
                        let said = shown(&format!("{database}: {error}"), 500);
                        tracing::warn!("drop what a failed restore has made: {said}");
                        Leftover::Ours
                    }
                },
                (false, _) if entered.swap(false, Ordering::SeqCst) => Leftover::Theirs,
                (false, _) => Leftover::Nothing,
            };
            Err(EngineError::RestoreFailed { database, left, source: Box::new(source) })
        })
    }
}

#[async_trait]
impl RestoreTarget for DatabaseTarget {
    async fn start(&self) -> Result<ToolFeed, EngineError> {
        let maintenance = &self.server.maintenance_database;
        let session = Session::open(&self.server, maintenance, &self.application).await?;
        let version = session.version().await?;
        let found = tools::find(&self.server, "pg_restore", &version).await?;
        let way = self.choose_way(&session).await?;
        let pgpass = self.server.pgpass()?;
        if way == Way::ByUs {
            self.create(&session).await?;
        }
        let tool = self.server.tool(&found, &self.application, pgpass.as_ref());
        let tool = self.tool(tool, way);
        if self.options.jobs > 1 {
            return self.spool(tool, way, pgpass);
        }
        self.feed(tool, way, pgpass)
    }
}

/// Whether `pg_restore` failed because it could not create the database.
fn was_not_created(error: &EngineError) -> bool {
    // The server's own words may be in any language; the tool repeats the statement after them.
    let EngineError::ToolFailed { source, .. } = error else { return false };
    source.0.contains("Command was: CREATE DATABASE")
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
    farewell::end_sessions(server, application).await;
    let session = Session::open(server, &server.maintenance_database, application).await?;
    // Somebody else may have logged in meanwhile.
    let force =
        if tools::major_of(&session.version().await?) >= Some(13) { " (FORCE)" } else { "" };
    let statement = format!("DROP DATABASE IF EXISTS {}{force}", quote_ident(name));
    let failed = EngineError::query(format!("drop database `{name}`"));
    session.client.batch_execute(&statement).await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Secret;
    use crate::pg::{FoundTool, SslMode};

    fn target(owner: bool) -> DatabaseTarget {
        let server = PgServer {
            host: "/run/postgresql".into(),
            port: 5432,
            user: "postgres".into(),
            maintenance_database: "postgres".into(),
            password: Some(Secret::new("hunter2")),
            sslmode: SslMode::Prefer,
            ssl_root_cert: None,
            bin_dir: None,
            runtime_dir: "/run/drctl".into(),
            options: Vec::new(),
        };
        let facts = DatabaseFacts {
            name: "shop".into(),
            owner: "shop\"s".into(),
            encoding: "UTF8".into(),
            collate: "C".into(),
            ctype: "it's".into(),
            provider: None,
            bytes: 0,
            tables: Vec::new(),
        };
        let options = RestoreOptions { jobs: 1, spool_dir: "/tmp".into(), owner };
        DatabaseTarget::new(server, facts, "shop2".into(), options, "drctl/x".into())
    }

    #[test]
    fn arguments_fit_the_way_and_hold_no_password() {
        let found =
            FoundTool { name: "pg_restore", path: "/x/pg_restore".into(), version: "15".into() };
        for (owner, way, wanted, unwanted) in [
            (true, Way::ByTool, vec!["--create", "dbname='postgres'"], vec!["--no-owner"]),
            (true, Way::ByUs, vec!["dbname='shop2'"], vec!["--create"]),
            (false, Way::Present, vec!["--no-owner", "--no-privileges"], vec!["--create"]),
        ] {
            let target = target(owner);
            let tool = target.tool(target.server.tool(&found, "drctl/x", None), way);
            let shown = format!("{tool:?}");
            assert!(wanted.iter().all(|word| shown.contains(word)), "{shown}");
            assert!(unwanted.iter().all(|word| !shown.contains(word)), "{shown}");
            assert!(!shown.contains("hunter2") && shown.contains("--exit-on-error"), "{shown}");
        }
    }

    #[test]
    fn a_database_is_created_as_it_was() {
        let expected = "CREATE DATABASE \"shop2\" TEMPLATE template0 ENCODING 'UTF8' \
                        LC_COLLATE 'C' LC_CTYPE 'it''s' OWNER \"shop\"\"s\"";
        assert_eq!(target(true).create_statement(true), expected);
        let mut target = target(false);
        let (provider, rules) = (LocaleProvider::Icu, Some("&a < 'x'".to_owned()));
        target.facts.provider =
            Some(ProviderLocale { provider, locale: "de-AT".to_owned(), rules });
        let statement = target.create_statement(false);
        let expected = "LOCALE_PROVIDER icu ICU_LOCALE 'de-AT' ICU_RULES '&a < ''x'''";
        assert!(statement.ends_with(expected), "{statement}");
    }
}
