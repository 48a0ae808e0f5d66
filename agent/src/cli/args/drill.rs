use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};

/// What `drill` can do.
#[derive(Debug, Subcommand)]
pub enum DrillVerb {
    /// Restore a backup into a scratch server of this host, prove it there, remove all of it, and keep signed
    /// evidence in the bucket.
    Run(DrillRunArgs),
    /// List the drills of which the bucket holds evidence, and what each said.
    List {
        /// Only those of this source, as it is named in the repository.
        source: Option<String>,
    },
    /// Show what a drill did, and what it said.
    Show {
        /// The source, as it is named in the repository.
        source: String,
        /// The drill: its identifier, or the beginning of exactly one; without one the newest.
        drill: Option<String>,
    },
}

/// What `drill run` is told.
#[derive(Debug, Clone, Args)]
pub struct DrillRunArgs {
    /// The source, as it is named in the repository.
    pub source: String,
    /// Which backup to try. With other backups of a cluster than the newest: up to the next one.
    #[arg(long, value_enum, default_value = "latest", value_name = "POINT")]
    pub point: Point,
    /// Try this backup: its identifier, or the beginning of exactly one.
    #[arg(long, value_name = "ID", conflicts_with = "point")]
    pub backup: Option<String>,
    /// With `--point random`: the number by which an earlier drill chose, as its evidence has it.
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// Restore below this directory, not below `paths.scratch_dir`.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub scratch: Option<PathBuf>,
    /// The file of the identity that opens the backup, if it is not the configured one.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub identity: Option<PathBuf>,
}

/// Which backup a drill tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Point {
    /// The newest good one; of a cluster: to the end of its WAL.
    Latest,
    /// The oldest good one.
    Oldest,
    /// Any good one.
    Random,
}
