use std::path::PathBuf;

use clap::{Subcommand, ValueHint};

/// What `audit` can do.
#[derive(Debug, Subcommand)]
pub enum AuditVerb {
    /// Show what was done on this host, by whom, and how it ended.
    Show {
        /// Only what concerns this source.
        #[arg(long, value_name = "SOURCE")]
        source: Option<String>,
        /// Only from this time on: 2026-03-01T01:12:40Z, or in this machine's time zone.
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
    },
    /// Check that no entry was altered, removed or put in another place, and name the first that was.
    /// Without options: the local log by itself.
    Verify {
        /// Compare the local log with the signed copy in the bucket.
        #[arg(long, conflicts_with = "files")]
        bucket: bool,
        /// Check these files instead: copies of a local log, or of objects below a/ in the bucket.
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        files: Vec<PathBuf>,
    },
    /// Send what the bucket lacks of the log into it. The agent does so by itself.
    Ship,
}
