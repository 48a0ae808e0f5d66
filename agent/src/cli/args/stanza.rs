use std::path::PathBuf;

use clap::{Subcommand, ValueHint};

/// What `stanza` can do.
#[derive(Debug, Subcommand)]
pub enum StanzaVerb {
    /// Write pgBackRest's configuration for a source, if there is none. An existing file stays as
    /// it is.
    Config {
        /// The source, as the configuration names it.
        source: String,
        /// The repository's directory, if the repository is a directory.
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        repo_path: Option<PathBuf>,
        /// Another pgBackRest option for the stanza, KEY=VALUE. May be repeated. No secrets.
        #[arg(long, value_name = "KEY=VALUE")]
        set: Vec<String>,
        /// Only show the configuration; write nothing.
        #[arg(long)]
        print: bool,
    },
    /// Create the stanza in pgBackRest's repository. An existing one stays as it is.
    Create {
        /// The source, as the configuration names it.
        source: String,
    },
    /// After an upgrade of PostgreSQL: let the stanza continue with the new cluster.
    Upgrade {
        /// The source, as the configuration names it.
        source: String,
    },
    /// Record every backup in the stanza that is not recorded yet. Nothing in pgBackRest changes.
    Adopt {
        /// The source, as the configuration names it.
        source: String,
    },
    /// Send one WAL segment to the archive and wait for it. This proves only that segment.
    Check {
        /// The source, as the configuration names it.
        source: String,
    },
}
