use std::path::PathBuf;

use drctl_model::{Class, Classified};

use super::{Exit, ExitKind};
use crate::common::{EngineError, Stderr};

/// What goes wrong with pgBackRest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackRestError {
    /// pgBackRest was not found.
    #[error("cannot find {}", .program.display())]
    Missing {
        /// What was to be started.
        program: PathBuf,
    },
    /// pgBackRest is of a version that is not known to work.
    #[error("pgbackrest reports its version as `{found}`; drctl needs {oldest} or later")]
    Version {
        /// What it says.
        found: String,
        /// The oldest that can be used.
        oldest: String,
    },
    /// pgBackRest ended with one of its exit codes.
    #[error("pgbackrest {command} failed: {exit}")]
    Failed {
        /// Its command.
        command: &'static str,
        /// With what it ended.
        exit: Exit,
        /// The last lines it wrote to its standard error.
        source: Stderr,
    },
    /// pgBackRest's stanza is in trouble.
    #[error(
        "pgbackrest reports an error of the stanza `{stanza}` in repository {repo}: {message} \
         (status {code})"
    )]
    Stanza {
        /// The stanza.
        stanza: String,
        /// The repository's number.
        repo: u32,
        /// The code of `info`.
        code: u32,
        /// The same in words.
        message: String,
    },
    /// pgBackRest reports success, and what it says cannot be relied on.
    #[error("pgbackrest {command}: {problem}")]
    Says {
        /// Its command.
        command: &'static str,
        /// What is wrong.
        problem: String,
    },
}

impl From<BackRestError> for EngineError {
    fn from(error: BackRestError) -> Self {
        EngineError::from_own(error)
    }
}

impl Classified for BackRestError {
    fn code(&self) -> &'static str {
        match self {
            BackRestError::Missing { .. } => "tool_missing",
            BackRestError::Version { .. } => "version_mismatch",
            BackRestError::Failed { exit, .. } => match exit.kind {
                ExitKind::Busy => "pgbackrest_busy",
                ExitKind::Stopped => "pgbackrest_stopped",
                ExitKind::Archiving => "pgbackrest_archiving",
                ExitKind::SplitBrain => "pgbackrest_split_brain",
                ExitKind::Repository => "pgbackrest_repository",
                ExitKind::NoBackup => "pgbackrest_no_backup",
                ExitKind::Configuration => "pgbackrest_configuration",
                ExitKind::Server => "pgbackrest_server",
                ExitKind::Target => "pgbackrest_target",
                ExitKind::Signal | ExitKind::Other => "pgbackrest_failed",
            },
            BackRestError::Stanza { .. } | BackRestError::Says { .. } => "pgbackrest_repository",
        }
    }

    fn class(&self) -> Class {
        let BackRestError::Failed { exit, .. } = self else { return Class::Source };
        match exit.kind {
            ExitKind::Target => Class::Target,
            ExitKind::Busy => Class::Busy,
            ExitKind::Configuration => Class::Configuration,
            ExitKind::NoBackup => Class::NoTarget,
            _ => Class::Source,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            BackRestError::Missing { .. } | BackRestError::Version { .. } => {
                "install pgbackrest, or point pgbackrest_bin of the source at it".to_owned()
            }
            BackRestError::Failed { exit, .. } => exit.hint().to_owned(),
            BackRestError::Stanza { code, .. } => stanza_hint(*code),
            BackRestError::Says { .. } => {
                "look at pgbackrest's own log and `pgbackrest info`; nothing was changed in \
                 drctl's repository"
                    .to_owned()
            }
        })
    }
}

fn stanza_hint(code: u32) -> String {
    match code {
        1 | 3 => {
            "if the stanza is new run `drctl stanza config SOURCE` and `drctl stanza create SOURCE`; if it is not, \
             the repository is not where it should be (is it mounted?), or has lost files"
        }
        5 => {
            "the repository holds another cluster than its stanza says: check which, and run \
             `drctl stanza upgrade` only if the cluster was replaced on purpose"
        }
        6 => "`drctl list` shows what is there; the backup may have expired meanwhile",
        _ => {
            "check that the repository can be reached and read from here: path, mount, \
             credentials, certificate, passphrase (cipher_pass of the source); `drctl doctor` \
             tries it"
        }
    }
    .to_owned()
}
