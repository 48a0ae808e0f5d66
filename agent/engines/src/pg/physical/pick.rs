//! Tables taken out of a restored cluster while it stands at its target.

use std::fs::File;
use std::path::Path;
use std::str::FromStr;

use drctl_model::{TableRows, shown};
use tokio::io::AsyncWriteExt as _;

use super::locks::{LOCK_WAIT, may_be_read};
use super::run::Recovering;
use crate::EngineError;
use crate::pg::counts::{begin, compare_with_dump, count};
use crate::pg::server::{quote_ident, quote_literal};
use crate::pg::session::Session;
use crate::pg::stream::{WatchedRead, Watcher};
use crate::pg::tables::{self, Table};
use crate::pg::walker::DumpWalker;
use crate::pg::{PgServer, tools};

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

/// Dumps one table, its partitions included, into the new file `to` (`pg_dump`'s custom format):
/// the exit status, the structure of the dump, and its rows against those that the server counts.
/// Gives the rows of each table that is in it. The server must stand still while this runs.
///
/// # Errors
/// [`EngineError::Config`] for a table that is not there; those of dumps. The file is then not to
/// be used.
pub async fn pick_table(
    recovering: &Recovering,
    wanted: &PickedTable,
    (file, to): (File, &Path),
    application_name: &str,
) -> Result<Vec<TableRows>, EngineError> {
    let server = &reader(recovering, wanted, application_name).await;
    let session = Session::open(server, &wanted.database, application_name).await?;
    let name = format!("{}.{}", quote_ident(&wanted.schema), quote_ident(&wanted.table));
    may_be_read(&session, (&name, &wanted.to_string())).await?;
    let tables = find(&session, wanted).await?;
    let version = session.version().await?;
    let found = tools::find(server, "pg_dump", &version).await?;
    let mut tool = session.reached().tool(&found, application_name, None);
    // Rows of a compressed dump could not be counted.
    tool = tool.args(&["--format=custom", "--compress=0", "--strict-names"]);
    // Nobody waits for ever: whoever works in it may hold a lock.
    tool = tool.arg(format!("--lock-wait-timeout={}", LOCK_WAIT.as_millis()));
    for table in &tables {
        tool = tool.arg(format!("--table={}", table.sql_name()));
    }
    let tool = tool.arg(format!("--dbname={}", server.conninfo(&wanted.database)));
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
        return Err(EngineError::Counts { database, differences });
    }
    Ok(counted.into_iter().map(|table| table.rows).collect())
}

/// The server for a role that may read all of the table: that which was let in, or else a superuser
/// that the cluster's own files name. A role that copies clusters need not be able to read a row.
async fn reader(recovering: &Recovering, wanted: &PickedTable, application: &str) -> PgServer {
    let own = recovering.server();
    let users = std::iter::once(own.user.clone()).chain(recovering.superusers());
    for user in users {
        let server = PgServer { user, ..own.clone() };
        let Ok(session) = Session::open(&server, &wanted.database, application).await else {
            continue;
        };
        // What is not there is told of as the role that was let in.
        let Ok(tables) = find(&session, wanted).await else { break };
        if tables::unreadable(&tables).is_empty() {
            return server;
        }
    }
    own.clone()
}

/// The table and its partitions, as `pg_dump` would lock them.
async fn find(session: &Session, wanted: &PickedTable) -> Result<Vec<Table>, EngineError> {
    let name = format!("{}.{}", quote_ident(&wanted.schema), quote_ident(&wanted.table));
    let missing = || EngineError::Config(format!("there is no table {wanted} at this point"));
    let query = format!(
        "SELECT pg_catalog.to_regclass({0})::oid UNION \
         SELECT relid::oid FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass({0}))",
        quote_literal(&name)
    );
    let failed = |error| EngineError::query("look for the table")(error);
    let rows = session.client.query(&query, &[]).await.map_err(failed)?;
    let ids: Vec<u32> = rows.iter().filter_map(|row| row.try_get(0).ok()).collect();
    let mut all = tables::list(&session.client).await?;
    all.retain(|table| ids.contains(&table.oid));
    let there = all.iter().any(|t| t.schema == wanted.schema && t.name == wanted.table);
    if there { Ok(all) } else { Err(missing()) }
}

#[cfg(test)]
mod tests {
    use super::*;

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
