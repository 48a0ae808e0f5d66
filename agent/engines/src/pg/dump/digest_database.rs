//! A database dumped for nothing but what that shows of it: digests of its rows, and the names of all that it has.

use std::time::Duration;

use drctl_model::RowKey;
use tokio::io::AsyncReadExt as _;

use super::stream::{WatchedRead, Watcher};
use super::{DumpShape, DumpWalker};
use crate::common::EngineError;
use crate::pg::server::session::Session;
use crate::pg::server::{PgServer, spelling, tools};

/// How much is read at once.
const AT_ONCE: usize = 256 << 10;

/// Dumps the database `name`, as it is spelled, and keeps nothing of that but its shape, with digests of rows by
/// `key`. A lock that others hold is waited for as long as `lock_wait` says; without it, for ever.
///
/// # Errors
/// [`ServerError::Connect`](crate::pg::server::ServerError::Connect) and its like; what `pg_dump` fails by.
pub(in crate::pg) async fn digest_database(
    server: &PgServer,
    (name, application): (&str, &str),
    key: Option<RowKey>,
    lock_wait: Option<Duration>,
) -> Result<DumpShape, EngineError> {
    let session = Session::open(server, &server.maintenance_database, application).await?;
    let found = tools::find(server, "pg_dump", &session.version().await?).await?;
    let pgpass = server.pgpass(&found.version)?;
    let reached = spelling::reached_by(&session.client, name).await;
    let tool = session.reached().tool(&found, application, pgpass.as_ref(), session.superuser);
    let mut tool = tool.args(&["--format=custom", "--compress=0"]);
    if let Some(wait) = lock_wait {
        tool = tool.arg(format!("--lock-wait-timeout={}", wait.as_millis()));
    }
    let tool = tool.arg(server.dbname(&reached));
    let watcher = Watcher::by(DumpWalker::new().with_key(key).with_names());
    let (output, running) = tool.start_writer()?;
    let output = WatchedRead::new(Vec::new(), output, watcher.clone());
    let mut output = Box::pin(output.within("pg_dump", server.silence));
    let mut bytes = vec![0; AT_ONCE];
    let read = loop {
        match output.read(&mut bytes).await {
            Ok(0) => break Ok(()),
            Ok(_) => {}
            Err(error) => break Err(EngineError::io("read the output of pg_dump")(error)),
        }
    };
    drop(output);
    // It knows best why it wrote no more.
    running.wait_within(server.silence).await?.success()?;
    read?;
    watcher.written("pg_dump", &format!("database {name}"))
}
