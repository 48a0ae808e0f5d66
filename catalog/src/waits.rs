//! For how long this process waits for others that have a catalog: once in full. Whoever holds it for
//! longer than that holds it for the next call too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::CatalogError;
use crate::open::PATIENCE;

/// For how long nobody waits in full again.
const AGAIN: Duration = Duration::from_secs(30);

/// How long is waited meanwhile: for one that is done at once.
const BRIEF: Duration =
    if cfg!(test) { Duration::from_millis(30) } else { Duration::from_millis(500) };

/// The catalogs that were waited for in vain, and until when.
static HELD: Mutex<BTreeMap<PathBuf, Instant>> = Mutex::new(BTreeMap::new());

/// How long to wait for a catalog where `usual` is what is waited for one.
pub(crate) fn patience(path: &Path, usual: Duration) -> Duration {
    let held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    match held.get(path) {
        Some(until) if Instant::now() < *until => usual.min(BRIEF),
        _ => usual,
    }
}

/// What a call came to that waited so long, and note taken of a wait in vain.
pub(crate) fn noted<T>(
    path: &Path,
    waited: Duration,
    done: Result<T, CatalogError>,
) -> Result<T, CatalogError> {
    if waited >= PATIENCE && matches!(done, Err(CatalogError::Busy { .. })) {
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(path.to_owned(), Instant::now() + AGAIN);
    }
    done
}
