//! What drills foretell of a restore, in words.

use std::fmt::Write as _;
use std::time::Duration;

use drctl_policies::rto::Forecast;
use serde_json::{Value, json};

use crate::host::figures::{count, span};

/// What drills foretell, for scripts.
pub(super) fn forecast_json(told: &Forecast) -> Value {
    let seconds = |ms: u64| Duration::from_millis(ms).as_secs_f64();
    json!({
        "p50_seconds": seconds(told.p50_ms), "p90_seconds": seconds(told.p90_ms),
        "drills": told.drills, "inside": told.inside.0, "foretold": told.inside.1,
        "breaks": told.breaks,
    })
}

/// The same for people.
pub(super) fn forecast_words(told: &Forecast) -> String {
    let seconds = |ms: u64| span(Duration::from_millis(ms).as_secs_f64());
    let mut text = format!(
        "half of such restores take {} or less, nine of ten {} or less (foretold by {}",
        seconds(told.p50_ms),
        seconds(told.p90_ms),
        count(told.drills, "drill")
    );
    match told.inside {
        (_, 0) => text.push_str(", too few to say how well)"),
        (inside, of) => {
            let _ = write!(text, "; {inside} of the last {of} took no longer)");
        }
    }
    text
}
