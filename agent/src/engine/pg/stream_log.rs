//! The WAL of a PostgreSQL server, streamed as it is written.

use anyhow::Result;
use drctl_engines::pg::Heartbeat;
use drctl_policies::Source;

use crate::engine::Streaming;
use crate::engine::wal::{Shipping, note_refusal, ship, usual_slot};

/// Streams it until somebody wishes for the end.
///
/// # Errors
/// The server's, the store's; WAL that is not the source's, which is noted.
pub(crate) async fn stream_log(source: &Source, streaming: &Streaming<'_>) -> Result<()> {
    let Streaming { setup, log_store, options, say, stop } = *streaming;
    let id = &log_store.source;
    let slot = options.slot.clone().unwrap_or_else(|| usual_slot(id));
    say(format!("streaming the WAL of {id} through the slot {slot}"));
    let kind = if options.heartbeat_table { Heartbeat::Table } else { Heartbeat::Message };
    let shipping = Shipping {
        slot,
        interval: options.interval,
        synchronous: options.synchronous,
        puts: options.puts,
        bears: options.bears,
        catch_up: options.catch_up.clone().filter(|_| !options.synchronous),
        heartbeat: options.heartbeat.map(|every| (every, kind)),
        held: options.held.clone(),
    };
    let server = setup.server(source)?;
    let streamed = ship(log_store, &server, &shipping, stop).await;
    if let Err(error) = &streamed {
        let whose = format!("streamed from {}", server.target());
        note_refusal(setup, &whose, error).await;
    }
    streamed
}
