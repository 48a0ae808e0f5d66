//! Who reads the exit code of a command.

use super::args::{Verb, WalVerb};

/// Whose exit codes count: a person's or script's, or what PostgreSQL makes of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The documented table.
    Command,
    /// `archive_command`: with a code above 125 the server counts no failure.
    Archive,
    /// `restore_command`: with a code below 126 the server takes it for the end of the log.
    Restore,
}

impl Role {
    /// The code of any failure, where PostgreSQL reads it.
    pub(super) fn failure(self, failed: bool) -> Option<u8> {
        match self {
            Role::Archive if failed => Some(1),
            Role::Restore if failed => Some(255),
            _ => None,
        }
    }
}

/// The role of a command.
pub(super) fn role_of(verb: &Verb) -> Role {
    match verb {
        Verb::Wal { verb: WalVerb::Push { .. } } => Role::Archive,
        Verb::Wal { verb: WalVerb::Fetch(_) | WalVerb::Take { .. } } => Role::Restore,
        _ => Role::Command,
    }
}

/// The role, as far as a command line that cannot be read tells it.
pub(super) fn role_of_arguments() -> Role {
    let words: Vec<_> = std::env::args_os().collect();
    let has = |verb: &str| words.windows(2).any(|pair| pair[0] == "wal" && pair[1] == verb);
    if has("fetch") || has("take") {
        Role::Restore
    } else if has("push") {
        Role::Archive
    } else {
        Role::Command
    }
}
