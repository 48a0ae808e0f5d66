//! The indexes that are missing over the log of a source, written.

use anyhow::Result;
use drctl_model::JobKind;

use crate::host::{AgentError, Setup, Stop};
use crate::jobs::run;
use crate::log::LogStore;

/// Writes the indexes that are missing over the log of the source `name`, as a job on record; gives how
/// many. Whoever stores log writes them as well: this makes up for what was cut off, or came in another
/// way. What is written meanwhile by another process counts as well.
///
/// # Errors
/// [`AgentError::UnknownSource`]; [`AgentError::NoSigningKey`]; [`AgentError::Interrupted`]; the store's.
pub(crate) async fn index(setup: &Setup, name: &str, stop: &Stop) -> Result<u64> {
    let id = setup.source(name)?.0;
    let indexing = Box::pin(async {
        let work = async { LogStore::open(setup, name).await?.index_all().await };
        tokio::select! {
            written = work => written,
            () = stop.requested() => Err(AgentError::Interrupted.into()),
        }
    });
    run(setup, (JobKind::LogIndex, vec![id.clone()]), indexing, |_, _| None).await
}
