use std::io::{self, ErrorKind};
use std::path::PathBuf;

use drctl_model::{Class, Classified};

use super::Refusal;
use crate::common::EngineError;

/// What goes wrong with the helper of another account.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HelperError {
    /// It cannot be asked.
    #[error("cannot connect to drctl-job@{account}.socket ({})", .socket.display())]
    Unreached {
        /// Whose it is.
        account: String,
        /// Where it should listen.
        socket: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// It refuses, and why.
    #[error("the helper of {account} refuses: {}", .refusal.text)]
    Refused {
        /// Whose it is.
        account: String,
        /// Why, and what to do.
        refusal: Refusal,
    },
    /// It did not do what was asked, or is gone before it said how that ended.
    #[error("the helper of {account} {why}")]
    Failed {
        /// Whose it is.
        account: String,
        /// What is known.
        why: String,
    },
    /// No helper does this.
    #[error("the helper of {account} does not {what}")]
    NotOffered {
        /// Whose it is.
        account: String,
        /// What was asked for.
        what: &'static str,
    },
}

impl From<HelperError> for EngineError {
    fn from(error: HelperError) -> Self {
        EngineError::from_own(error)
    }
}

impl Classified for HelperError {
    fn code(&self) -> &'static str {
        match self {
            HelperError::Unreached { .. } => "helper_missing",
            HelperError::Refused { .. } | HelperError::NotOffered { .. } => "helper_refused",
            HelperError::Failed { .. } => "helper_failed",
        }
    }

    fn class(&self) -> Class {
        match self {
            HelperError::Failed { .. } => Class::Source,
            _ => Class::Configuration,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            HelperError::Unreached { account, socket, source } => {
                unreached(account, socket, source)
            }
            HelperError::Refused { refusal, .. } => refusal.hint.clone(),
            HelperError::Failed { account, .. } => format!(
                "`journalctl -u drctl-job@{account}` shows why; earlier backups are not affected"
            ),
            HelperError::NotOffered { account, .. } => format!(
                "run this as {account}, with a configuration of its own in which the source has no \
                 run_as, because the restored files must belong to {account}; nothing was done"
            ),
        })
    }
}

fn unreached(account: &str, socket: &std::path::Path, source: &io::Error) -> String {
    match source.kind() {
        ErrorKind::PermissionDenied => format!(
            "only root and the account that {} belongs to may ask: run this as that one, or name \
             another one with SocketUser= (`systemctl edit drctl-job@{account}.socket`) and with \
             `agent` in /etc/drctl-job/{account}.toml",
            socket.display()
        ),
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => format!(
            "as root write /etc/drctl-job/{account}.toml (docs/service.md), and `systemctl enable \
             --now drctl-job@{account}.socket`"
        ),
        _ => format!("`systemctl status drctl-job@{account}.socket` shows more"),
    }
}
