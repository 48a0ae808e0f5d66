use std::path::PathBuf;

use clap::{Subcommand, ValueHint};

/// What `stanza` can do.
#[derive(Debug, Subcommand)]
pub enum StanzaVerb {
    /// Write pgBackRest's configuration for a source, where there is none; what is there stays as
    /// it is.
    Config {
        /// The source, as the configuration names it.
        source: String,
        /// The repository's directory, where it is one.
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        repo_path: Option<PathBuf>,
        /// A further option of pgBackRest for the stanza; may be repeated. No secrets.
        #[arg(long, value_name = "KEY=VALUE")]
        set: Vec<String>,
        /// Write nothing: only show it.
        #[arg(long)]
        print: bool,
    },
    /// Create the stanza in pgBackRest's repository; one that is there stays as it is.
    Create {
        /// The source, as the configuration names it.
        source: String,
    },
    /// Let the stanza belong to the cluster that the server has now: after an upgrade of
    /// PostgreSQL.
    Upgrade {
        /// The source, as the configuration names it.
        source: String,
    },
    /// Record every backup in the stanza that is not recorded yet; nothing of pgBackRest's changes.
    Adopt {
        /// The source, as the configuration names it.
        source: String,
    },
    /// Send one WAL segment through the archive. It proves that one only.
    Check {
        /// The source, as the configuration names it.
        source: String,
    },
}
