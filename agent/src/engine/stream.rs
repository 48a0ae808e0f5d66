//! The log of a source, streamed by its engine.

use anyhow::Result;
use drctl_model::JobKind;

use super::{StreamOptions, Streaming};
use crate::host::{AgentError, Setup, Stop};
use crate::jobs::run;
use crate::log::LogStore;

/// Streams the log of the source `name` into the bucket until somebody wishes for the end, as a job on
/// record. `say` tells people that it begins, and how.
///
/// # Errors
/// [`AgentError::UnknownSource`], [`AgentError::Usage`] for a source whose log nobody streams; then the
/// engine's and the store's.
pub(crate) async fn stream(
    setup: &Setup,
    name: &str,
    options: &StreamOptions,
    say: &dyn Fn(String),
    stop: &Stop,
) -> Result<()> {
    let (id, source) = setup.source(name)?;
    let engine = super::of(source);
    engine.has_log(name, "Nothing was done on the server")?;
    let streaming = async {
        let log_store = tokio::select! {
            log_store = LogStore::open(setup, name) => log_store?,
            () = stop.requested() => return Err(AgentError::Interrupted.into()),
        };
        let log_store = &log_store;
        engine.stream_log(&Streaming { setup, log_store, options, say, stop }).await
    };
    let streaming = Box::pin(streaming);
    run(setup, (JobKind::LogStream, vec![id.clone()]), streaming, |(), _| None).await
}
