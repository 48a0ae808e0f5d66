//! Tables of extensions whose rows no dump holds.
//!
//! `pg_dump` leaves what belongs to an extension to `CREATE EXTENSION`, and dumps only the rows
//! that the extension registers as its configuration. A table that was added to an extension later
//! on (`ALTER EXTENSION … ADD TABLE`) is lost with all of its rows.

use std::sync::{Arc, Mutex, PoisonError};

use tokio_postgres::Client;

use super::counts;
use super::tables::Table;
use crate::common::EngineError;
use crate::pg::server::session::Session;
use crate::pg::server::spelling::{bytes_in, spelled};

/// A table of an extension, with rows that a dump does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The schema it is in.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// The extension.
    pub extension: String,
    /// Whether it was added to the extension, which does not make it anew then.
    pub added: bool,
    /// How many rows it has, where that could be counted.
    pub rows: Option<u64>,
}

impl Member {
    /// What of it is lost, for people.
    #[must_use]
    pub fn text(&self, database: &str) -> String {
        let Member { schema, table, extension, added, rows } = self;
        let rows = rows.map_or_else(|| "rows".to_owned(), |rows| format!("{rows} rows"));
        let fate = match added {
            true => "it was added to the extension and is not restored at all",
            false => "CREATE EXTENSION makes it as it was at first",
        };
        format!(
            "{schema}.{table} of {database} belongs to the extension {extension}: pg_dump leaves its \
             {rows} out; {fate}"
        )
    }
}

/// Those of a backup, each with its database.
pub(crate) type Members = Arc<Mutex<Vec<(String, Member)>>>;

/// Why a backup is suspect for them, and what its operator should know. Only the latter has names.
pub(crate) fn told(members: &Members) -> (Option<String>, Vec<String>) {
    let members = members.lock().unwrap_or_else(PoisonError::into_inner);
    let text = "tables that were added to an extension hold rows that are not in it: its notes and \
                `drctl doctor` name them";
    let lost = members.iter().any(|(_, member)| member.added).then(|| text.to_owned());
    let notes = members.iter().map(|(database, member)| member.text(database)).collect();
    (lost, notes)
}

/// Those that hold anything. An extension's own script makes all in one transaction, or in one for
/// each update: a member that is alone in its own was added, unless all are (`pg_upgrade`). Types
/// are left aside: from 17 on a table's own are members with it.
fn query() -> String {
    let [schema, table, extension] =
        ["n.nspname::text", "c.relname::text", "e.extname::text"].map(bytes_in);
    format!(
        "
    SELECT c.oid, {schema}, {table}, {extension},
           d.xmin::text <> e.xmin::text AND own.alike = 1 AND own.most > 1,
           coalesce(pg_catalog.has_schema_privilege(n.oid, 'USAGE')
                    AND pg_catalog.has_table_privilege(c.oid, 'SELECT'), true)
           AND NOT coalesce(pg_catalog.row_security_active(c.oid), false)
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_depend d
        ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
        AND d.objsubid = 0 AND d.deptype = 'e'
        AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
    JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND e.oid >= 16384
    CROSS JOIN LATERAL (
        SELECT max(number) AS most, max(number) FILTER (WHERE made = d.xmin::text) AS alike
        FROM (SELECT m.xmin::text AS made, pg_catalog.count(*) AS number
              FROM pg_catalog.pg_depend m
              WHERE m.deptype = 'e' AND m.refobjid = e.oid AND m.refclassid = d.refclassid
                AND m.classid <> 'pg_catalog.pg_type'::pg_catalog.regclass
              GROUP BY 1) g) own
    WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND pg_catalog.pg_relation_size(c.oid) > 0
      AND NOT coalesce(c.oid = ANY (e.extconfig), false)
    ORDER BY c.oid"
    )
}

/// Those of the database that the session is in; their rows are not counted.
pub(crate) async fn list(client: &Client) -> Result<Vec<(Table, Member)>, EngineError> {
    let failed = |error| EngineError::query("list the tables of extensions")(error);
    let rows = client.query(&query(), &[]).await.map_err(failed)?;
    let member = |row: &tokio_postgres::Row| {
        let text = |at: usize| Ok::<_, tokio_postgres::Error>(spelled(row.try_get(at)?));
        let (schema, table) = (text(1)?, text(2)?);
        let of = Table {
            oid: row.try_get(0)?,
            schema: schema.clone(),
            name: table.clone(),
            has_rows: true,
            condition: String::new(),
            readable: row.try_get(5)?,
            policies: false,
            forced: false,
        };
        let (extension, added) = (text(3)?, row.try_get(4)?);
        Ok((of, Member { schema, table, extension, added, rows: None }))
    };
    rows.iter().map(member).collect::<Result<_, _>>().map_err(failed)
}

/// Those with rows, counted on the snapshot of the session's transaction: its last work.
pub(crate) async fn left_out(session: &Session) -> Result<Vec<Member>, EngineError> {
    let (mut found, mut counting) = (Vec::new(), true);
    for (table, mut member) in list(&session.client).await? {
        if table.readable && counting {
            match counts::count(session, &[table]).await {
                Ok(counted) => member.rows = counted.first().map(|one| one.rows.rows),
                // LOCK_NOT_AVAILABLE: no dump fails for it. The transaction is of no use then.
                Err(error) if error.sqlstate() == Some("55P03") => counting = false,
                Err(error) => return Err(error),
            }
        }
        if member.rows != Some(0) {
            found.push(member);
        }
    }
    Ok(found)
}
