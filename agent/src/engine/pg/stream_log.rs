//! The WAL of a PostgreSQL server, streamed as it is written.

use anyhow::Result;
use drctl_policies::Source;

use crate::engine::Streaming;
use crate::engine::wal::{note_refusal, ship};

/// Streams it until somebody wishes for the end.
///
/// # Errors
/// The server's, the store's; WAL that is not the source's, which is noted.
pub(crate) async fn stream_log(source: &Source, streaming: &Streaming<'_>) -> Result<()> {
    let Streaming { setup, log_store, shipping, stop } = *streaming;
    let server = setup.server(source)?;
    let streamed = ship(log_store, &server, shipping, stop).await;
    if let Err(error) = &streamed {
        let whose = format!("streamed from {}", server.target());
        note_refusal(setup, &whose, error).await;
    }
    streamed
}
