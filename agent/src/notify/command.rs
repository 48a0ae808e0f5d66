//! A program of this host, which is handed the notice.

use std::path::Path;
use std::time::Duration;

use drctl_engines::{EngineError, hand_to};
use drctl_model::shown;
use serde_json::Value;

use super::Undelivered;
use crate::host::Failure;

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs it, with the notice as JSON on its standard input.
pub(super) async fn run(command: &[String], notice: &Value) -> Result<(), Undelivered> {
    let Some((program, args)) = command.split_first() else {
        return Err(Undelivered::at_all("`command` is empty"));
    };
    let input = format!("{notice}\n");
    let done = hand_to(Path::new(program), args, input.as_bytes(), PATIENCE).await;
    // It may have told somebody before it failed: it is not begun again.
    done.map_err(|error| {
        if let EngineError::Silent { waited, .. } = error {
            let why =
                format!("the command did not end within {} s, and was killed", waited.as_secs());
            return Undelivered::at_all(why);
        }
        let words = Failure::of(&error.into()).messages.join(": ");
        Undelivered::at_all(shown(&words, 300))
    })
}
