//! Requests that failed for no permanent reason, sent again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use drctl_model::shown;
use object_store::path::Path;

use crate::error::whole;
use crate::silence::InFlight;
use crate::{Bucket, StoreError};

/// How often a request that failed for no permanent reason is sent in all.
const ATTEMPTS: u32 = 4;

/// The pause before the second attempt; it doubles from one to the next.
const PAUSE: Duration = Duration::from_millis(200);

impl Bucket {
    /// Bounded: at most [`ATTEMPTS`], only for errors that can pass.
    pub(crate) async fn retry<T, F>(&self, mut attempt: impl FnMut() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let (asked, mut pause) = (InFlight::new(), PAUSE);
        for _ in 1..ATTEMPTS {
            match attempt().await {
                Err(error) if !error.is_permanent() => {
                    let said = shown(&whole(&error), 500);
                    // Once for all that is asked of it: of each request it would say the same.
                    match self.fails.swap(true, Ordering::Relaxed) {
                        false => tracing::warn!("the store failed; trying again: {said}"),
                        true => tracing::debug!("the store failed again: {said}"),
                    }
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                done => {
                    asked.heard();
                    self.fails.fetch_and(done.is_err(), Ordering::Relaxed);
                    return done;
                }
            }
        }
        let done = attempt().await;
        if done.is_ok() {
            asked.heard();
        }
        done
    }

    /// Reads an object back that was just written, and compares. What differs or is not there is
    /// asked for again, as a request that failed: one answer may have been cut on its way.
    ///
    /// # Errors
    /// As [`get`](Self::get); [`StoreError::ReadBack`].
    pub async fn read_back(&self, key: &Path, bytes: &Bytes) -> Result<(), StoreError> {
        let mut pause = PAUSE;
        for _ in 1..ATTEMPTS {
            match self.get(key, bytes.len() as u64).await {
                Ok(found) if found == *bytes => return Ok(()),
                Ok(_) | Err(StoreError::TooLarge { .. } | StoreError::Missing { .. }) => {
                    tracing::warn!("{key} was read back otherwise than it was written: once more");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                Err(error) => return Err(error),
            }
        }
        match self.get(key, bytes.len() as u64).await {
            Ok(found) if found == *bytes => Ok(()),
            Ok(_) | Err(StoreError::TooLarge { .. }) => {
                Err(StoreError::ReadBack { key: key.clone() })
            }
            Err(error) => Err(error),
        }
    }
}
