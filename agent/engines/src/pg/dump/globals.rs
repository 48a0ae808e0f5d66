//! Roles and tablespaces: dumped by `pg_dumpall --globals-only`, restored statement by statement.
//!
//! Restored by ourselves and not by `psql`, which tells apart the errors of statements only by
//! text in the server's language, and cannot leave out single ones.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use drctl_model::{Child, Content, StreamId};
use tokio::io::AsyncWrite;
use tokio_postgres::error::SqlState;

use super::script::{
    SCRIPT_BYTES, Subject, Trailer, at_place, granted, head, role_of, statements, subject_of,
    tablespace_of, without_grantor,
};
use super::stream::{WatchedRead, WatchedWrite, Watcher};
use super::there::There;
use crate::common::process::{Running, Tool, ToolOutput};
use crate::common::{EngineError, RestoreTarget, StreamOutcome, ToolFeed, ToolRun};
use crate::pg::server::PgServer;
use crate::pg::server::ServerError;
use crate::pg::server::ServerSaid;
use crate::pg::server::session::Session;
use crate::pg::server::spelling::{bytes_of, spelled};

/// An error if the role may not read the passwords of roles.
pub(crate) async fn passwords_readable(session: &Session, user: &str) -> Result<(), EngineError> {
    let query = "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT')::text";
    if session.text(query, "read the privileges of the role").await? == "true" {
        return Ok(());
    }
    Err(EngineError::from(ServerError::Permission {
        user: user.to_owned(),
        action: "read the passwords of roles (pg_authid)".to_owned(),
        advice: "back up as a superuser, or set role_passwords = false: roles are then backed up \
                 without their passwords (pg_dumpall --no-role-passwords)"
            .to_owned(),
        source: None,
    }))
}

/// Roles and tablespaces whose names are not UTF-8, spelled: `pg_dumpall` stumbles over them.
pub(crate) async fn odd_names(session: &Session) -> Result<Vec<String>, EngineError> {
    let failed = |error| EngineError::query("list the roles and tablespaces")(error);
    let query = format!(
        "SELECT CASE WHEN own THEN {} ELSE pg_catalog.convert_to(name::text, 'UTF8') END \
         FROM (SELECT rolname AS name FROM pg_catalog.pg_roles \
               UNION ALL SELECT spcname FROM pg_catalog.pg_tablespace) n \
         CROSS JOIN (SELECT pg_catalog.getdatabaseencoding() IN ('UTF8', 'SQL_ASCII') AS own) e \
         ORDER BY name",
        bytes_of("name")
    );
    let rows = session.client.query(&query, &[]).await.map_err(failed)?;
    let names: Result<Vec<&[u8]>, _> = rows.iter().map(|row| row.try_get(0)).collect();
    let odd = names.map_err(failed)?.into_iter().filter(|name| std::str::from_utf8(name).is_err());
    Ok(odd.map(spelled).collect())
}

/// What a backup lacks for those names.
pub(crate) fn left_out(odd: &[String]) -> Option<String> {
    let first = odd.first()?;
    let more = match odd.len() {
        1 => String::new(),
        n => format!(" and {} more", n - 1),
    };
    Some(format!(
        "roles and tablespaces are left out: {first}{more} has a name that is not UTF-8; rename it \
         (ALTER ROLE … RENAME TO …)"
    ))
}

/// The arguments of `pg_dumpall`.
pub(crate) fn arguments(tool: Tool, server: &PgServer, role_passwords: bool) -> Tool {
    let database = &server.maintenance_database;
    let tool = tool.args(&["--globals-only", "--encoding=UTF8"]);
    let tool = if role_passwords { tool } else { tool.arg("--no-role-passwords") };
    tool.arg(format!("--database={database}")).arg(server.dbname(database))
}

/// The stream of a `pg_dumpall` that was started.
pub(crate) fn tool_run(output: ToolOutput, running: Running, silence: Duration) -> ToolRun {
    let watcher = Watcher::<Trailer>::new();
    let output = WatchedRead::new(Vec::new(), output, watcher.clone());
    let output = Box::pin(output.within("pg_dumpall", silence));
    let label = "roles and tablespaces".to_owned();
    let id = StreamId::globals();
    let child = Child { program: "pg_dumpall".to_owned(), stream: id.clone(), status: 0 };
    let outcome = Box::pin(async move {
        running.wait_within(silence).await?.success()?;
        watcher.written("pg_dumpall", "roles and tablespaces")?;
        Ok(StreamOutcome { children: vec![child], content: Content::Globals })
    });
    ToolRun { id, label, expected_bytes: None, output, outcome }
}

/// A server whose roles and tablespaces are restored.
///
/// Roles that exist already get the attributes of the backup, or stay as they are where only what
/// is missing is asked for. The role that we are logged in as is left as it is, so that a restore
/// never locks itself out.
#[derive(Debug)]
pub struct GlobalsTarget {
    server: PgServer,
    application: String,
    missing: bool,
    tablespaces: Option<PathBuf>,
    told: Arc<Mutex<Told>>,
}

/// What became of statements, for people.
#[derive(Debug, Clone, Default)]
struct Told {
    /// What was left out or existed already.
    notes: Vec<String>,
    /// What failed.
    failed: Vec<String>,
}

impl GlobalsTarget {
    /// The server as a target; with `missing` only of what is not there yet.
    #[must_use]
    pub fn new(server: PgServer, application_name: String, missing: bool) -> Self {
        let (application, told) = (application_name, Arc::default());
        GlobalsTarget { server, application, missing, tablespaces: None, told }
    }

    /// The same into a server of another host, or that is thrown away: tablespaces are made in directories
    /// below this one, and memberships are granted by the role that we are logged in as.
    #[must_use]
    pub fn apart(self, tablespaces: Option<PathBuf>) -> Self {
        GlobalsTarget { tablespaces, ..self }
    }

    /// What was left out or existed already, for people; complete after the outcome.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).notes.clone()
    }

    /// The statements that failed, for people; complete after the outcome. None holds a password.
    #[must_use]
    pub fn failed(&self) -> Vec<String> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).failed.clone()
    }
}

#[async_trait]
impl RestoreTarget for GlobalsTarget {
    async fn start(&self) -> Result<ToolFeed, EngineError> {
        let maintenance = &self.server.maintenance_database;
        let session = Session::open(&self.server, maintenance, &self.application).await?;
        let script = Arc::new(Mutex::new(Vec::new()));
        let watcher = Watcher::<Trailer>::new();
        let gather = Gather(Arc::clone(&script));
        let input = Box::pin(WatchedWrite::new(gather, watcher.clone()));
        let (told, missing) = (Arc::clone(&self.told), self.missing);
        let tablespaces = self.tablespaces.clone();
        let outcome = Box::pin(async move {
            watcher.read("roles and tablespaces")?;
            let bytes = std::mem::take(&mut *script.lock().unwrap_or_else(PoisonError::into_inner));
            let script = String::from_utf8(bytes).map_err(|_| {
                EngineError::Config("the dump of roles and tablespaces is not UTF-8".to_owned())
            })?;
            let mut statements = statements(&script);
            if let Some(place) = &tablespaces {
                statements = apart(statements, place)?;
            }
            let done = apply(&session, &statements, missing).await?;
            *told.lock().unwrap_or_else(PoisonError::into_inner) = done;
            Ok(())
        });
        Ok(ToolFeed { input, outcome })
    }
}

/// The statements for a server with places of its own, which are made.
fn apart(statements: Vec<String>, place: &Path) -> Result<Vec<String>, EngineError> {
    let each = statements.into_iter().enumerate().map(|(number, statement)| {
        if tablespace_of(&statement).is_none() {
            return Ok(without_grantor(&statement).to_owned());
        }
        let directory = place.join(format!("dump-{number}"));
        let made = DirBuilder::new().mode(0o700).create(&directory);
        made.map_err(EngineError::io(format!("make the directory {}", directory.display())))?;
        let place = directory.display().to_string().replace('\'', "''");
        let moved = at_place(&statement, &place);
        Ok(moved.unwrap_or(statement))
    });
    each.collect()
}

/// Runs the statements, each on its own: one that fails keeps no other from being run.
async fn apply(
    session: &Session,
    statements: &[String],
    missing: bool,
) -> Result<Told, EngineError> {
    let me = session.text("SELECT current_user::text", "ask for the current role").await?;
    let there = There::on(session).await?;
    let Told { mut notes, mut failed } = Told::default();
    run(session, "BEGIN", "begin to restore the globals").await?;
    for statement in statements {
        if let Some((_, role)) = role_of(statement).filter(|(_, role)| *role == me) {
            let note = format!("role {role}: not changed, because drctl is logged in as this role");
            once(&mut notes, note);
            continue;
        }
        if let Some(subject) = there.changed_by(statement).filter(|_| missing) {
            once(&mut notes, left(statement, &subject, &there));
            continue;
        }
        // Ours is UTF-8 in any case, and so is the script.
        if statement.starts_with("SET client_encoding") {
            continue;
        }
        let result = match tablespace_of(statement) {
            Some(_) => outside_transaction(session, statement).await?,
            None => inside_transaction(session, statement).await?,
        };
        match result {
            Ok(()) => {}
            Err(said) if said.is(&SqlState::DUPLICATE_OBJECT) && is_creation(statement) => {
                notes.push(existed(statement));
            }
            // A session that is gone fails at the next step.
            Err(said) => failed.push(format!("{}: {said}", head(statement))),
        }
    }
    run(session, "COMMIT", "commit the globals").await?;
    Ok(Told { notes, failed })
}

fn once(notes: &mut Vec<String>, note: String) {
    if !notes.contains(&note) {
        notes.push(note);
    }
}

/// What is said of something that was there and is not changed.
fn left(statement: &str, subject: &Subject, there: &There) -> String {
    match subject {
        Subject::Tablespace(name) => format!("tablespace {name}: there already, left as it is"),
        Subject::Role(member) => match granted(statement).map(Subject::Role) {
            // A role that the backup brings along.
            Some(role @ Subject::Role(_)) if !there.has(&role) => {
                format!("role {member}: left as it is, so this was not done: {statement}")
            }
            _ => format!("role {member}: there already, left as it is"),
        },
    }
}

/// What is said of something that was there and is now as the backup has it.
fn existed(statement: &str) -> String {
    match subject_of(statement) {
        Some(Subject::Role(name)) => format!(
            "role {name}: was there already, and now has the attributes, settings and memberships \
             of the backup"
        ),
        Some(Subject::Tablespace(name)) => format!("tablespace {name}: was there already"),
        None => format!("{}: was there already", head(statement)),
    }
}

fn is_creation(statement: &str) -> bool {
    statement.starts_with("CREATE ")
}

async fn inside_transaction(
    session: &Session,
    statement: &str,
) -> Result<Result<(), ServerSaid>, EngineError> {
    run(session, "SAVEPOINT one", "restore the globals").await?;
    let result = session.client.batch_execute(statement).await.map_err(ServerSaid::from);
    let after = match result {
        Ok(()) => "RELEASE one",
        Err(_) => "ROLLBACK TO one; RELEASE one",
    };
    run(session, after, "restore the globals").await?;
    Ok(result)
}

/// A tablespace is a directory, which no transaction takes back.
async fn outside_transaction(
    session: &Session,
    statement: &str,
) -> Result<Result<(), ServerSaid>, EngineError> {
    run(session, "COMMIT", "commit the roles").await?;
    let result = session.client.batch_execute(statement).await.map_err(ServerSaid::from);
    run(session, "BEGIN", "restore the globals").await?;
    Ok(result)
}

async fn run(session: &Session, statement: &str, action: &str) -> Result<(), EngineError> {
    session.client.batch_execute(statement).await.map_err(EngineError::query(action))
}

/// Keeps what is written, up to a bound.
struct Gather(Arc<Mutex<Vec<u8>>>);

impl AsyncWrite for Gather {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() + buf.len() > SCRIPT_BYTES {
            let message = "the dump of roles and tablespaces is implausibly large";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::FileTooLarge, message)));
        }
        kept.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
