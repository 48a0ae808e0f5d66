//! An end for commands that can be ended anywhere, at a bucket that does not answer.

use std::pin::pin;
use std::time::Duration;

use anyhow::Result;
use drctl_store::{StoreError, silent_for};
use tokio::time::timeout;

use crate::host::Setup;

/// After how long a silence it is said that there is one.
const FIRST_WORD: Duration = Duration::from_secs(5);

/// How often it is looked whether anything was heard.
const LOOKED_EVERY: Duration = Duration::from_millis(500);

/// What work comes to, as long as the bucket answers: a slow one may take its time.
///
/// # Errors
/// Those of the work; [`StoreError::Silent`].
pub(super) async fn while_heard<T>(
    setup: &Setup,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    heard_within(setup, setup.patience(), work).await
}

/// The same with a patience of its own.
///
/// # Errors
/// Those of the work; [`StoreError::Silent`].
pub(super) async fn heard_within<T>(
    setup: &Setup,
    patience: Duration,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let (mut work, mut said) = (pin!(work), false);
    loop {
        if let Ok(done) = timeout(LOOKED_EVERY, work.as_mut()).await {
            return done;
        }
        let silent = silent_for();
        if silent >= patience {
            return Err(StoreError::Silent { seconds: silent.as_secs() }.into());
        }
        if silent >= FIRST_WORD.min(patience / 2) && !said {
            said = true;
            tracing::warn!(
                "{} does not answer: drctl waits up to {} s",
                setup.config.repository.url,
                patience.as_secs()
            );
        }
    }
}
