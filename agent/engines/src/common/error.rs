mod hints;
mod own;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use drctl_model::{Class, Classified};

pub use own::OwnError;

/// Why a backup, a restore or a look at a server failed.
///
/// A message tells its own level only; what is behind it is in `source()`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A tool that says nothing.
    #[error("{tool} has said nothing for {} s", .waited.as_secs_f32())]
    Silent {
        /// Its name.
        tool: &'static str,
        /// How long.
        waited: Duration,
        /// What shows what the server does that it works with.
        activity: Option<&'static str>,
    },
    /// A tool ended, and its output did not: something that it started may hold that open.
    #[error("{tool} has ended, and its output did not come to its end for {} s", .waited.as_secs_f32())]
    Held {
        /// Its name.
        tool: &'static str,
        /// How long.
        waited: Duration,
    },
    /// A tool ended with another status than 0.
    #[error("{tool} failed ({status})")]
    ToolFailed {
        /// Its name.
        tool: &'static str,
        /// How it ended: `exit status 1`, `killed by signal 9`.
        status: String,
        /// The last lines it wrote to its standard error.
        source: Stderr,
    },
    /// The target holds something already.
    #[error("the target is not empty: {}", .found.join(", "))]
    NotEmpty {
        /// What was found, bounded.
        found: Vec<String>,
    },
    /// What only one engine knows of.
    #[error(transparent)]
    Own(OwnError),
    /// A temporary directory in which another account could replace what is ours.
    #[error("the temporary directory {} is not safe from other accounts: {why}", .place.display())]
    NotPrivate {
        /// The directory.
        place: PathBuf,
        /// What speaks against it.
        why: String,
    },
    /// A program or a file that another account can change.
    #[error("drctl does not use {}: {why}", .path.display())]
    Changeable {
        /// The program or the file.
        path: PathBuf,
        /// Which place another account can change, and how.
        why: String,
    },
    /// A temporary directory whose name cannot be used.
    #[error("the temporary directory {} cannot be used: {why}", .place.display())]
    Temporary {
        /// The directory.
        place: PathBuf,
        /// What speaks against it.
        why: String,
    },
    /// A setting that cannot work.
    #[error("{0}")]
    Config(String),
    /// An input or output operation failed.
    #[error("cannot {action}")]
    Io {
        /// What was being done.
        action: String,
        /// What the system answered.
        source: io::Error,
    },
}

/// The end of what a tool wrote to its standard error.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", if .0.is_empty() { "it gave no reason" } else { .0.as_str() })]
pub struct Stderr(pub String);

impl EngineError {
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> EngineError {
        let action = action.into();
        move |source| EngineError::Io { action, source }
    }

    /// A stable word for the kind of error, for machines.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            EngineError::ToolFailed { .. } => "tool_failed",
            EngineError::Silent { .. } | EngineError::Held { .. } => "silent",
            EngineError::NotEmpty { .. } => "not_empty",
            EngineError::Own(own) => own.said().code(),
            EngineError::NotPrivate { .. } | EngineError::Changeable { .. } => "not_private",
            EngineError::Temporary { .. } => "temporary_directory",
            EngineError::Config(_) => "config",
            EngineError::Io { .. } => "io",
        }
    }
}

impl Classified for EngineError {
    fn code(&self) -> &'static str {
        EngineError::code(self)
    }

    fn class(&self) -> Class {
        match self {
            EngineError::Own(own) => own.said().class(),
            EngineError::NotEmpty { .. } => Class::Target,
            EngineError::NotPrivate { .. }
            | EngineError::Changeable { .. }
            | EngineError::Temporary { .. } => Class::Configuration,
            _ => Class::Source,
        }
    }

    fn hint(&self) -> Option<String> {
        EngineError::hint(self)
    }
}
