//! Whether the role and the database of a target can take the rows of a backup, known before any come.

use super::preflight::{RestoreDatabase, has};
use crate::common::EngineError;
use crate::pg::dump::DumpError;
use crate::pg::server::PgServer;
use crate::pg::server::ServerError;
use crate::pg::server::address::quote_ident;
use crate::pg::server::session::Session;

/// An error where rows could be loaded, and not be counted: policies hold for whoever owns the table too.
pub(super) async fn may_count(
    session: &Session,
    server: &PgServer,
    wanted: &[RestoreDatabase<'_>],
) -> Result<(), EngineError> {
    let forced = |one: &RestoreDatabase<'_>| {
        let table = one.facts.forced.iter().flatten().next().filter(|_| !one.kept)?;
        Some((table.clone(), one.target_name.clone()))
    };
    let Some((table, database)) = wanted.iter().find_map(forced) else { return Ok(()) };
    if has(session, "rolsuper OR rolbypassrls").await? {
        return Ok(());
    }
    Err(EngineError::from(ServerError::Permission {
        user: server.user.clone(),
        action: format!(
            "count the rows of {table} in database `{database}`, whose policies hold for its owner too \
             (FORCE ROW LEVEL SECURITY)"
        ),
        advice: format!(
            "run `ALTER ROLE {} BYPASSRLS;`, or restore as a superuser; nothing was changed",
            quote_ident(&server.user)
        ),
        source: None,
    }))
}

/// An error where tables of the backup are in the schema `public`, which no dump makes, and a database
/// that is there has none.
pub(super) async fn has_public(
    server: &PgServer,
    database: &RestoreDatabase<'_>,
    application: &str,
) -> Result<(), EngineError> {
    if !database.facts.tables.iter().any(|table| table.schema == "public") {
        return Ok(());
    }
    let name = &database.target_name;
    let session = Session::open(server, name, application).await?;
    let query = "SELECT (pg_catalog.to_regnamespace('public') IS NOT NULL)::text";
    match session.text(query, "look for the schema public").await?.as_str() {
        "true" => Ok(()),
        _ => Err(DumpError::NoPublic { name: name.clone() }.into()),
    }
}
