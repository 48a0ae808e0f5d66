//! Whether what was restored is what was dumped: it is dumped once more, and both are compared.

use std::sync::PoisonError;

use tokio::io::AsyncReadExt as _;

use super::create::Creation;
use super::waits::unblocked;
use crate::common::EngineError;
use crate::pg::dump::equality::{Equality, compare};
use crate::pg::dump::stream::{WatchedRead, Watcher};
use crate::pg::dump::{DatabaseTarget, DumpShape, DumpWalker};
use crate::pg::server::session::Session;
use crate::pg::server::{spelling, tools};

/// How much is read at once.
const AT_ONCE: usize = 256 << 10;

impl DatabaseTarget {
    /// Dumps the database once more and compares that with the dump that was restored: the rows of each table
    /// by their digests, large objects, where sequences stand, and the names of all that there is. Nothing
    /// where nothing was restored since the last time, or it was not [to be proven](super::RestoreOptions::prove).
    ///
    /// # Errors
    /// [`ServerError::Connect`](crate::pg::server::ServerError::Connect) and its like; what `pg_dump` fails by.
    pub async fn prove(&self) -> Result<Option<Equality>, EngineError> {
        let fed = self.fed.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(fed) = fed else { return Ok(None) };
        let Creation { server, application, name, .. } = &self.creation;
        let again = unblocked(server, application, name, self.dumped_again()).await?;
        Ok(Some(compare(&fed, &again, self.options.owner)))
    }

    async fn dumped_again(&self) -> Result<DumpShape, EngineError> {
        let creation = &self.creation;
        let (server, application) = (&creation.server, &creation.application);
        let session = Session::open(server, &server.maintenance_database, application).await?;
        let found = tools::find(server, "pg_dump", &session.version().await?).await?;
        let pgpass = server.pgpass(&found.version)?;
        let reached = spelling::reached_by(&session.client, &creation.name).await;
        let tool = session.reached().tool(&found, application, pgpass.as_ref(), session.superuser);
        let tool = tool.args(&["--format=custom", "--compress=0"]).arg(server.dbname(&reached));
        let key = creation.facts.digests.as_ref().map(|digests| digests.key);
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
        watcher.written("pg_dump", &format!("database {}", creation.name))
    }
}
