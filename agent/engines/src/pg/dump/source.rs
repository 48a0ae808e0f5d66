//! A backup by `pg_dumpall --globals-only` and a `pg_dump` for each database.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use drctl_model::{
    BackupKind, Child, Content, DatabaseFacts, Dumped, Engine, RowKey, StreamFacts, StreamId,
};
use tokio::io::AsyncReadExt as _;
use tokio::time::{sleep, timeout};

use super::DumpWalker;
use super::Member;
use super::code;
use super::counts::{self, Counted};
use super::databases::{Database, DatabaseChoice, choose};
use super::digests::{digests, through};
use super::members::{self, Members};
use super::snapshot::{self, Attempt};
use super::stream::{WatchedRead, Watcher};
use super::tables::{Table, forced};
use super::waits::{LockedOut, unless_locked_out};
use super::{empty, globals};
use crate::common::process::{Ended, OwnedTask, Running, Stopper, Tool, ToolOutput};
use crate::common::{BackupSource, EngineError, Finished, Outcome, StreamOutcome, ToolRun};
use crate::pg::dump::{Blocker, DumpError};
use crate::pg::server::address::{ACTIVITY, quote_ident};
use crate::pg::server::end_sessions::end_sessions;
use crate::pg::server::pgpass::PgPass;
use crate::pg::server::place::known_cluster;
use crate::pg::server::session::{Canceller, Session};
use crate::pg::server::{FoundTool, PgServer, ServerError, ServerSaid, tools};

/// The first pause between two attempts to lock; each one after is twice as long.
const PAUSE: Duration = Duration::from_millis(200);

/// The longest pause between two attempts to lock.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The most bytes that are read before a dump counts as started.
const FIRST_BYTES: usize = 64 << 10;

/// How a backup is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgDumpOptions {
    /// Which databases are dumped.
    pub databases: DatabaseChoice,
    /// Whether roles and tablespaces are dumped.
    pub globals: bool,
    /// Whether the passwords of roles are dumped, which only a superuser can.
    pub role_passwords: bool,
    /// How long one attempt waits for a lock.
    pub lock_timeout: Duration,
    /// How often the locks are tried for, at least once.
    pub lock_attempts: u32,
}

/// A backup of a server under way.
pub struct PgDumpSource {
    server: PgServer,
    options: PgDumpOptions,
    application: String,
    server_version: String,
    /// Of which cluster it is, or why that is not known.
    cluster: Result<u64, String>,
    pg_dump: FoundTool,
    pg_dumpall: Option<FoundTool>,
    pgpass: Option<PgPass>,
    globals_due: bool,
    superuser: bool,
    databases: Vec<Database>,
    next: usize,
    current: Option<Current>,
    suspect: BTreeSet<String>,
    members: Members,
    key: RowKey,
}

type Counts = OwnedTask<Result<Looked, EngineError>>;

/// What has to be ended when the backup is given up.
struct Current {
    stopper: Stopper,
    canceller: Option<Canceller>,
}

/// A `pg_dump` that has its locks.
struct Started {
    output: ToolOutput,
    first: Vec<u8>,
    running: Running,
    tables: Vec<Table>,
}

/// Why an attempt to start a dump may be repeated.
enum Again {
    Locked { said: ServerSaid, blockers: Vec<Blocker> },
    Changed,
}

impl PgDumpSource {
    /// Looks at server and tools, and decides what will be dumped.
    ///
    /// `application_name` names all sessions of this backup, and must be this backup's alone:
    /// [`abort`](BackupSource::abort) ends all of its role's sessions with that name.
    ///
    /// # Errors
    /// All that can be known before the first byte: [`ServerError::Connect`],
    /// [`ServerError::Auth`], [`ServerError::NoDatabase`], [`ServerError::ToolMissing`],
    /// [`ServerError::VersionMismatch`], [`ServerError::Permission`].
    pub async fn open(
        server: PgServer,
        options: PgDumpOptions,
        application_name: String,
    ) -> Result<Self, EngineError> {
        let session =
            Session::open(&server, &server.maintenance_database, &application_name).await?;
        let server_version = session.version().await?;
        session.sees_damage(&server.maintenance_database)?;
        let cluster = known_cluster(&session).await;
        let pg_dump = tools::find(&server, "pg_dump", &server_version).await?;
        let pg_dumpall = match options.globals {
            true => Some(tools::find(&server, "pg_dumpall", &server_version).await?),
            false => None,
        };
        if options.globals && options.role_passwords {
            globals::passwords_readable(&session, &server.user).await?;
        }
        let databases = choose(&session, &options.databases).await?;
        let pgpass = server.pgpass(&pg_dump.version)?;
        // What cannot be named takes no database along.
        let odd = match options.globals {
            true => globals::odd_names(&session).await?,
            false => Vec::new(),
        };
        let globals_due = options.globals && odd.is_empty();
        let suspect = globals::left_out(&odd).into_iter().collect();
        Ok(PgDumpSource {
            server: session.reached().clone(),
            options,
            application: application_name,
            server_version,
            cluster,
            pg_dump,
            pg_dumpall,
            pgpass,
            globals_due,
            superuser: session.superuser,
            databases,
            next: 0,
            current: None,
            suspect,
            members: Members::default(),
            key: RowKey(rand::random()),
        })
    }

    fn start_globals(&mut self, found: &FoundTool) -> Result<ToolRun, EngineError> {
        let pgpass = self.pgpass.as_ref();
        let tool = self.server.tool(found, &self.application, pgpass, self.superuser);
        let tool = globals::arguments(tool, &self.server, self.options.role_passwords);
        let (output, running) = tool.start_writer()?;
        self.current = Some(Current { stopper: running.stopper(), canceller: None });
        Ok(globals::tool_run(output, running, self.server.silence))
    }

    async fn start_database(&mut self, id: StreamId, index: usize) -> Result<ToolRun, EngineError> {
        let database = self.databases[index].clone();
        let session = Session::open(&self.server, &database.reached, &self.application).await?;
        session.sees_damage(&database.name)?;
        self.suspect.extend(session.doubts());
        let Started { output, first, running, tables } =
            self.start_with_locks(&session, &database).await?;
        let size = "SELECT pg_catalog.pg_database_size(pg_catalog.current_database())::text";
        let bytes = session.text(size, "ask for the size of the database").await?;
        let bytes = bytes.parse().unwrap_or_default();
        let canceller = Some(session.canceller());
        self.current = Some(Current { stopper: running.stopper(), canceller });
        let counts = OwnedTask::spawn(look(session, tables));
        let watcher = Watcher::by(DumpWalker::new().with_key(Some(self.key)));
        let output = WatchedRead::new(first, output, watcher.clone());
        let output = Box::pin(output.within("pg_dump", self.server.silence));
        let label = format!("database {}", database.name);
        let ended = running.wait_within(self.server.silence);
        let counts = (counts, Arc::clone(&self.members));
        let watched = (watcher, self.key);
        let outcome = outcome(id.clone(), database, bytes, ended, watched, counts);
        let expected_bytes = Some(bytes);
        Ok(ToolRun { id, label, expected_bytes, output, outcome })
    }

    /// Locks, takes the snapshot and starts `pg_dump`, until it goes well or often enough.
    async fn start_with_locks(
        &self,
        session: &Session,
        database: &Database,
    ) -> Result<Started, EngineError> {
        let attempts = self.options.lock_attempts.max(1);
        let mut attempt = 1;
        loop {
            let again = match self.try_start(session, database).await? {
                Ok(started) => return Ok(started),
                Err(again) => again,
            };
            if attempt == attempts {
                return Err(self.gave_up(&database.name, attempts, again));
            }
            sleep(pause(attempt)).await;
            attempt += 1;
        }
    }

    fn gave_up(&self, database: &str, attempts: u32, again: Again) -> EngineError {
        let (database, waited) = (database.to_owned(), self.options.lock_timeout);
        match again {
            Again::Locked { said, blockers } => EngineError::from(DumpError::Locks {
                database,
                attempts,
                waited,
                blockers,
                source: said,
            }),
            Again::Changed => EngineError::from(DumpError::Unsettled { database, attempts }),
        }
    }

    async fn try_start(
        &self,
        session: &Session,
        Database { name: database, reached, .. }: &Database,
    ) -> Result<Result<Started, Again>, EngineError> {
        let (user, wait) = (&self.server.user, self.options.lock_timeout);
        let (snapshot, tables) = match snapshot::hold(session, database, user, wait).await? {
            Attempt::Held { snapshot, tables } => (snapshot, tables),
            Attempt::Locked { said, blockers } => return Ok(Err(Again::Locked { said, blockers })),
            Attempt::Changed => return Ok(Err(Again::Changed)),
        };
        let (mut output, running) = self.pg_dump(reached, &snapshot).start_writer()?;
        // In this format nothing is written before all locks are held and the catalogs are read.
        let mut first = Vec::with_capacity(FIRST_BYTES);
        let waited = self.server.silence + self.options.lock_timeout;
        let silent = || EngineError::Silent { tool: "pg_dump", waited, activity: Some(ACTIVITY) };
        let reading = timeout(waited, output.read_buf(&mut first));
        let reading = match unless_locked_out(session, &self.application, wait, reading).await? {
            Ok(read) => read.map_err(|_| silent())?,
            Err(LockedOut { object, blockers }) => {
                running.stopper().stop().await;
                snapshot::release(session).await?;
                let said = ServerSaid::new(format!("pg_dump did not get the lock on {object}"));
                return Ok(Err(Again::Locked { said, blockers }));
            }
        };
        reading.map_err(EngineError::io("read the output of pg_dump"))?;
        if !first.is_empty() {
            return Ok(Ok(Started { output, first, running, tables }));
        }
        let ended = running.wait_within(self.server.silence).await?;
        // Our own locks let pg_dump through, but one that waits for ours keeps it out.
        let blockers = snapshot::blockers(session, &tables).await?;
        snapshot::release(session).await?;
        if !ended.status.success() && was_locked_out(&ended.stderr) {
            let said = ServerSaid::new("pg_dump did not get a lock");
            return Ok(Err(Again::Locked { said, blockers }));
        }
        ended.success()?;
        // Status 0 and not a single byte: the structure tells it.
        Watcher::<DumpWalker>::new().written("pg_dump", &format!("database {database}"))?;
        Ok(Err(Again::Changed))
    }

    fn pg_dump(&self, database: &str, snapshot: &str) -> Tool {
        let millis = self.options.lock_timeout.as_millis().clamp(1, i32::MAX as u128);
        self.server
            .tool(&self.pg_dump, &self.application, self.pgpass.as_ref(), self.superuser)
            .args(&["--format=custom", "--compress=0"])
            .arg(format!("--snapshot={snapshot}"))
            .arg(format!("--lock-wait-timeout={millis}"))
            .arg(self.server.dbname(database))
    }
}

#[async_trait]
impl BackupSource for PgDumpSource {
    async fn next_stream(&mut self) -> Result<Option<ToolRun>, EngineError> {
        self.current = None;
        if let Some(found) = self.pg_dumpall.clone().filter(|_| self.globals_due) {
            self.globals_due = false;
            return self.start_globals(&found).map(Some);
        }
        if self.next == self.databases.len() {
            return Ok(None);
        }
        let (index, id) = (self.next, StreamId::database(self.next));
        self.next += 1;
        self.start_database(id, index).await.map(Some)
    }

    async fn finish(self: Box<Self>, streams: &[StreamFacts]) -> Result<Finished, EngineError> {
        let mut versions = BTreeMap::new();
        versions.insert("server".to_owned(), tools::short(&self.server_version).to_owned());
        for tool in [Some(&self.pg_dump), self.pg_dumpall.as_ref()].into_iter().flatten() {
            versions.insert(tool.name.to_owned(), tool.version.clone());
        }
        let mut suspect: Vec<String> = self.suspect.into_iter().collect();
        let (lost, mut notes) = members::told(&self.members);
        let system_id = self.cluster.map_err(|why| notes.push(why)).ok();
        suspect.extend(lost);
        suspect.extend(empty::why(streams));
        let dumped = Dumped { system_id, rows: empty::rows(streams) };
        let (engine, kind) = (Engine::PgDump, BackupKind::Logical(dumped));
        Ok(Finished { engine, kind, versions, suspect, notes, brought: None })
    }

    async fn abort(self: Box<Self>) {
        if let Some(Current { stopper, canceller }) = self.current {
            if let Some(canceller) = canceller {
                canceller.cancel().await;
            }
            stopper.stop().await;
        }
        end_sessions(&self.server, &self.application).await;
    }
}

/// The rows; code that runs on load, with owners and without, and forced policies; tables in no dump.
type Looked = (Vec<Counted>, [Vec<String>; 3], Vec<Member>);

/// Looks in the session that holds the snapshot, and keeps it until all is counted.
async fn look(session: Session, tables: Vec<Table>) -> Result<Looked, EngineError> {
    let [runs, unowned] = code::on_load(&session).await?;
    let counted = counts::count(&session, &tables).await?;
    Ok((counted, [runs, unowned, forced(&tables)], members::left_out(&session).await?))
}

fn pause(attempt: u32) -> Duration {
    PAUSE.saturating_mul(1 << (attempt - 1).min(10)).min(LONGEST_PAUSE)
}

/// The server's own words may be in any language; `pg_dump` repeats the statement after them.
fn was_locked_out(stderr: &str) -> bool {
    stderr.contains("LOCK TABLE") || stderr.contains("lock timeout")
}

/// Exit status, then structure, then counts: each only means something when the one before is
/// good.
fn outcome(
    id: StreamId,
    database: Database,
    bytes: u64,
    ended: impl Future<Output = Result<Ended, EngineError>> + Send + 'static,
    (watcher, key): (Watcher<DumpWalker>, RowKey),
    (counts, members): (Counts, Members),
) -> Outcome<StreamOutcome> {
    Box::pin(async move {
        ended.await?.success()?;
        let label = format!("database {}", database.name);
        let dump = watcher.written("pg_dump", &label)?;
        let (counted, runs, found) = counts.join().await.ok_or_else(|| {
            let action = format!("count the rows of database {}", quote_ident(&database.name));
            EngineError::from(ServerError::Query {
                action,
                source: ServerSaid::new("the count was cancelled"),
            })
        })??;
        let differences = counts::compare_with_dump(&counted, &dump);
        if !differences.is_empty() {
            return Err(EngineError::from(DumpError::Counts {
                database: database.name,
                differences,
            }));
        }
        let found = found.into_iter().map(|member| (database.name.clone(), member));
        members.lock().unwrap_or_else(PoisonError::into_inner).extend(found);
        let Database { name, owner, encoding, collate, ctype, provider, .. } = database;
        let (digests, through) = (Some(digests(key, &counted, &dump)), through(&counted, &dump));
        let tables = counted.into_iter().map(|table| table.rows).collect();
        let [runs, runs_unowned, forced] = runs.map(Some);
        let facts = DatabaseFacts {
            name,
            owner,
            encoding,
            collate,
            ctype,
            provider,
            bytes,
            tables,
            runs,
            runs_unowned,
            forced,
            digests,
            through,
        };
        let child = Child { program: "pg_dump".to_owned(), stream: id, status: 0 };
        Ok(StreamOutcome { children: vec![child], content: Content::Database(Box::new(facts)) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_bounded() {
        assert_eq!(pause(1), PAUSE);
        assert_eq!(pause(2), PAUSE * 2);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
    }

    #[test]
    fn a_lock_that_is_not_had_is_recognised_in_any_language() {
        let german = "pg_dump: error: query failed: FEHLER:  storniere Anfrage wegen \
                      Zeitüberschreitung einer Sperre\npg_dump: detail: Query was: LOCK TABLE \
                      ONLY public.t IN ACCESS SHARE MODE";
        assert!(was_locked_out(german));
        assert!(!was_locked_out("pg_dump: error: connection to server failed"));
    }
}
