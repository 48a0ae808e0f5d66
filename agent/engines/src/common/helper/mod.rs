//! Children that run under another account, started by a helper that systemd keeps for it.
//!
//! Whoever asks sends one line and the pipes that the child is to write into, and says nothing more:
//! when he hangs up, the child is ended. The helper says that it has taken the request, that the child
//! works, and at last how that ended. What may be asked for is a closed list of each engine, and the
//! helper's word alone: neither a program nor an argument, an environment or a path comes with a request.

mod ask;
mod error;
mod serve;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use ask::Ask;
pub use error::HelperError;
pub use serve::Waiting;

/// The version of what is said at the socket.
const VERSION: u32 = 1;

/// How many pipes may come with a request: for messages, and for the output.
const PIPES: usize = 2;

/// How often it is looked whether the child works, at most and at least.
const LOOKS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// The helper of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Helper {
    /// The account under which it runs what it is asked for.
    pub account: String,
    /// Where it listens.
    pub socket: PathBuf,
}

impl Helper {
    /// That of an account whose socket lies in this directory.
    #[must_use]
    pub fn of(account: &str, directory: &Path) -> Self {
        let socket = directory.join(format!("{account}.sock"));
        Helper { account: account.to_owned(), socket }
    }

    /// That something cannot be had from it, however it is asked.
    #[must_use]
    pub fn lacks(&self, what: &'static str) -> super::EngineError {
        HelperError::NotOffered { account: self.account.clone(), what }.into()
    }
}

/// What is asked of a helper: the line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    version: u32,
    /// How much the child gives way to other processes.
    nice: i32,
    /// How often it is looked whether it works.
    look_every_ms: u64,
    /// One of the jobs of an engine.
    job: Value,
}

impl Request {
    /// How often it is looked, within bounds.
    fn looks(&self) -> Duration {
        Duration::from_millis(self.look_every_ms).clamp(LOOKS.0, LOOKS.1)
    }
}

/// What a helper says, a line each.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Said {
    /// The request was heard whole.
    Taken,
    /// The child has done something since this was said last.
    Worked,
    /// It ended with an exit status, and all that it wrote was handed on.
    Ended(u8),
    /// A signal ended it.
    Killed(u8),
    /// It was not started.
    Refused(Refusal),
    /// It could not be started, or what it made could not be handed on.
    Failed(String),
}

/// Why a helper does not do what it is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// Why, in words.
    pub text: String,
    /// What to do.
    pub hint: String,
}

impl Refusal {
    /// A reason, and what to do.
    pub fn new(text: impl Into<String>, hint: impl Into<String>) -> Self {
        Refusal { text: text.into(), hint: hint.into() }
    }
}
