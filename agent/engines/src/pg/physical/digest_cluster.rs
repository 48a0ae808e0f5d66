//! What a recovered cluster holds, as digests, while it stands at its target: two recoveries that lead to the same
//! position of the WAL must hold the same.

use std::collections::{BTreeMap, BTreeSet};

use drctl_model::{RowKey, shown};
use tokio_postgres::Row;

use super::locks::LOCK_WAIT;
use super::question::{Question, ask_all};
use super::run::Recovering;
use crate::common::EngineError;
use crate::pg::dump::DumpShape;
use crate::pg::dump::databases;
use crate::pg::dump::digest_database::digest_database;
use crate::pg::dump::equality::{Equality, compare};
use crate::pg::server::PgServer;
use crate::pg::server::address::{quote_ident, quote_literal};
use crate::pg::server::session::Session;
use crate::pg::server::spelling::{bytes_in, bytes_of};

use super::Undecided;

/// So many sequences are asked at once.
const AT_ONCE: usize = 200;

/// What a cluster holds: nothing of it can be read out of this.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClusterShape {
    databases: BTreeMap<String, DatabaseShape>,
    /// Catalogs that all databases share.
    shared: Catalogs,
    /// Databases that take no connections, beside the one that none takes.
    closed: u64,
    /// Transactions that were prepared and not decided.
    prepared: BTreeSet<(String, Option<String>)>,
}

/// A database: what a dump shows of it, and its catalogs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct DatabaseShape {
    dump: DumpShape,
    catalogs: Catalogs,
    /// Sequences, and relations that a dump leaves out, whose names cannot be said in a statement.
    unsaid: u64,
}

/// Catalogs by name: how many rows each has, and a digest of them.
type Catalogs = BTreeMap<String, (i64, String)>;

impl Recovering {
    /// Digests all that the cluster, which was promoted, holds: the rows of every table and large object by `key`,
    /// where sequences stand, and the rows of the catalogs. `prepared` are the transactions that wait for a decision:
    /// they are rolled back, so that none keeps a table locked. Nobody else may work in it meanwhile.
    ///
    /// # Errors
    /// [`ServerError::Connect`](crate::pg::server::ServerError::Connect) and its like; what `pg_dump` fails by.
    pub async fn digest_cluster(
        &self,
        key: RowKey,
        prepared: &[Undecided],
        application: &str,
    ) -> Result<ClusterShape, EngineError> {
        let server = self.as_superuser(application).await;
        for one in prepared {
            let database = one.database.as_ref().unwrap_or(&server.maintenance_database);
            roll_back(&server, (&one.gid, database), application).await?;
        }
        let first = Session::open(&server, &server.maintenance_database, application).await?;
        let mut shape = ClusterShape {
            shared: catalogs(&first, true).await?.0,
            closed: closed(&first).await?,
            prepared: prepared.iter().map(Undecided::named).collect(),
            ..ClusterShape::default()
        };
        for database in databases::all(&first.client).await? {
            let session = Session::open(&server, &database.reached, application).await?;
            // Nobody waits for ever for whoever may have locked something.
            let of = (database.name.as_str(), application);
            let mut dump = digest_database(&server, of, Some(key), Some(LOCK_WAIT)).await?;
            let (stands, unsaid) = sequences(&session).await?;
            dump.stands = stands;
            let (catalogs, odd) = catalogs(&session, false).await?;
            let unsaid = unsaid + odd;
            shape.databases.insert(database.name, DatabaseShape { dump, catalogs, unsaid });
        }
        Ok(shape)
    }

    /// Asks what an operator wants to know of it: of each question the answer, or what kept it from being given.
    pub async fn ask_all(
        &self,
        questions: &[Question],
        application: &str,
    ) -> Vec<Result<Option<String>, EngineError>> {
        ask_all(&self.as_superuser(application).await, questions).await
    }

    /// The server for a superuser that the cluster's own files name, or else for the role that was let in.
    pub(super) async fn as_superuser(&self, application: &str) -> PgServer {
        let own = self.server();
        for user in self.superusers() {
            let server = PgServer { user, ..own.clone() };
            if Session::open(&server, &server.maintenance_database, application).await.is_ok() {
                return server;
            }
        }
        own.clone()
    }
}

impl ClusterShape {
    /// Compares a cluster with what it has to be.
    #[must_use]
    pub fn compared_with(&self, expected: &ClusterShape) -> Equality {
        let mut found = Equality::default();
        let names: BTreeSet<&String> =
            expected.databases.keys().chain(self.databases.keys()).collect();
        for name in names {
            match (expected.databases.get(name), self.databases.get(name)) {
                (Some(expected), Some(there)) => found.take(name, there.compared_with(expected)),
                (Some(_), None) => found.say(format!("the database {} is missing", told(name))),
                _ => found.say(format!("the database {} should not be there", told(name))),
            }
        }
        catalogs_compared(&mut found, &self.shared, &expected.shared);
        if self.prepared != expected.prepared {
            found.say("other transactions are prepared".to_owned());
        }
        if expected.closed > 0 {
            let text = format!("{} databases that take no connections", expected.closed);
            found.count(text);
        }
        found
    }
}

impl DatabaseShape {
    fn compared_with(&self, expected: &DatabaseShape) -> Equality {
        let mut found = compare(&expected.dump, &self.dump, true);
        catalogs_compared(&mut found, &self.catalogs, &expected.catalogs);
        if expected.unsaid > 0 {
            found.count(format!(
                "{} sequences or others: their names are not UTF-8",
                expected.unsaid
            ));
        }
        found
    }
}

impl Undecided {
    fn named(&self) -> (String, Option<String>) {
        (self.gid.clone(), self.database.clone())
    }
}

fn told(name: &str) -> String {
    shown(name, 100)
}

fn catalogs_compared(found: &mut Equality, there: &Catalogs, expected: &Catalogs) {
    let names: BTreeSet<&String> = expected.keys().chain(there.keys()).collect();
    for name in names {
        match (expected.get(name), there.get(name)) {
            (Some((rows, digest)), Some((now, other))) if rows == now => {
                if digest != other {
                    found.say(format!("{name} has {rows} rows, and not the same ones"));
                }
            }
            (Some((rows, _)), Some((now, _))) => {
                found.say(format!("{name} has {now} rows instead of {rows}"));
            }
            _ => found.say(format!("only one of them has {name}")),
        }
    }
}

/// Databases that nobody can log in to, but for `template0`: a limit of -2 marks one that was left half dropped.
async fn closed(session: &Session) -> Result<u64, EngineError> {
    let query = "SELECT pg_catalog.count(*) FROM pg_catalog.pg_database \
                 WHERE (NOT datallowconn OR datconnlimit = -2) AND datname <> 'template0'";
    let row = session.client.query_one(query, &[]).await;
    let count: Result<i64, _> = row.and_then(|row| row.try_get(0));
    let count = count.map_err(EngineError::query("count the databases"))?;
    Ok(u64::try_from(count).unwrap_or_default())
}

/// The rows of every catalog of the database, or of those that all databases share; in a database also of whatever a
/// dump leaves out: materialized views, tables of extensions and of `information_schema`, and tables with columns that
/// are generated. Large objects are digested by the dump.
///
/// The digests of rows are added up, so that their order does not matter; both halves of each, so that a sum
/// says as much as one of them. What a row is as text nobody can define anew: it is that of a row without a type, byte
/// for byte.
async fn catalogs(session: &Session, shared: bool) -> Result<(Catalogs, u64), EngineError> {
    let failed = |error| EngineError::query("digest the catalogs")(error);
    let query = relations(shared);
    let rows = session.client.query(&query, &[]).await.map_err(failed)?;
    let names: Result<Vec<Vec<u8>>, _> = rows.iter().map(|row| row.try_get(0)).collect();
    let (mut all, mut unsaid) = (Catalogs::new(), 0);
    let row = bytes_of("ROW(t.*)");
    for name in names.map_err(failed)? {
        let Ok(name) = String::from_utf8(name) else {
            unsaid += 1;
            continue;
        };
        let query = format!(
            "SELECT pg_catalog.count(*), coalesce(pg_catalog.sum({})::pg_catalog.text, '0') || ':' || \
                    coalesce(pg_catalog.sum({})::pg_catalog.text, '0') \
             FROM (SELECT pg_catalog.sha256({row}) AS h FROM ONLY {name} t) d",
            number_at(0),
            number_at(8)
        );
        let row = session.client.query_one(&query, &[]).await.map_err(failed)?;
        let counted = (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
        all.insert(name, counted);
    }
    Ok((all, unsaid))
}

/// Asks which relations are digested by the server, each as a statement names it.
fn relations(shared: bool) -> String {
    let name = bytes_in("pg_catalog.format('%I.%I', n.nspname, c.relname)");
    let which = match shared {
        true => "c.relkind = 'r' AND c.relisshared",
        false => {
            "NOT c.relisshared AND (c.relkind = 'm' OR c.relkind = 'r' AND ( \
                n.nspname IN ('pg_catalog', 'information_schema') \
                OR EXISTS (SELECT FROM pg_catalog.pg_depend d \
                           WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass \
                             AND d.objid = c.oid AND d.deptype = 'e') \
                OR EXISTS (SELECT FROM pg_catalog.pg_attribute a \
                           WHERE a.attrelid = c.oid AND a.attgenerated = 's')))"
        }
    };
    format!(
        "SELECT {name} FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relpersistence = 'p' AND c.relispopulated AND c.relname <> 'pg_largeobject' AND {which} \
           AND pg_catalog.has_table_privilege(c.oid, 'SELECT') ORDER BY c.oid"
    )
}

/// Eight bytes of a digest `h` as a number: an expression.
fn number_at(byte: usize) -> String {
    let byte_at = |n: usize| {
        let at = byte + n;
        format!("(pg_catalog.get_byte(h, {at})::pg_catalog.int8 << {})", 8 * n)
    };
    let bytes: Vec<String> = (0..8).map(byte_at).collect();
    format!("({})::pg_catalog.numeric", bytes.join(" | "))
}

/// Where each sequence stands by the WAL, by schema and name; and how many have a name that cannot be said.
///
/// The WAL of a sequence is ahead of it, and after a replay it stands where the WAL was: `log_cnt` tells
/// how many values that is (`SEQ_LOG_VALS` in `sequence.c`).
async fn sequences(
    session: &Session,
) -> Result<(BTreeMap<(Vec<u8>, Vec<u8>), Vec<u8>>, u64), EngineError> {
    let failed = |error| EngineError::query("ask where sequences stand")(error);
    let (schema, name) = (bytes_in("n.nspname::text"), bytes_in("c.relname::text"));
    let query = format!(
        "SELECT {schema}, {name}, s.seqincrement FROM pg_catalog.pg_sequence s \
         JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relpersistence = 'p' ORDER BY c.oid"
    );
    let rows = session.client.query(&query, &[]).await.map_err(failed)?;
    let all: Result<Vec<_>, _> = rows.iter().map(named).collect();
    let all = all.map_err(failed)?;
    let (said, unsaid): (Vec<_>, Vec<_>) = all.iter().partition(|one| one.relation().is_some());
    let mut stands = BTreeMap::new();
    for some in said.chunks(AT_ONCE) {
        let of_one = |(n, one): (usize, &&Sequence)| {
            let (increment, of) = (one.increment, one.relation().unwrap_or_default());
            format!(
                "SELECT {n} AS n, (last_value::pg_catalog.numeric + CASE WHEN is_called \
                        THEN log_cnt::pg_catalog.numeric * {increment} ELSE 0 END)::pg_catalog.text \
                        || CASE WHEN is_called THEN '' ELSE ' (not called)' END AS at FROM {of}"
            )
        };
        let each: Vec<String> = some.iter().enumerate().map(of_one).collect();
        let query = format!("{} ORDER BY n", each.join(" UNION ALL "));
        let rows = session.client.query(&query, &[]).await.map_err(failed)?;
        for (one, row) in some.iter().zip(&rows) {
            let at: String = row.try_get(1).map_err(failed)?;
            stands.insert((one.schema.clone(), one.name.clone()), at.into_bytes());
        }
    }
    Ok((stands, unsaid.len() as u64))
}

/// A sequence, with the bytes of its names.
struct Sequence {
    schema: Vec<u8>,
    name: Vec<u8>,
    increment: i64,
}

impl Sequence {
    /// As a statement names it; nothing where it cannot be said.
    fn relation(&self) -> Option<String> {
        let said = |bytes| std::str::from_utf8(bytes).ok().map(quote_ident);
        Some(format!("{}.{}", said(&self.schema)?, said(&self.name)?))
    }
}

fn named(row: &Row) -> Result<Sequence, tokio_postgres::Error> {
    Ok(Sequence { schema: row.try_get(0)?, name: row.try_get(1)?, increment: row.try_get(2)? })
}

/// Rolls back a transaction that was prepared, in the database in which that can be done.
pub(super) async fn roll_back(
    server: &PgServer,
    (gid, database): (&str, &str),
    application: &str,
) -> Result<(), EngineError> {
    let session = Session::open(server, database, application).await?;
    let statement = format!("ROLLBACK PREPARED {}", quote_literal(gid));
    let done = session.client.batch_execute(&statement).await;
    done.map_err(EngineError::query("roll back a prepared transaction"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::dump::DumpedTable;

    fn cluster() -> ClusterShape {
        let mut shape = ClusterShape::default();
        let database = shape.databases.entry("shop".to_owned()).or_default();
        let table = DumpedTable {
            schema: "public".to_owned(),
            table: "orders".to_owned(),
            rows: 2,
            digest: Some(drctl_model::RowDigest::default()),
            through: None,
            copy: Some("COPY public.orders (id) FROM stdin;".to_owned()),
        };
        database.dump.tables.insert(1, table);
        database.dump.stands.insert((b"public".to_vec(), b"ids".to_vec()), b"33".to_vec());
        database.catalogs.insert("pg_proc".to_owned(), (3, "1:2".to_owned()));
        shape.shared.insert("pg_authid".to_owned(), (2, "3:4".to_owned()));
        shape
    }

    #[track_caller]
    fn unlike(change: impl FnOnce(&mut ClusterShape)) -> String {
        let mut other = cluster();
        change(&mut other);
        let found = other.compared_with(&cluster());
        assert_eq!(found.unlike.len(), 1, "{found:?}");
        found.unlike[0].clone()
    }

    #[test]
    fn the_same_cluster_is_equal_and_whatever_differs_is_named() {
        let same = cluster().compared_with(&cluster());
        assert_eq!((same.tables, same.rows, same.unlike.len(), same.counted.len()), (1, 2, 0, 0));
        fn shop(all: &mut ClusterShape) -> &mut DatabaseShape {
            all.databases.get_mut("shop").unwrap()
        }
        let fewer = |all: &mut ClusterShape| {
            shop(all).dump.tables.values_mut().for_each(|table| table.rows = 1);
        };
        assert_eq!(unlike(fewer), "shop: public.orders has 1 rows instead of 2");
        let moved = |all: &mut ClusterShape| {
            shop(all).dump.stands.values_mut().for_each(|at| *at = b"1".to_vec());
        };
        let text = "shop: the sequence public.ids does not stand where it stood";
        assert_eq!(unlike(moved), text);
        let another = |all: &mut ClusterShape| {
            shop(all).catalogs.insert("pg_proc".to_owned(), (3, "1:9".to_owned()));
        };
        assert_eq!(unlike(another), "shop: pg_proc has 3 rows, and not the same ones");
        let roles = |all: &mut ClusterShape| {
            all.shared.insert("pg_authid".to_owned(), (1, "3:4".to_owned()));
        };
        assert_eq!(unlike(roles), "pg_authid has 1 rows instead of 2");
        assert_eq!(unlike(|all| all.databases.clear()), "the database shop is missing");
        let more = |all: &mut ClusterShape| {
            all.databases.insert("new".to_owned(), DatabaseShape::default());
        };
        assert_eq!(unlike(more), "the database new should not be there");
    }

    #[test]
    fn what_cannot_be_compared_is_said() {
        let (mut one, mut other) = (cluster(), cluster());
        (one.closed, other.closed) = (1, 1);
        one.databases.get_mut("shop").unwrap().unsaid = 2;
        let found = other.compared_with(&one);
        let texts = [
            "shop: 2 sequences or others: their names are not UTF-8",
            "1 databases that take no connections",
        ];
        assert_eq!(found.counted, texts);
        other.prepared = [("a".to_owned(), None)].into();
        assert_eq!(other.compared_with(&one).unlike, ["other transactions are prepared"]);
    }
}
