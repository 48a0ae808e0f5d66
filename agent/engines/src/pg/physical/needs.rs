//! What a cluster needs of the host that it is restored on, asked of its server.

use std::collections::BTreeMap;
use std::time::Duration;

use drctl_model::{ClusterNeeds, DatabaseNeeds, Extension, LocaleProvider, TableFile, shown};
use tokio::time::{Instant, timeout_at};
use tokio_postgres::Row;

use super::memory::TAKEN;
use crate::common::EngineError;
use crate::pg::server::PgServer;
use crate::pg::server::session::Session;

/// The most tables whose files are named: every manifest holds them.
const MOST_TABLES: usize = 2000;

/// Asks the server what its cluster needs; what it does not tell within `patience` is noted and no
/// error, for the backup is as good without it. Connects to every database that takes connections,
/// in turn.
pub async fn cluster_needs(
    server: &PgServer,
    application_name: &str,
    patience: Duration,
) -> ClusterNeeds {
    let deadline = Instant::now() + patience;
    let late =
        |what: &str| format!("{what} could not be asked for within {} s", patience.as_secs());
    let mut needs = ClusterNeeds::default();
    let maintenance = &server.maintenance_database;
    let asked = async {
        let session = Session::open(server, maintenance, application_name).await?;
        let of_server = (libraries(&session).await, sizes(&session).await);
        Ok::<_, EngineError>((of_server, databases(&session).await?))
    };
    match timeout_at(deadline, asked).await {
        Ok(Ok(((libraries, sizes), databases))) => {
            // Whether it fits is seen when it is started, too.
            needs.sizes = sizes.unwrap_or_default();
            match libraries {
                Ok(libraries) => needs.libraries = Some(libraries),
                Err(error) => needs.unknown.push(said("the preloaded libraries", &error)),
            }
            needs.databases = databases;
        }
        Ok(Err(error)) => needs.unknown.push(said("the databases", &error)),
        Err(_) => needs.unknown.push(late("the databases")),
    }
    let mut room = MOST_TABLES;
    for database in &mut needs.databases {
        let asked = inside(server, &database.name, application_name, room);
        let what = format!("the extensions of {}", shown(&database.name, 100));
        match timeout_at(deadline, asked).await {
            Ok(Ok((extensions, tables))) => {
                room = room.saturating_sub(tables.len());
                (database.extensions, database.tables) = (Some(extensions), tables);
            }
            Ok(Err(error)) => needs.unknown.push(said(&what, &error)),
            Err(_) => {
                needs.unknown.push(late(&format!("{what} and of all behind it")));
                break;
            }
        }
    }
    needs
}

fn said(what: &str, error: &EngineError) -> String {
    use std::error::Error as _;
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    shown(&format!("{what} could not be asked for: {error}{cause}"), 500)
}

/// Only who may read all settings is told (`pg_read_all_settings`).
async fn libraries(session: &Session) -> Result<Vec<String>, EngineError> {
    let query = "SELECT pg_catalog.current_setting('shared_preload_libraries')";
    Ok(names(&session.text(query, "read shared_preload_libraries").await?))
}

/// What the server takes of memory when it starts.
async fn sizes(session: &Session) -> Result<BTreeMap<String, String>, EngineError> {
    let names = TAKEN.map(|(name, _, _)| name);
    let query = "SELECT name, pg_catalog.current_setting(name) FROM pg_catalog.pg_settings \
                 WHERE name = ANY ($1)";
    let failed = |error| EngineError::query("read the sizes of memory")(error);
    let rows = session.client.query(query, &[&&names[..]]).await.map_err(failed)?;
    let one = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?));
    rows.iter().map(one).collect::<Result<_, _>>().map_err(failed)
}

/// The names in a list as settings have it: parted by commas, some in double quotes.
fn names(list: &str) -> Vec<String> {
    let plain = |name: &str| name.trim().trim_matches('"').to_owned();
    list.split(',').map(plain).filter(|name| !name.is_empty()).collect()
}

/// One that cannot be connected to holds nothing that can be asked for.
const DATABASES: &str = "
    SELECT datname::text, datcollate::text, datctype::text,
           pg_catalog.to_jsonb(d) ->> 'datlocprovider',
           pg_catalog.to_jsonb(d) ->> 'datcollversion', oid
    FROM pg_catalog.pg_database d
    WHERE datallowconn AND datconnlimit <> -2 ORDER BY datname";

async fn databases(session: &Session) -> Result<Vec<DatabaseNeeds>, EngineError> {
    let failed = |error| EngineError::query("list the databases")(error);
    let rows = session.client.query(DATABASES, &[]).await.map_err(failed)?;
    let one = |row: &Row| {
        let provider = match row.try_get::<_, Option<&str>>(3)? {
            Some("i") => Some(LocaleProvider::Icu),
            Some("b") => Some(LocaleProvider::Builtin),
            _ => None,
        };
        Ok(DatabaseNeeds {
            name: row.try_get(0)?,
            collate: row.try_get(1)?,
            ctype: row.try_get(2)?,
            provider,
            collation_version: row.try_get(4)?,
            extensions: None,
            oid: row.try_get(5)?,
            tables: Vec::new(),
        })
    };
    rows.iter().map(one).collect::<Result<_, _>>().map_err(failed)
}

/// The files of a database's tables, the largest first.
const TABLES: &str = "
    SELECT pg_catalog.pg_relation_filenode(c.oid), n.nspname::text || '.' || c.relname::text
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm') AND c.relpersistence = 'p' AND c.oid >= 16384
      AND pg_catalog.pg_relation_filenode(c.oid) IS NOT NULL
    ORDER BY c.relpages DESC, c.oid LIMIT $1";

/// What is asked in one database: its extensions, and of its tables as many as there is `room` for.
async fn inside(
    server: &PgServer,
    database: &str,
    application_name: &str,
    room: usize,
) -> Result<(Vec<Extension>, Vec<TableFile>), EngineError> {
    let session = Session::open(server, database, application_name).await?;
    let query = "SELECT extname::text, extversion FROM pg_catalog.pg_extension ORDER BY extname";
    let failed = |error| EngineError::query("list the extensions")(error);
    let rows = session.client.query(query, &[]).await.map_err(failed)?;
    let one = |row: &Row| Ok(Extension { name: row.try_get(0)?, version: row.try_get(1)? });
    let extensions = rows.iter().map(one).collect::<Result<_, _>>().map_err(failed)?;
    let room = i64::try_from(room).unwrap_or(i64::MAX);
    // The backup is as good without; so is what is asked before it.
    let rows = session.client.query(TABLES, &[&room]).await.unwrap_or_default();
    let one =
        |row: &Row| Some(TableFile { file: row.try_get(0).ok()?, name: row.try_get(1).ok()? });
    Ok((extensions, rows.iter().filter_map(one).collect()))
}

#[cfg(test)]
mod tests {
    use drctl_model::SslMode;

    use super::*;

    #[tokio::test]
    async fn a_server_that_does_not_answer_holds_nothing_up() {
        // The kernel takes the connection, and nobody ever says a word on it.
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = silent.local_addr().unwrap().port();
        let server = PgServer {
            host: "127.0.0.1".into(),
            port,
            user: "nobody".into(),
            maintenance_database: "postgres".into(),
            password: None,
            sslmode: SslMode::Disable,
            ssl_root_cert: None,
            require_peer: None,
            bin_dir: None,
            runtime_dir: "/nonexistent".into(),
            options: Vec::new(),
            silence: crate::pg::server::SILENCE,
        };
        let began = std::time::Instant::now();
        let needs = cluster_needs(&server, "drctl/test", Duration::from_millis(50)).await;
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert!(needs.unknown.iter().any(|text| text.contains("the databases")), "{needs:?}");
    }

    #[test]
    fn lists_of_libraries_are_read() {
        assert_eq!(names(""), [""; 0]);
        assert_eq!(names("pg_stat_statements, \"$libdir/x\""), ["pg_stat_statements", "$libdir/x"]);
    }
}
