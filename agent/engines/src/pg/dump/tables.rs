//! The tables whose rows a dump holds.

use std::borrow::Borrow;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Row};

use crate::common::EngineError;
use crate::pg::dump::Unreadable;
use crate::pg::server::ServerError;
use crate::pg::server::ServerSaid;
use crate::pg::server::address::quote_ident;
use crate::pg::server::spelling::{self, spelled};

/// How many tables one `LOCK TABLE` names.
const LOCKS_AT_ONCE: usize = 200;

/// A table that `pg_dump` would lock. Its names and its condition are [spelled].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) oid: u32,
    pub(crate) schema: String,
    pub(crate) name: String,
    /// Whether it holds rows itself, which a partitioned table does not.
    pub(crate) has_rows: bool,
    /// `WHERE …` for a table of an extension that registers it as configuration; else empty.
    pub(crate) condition: String,
    pub(crate) readable: bool,
    /// Whether policies would hide rows from us.
    pub(crate) policies: bool,
    /// Whether they do so for its owner too.
    pub(crate) forced: bool,
}

impl Table {
    pub(crate) fn sql_name(&self) -> String {
        format!("{}.{}", quote_ident(&self.schema), quote_ident(&self.name))
    }
}

/// The choice that `pg_dump` makes too: no temporary tables and none of the system's; of an
/// extension's tables only those that it registers as its configuration (an extension below
/// identifier 16384 is the server's own); on a standby no unlogged ones.
const LIST: &str = "
    SELECT c.oid, pg_catalog.convert_to(n.nspname::text, b.bytes),
           pg_catalog.convert_to(c.relname::text, b.bytes), c.relkind = 'r',
           pg_catalog.convert_to(coalesce(x.condition, ''), b.bytes),
           coalesce(pg_catalog.has_schema_privilege(n.oid, 'USAGE')
                    AND pg_catalog.has_table_privilege(c.oid, 'SELECT'), true),
           coalesce(pg_catalog.row_security_active(c.oid), false),
           c.relrowsecurity AND c.relforcerowsecurity
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_depend d
        ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
        AND d.objsubid = 0 AND d.deptype = 'e'
        AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
    LEFT JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
    LEFT JOIN LATERAL (
        SELECT e.extcondition[i] AS condition
        FROM pg_catalog.generate_subscripts(e.extconfig, 1) i WHERE e.extconfig[i] = c.oid
        LIMIT 1) x ON true
    CROSS JOIN (SELECT CASE pg_catalog.getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII'
                       ELSE 'UTF8' END::name AS bytes) b
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
      AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND (e.oid IS NULL OR (e.oid >= 16384 AND x.condition IS NOT NULL))
      AND NOT (c.relpersistence = 'u' AND pg_catalog.pg_is_in_recovery())
    ORDER BY c.oid";

/// Lists the tables of the database that the session is in.
pub(crate) async fn list(client: &Client) -> Result<Vec<Table>, EngineError> {
    let failed = |error| EngineError::query("list the tables")(error);
    let rows = client.query(LIST, &[]).await.map_err(failed)?;
    rows.iter().map(table).collect::<Result<_, _>>().map_err(failed)
}

/// How many tables are named whose policies hold for their owner too.
const FORCED_NAMED: usize = 20;

/// Those of which only a role above policies can count the rows.
pub(crate) fn forced(tables: &[Table]) -> Vec<String> {
    let forced = tables.iter().filter(|table| table.forced && table.has_rows);
    forced.take(FORCED_NAMED).map(|table| format!("{}.{}", table.schema, table.name)).collect()
}

fn table(row: &Row) -> Result<Table, tokio_postgres::Error> {
    let text = |at: usize| Ok(spelled(row.try_get(at)?));
    Ok(Table {
        oid: row.try_get(0)?,
        schema: text(1)?,
        name: text(2)?,
        has_rows: row.try_get(3)?,
        condition: text(4)?,
        readable: row.try_get(5)?,
        policies: row.try_get(6)?,
        forced: row.try_get(7)?,
    })
}

/// Locks the tables against those who would empty or change them, by name; an error where a name
/// has come to mean another relation than the one that was listed.
pub(crate) async fn lock(client: &Client, tables: &[impl Borrow<Table>]) -> Result<(), ServerSaid> {
    for batch in tables.chunks(LOCKS_AT_ONCE) {
        // ONLY keeps it from locking children that belong to roles we cannot read.
        let name = |table: &Table| format!("ONLY {}", table.sql_name());
        let names: Vec<String> = batch.iter().map(|table| name(table.borrow())).collect();
        let statement = format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", "));
        spelling::execute(client, &statement).await?;
        let wanted: Vec<u32> = batch.iter().map(|table| table.borrow().oid).collect();
        let missed = missed(client, &wanted).await?;
        if missed > 0 {
            let text = format!("{missed} tables were replaced while their locks were waited for");
            let state = SqlState::UNDEFINED_TABLE.code().to_owned();
            return Err(ServerSaid::with_state(text, state));
        }
    }
    Ok(())
}

/// How many of these relations this session has no lock on.
pub(crate) async fn missed(client: &Client, wanted: &[u32]) -> Result<i64, tokio_postgres::Error> {
    client.query_one(MISSED, &[&wanted]).await?.try_get(0)
}

/// How many of the relations we have no lock on. The names alone prove nothing: their owners can
/// exchange tables and views while we wait.
const MISSED: &str = "
    SELECT pg_catalog.count(*) FROM pg_catalog.unnest($1::pg_catalog.oid[]) wanted (oid)
    WHERE NOT EXISTS (
        SELECT FROM pg_catalog.pg_locks l
        WHERE l.locktype = 'relation' AND l.relation = wanted.oid AND l.granted
          AND l.pid = pg_catalog.pg_backend_pid())";

/// What keeps a count from executing a view that has taken the name of a table: nothing is to be
/// written where the server forbids it to this session (`restrict_nonsystem_relation_kind`). Older
/// ones take a sample, here of all rows, of tables alone.
pub(crate) async fn sample(client: &Client) -> Result<&'static str, EngineError> {
    let query = "SELECT pg_catalog.current_setting('restrict_nonsystem_relation_kind', true)";
    let failed = |error| EngineError::query("look at the session's settings")(error);
    let row = client.query_one(query, &[]).await.map_err(failed)?;
    let restricted: Option<&str> = row.try_get(0).map_err(failed)?;
    Ok(match restricted.is_some_and(|kinds| kinds.contains("view")) {
        true => "",
        false => "TABLESAMPLE SYSTEM (100)",
    })
}

/// The tables that the role may not read, or not all of.
pub(crate) fn unreadable(tables: &[Table]) -> Vec<Unreadable> {
    let hidden = tables.iter().filter(|table| !table.readable || table.policies);
    let unreadable = |table: &Table| Unreadable {
        schema: table.schema.clone(),
        table: table.name.clone(),
        policies: table.readable,
    };
    hidden.map(unreadable).collect()
}

/// An error if there is a table that the role may not read: half a dump is no backup.
pub(crate) fn all_readable(
    tables: &[Table],
    database: &str,
    user: &str,
) -> Result<(), EngineError> {
    let hidden = unreadable(tables);
    let Some(first) = hidden.first() else { return Ok(()) };
    let more = match hidden.len() {
        1 => String::new(),
        n => format!(" and {} more tables", n - 1),
    };
    let role = quote_ident(user);
    let (what, advice) = match first.policies {
        true => ("all rows of ", format!("run `ALTER ROLE {role} BYPASSRLS;`")),
        false => ("", format!("run `GRANT pg_read_all_data TO {role};`")),
    };
    let table = format!("{}.{}", first.schema, first.table);
    Err(EngineError::from(ServerError::Permission {
        user: user.to_owned(),
        action: format!("read {what}{table}{more} in database `{database}`"),
        advice,
        source: None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_told_with_what_to_grant() {
        let table = |readable, policies| Table {
            oid: 1,
            schema: "s".into(),
            name: "t".into(),
            has_rows: true,
            condition: String::new(),
            readable,
            policies,
            forced: false,
        };
        let cases = [
            (vec![], None),
            (vec![table(true, false)], None),
            (vec![table(false, false)], Some("pg_read_all_data")),
            (vec![table(false, true)], Some("pg_read_all_data")),
            (vec![table(true, false), table(true, true)], Some("BYPASSRLS")),
        ];
        for (tables, advice) in cases {
            let found = all_readable(&tables, "shop", "me");
            let hint = found.err().and_then(|error| error.hint());
            assert_eq!(hint.is_some(), advice.is_some(), "{tables:?}");
            assert!(hint.unwrap_or_default().contains(advice.unwrap_or_default()), "{tables:?}");
        }
    }
}
