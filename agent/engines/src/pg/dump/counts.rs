//! The rows of tables, counted by the server and compared.

use std::cmp::Ordering;
use std::fmt;

use bytes::Bytes;
use drctl_model::TableRows;
use futures_util::TryStreamExt as _;
use tokio_postgres::Client;

use super::DumpShape;
use super::code;
use super::guard::{Guard, Guarded};
use super::tables::{self, Table};
use crate::common::EngineError;
use crate::pg::server::PgServer;
use crate::pg::server::ServerError;
use crate::pg::server::ServerSaid;
use crate::pg::server::address::quote_ident;
use crate::pg::server::session::Session;
use crate::pg::server::spelling::{self, spelled};

/// A table whose rows are not those that were expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowDifference {
    /// The schema it is in.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// How many rows were expected; `None` for a table that was not.
    pub expected: Option<u64>,
    /// How many there are; `None` for a table that is not there.
    pub found: Option<u64>,
}

impl fmt::Display for RowDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} has ", self.schema, self.table)?;
        match (self.expected, self.found) {
            (Some(expected), Some(found)) => write!(f, "{found} rows instead of {expected}"),
            (Some(expected), None) => write!(f, "no data instead of {expected} rows"),
            (None, Some(found)) => write!(f, "{found} rows, but was not expected"),
            (None, None) => f.write_str("nothing"),
        }
    }
}

/// A table and its rows, as the server counted them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) oid: u32,
    pub(crate) rows: TableRows,
}

/// Compares what was backed up with what was restored. The order of the lists does not matter.
///
/// A table that was not expected and is empty is no difference: a backup taken from a standby
/// has unlogged tables without rows, and could not count them.
#[must_use]
pub fn compare_rows(expected: &[TableRows], found: &[TableRows]) -> Vec<RowDifference> {
    let (expected, found) = (sorted(expected), sorted(found));
    let (mut left, mut right) = (expected.iter().peekable(), found.iter().peekable());
    let mut differences = Vec::new();
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return differences,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => (&a.schema, &a.table).cmp(&(&b.schema, &b.table)),
        };
        let a = if order.is_le() { left.next() } else { None };
        let b = if order.is_ge() { right.next() } else { None };
        let (expected, found) = (a.map(|t| t.rows), b.map(|t| t.rows));
        let same = expected == found || (expected, found) == (None, Some(0));
        if let Some(table) = a.or(b).filter(|_| !same) {
            let (schema, table) = (table.schema.clone(), table.table.clone());
            differences.push(RowDifference { schema, table, expected, found });
        }
    }
}

fn sorted(rows: &[TableRows]) -> Vec<&TableRows> {
    let mut rows: Vec<&TableRows> = rows.iter().collect();
    rows.sort_unstable();
    rows
}

/// Compares what the server counted with what is in the dump, table by table.
///
/// By identifier: names in a dump are in the database's own encoding.
pub(crate) fn compare_with_dump(counted: &[Counted], dump: &DumpShape) -> Vec<RowDifference> {
    let mut left = dump.tables.clone();
    let mut differences = Vec::new();
    for Counted { oid, rows: TableRows { schema, table, rows } } in counted {
        let found = left.remove(oid).map(|table| table.rows);
        if found != Some(*rows) {
            let (schema, table) = (schema.clone(), table.clone());
            differences.push(RowDifference { schema, table, expected: Some(*rows), found });
        }
    }
    let unknown = left.into_values().map(|dumped| RowDifference {
        schema: dumped.schema,
        table: dumped.table,
        expected: None,
        found: Some(dumped.rows),
    });
    differences.extend(unknown);
    differences
}

/// How many tables are counted before their locks are given back.
const COUNTED_AT_ONCE: usize = 16;

/// Counts the rows of all tables with rows, sorted by schema and name; within a transaction.
///
/// A count locks each index of its table until the transaction ends, and a server has room for few
/// locks: each batch has a subtransaction, whose end gives them back. What the transaction itself
/// has locked stays locked.
pub(crate) async fn count(
    session: &Session,
    tables: &[Table],
) -> Result<Vec<Counted>, EngineError> {
    session.patiently(count_all(session, tables)).await
}

async fn count_all(session: &Session, tables: &[Table]) -> Result<Vec<Counted>, EngineError> {
    let (mut counted, client) = (Vec::new(), &session.client);
    let with_rows: Vec<&Table> = tables.iter().filter(|table| table.has_rows).collect();
    let sample = tables::sample(client).await?;
    let mut guard = Guard::beside(session).await?;
    for batch in with_rows.chunks(COUNTED_AT_ONCE) {
        let failed = |error| EngineError::query("count rows")(error);
        client.batch_execute("SAVEPOINT counting").await.map_err(failed)?;
        tables::lock(client, batch).await.map_err(|source| {
            EngineError::from(ServerError::Query {
                action: "lock tables to count their rows".to_owned(),
                source,
            })
        })?;
        for (table, way) in ways(client, guard.as_mut(), batch, sample).await? {
            let rows = count_one(client, table, &way).await?;
            let (schema, name) = (table.schema.clone(), table.name.clone());
            counted.push(Counted { oid: table.oid, rows: TableRows { schema, table: name, rows } });
        }
        let end = "ROLLBACK TO SAVEPOINT counting; RELEASE SAVEPOINT counting";
        client.batch_execute(end).await.map_err(failed)?;
    }
    counted.sort_unstable_by(|a, b| a.rows.cmp(&b.rows));
    Ok(counted)
}

/// How a table is counted.
enum Way {
    /// By this query.
    Query(String),
    /// Without a plan, which would work out functions of the table's owner as ourselves.
    Unplanned,
}

/// How the tables of a batch are counted. What belongs to others is planned here, while nobody can
/// add to it: the counts themselves hold nobody up. A plan that nobody guarded to its end is not used, and
/// none is made once the guard is gone.
async fn ways<'a>(
    client: &Client,
    guard: Option<&mut Guard>,
    batch: &[&'a Table],
    sample: &str,
) -> Result<Vec<(&'a Table, Way)>, EngineError> {
    let wanted: Vec<u32> = batch.iter().map(|table| table.oid).collect();
    let (Guarded { of_others, mut planned }, guard) = match guard {
        Some(guard) => (guard.hold(batch).await?, Some(&*guard)),
        None => {
            (Guarded { of_others: vec![], planned: code::planned(client, &wanted).await? }, None)
        }
    };
    let mut ways = Vec::new();
    for (number, table) in batch.iter().enumerate() {
        let (name, condition) = (table.sql_name(), &table.condition);
        let query = format!("SELECT pg_catalog.count(*) FROM ONLY {name} {sample} {condition}");
        let is_guarded = of_others.contains(&table.oid) && !planned.contains(&table.oid);
        if let Some(guard) = guard.filter(|_| is_guarded)
            && !guard.holds().await
        {
            planned.clone_from(&of_others);
        }
        let way = if condition.is_empty() && planned.contains(&table.oid) {
            Way::Unplanned
        } else if of_others.contains(&table.oid) {
            let cursor = format!("drctl_count_{number}");
            let declared = format!("DECLARE {cursor} NO SCROLL CURSOR FOR {query}");
            let action = || format!("plan to count the rows of {name}");
            let done = spelling::execute(client, &declared).await;
            done.map_err(|source| {
                EngineError::from(ServerError::Query { action: action(), source })
            })?;
            Way::Query(format!("FETCH 1 FROM {cursor}"))
        } else {
            Way::Query(query)
        };
        ways.push((*table, way));
    }
    if let Some(guard) = guard
        && !guard.let_go().await
    {
        let doubted = ways.iter_mut().filter(|(table, _)| of_others.contains(&table.oid));
        doubted
            .filter(|(table, _)| table.condition.is_empty())
            .for_each(|(_, way)| *way = Way::Unplanned);
    }
    Ok(ways)
}

async fn count_one(client: &Client, table: &Table, way: &Way) -> Result<u64, EngineError> {
    let query = match way {
        Way::Query(query) => query,
        Way::Unplanned => return count_unplanned(client, table).await,
    };
    let action = || format!("count the rows of {}", table.sql_name());
    let rows = spelling::number(client, query).await.map_err(EngineError::query(action()))?;
    Ok(rows.unsigned_abs())
}

/// By a copy of one column, whose rows end with a line each.
async fn count_unplanned(client: &Client, table: &Table) -> Result<u64, EngineError> {
    let name = table.sql_name();
    let action = || format!("count the rows of {name}");
    let failed = |error| EngineError::query(action())(error);
    let column = client.query_opt(NARROWEST, &[&table.oid]).await.map_err(failed)?;
    let column: Option<Vec<u8>> = column.map(|row| row.try_get(0)).transpose().map_err(failed)?;
    let columns = column.map(|column| format!("({})", quote_ident(&spelled(&column))));
    let statement = format!("COPY {name} {} TO STDOUT", columns.unwrap_or_default());
    let Ok(statement) = String::from_utf8(spelling::unspelled(&statement)) else {
        let text = "a function of the table's owner would run, and the table's name is not UTF-8: \
                    rename the table, or drop the index or constraint that calls the function";
        return Err(EngineError::from(ServerError::Query {
            action: action(),
            source: ServerSaid::new(text),
        }));
    };
    let copied = client.copy_out(&statement).await.map_err(failed)?;
    let ends = |bytes: Bytes| bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
    let rows = copied.try_fold(0, |rows, bytes| async move { Ok(rows + ends(bytes)) }).await;
    rows.map_err(failed)
}

/// The column of a table that is the least to copy.
const NARROWEST: &str = "
    SELECT pg_catalog.convert_to(attname::text, CASE pg_catalog.getdatabaseencoding()
               WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END::name)
    FROM pg_catalog.pg_attribute
    WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
    ORDER BY attlen < 0, attlen, attnum LIMIT 1";

/// Begins the transaction that counts on one snapshot.
pub(crate) async fn begin(client: &Client) -> Result<(), EngineError> {
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    client.batch_execute(begin).await.map_err(EngineError::query("begin to count"))
}

/// Counts the rows of every ordinary table of a database on one snapshot, sorted by schema and
/// name: the same tables that a backup counts.
///
/// # Errors
/// [`ServerError::Connect`] and its like where the server is not reached;
/// [`ServerError::Permission`] for a table that may not be read; [`ServerError::Query`].
pub async fn count_rows(
    server: &PgServer,
    database: &str,
    application_name: &str,
) -> Result<Vec<TableRows>, EngineError> {
    let session = Session::open(server, database, application_name).await?;
    session.sees_damage(database)?;
    begin(&session.client).await?;
    let tables = tables::list(&session.client).await?;
    tables::all_readable(&tables, database, &server.user)?;
    let counted = count(&session, &tables).await?;
    Ok(counted.into_iter().map(|table| table.rows).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::dump::DumpedTable;

    fn rows(list: &[(&str, u64)]) -> Vec<TableRows> {
        let row = |&(table, rows): &(&str, u64)| TableRows {
            schema: "public".into(),
            table: table.into(),
            rows,
        };
        list.iter().map(row).collect()
    }

    fn shown(differences: &[RowDifference]) -> Vec<String> {
        differences.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn differences_are_named() {
        type Rows<'a> = &'a [(&'a str, u64)];
        let cases: &[(&str, Rows<'_>, Rows<'_>, &[&str])] = &[
            ("both empty", &[], &[], &[]),
            ("equal, in another order", &[("a", 1), ("b", 2)], &[("b", 2), ("a", 1)], &[]),
            ("fewer", &[("a", 2)], &[("a", 1)], &["public.a has 1 rows instead of 2"]),
            ("gone", &[("a", 0)], &[], &["public.a has no data instead of 0 rows"]),
            ("new", &[], &[("a", 3)], &["public.a has 3 rows, but was not expected"]),
            ("new and empty", &[], &[("a", 0)], &[]),
            (
                "renamed",
                &[("a", 1), ("c", 1)],
                &[("b", 1), ("c", 1)],
                &[
                    "public.a has no data instead of 1 rows",
                    "public.b has 1 rows, but was not expected",
                ],
            ),
        ];
        for (name, expected, found, differences) in cases {
            let compared = compare_rows(&rows(expected), &rows(found));
            assert_eq!(shown(&compared), *differences, "{name}");
        }
    }

    #[test]
    fn a_dump_must_hold_exactly_the_counted_tables() {
        let counted: Vec<Counted> = rows(&[("a", 1), ("b", 2)])
            .into_iter()
            .zip(1..)
            .map(|(rows, oid)| Counted { oid, rows })
            .collect();
        let dumped = |rows| DumpedTable {
            schema: "s".into(),
            table: "t".into(),
            rows,
            digest: None,
            through: None,
            copy: None,
        };
        type Case<'a> = (&'a [(u32, u64)], &'a [&'a str]);
        let cases: &[Case<'_>] = &[
            (&[(1, 1), (2, 2)], &[]),
            (&[(1, 1)], &["public.b has no data instead of 2 rows"]),
            (&[(1, 1), (2, 3)], &["public.b has 3 rows instead of 2"]),
            (&[(1, 1), (2, 2), (3, 0)], &["s.t has 0 rows, but was not expected"]),
        ];
        for (tables, differences) in cases {
            let tables = tables.iter().map(|&(oid, rows)| (oid, dumped(rows))).collect();
            let dump = DumpShape { tables, ..DumpShape::default() };
            assert_eq!(shown(&compare_with_dump(&counted, &dump)), *differences);
        }
    }
}
