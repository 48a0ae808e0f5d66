//! A look at a server for `doctor`: what a backup would find.

use super::databases::{self, Database};
use super::tables;
use super::{Member, members};
use crate::common::EngineError;
use crate::pg::dump::Unreadable;
use crate::pg::server::PgServer;
use crate::pg::server::place::known_cluster;
use crate::pg::server::session::Session;
use crate::pg::server::{FoundTool, tools};

/// What a server, our role on it and the tools here are like.
#[derive(Debug)]
pub struct ServerReport {
    /// The server's version, such as `15.18`.
    pub version: String,
    /// The system identifier of its cluster, or why that is not known.
    pub cluster: Result<u64, String>,
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// Why a backup would be refused before any database is looked into.
    pub refused: Option<EngineError>,
    /// The role that we are logged in as.
    pub role: RoleReport,
    /// Databases that take connections and are no templates.
    pub databases: Vec<DatabaseReport>,
    /// For each tool what was found, or why it was not.
    pub tools: Vec<(&'static str, Result<FoundTool, EngineError>)>,
}

impl ServerReport {
    /// Whether all of these databases can be dumped as far as they exist.
    ///
    /// # Errors
    /// [`ServerError::NoDatabase`](crate::pg::server::ServerError::NoDatabase), as a backup ends.
    pub fn has_all(&self, names: &[String]) -> Result<(), EngineError> {
        databases::all_there(names, |name| self.databases.iter().any(|one| one.name == name))
    }
}

/// What a role may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleReport {
    /// Its name.
    pub name: String,
    /// `SUPERUSER`.
    pub superuser: bool,
    /// `CREATEDB`.
    pub createdb: bool,
    /// `CREATEROLE`.
    pub createrole: bool,
    /// `BYPASSRLS`.
    pub bypassrls: bool,
    /// Whether it may read the passwords of roles.
    pub reads_passwords: bool,
}

/// A database, and what of it the role cannot read.
#[derive(Debug)]
pub struct DatabaseReport {
    /// Its name.
    pub name: String,
    /// Its size on disk in bytes.
    pub bytes: u64,
    /// How many tables a backup would hold.
    pub tables: usize,
    /// Those of them that cannot be read: a backup would fail.
    pub unreadable: Vec<Unreadable>,
    /// Tables of extensions that no dump holds, and that are not empty.
    pub members: Vec<Member>,
    /// The settings that hide damage from sessions there, and that we switch off.
    pub hiding: Vec<String>,
    /// Why it could not be looked into.
    pub error: Option<EngineError>,
}

const ROLE: &str = "
    SELECT rolname::text, rolsuper, rolcreatedb, rolcreaterole, rolbypassrls,
           pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT'),
           pg_catalog.pg_is_in_recovery()
    FROM pg_catalog.pg_roles WHERE rolname = current_user";

/// Looks at a server. Changes nothing.
///
/// # Errors
/// [`ServerError::Connect`](crate::pg::server::ServerError::Connect) and its like, and
/// [`ServerError::Query`](crate::pg::server::ServerError::Query) of the first session: what is
/// wrong with a database or a tool is part of the report.
pub async fn probe(server: &PgServer, application_name: &str) -> Result<ServerReport, EngineError> {
    let maintenance = &server.maintenance_database;
    let session = Session::open(server, maintenance, application_name).await?;
    let version = session.version().await?;
    let (role, in_recovery) = role(&session).await?;
    let cluster = known_cluster(&session).await;
    let refused = session.sees_damage(maintenance).err();
    let mut reports = Vec::new();
    for database in databases::list(&session.client).await? {
        reports.push(look_into(server, database, application_name).await);
    }
    let mut found = Vec::new();
    for name in ["pg_dump", "pg_dumpall", "pg_restore"] {
        found.push((name, tools::find(server, name, &version).await));
    }
    let version = tools::short(&version).to_owned();
    Ok(ServerReport {
        version,
        cluster,
        in_recovery,
        refused,
        role,
        databases: reports,
        tools: found,
    })
}

async fn role(session: &Session) -> Result<(RoleReport, bool), EngineError> {
    let failed = |error| EngineError::query("read the privileges of the role")(error);
    let row = session.client.query_one(ROLE, &[]).await.map_err(failed)?;
    let get = |index: usize| row.try_get::<_, bool>(index).map_err(failed);
    let role = RoleReport {
        name: row.try_get(0).map_err(failed)?,
        superuser: get(1)?,
        createdb: get(2)?,
        createrole: get(3)?,
        bypassrls: get(4)?,
        reads_passwords: get(5)?,
    };
    Ok((role, get(6)?))
}

async fn look_into(server: &PgServer, database: Database, application: &str) -> DatabaseReport {
    let mut report = DatabaseReport {
        name: database.name,
        bytes: 0,
        tables: 0,
        unreadable: Vec::new(),
        members: Vec::new(),
        hiding: Vec::new(),
        error: None,
    };
    report.error = fill(server, (&database.reached, &mut report), application).await.err();
    report
}

async fn fill(
    server: &PgServer,
    (reached, report): (&str, &mut DatabaseReport),
    application: &str,
) -> Result<(), EngineError> {
    let session = Session::open(server, reached, application).await?;
    let size = "SELECT pg_catalog.pg_database_size(pg_catalog.current_database())::text";
    let bytes = session.text(size, "ask for the size of the database").await?;
    report.bytes = bytes.parse().unwrap_or_default();
    let tables = tables::list(&session.client).await?;
    report.tables = tables.iter().filter(|table| table.has_rows).count();
    report.unreadable = tables::unreadable(&tables);
    let members = members::list(&session.client).await?;
    report.members = members.into_iter().map(|(_, member)| member).collect();
    // A role that may not switch it off backs up nothing.
    session.sees_damage(&report.name)?;
    report.hiding.clone_from(&session.hiding);
    Ok(())
}
