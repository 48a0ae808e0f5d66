//! What `clone` is told.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueHint};
use drctl_model::DrillId;
use jiff::SignedDuration;

use crate::clone::Way;

/// What `drctl clone` is told.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct CloneArgs {
    /// What to do with clones that are there.
    #[command(subcommand)]
    pub verb: Option<CloneVerb>,
    /// The source, as it is named in the repository.
    #[arg(required = true)]
    pub source: Option<String>,
    /// As it was at this time: 2026-03-01T01:12:40Z, or in this machine's time zone. Without it: the newest that there is.
    #[arg(long, value_name = "TIME", conflicts_with = "backup")]
    pub to_time: Option<String>,
    /// Of this backup: its identifier, or the beginning of exactly one. Of a base backup: to the end of its WAL.
    #[arg(long, value_name = "ID")]
    pub backup: Option<String>,
    /// For how long it is there, such as 8h or 30m, from when it can be used.
    #[arg(long, value_parser = ttl, value_name = "SPAN", required = true)]
    pub ttl: Option<Duration>,
    /// Run the statements of this file in it, all or none, before anybody gets in; then write every table anew.
    #[arg(long, value_name = "FILE.sql", value_hint = ValueHint::FilePath)]
    pub mask: Option<PathBuf>,
    /// The database in which they run, if there are several.
    #[arg(long, value_name = "DATABASE", requires = "mask")]
    pub mask_database: Option<String>,
    /// Let other accounts in, with a password: at this port of 127.0.0.1, or by a socket in this directory.
    #[arg(long, value_parser = way, value_name = "PORT|DIR")]
    pub expose: Option<Way>,
    /// Return when it can be used; it is kept in the background.
    #[arg(long)]
    pub detach: bool,
    /// Restore below this directory, not below `paths.scratch_dir`.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub scratch: Option<PathBuf>,
    /// The file of the identity that opens the backup, if it is not the configured one.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub identity: Option<PathBuf>,
    /// What it is called: whoever detaches it says so.
    #[arg(long, hide = true)]
    pub id: Option<DrillId>,
}

/// What `clone` can do with those that are there.
#[derive(Debug, Clone, Subcommand)]
pub enum CloneVerb {
    /// List the clones of this host, and how they are reached.
    List {
        /// Those below this directory, not below `paths.scratch_dir`.
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        scratch: Option<PathBuf>,
    },
    /// Let a clone live for so long from now on.
    Extend {
        /// Its identifier, or the beginning of exactly one.
        clone: String,
        /// For how long, such as 8h or 30m.
        #[arg(long, value_parser = ttl, value_name = "SPAN")]
        ttl: Duration,
        /// It lies below this directory, not below `paths.scratch_dir`.
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        scratch: Option<PathBuf>,
    },
    /// End a clone, and remove all of it.
    Destroy {
        /// Its identifier, or the beginning of exactly one.
        clone: String,
        /// It lies below this directory, not below `paths.scratch_dir`.
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        scratch: Option<PathBuf>,
    },
}

/// The longest that a clone may be asked to live.
const LONGEST: Duration = Duration::from_secs(31 * 86_400);

fn ttl(text: &str) -> Result<Duration, String> {
    let span = text.parse::<SignedDuration>().ok().and_then(|span| Duration::try_from(span).ok());
    let span = span.filter(|span| *span >= Duration::from_secs(1) && *span <= LONGEST);
    span.ok_or_else(|| "a span of time from 1s to 31 days, such as 8h or 30m".to_owned())
}

fn way(text: &str) -> Result<Way, String> {
    if let Ok(port) = text.parse::<u16>() {
        return match port {
            0 => Err("a port from 1 to 65535, or an absolute directory".to_owned()),
            port => Ok(Way::Port(port)),
        };
    }
    let path = Path::new(text);
    match path.is_absolute() {
        true => Ok(Way::Socket(path.to_owned())),
        false => Err("a port from 1 to 65535, or an absolute directory".to_owned()),
    }
}
