//! Whether a restore can work, looked at before anything is touched.

use std::collections::HashSet;

use drctl_model::{DatabaseFacts, LocaleProvider, ProviderLocale};
use tokio_postgres::Row;

use super::databases;
use super::fit::{has_public, may_count};
use super::restore::all_whole;
use super::there::There;
use crate::common::EngineError;
use crate::pg::server::PgServer;
use crate::pg::server::ServerError;
use crate::pg::server::address::quote_ident;
use crate::pg::server::session::Session;
use crate::pg::server::spelling::{bytes_of, spelled};
use crate::pg::server::{FoundTool, major_of, tools};

/// The most things that an error lists.
const LISTED: usize = 20;

/// A database to be restored, and the name it shall have.
#[derive(Debug, Clone)]
pub struct RestoreDatabase<'a> {
    /// What the backup says of it.
    pub facts: &'a DatabaseFacts,
    /// Its name on the target.
    pub target_name: String,
    /// Whether it is there with all its rows already, and stays as it is.
    pub kept: bool,
}

/// What was found on a server that a restore can go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preflight {
    /// The server's version, such as `15.18`.
    pub server_version: String,
    /// The tool that will restore.
    pub pg_restore: FoundTool,
    /// Target databases that are not there and will be created.
    pub absent: Vec<String>,
    /// Target databases that are there and hold nothing.
    pub empty: Vec<String>,
    /// Whether our role is a superuser there: what a database runs while it is loaded is one then.
    pub superuser: bool,
    /// What may still go wrong or will be different, for people.
    pub notes: Vec<String>,
}

/// What a restore is to bring besides the databases that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// All that the backup holds: then the server must hold no other databases with content.
    pub whole: bool,
    /// Roles and tablespaces, which only a superuser can make.
    pub globals: bool,
    /// Only what is not there yet: roles and tablespaces that are there stay as they are.
    pub missing: bool,
}

/// Looks whether `wanted` can be restored. Changes nothing.
///
/// `dump_major` is the major version of the server that was backed up.
///
/// # Errors
/// [`ServerError::OlderServer`], [`ServerError::ToolMissing`], [`ServerError::VersionMismatch`],
/// [`ServerError::Permission`], [`EngineError::NotEmpty`],
/// [`DumpError::Unfinished`](crate::pg::dump::DumpError::Unfinished), and those of connecting.
pub async fn preflight(
    server: &PgServer,
    dump_major: Option<u32>,
    wanted: &[RestoreDatabase<'_>],
    Extent { whole, globals, missing }: Extent,
    application_name: &str,
) -> Result<Preflight, EngineError> {
    let maintenance = &server.maintenance_database;
    let session = Session::open(server, maintenance, application_name).await?;
    let version = session.version().await?;
    let server_version = tools::short(&version).to_owned();
    if let Some(dump) = dump_major.filter(|dump| major_of(&version) < Some(*dump)) {
        return Err(EngineError::from(ServerError::OlderServer { dump, server: server_version }));
    }
    let pg_restore = tools::find(server, "pg_restore", &version).await?;
    let names = target_names(wanted)?;
    let existing = names_of(&session, &shared_names("datname", "pg_database")).await?;
    let (empty, absent): (Vec<String>, Vec<String>) =
        names.iter().cloned().partition(|name| existing.contains(name));
    let there: Vec<&str> = empty.iter().map(String::as_str).collect();
    all_whole(&session, server, &there, application_name).await?;
    let mut found = Vec::new();
    let kept = |name: &str| wanted.iter().any(|one| one.kept && one.target_name == name);
    for name in empty.iter().filter(|name| !kept(name)) {
        found.extend(occupants(server, name, application_name).await?);
    }
    if whole {
        found.extend(strangers(&session, server, &names, application_name).await?);
    }
    if !found.is_empty() {
        return Err(EngineError::NotEmpty { found: bounded(found) });
    }
    if !absent.is_empty() {
        may_create(&session, server, globals).await?;
    }
    may_count(&session, server, wanted).await?;
    for database in wanted.iter().filter(|one| !one.kept && empty.contains(&one.target_name)) {
        has_public(server, database, application_name).await?;
    }
    let mut notes = notes(&session, wanted, &existing, globals).await?;
    if globals {
        notes.extend(There::on(&session).await?.note(&server.user, missing));
    }
    let superuser = has(&session, "rolsuper").await?;
    Ok(Preflight { server_version, pg_restore, absent, empty, superuser, notes })
}

/// Which of these databases are there, and whether each holds something.
///
/// # Errors
/// [`DumpError::Unfinished`](crate::pg::dump::DumpError::Unfinished), and those of connecting.
pub async fn existing(
    server: &PgServer,
    names: &[&str],
    application_name: &str,
) -> Result<Vec<(String, bool)>, EngineError> {
    let session = Session::open(server, &server.maintenance_database, application_name).await?;
    let existing = names_of(&session, &shared_names("datname", "pg_database")).await?;
    all_whole(&session, server, names, application_name).await?;
    let mut found = Vec::new();
    for name in names.iter().filter(|name| existing.contains(**name)) {
        let is_empty = occupants(server, name, application_name).await?.is_empty();
        found.push(((*name).to_owned(), !is_empty));
    }
    Ok(found)
}

fn target_names(wanted: &[RestoreDatabase<'_>]) -> Result<Vec<String>, EngineError> {
    let mut seen = HashSet::new();
    for RestoreDatabase { target_name, .. } in wanted {
        if !seen.insert(target_name) {
            let message = format!("two databases are to be restored as `{target_name}`");
            return Err(EngineError::Config(message));
        }
        if matches!(target_name.as_str(), "" | "template0" | "template1") {
            let message = format!("a database cannot be restored under the name `{target_name}`");
            return Err(EngineError::Config(message));
        }
    }
    Ok(wanted.iter().map(|database| database.target_name.clone()).collect())
}

pub(super) async fn names_of(
    session: &Session,
    query: &str,
) -> Result<HashSet<String>, EngineError> {
    let failed = |error| EngineError::query("look at the server")(error);
    let rows = session.client.query(query, &[]).await.map_err(failed)?;
    let name = |row: &Row| row.try_get(0).map(spelled);
    rows.iter().map(name).collect::<Result<_, _>>().map_err(failed)
}

/// Asks for names of the whole server.
pub(super) fn shared_names(column: &str, table: &str) -> String {
    format!(
        "SELECT CASE WHEN pg_catalog.getdatabaseencoding() IN ('UTF8', 'SQL_ASCII') THEN {} \
         ELSE pg_catalog.convert_to({column}::text, 'UTF8') END FROM pg_catalog.{table}",
        bytes_of(column)
    )
}

/// What somebody has made in a database: everything but the system's own and what extensions
/// that every database has brought along.
const OCCUPANTS: &str = "
    WITH mine AS (
        SELECT oid, nspname FROM pg_catalog.pg_namespace
        WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
    ), things AS (
        SELECT CASE relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view'
                   WHEN 'S' THEN 'sequence' WHEN 'c' THEN 'type' WHEN 'f' THEN 'foreign table'
                   ELSE 'table' END AS kind,
               nspname || '.' || relname AS name
        FROM pg_catalog.pg_class c JOIN mine ON mine.oid = relnamespace
        WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'c', 'f')
        UNION ALL
        SELECT 'function', nspname || '.' || proname
        FROM pg_catalog.pg_proc p JOIN mine ON mine.oid = pronamespace
        UNION ALL
        SELECT 'type', nspname || '.' || typname
        FROM pg_catalog.pg_type t JOIN mine ON mine.oid = typnamespace
        WHERE typtype IN ('d', 'e', 'r')
        UNION ALL
        SELECT kind, nspname || '.' || name FROM (
            SELECT 'operator', oprname, oprnamespace FROM pg_catalog.pg_operator
            UNION ALL
            SELECT 'operator family', opfname, opfnamespace FROM pg_catalog.pg_opfamily
            UNION ALL
            SELECT 'collation', collname, collnamespace FROM pg_catalog.pg_collation
            UNION ALL
            SELECT 'conversion', conname, connamespace FROM pg_catalog.pg_conversion
            UNION ALL
            SELECT 'text search configuration', cfgname, cfgnamespace FROM pg_catalog.pg_ts_config
            UNION ALL
            SELECT 'text search dictionary', dictname, dictnamespace FROM pg_catalog.pg_ts_dict
            UNION ALL
            SELECT 'text search parser', prsname, prsnamespace FROM pg_catalog.pg_ts_parser
            UNION ALL
            SELECT 'text search template', tmplname, tmplnamespace FROM pg_catalog.pg_ts_template
        ) named (kind, name, within) JOIN mine ON mine.oid = within
        UNION ALL
        SELECT 'schema', nspname FROM mine WHERE nspname <> 'public'
        UNION ALL
        SELECT 'extension', extname FROM pg_catalog.pg_extension WHERE oid >= 16384
        UNION ALL
        SELECT 'large object', oid::text FROM pg_catalog.pg_largeobject_metadata
        UNION ALL
        SELECT 'publication', pubname FROM pg_catalog.pg_publication
    )
    SELECT pg_catalog.convert_to(kind || ' ' || name, CASE pg_catalog.getdatabaseencoding()
                   WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END::name)
    FROM things ORDER BY kind, name LIMIT 20";

/// What a database holds, as `database shop: table public.orders`; nothing if it is empty.
pub(crate) async fn occupants(
    server: &PgServer,
    database: &str,
    application: &str,
) -> Result<Vec<String>, EngineError> {
    let session = Session::open(server, database, application).await?;
    let mut found: Vec<String> = names_of(&session, OCCUPANTS).await?.into_iter().collect();
    found.sort_unstable();
    Ok(found.into_iter().map(|thing| format!("database {database}: {thing}")).collect())
}

/// Databases that a whole server's restore does not expect; an empty one is no harm where it is
/// the one that every server has.
async fn strangers(
    session: &Session,
    server: &PgServer,
    names: &[String],
    application: &str,
) -> Result<Vec<String>, EngineError> {
    let mut found = Vec::new();
    for database in databases::list(&session.client).await? {
        let name = &database.name;
        if names.contains(name) {
            continue;
        }
        if *name == server.maintenance_database || name == "postgres" {
            found.extend(occupants(server, name, application).await?);
        } else {
            found.push(format!("database {name}"));
        }
    }
    Ok(found)
}

fn bounded(mut found: Vec<String>) -> Vec<String> {
    let more = found.len().saturating_sub(LISTED);
    found.truncate(LISTED);
    if more > 0 {
        found.push(format!("and {more} more"));
    }
    found
}

/// Whether our role has an attribute.
pub(super) async fn has(session: &Session, attribute: &str) -> Result<bool, EngineError> {
    let query =
        format!("SELECT ({attribute})::text FROM pg_catalog.pg_roles WHERE rolname = current_user");
    Ok(session.text(&query, "read the privileges of the role").await? == "true")
}

async fn may_create(
    session: &Session,
    server: &PgServer,
    globals: bool,
) -> Result<(), EngineError> {
    let attribute = if globals { "rolsuper" } else { "rolsuper OR rolcreatedb" };
    if has(session, attribute).await? {
        return Ok(());
    }
    let (action, right) = match globals {
        true => ("create roles and databases for others", "SUPERUSER"),
        false => ("create databases", "CREATEDB"),
    };
    Err(EngineError::from(ServerError::Permission {
        user: server.user.clone(),
        action: action.to_owned(),
        advice: format!("run `ALTER ROLE {} {right};`", quote_ident(&server.user)),
        source: None,
    }))
}

async fn notes(
    session: &Session,
    wanted: &[RestoreDatabase<'_>],
    existing: &HashSet<String>,
    globals: bool,
) -> Result<Vec<String>, EngineError> {
    let locales = format!(
        "SELECT {} FROM pg_catalog.pg_collation \
         WHERE collprovider = 'c' AND collcollate IS NOT NULL \
         UNION SELECT {} FROM pg_catalog.pg_database",
        bytes_of("collcollate"),
        bytes_of("datcollate")
    );
    let locales: HashSet<String> =
        names_of(session, &locales).await?.iter().map(|name| normal(name)).collect();
    let roles = names_of(session, &shared_names("rolname", "pg_roles")).await?;
    let mut notes = Vec::new();
    for RestoreDatabase { facts, target_name, kept } in wanted {
        if *kept {
            continue;
        }
        let present = existing.contains(target_name);
        for locale in HashSet::from([&facts.collate, &facts.ctype]) {
            if !present && !locales.contains(&normal(locale)) {
                notes.push(format!(
                    "database {target_name}: the locale {locale} seems to be missing on the \
                     server; install it there, or create the database by hand first"
                ));
            }
        }
        if !globals && !roles.contains(&facts.owner) {
            notes.push(format!(
                "database {target_name}: its owner {} does not exist here; restore the roles \
                 first, or restore without owners",
                facts.owner
            ));
        }
        if present {
            notes.extend(other_settings(session, facts, target_name).await?);
        }
        if present || *target_name != facts.name {
            notes.push(format!(
                "database {target_name}: settings, privileges and comment of the database itself \
                 are only restored under its own name into a server where it is absent"
            ));
        }
    }
    Ok(notes)
}

/// Where an existing database has another encoding or locale than the one that was dumped.
async fn other_settings(
    session: &Session,
    facts: &DatabaseFacts,
    name: &str,
) -> Result<Option<String>, EngineError> {
    let here = databases::list(&session.client).await?.into_iter().find(|d| d.name == name);
    let Some(here) = here else { return Ok(None) };
    let differs = here.encoding != facts.encoding
        || normal(&here.collate) != normal(&facts.collate)
        || normal(&here.ctype) != normal(&facts.ctype)
        || here.provider != facts.provider;
    Ok(differs.then(|| {
        format!(
            "database {name} is {} with {}/{}{}, but was backed up as {} with {}/{}{}",
            here.encoding,
            here.collate,
            here.ctype,
            provided(here.provider.as_ref()),
            facts.encoding,
            facts.collate,
            facts.ctype,
            provided(facts.provider.as_ref())
        )
    }))
}

fn provided(provider: Option<&ProviderLocale>) -> String {
    let by = |p: &ProviderLocale| match p.provider {
        LocaleProvider::Icu => format!(" by ICU as {}", p.locale),
        LocaleProvider::Builtin => format!(" by PostgreSQL as {}", p.locale),
    };
    provider.map(by).unwrap_or_default()
}

/// A locale's name in one spelling: `de_DE.UTF-8` and `de_DE.utf8` are the same.
fn normal(locale: &str) -> String {
    let locale = if locale == "POSIX" { "C" } else { locale };
    locale.to_lowercase().replace('-', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locales_are_compared_in_one_spelling() {
        assert_eq!(normal("de_DE.UTF-8"), normal("de_DE.utf8"));
        assert_eq!(normal("POSIX"), normal("C"));
        assert_ne!(normal("de_DE.UTF-8"), normal("de_AT.UTF-8"));
    }

    #[test]
    fn targets_must_be_different_and_no_templates() {
        let facts = DatabaseFacts {
            name: "shop".into(),
            owner: "shop".into(),
            encoding: "UTF8".into(),
            collate: "C".into(),
            ctype: "C".into(),
            ..DatabaseFacts::default()
        };
        let targets = |names: &[&str]| {
            let target = |name: &&str| RestoreDatabase {
                facts: &facts,
                target_name: (*name).to_owned(),
                kept: false,
            };
            target_names(&names.iter().map(target).collect::<Vec<_>>()).is_ok()
        };
        assert!(targets(&["a", "b"]));
        assert!(!targets(&["a", "a"]));
        assert!(!targets(&["template1"]));
        assert!(!targets(&[""]));
    }

    #[test]
    fn what_is_listed_is_bounded() {
        let found = bounded((0..30).map(|n| n.to_string()).collect());
        assert_eq!((found.len(), found[20].as_str()), (21, "and 10 more"));
    }
}
