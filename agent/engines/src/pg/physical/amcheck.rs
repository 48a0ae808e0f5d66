//! Whether the indexes and tables of a recovered cluster are sound, as PostgreSQL's own module `amcheck` tells:
//! the order of each B-tree, and what each row's header and attributes say.

use drctl_model::shown;
use tokio_postgres::error::SqlState;

use super::locks::LOCK_WAIT;
use super::run::Recovering;
use crate::common::EngineError;
use crate::pg::dump::databases;
use crate::pg::server::address::quote_ident;
use crate::pg::server::session::Session;

/// What is wrong is told of so many at most.
const TOLD: usize = 10;

/// Makes the module for as long as the transaction lasts, so that nothing of it stays.
const BEGIN: &str = "BEGIN READ WRITE; CREATE SCHEMA drctl_amcheck; CREATE EXTENSION amcheck WITH SCHEMA drctl_amcheck; \
    SET LOCAL search_path = pg_catalog; SET LOCAL row_security = off";

/// Whether the server has the module, where it is not made already.
const THERE: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_available_extensions WHERE name = 'amcheck'), \
    (SELECT n.nspname::text FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace \
     WHERE e.extname = 'amcheck')";

/// B-trees that hold rows, and whether the order of each is that of this host: not where its collation, or that of its
/// database, had another version where it was made.
const INDEXES: &str = "SELECT i.indexrelid, i.indexrelid::pg_catalog.regclass::text,
    NOT EXISTS (SELECT FROM unnest(i.indcollation) AS k(oid) JOIN pg_catalog.pg_collation c ON c.oid = k.oid
      WHERE c.collversion IS DISTINCT FROM pg_catalog.pg_collation_actual_version(c.oid)
        OR c.collprovider = 'd' AND EXISTS (SELECT FROM pg_catalog.pg_database d
          WHERE d.datname = pg_catalog.current_database()
            AND d.datcollversion IS DISTINCT FROM pg_catalog.pg_database_collation_actual_version(d.oid)))
  FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class r ON r.oid = i.indexrelid
  JOIN pg_catalog.pg_am a ON a.oid = r.relam
  WHERE a.amname = 'btree' AND r.relkind = 'i' AND r.relpersistence = 'p' AND i.indisvalid AND i.indisready
  ORDER BY 1";

/// Tables that hold rows.
const TABLES: &str = "SELECT r.oid, r.oid::pg_catalog.regclass::text FROM pg_catalog.pg_class r
  JOIN pg_catalog.pg_am a ON a.oid = r.relam
  WHERE a.amname = 'heap' AND r.relkind IN ('r', 'm', 't') AND r.relpersistence = 'p' ORDER BY 1";

/// What was looked at, and what is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Soundness {
    /// Indexes whose order was checked.
    pub indexes: u64,
    /// Tables whose rows were checked.
    pub tables: u64,
    /// Indexes by collations that have another version on this host: nothing can be told of their order here.
    pub other_collations: u64,
    /// What could not be checked for another reason, such as an operator class that fails.
    pub unchecked: u64,
    /// Databases of a server that has no such module.
    pub without: u64,
    /// What is wrong, with names.
    pub bad: Vec<String>,
}

impl Soundness {
    /// What of it was not checked, in sentences without names.
    #[must_use]
    pub fn gaps(&self) -> Vec<String> {
        let all = [
            (
                self.without,
                "databases were not checked by amcheck, which this server does not have",
            ),
            (
                self.other_collations,
                "indexes were not checked: their collations have another version on this host",
            ),
            (self.unchecked, "indexes or tables could not be checked by amcheck"),
        ];
        let told = all.iter().filter(|(count, _)| *count > 0);
        told.map(|(count, what)| format!("{count} {what}")).collect()
    }

    fn say(&mut self, text: String) {
        if self.bad.len() < TOLD {
            self.bad.push(shown(&text, 400));
        }
    }
}

impl Recovering {
    /// Checks all B-trees and tables of the cluster, which was promoted. Nothing that was made for it stays.
    ///
    /// # Errors
    /// [`ServerError::Connect`](crate::pg::server::ServerError::Connect) and its like; what is not sound is no error.
    pub async fn check_soundness(&self, application: &str) -> Result<Soundness, EngineError> {
        let server = self.as_superuser(application).await;
        let mut found = Soundness::default();
        let first = Session::open(&server, &server.maintenance_database, application).await?;
        for database in databases::all(&first.client).await? {
            let session = Session::open(&server, &database.reached, application).await?;
            check(&session, &database.name, &mut found).await?;
        }
        Ok(found)
    }
}

async fn check(session: &Session, name: &str, found: &mut Soundness) -> Result<(), EngineError> {
    let failed = |error| EngineError::query("check whether indexes and tables are sound")(error);
    let row = session.client.query_one(THERE, &[]).await.map_err(failed)?;
    let (available, made): (bool, Option<String>) =
        (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
    let begin = match &made {
        Some(_) => "BEGIN; SET LOCAL search_path = pg_catalog",
        None if available => BEGIN,
        None => {
            found.without += 1;
            return Ok(());
        }
    };
    // Whoever was there before may have something of that name: then it is not checked.
    if session.client.batch_execute(begin).await.is_err() {
        found.without += 1;
        return session.client.batch_execute("ROLLBACK").await.map_err(failed);
    }
    let schema = quote_ident(made.as_deref().unwrap_or("drctl_amcheck"));
    let wait = format!("SET LOCAL lock_timeout = {}", LOCK_WAIT.as_millis());
    session.client.batch_execute(&wait).await.map_err(failed)?;
    for row in session.client.query(INDEXES, &[]).await.map_err(failed)? {
        let (oid, index): (u32, String) =
            (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
        if !row.try_get::<_, bool>(2).map_err(failed)? {
            found.other_collations += 1;
            continue;
        }
        let ask =
            format!("SELECT {schema}.bt_index_check({oid}::pg_catalog.oid::pg_catalog.regclass)");
        match one(session, &ask).await? {
            Told::Sound => found.indexes += 1,
            Told::Bad(text) => found.say(format!("{name}: the index {index}: {text}")),
            Told::Unknown => found.unchecked += 1,
        }
    }
    for row in session.client.query(TABLES, &[]).await.map_err(failed)? {
        let (oid, table): (u32, String) =
            (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
        let ask = format!(
            "SELECT msg FROM {schema}.verify_heapam({oid}::pg_catalog.oid::pg_catalog.regclass, on_error_stop => true) \
             LIMIT 1"
        );
        match one(session, &ask).await? {
            Told::Sound => found.tables += 1,
            Told::Bad(text) => found.say(format!("{name}: the table {table}: {text}")),
            Told::Unknown => found.unchecked += 1,
        }
    }
    session.client.batch_execute("ROLLBACK").await.map_err(failed)
}

/// What a check of one tells.
enum Told {
    Sound,
    Bad(String),
    Unknown,
}

/// Asks one: by an error of corruption or by a row it is bad; any other error tells nothing.
async fn one(session: &Session, ask: &str) -> Result<Told, EngineError> {
    let failed = |error| EngineError::query("check whether indexes and tables are sound")(error);
    session.client.batch_execute("SAVEPOINT one").await.map_err(failed)?;
    let told = match session.client.query_opt(ask, &[]).await {
        Ok(None) => Told::Sound,
        // A check of an index gives nothing, as one row.
        Ok(Some(row)) => match row.try_get::<_, Option<String>>(0) {
            Ok(Some(text)) => Told::Bad(text),
            _ => Told::Sound,
        },
        Err(error) => match error.as_db_error() {
            Some(said) if is_corrupt(said.code()) => Told::Bad(said.message().to_owned()),
            Some(_) => Told::Unknown,
            None => return Err(failed(error)),
        },
    };
    session.client.batch_execute("ROLLBACK TO one; RELEASE one").await.map_err(failed)?;
    Ok(told)
}

fn is_corrupt(code: &SqlState) -> bool {
    *code == SqlState::INDEX_CORRUPTED || *code == SqlState::DATA_CORRUPTED
}
