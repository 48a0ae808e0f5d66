//! How far the replicas of a PostgreSQL server are behind.

use std::time::Duration;

use anyhow::{Context as _, Result};
use drctl_engines::pg;
use drctl_policies::Source;

use crate::host::Setup;

/// How long the furthest of them takes to replay WAL; zero where there is none.
///
/// # Errors
/// The server's; a role that may not see it.
pub(crate) async fn replica_lag(setup: &Setup, source: &Source) -> Result<Duration> {
    let server = setup.server(source)?;
    let lag = pg::replica_lag(&server, "drctl/replicas").await?;
    lag.context("the role may not see replicas: GRANT pg_read_all_stats (or pg_monitor) to it")
}
