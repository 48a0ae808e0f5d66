//! Whether what was restored is what was dumped: it is dumped once more, and both are compared.

use std::sync::PoisonError;

use super::create::Creation;
use super::waits::unblocked;
use crate::common::EngineError;
use crate::pg::dump::digest_database::digest_database;
use crate::pg::dump::equality::{Equality, compare};
use crate::pg::dump::{DatabaseTarget, DumpShape};

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
        let Creation { server, application, name, facts, .. } = &self.creation;
        let key = facts.digests.as_ref().map(|digests| digests.key);
        digest_database(server, (name, application), key, None).await
    }
}
