//! How fast WAL was replayed on this host the last time: what an estimate can go by.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::host::read_within;

/// The most bytes of it.
const MOST_BYTES: u64 = 4 << 10;

/// The file below the state directory.
const FILE: &str = "replay-rate.json";

/// Less WAL than this tells nothing: starting and looking take longer than the replay.
const ENOUGH: u64 = 64 << 20;

/// Bytes of WAL, and how long their replay took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Bytes of WAL.
    pub bytes: u64,
    /// Seconds, more than nothing.
    pub seconds: f64,
}

impl Rate {
    pub(super) fn new(bytes: u64, took: Duration) -> Self {
        Rate { bytes, seconds: took.as_secs_f64().max(0.001) }
    }

    /// How long the replay of so many bytes takes at this rate, in seconds.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn seconds_for(&self, bytes: u64) -> f64 {
        bytes as f64 * self.seconds / (self.bytes as f64).max(1.0)
    }

    /// Keeps it for the next plan on this host, where it tells something.
    pub(super) fn keep(&self, state_dir: &Path) {
        if self.bytes < ENOUGH {
            return;
        }
        // An estimate that is missing next time is no reason to fail now.
        if let Ok(text) = serde_json::to_vec(self) {
            let _ = crate::host::private::replace(&state_dir.join(FILE), text);
        }
    }
}

/// The rate of the last recovery on this host that replayed enough to tell one.
#[must_use]
pub fn last_rate(state_dir: &Path) -> Option<Rate> {
    let text = read_within(&state_dir.join(FILE), MOST_BYTES, Duration::ZERO).ok()?;
    let rate: Rate = serde_json::from_slice(&text).ok()?;
    let usable = rate.bytes >= ENOUGH && rate.seconds.is_finite() && rate.seconds > 0.0;
    usable.then_some(rate)
}
