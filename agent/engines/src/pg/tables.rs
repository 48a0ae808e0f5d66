//! The tables whose rows a dump holds.

use tokio_postgres::{Client, Row};

use super::server::quote_ident;
use crate::{EngineError, Unreadable};

/// A table that `pg_dump` would lock.
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
    SELECT c.oid, n.nspname::text, c.relname::text, c.relkind = 'r', coalesce(x.condition, ''),
           coalesce(pg_catalog.has_schema_privilege(n.oid, 'USAGE')
                    AND pg_catalog.has_table_privilege(c.oid, 'SELECT'), true),
           coalesce(pg_catalog.row_security_active(c.oid), false)
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

fn table(row: &Row) -> Result<Table, tokio_postgres::Error> {
    Ok(Table {
        oid: row.try_get(0)?,
        schema: row.try_get(1)?,
        name: row.try_get(2)?,
        has_rows: row.try_get(3)?,
        condition: row.try_get(4)?,
        readable: row.try_get(5)?,
        policies: row.try_get(6)?,
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
    Err(EngineError::Permission {
        user: user.to_owned(),
        action: format!("read {what}{table}{more} in database `{database}`"),
        advice,
        source: None,
    })
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
