//! What `keys` is told.

use std::path::PathBuf;

use clap::{Subcommand, ValueHint};

/// What `keys` can do.
#[derive(Debug, Subcommand)]
pub enum KeysVerb {
    /// Show recipients, trusted keys, and which private keys are on this host.
    List,
    /// Test whether an identity opens the newest backup of every source.
    Test {
        /// The age identity. Default: that of the configuration.
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        identity: Option<PathBuf>,
    },
    /// Show of which recipient the identity was proven by a drill to open a backup, and when.
    Custody,
    /// Write a new age identity into a new file, and print its recipient.
    NewIdentity {
        /// The file.
        file: PathBuf,
    },
    /// Write a new signing key into a new file, and print its verifying key.
    NewSigning {
        /// The file.
        file: PathBuf,
    },
}
