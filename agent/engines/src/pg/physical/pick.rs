//! Tables taken out of a restored cluster while it stands at its target.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::str::FromStr;

use drctl_model::{TableRows, shown};
use tokio::io::AsyncWriteExt as _;

use super::locks::{LOCK_WAIT, may_be_read};
use super::run::Recovering;
use crate::common::EngineError;
use crate::pg::dump::DumpError;
use crate::pg::dump::DumpWalker;
use crate::pg::dump::counts::{begin, compare_with_dump, count};
use crate::pg::dump::stream::{WatchedRead, Watcher};
use crate::pg::dump::tables::{self, Table};
use crate::pg::physical::PhysicalError;
use crate::pg::server::address::{quote_ident, quote_literal};
use crate::pg::server::session::Session;
use crate::pg::server::spelling::{self, unspelled};
use crate::pg::server::{PgServer, ServerError, tools};

/// A table to be taken out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PickedTable {
    /// The database that it is in.
    pub database: String,
    /// The schema that it is in.
    pub schema: String,
    /// Its name.
    pub table: String,
}

impl FromStr for PickedTable {
    type Err = String;

    /// `DATABASE:SCHEMA.TABLE`, parted at the first colon and the first dot behind it; each name
    /// as the server has it, without quotes.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':').and_then(|(database, name)| {
            let (schema, table) = name.split_once('.')?;
            let all = [database, schema, table];
            all.iter().all(|part| !part.is_empty()).then(|| all.map(str::to_owned))
        });
        let [database, schema, table] =
            parts.ok_or_else(|| format!("`{}` is no DATABASE:SCHEMA.TABLE", shown(text, 100)))?;
        Ok(PickedTable { database, schema, table })
    }
}

impl std::fmt::Display for PickedTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}.{}", self.database, self.schema, self.table)
    }
}

/// Dumps one table, with its partitions and all that inherits from it, into the new file `to`
/// (`pg_dump`'s custom format): the exit status, the structure of the dump, and its rows against
/// those that the server counts. Gives the rows of each table that is in it. The server must stand
/// still while this runs.
///
/// # Errors
/// [`PhysicalError::NoTable`] for what is no table with rows; those of dumps. The file is then not
/// to be used.
pub async fn pick_table(
    recovering: &Recovering,
    wanted: &PickedTable,
    (file, to): (File, &Path),
    application_name: &str,
) -> Result<Vec<TableRows>, EngineError> {
    let server = &reader(recovering, wanted, application_name).await;
    let session = Session::open(server, &wanted.database, application_name).await;
    let session = session.map_err(|error| not_there(wanted, error))?;
    session.sees_damage(&wanted.database)?;
    let name = format!("{}.{}", quote_ident(&wanted.schema), quote_ident(&wanted.table));
    may_be_read(&session, (&name, &wanted.to_string())).await?;
    let (tables, notes) = find(&session, wanted).await?;
    for note in notes {
        tracing::warn!("{wanted}: {note}");
    }
    let version = session.version().await?;
    let found = tools::find(server, "pg_dump", &version).await?;
    let superuser = session.superuser;
    let asked = spelling::reached(&session.client).await;
    let reached = asked.map_err(EngineError::query("ask where we are"))?;
    let mut tool = session.reached().tool(&found, application_name, None, superuser);
    // Rows of a compressed dump could not be counted.
    tool = tool.args(&["--format=custom", "--compress=0", "--strict-names"]);
    // Nobody waits for ever: whoever works in it may hold a lock.
    tool = tool.arg(format!("--lock-wait-timeout={}", LOCK_WAIT.as_millis()));
    for table in &tables {
        tool = tool.arg(OsString::from_vec(unspelled(&format!("--table={}", table.sql_name()))));
    }
    let tool = tool.arg(server.dbname(&reached));
    let (output, running) = tool.start_writer()?;
    let failed = || format!("write {}", to.display());
    let mut file = tokio::fs::File::from_std(file);
    let watcher = Watcher::<DumpWalker>::new();
    let output = WatchedRead::new(Vec::new(), output, watcher.clone());
    let mut output = output.within("pg_dump", server.silence);
    let copied = tokio::io::copy(&mut output, &mut file).await;
    // Its own words tell more than what became of its output.
    running.wait_within(server.silence).await?.success()?;
    copied.map_err(EngineError::io(failed()))?;
    file.flush().await.map_err(EngineError::io(failed()))?;
    file.sync_all().await.map_err(EngineError::io(failed()))?;
    let dump = watcher.written("pg_dump", &wanted.to_string())?;
    begin(&session.client).await?;
    let counted = count(&session, &tables).await?;
    let differences = compare_with_dump(&counted, &dump);
    if !differences.is_empty() {
        let database = wanted.database.clone();
        return Err(EngineError::from(DumpError::Counts { database, differences }));
    }
    Ok(counted.into_iter().map(|table| table.rows).collect())
}

/// A database that is not there, or takes nobody in, is told of like a table that is not there.
fn not_there(wanted: &PickedTable, error: EngineError) -> EngineError {
    let what = match error.own() {
        Some(ServerError::NoDatabase { .. }) => {
            "is in a database that does not exist at this \
                                                 point"
        }
        // 55000: a template, or one that was made to take no connections.
        Some(ServerError::NoEntry { source, .. }) if source.sqlstate() == Some("55000") => {
            "is in a database that takes no connections"
        }
        _ => return error,
    };
    EngineError::from(PhysicalError::NoTable { name: wanted.to_string(), what })
}

/// The server for a role that may read all of the table: the role that was let in, or else a
/// superuser that the cluster's own files name. A role that takes base backups need not be able to
/// read a row.
async fn reader(recovering: &Recovering, wanted: &PickedTable, application: &str) -> PgServer {
    let own = recovering.server();
    let users = std::iter::once(own.user.clone()).chain(recovering.superusers());
    for user in users {
        let server = PgServer { user, ..own.clone() };
        let Ok(session) = Session::open(&server, &wanted.database, application).await else {
            continue;
        };
        // What is not there is told of as the role that was let in.
        let Ok((tables, _)) = find(&session, wanted).await else { break };
        if tables::unreadable(&tables).is_empty() {
            return server;
        }
    }
    own.clone()
}

/// `WITH`: a table's number and those of all below it, its partitions and what inherits from it. The
/// name is a literal.
pub(super) fn tree(name: &str) -> String {
    format!(
        "WITH RECURSIVE tree(oid) AS (SELECT pg_catalog.to_regclass({name})::oid UNION \
         SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree ON tree.oid = i.inhparent)"
    )
}

/// Something that goes by a table's name, or lies below a table.
struct Object {
    oid: u32,
    /// What is wrong with it; nothing for a table whose rows are there.
    odd: Option<&'static str>,
    name: String,
    is_wanted: bool,
    /// What it inherits from that does not come along.
    parents: Option<String>,
}

/// The table and all below it, as `pg_dump` would lock them; and what is to be known of what does not
/// come along.
async fn find(
    session: &Session,
    wanted: &PickedTable,
) -> Result<(Vec<Table>, Vec<String>), EngineError> {
    let objects = objects(session, wanted).await?;
    let no_table = |what: Option<&'static str>| {
        EngineError::from(PhysicalError::NoTable {
            name: wanted.to_string(),
            what: what.unwrap_or("does not exist at this point"),
        })
    };
    let Some(own) = objects.iter().find(|object| object.is_wanted) else {
        return Err(no_table(None));
    };
    if own.odd.is_some() {
        return Err(no_table(own.odd));
    }
    let mut all = tables::list(&session.client).await?;
    let there = |oid: u32| all.iter().any(|table| table.oid == oid);
    if !there(own.oid) {
        return Err(no_table(Some("is the system's own or an extension's")));
    }
    let mut notes = Vec::new();
    for object in &objects {
        let name = shown(&object.name, 200);
        if let (Some(odd), false) = (object.odd, object.is_wanted) {
            notes.push(format!("{name}, a partition or child of it, {odd}: it is not in the dump"));
        }
        if let Some(parents) = &object.parents {
            let parents = shown(parents, 200);
            notes.push(format!(
                "{name} inherits from {parents}, which is not in this dump: create it before you \
                 load this dump, or extract it instead, with all tables that inherit from it"
            ));
        }
    }
    let taken = |oid: u32| objects.iter().any(|object| object.oid == oid && object.odd.is_none());
    all.retain(|table| taken(table.oid));
    Ok((all, notes))
}

async fn objects(session: &Session, wanted: &PickedTable) -> Result<Vec<Object>, EngineError> {
    let name = format!("{}.{}", quote_ident(&wanted.schema), quote_ident(&wanted.table));
    let name = quote_literal(&name);
    let query = format!(
        "{} SELECT c.oid, c.relkind::text, c.relpersistence::text, \
                c.oid = pg_catalog.to_regclass({name})::oid, c.oid::pg_catalog.regclass::text, \
                (SELECT pg_catalog.string_agg(i.inhparent::pg_catalog.regclass::text, ', ') \
                 FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid AND NOT c.relispartition \
                      AND i.inhparent NOT IN (SELECT t.oid FROM tree t)) \
         FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid ORDER BY c.oid",
        tree(&name)
    );
    let failed = |error| EngineError::query("look for the table")(error);
    let rows = session.client.query(&query, &[]).await.map_err(failed)?;
    let object = |row: &tokio_postgres::Row| {
        let text = |at: usize| row.try_get::<_, String>(at);
        Ok(Object {
            oid: row.try_get(0)?,
            odd: odd(&text(1)?, &text(2)?),
            is_wanted: row.try_get(3)?,
            name: text(4)?,
            parents: row.try_get(5)?,
        })
    };
    rows.iter().map(object).collect::<Result<_, _>>().map_err(failed)
}

/// What keeps an object (`pg_class.relkind`, `relpersistence`) from being taken out as a table.
fn odd(kind: &str, persistence: &str) -> Option<&'static str> {
    Some(match (kind, persistence) {
        ("r" | "p", "p") => return None,
        ("r" | "p", "u") => "is an unlogged table: base backups and WAL do not hold its rows",
        ("r" | "p", _) => "is a temporary table",
        ("v", _) => "is a view, which has no rows of its own: name the tables that it reads",
        ("m", _) => "is a materialized view: name the tables that it reads",
        ("f", _) => "is a foreign table, whose rows are on another server",
        ("S", _) => "is a sequence: name the table that it belongs to",
        ("i" | "I", _) => "is an index: name the table that it belongs to",
        _ => "is no table",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_rows_to_take_out_is_called_what_it_is() {
        assert_eq!((odd("r", "p"), odd("p", "p")), (None, None));
        for (kind, persistence, word) in [
            ("r", "u", "unlogged"),
            ("p", "u", "unlogged"),
            ("v", "p", "a view"),
            ("m", "p", "materialized"),
            ("f", "p", "foreign"),
            ("S", "p", "sequence"),
            ("i", "p", "index"),
            ("c", "p", "no table"),
        ] {
            assert!(odd(kind, persistence).is_some_and(|text| text.contains(word)), "{kind}");
        }
    }

    #[test]
    fn a_database_that_is_not_there_is_told_of_like_a_table() {
        use crate::pg::server::ServerSaid;
        let wanted: PickedTable = "nodb:public.orders".parse().unwrap();
        let closed = |state: &str| ServerError::NoEntry {
            target: "x".into(),
            database: "nodb".into(),
            source: ServerSaid::with_state("no", state.to_owned()),
        };
        let cases = [
            (ServerError::NoDatabase { names: vec!["nodb".into()] }, "no_table"),
            (closed("55000"), "no_table"),
            (closed("22023"), "connect"),
        ];
        for (error, code) in cases {
            let told = not_there(&wanted, error.into());
            assert_eq!(told.code(), code, "{told}");
            assert_eq!(told.to_string().contains("nodb:public.orders"), code == "no_table");
        }
    }

    #[test]
    fn tables_are_named() {
        let picked: PickedTable = "shop:public.orders".parse().unwrap();
        assert_eq!(picked.to_string(), "shop:public.orders");
        assert_eq!((picked.schema.as_str(), picked.table.as_str()), ("public", "orders"));
        for text in ["", "orders", "public.orders", "shop:orders", ":a.b", "a:.b", "a:b."] {
            assert!(text.parse::<PickedTable>().is_err(), "{text}");
        }
    }
}
