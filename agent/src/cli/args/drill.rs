use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};
use jiff::Timestamp;

use crate::restore::cluster::time_of;

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
        /// The file of the identity that opens the backup: the names of databases and tables are shown.
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        identity: Option<PathBuf>,
    },
    /// Write a drill's signed evidence, with the manifests that it names, into one file to give away.
    Export(DrillExportArgs),
    /// Tell whether a file of `drill export` is true, with nothing but a public key: no configuration, catalog or
    /// network is needed.
    Verify(DrillVerifyArgs),
}

/// What `drill export` is told.
#[derive(Debug, Clone, Args)]
pub struct DrillExportArgs {
    /// The source, as it is named in the repository.
    pub source: String,
    /// The drill: its identifier, or the beginning of exactly one; without one the newest.
    pub drill: Option<String>,
    /// The new file.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub to: PathBuf,
}

/// What `drill verify` is told.
#[derive(Debug, Clone, Args)]
pub struct DrillVerifyArgs {
    /// The bundle, as `drill export` has written it.
    #[arg(value_hint = ValueHint::FilePath)]
    pub bundle: PathBuf,
    /// The verifying key of whoever runs the drills: `ed25519:…`. It must come from somewhere else than the bundle. May
    /// be given several times.
    #[arg(long, value_name = "KEY", required = true)]
    pub key: Vec<String>,
    /// The verifying key of whoever makes the backups, where that is another one: drills that it signed do not count.
    #[arg(long, value_name = "KEY")]
    pub backup_key: Vec<String>,
    /// The file of an identity that opens the backups: the names of databases and tables are shown.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub identity: Option<PathBuf>,
}

/// What `drill run` is told.
#[derive(Debug, Clone, Args)]
pub struct DrillRunArgs {
    /// The source, as it is named in the repository; of several, all are tried at once, as after a rack is lost.
    #[arg(required = true, value_name = "SOURCE")]
    pub sources: Vec<String>,
    /// Which backup to try: `latest`, `previous` (the one before it), `oldest`, `worst` (with the most WAL to replay, or
    /// the largest dump), `random`, `moment` (a random one between the oldest and the newest), `timeline` (the newest
    /// before a switch of the timeline), `suspect` (the newest such), or a time, such as 2026-03-01T12:00:00Z. Any backup of a cluster but the newest is
    /// recovered to the end of the next one, and compared with that, unless a time is given.
    #[arg(long, value_parser = point, default_value = "latest", value_name = "POINT")]
    pub point: Point,
    /// Try this backup: its identifier, or the beginning of exactly one.
    #[arg(long, value_name = "ID", conflicts_with = "point")]
    pub backup: Option<String>,
    /// With `--point random` or `moment`: the number by which an earlier drill chose, as its evidence has it.
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// Restore below this directory, not below `paths.scratch_dir`.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub scratch: Option<PathBuf>,
    /// The file of the identity that opens the backup, if it is not the configured one.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub identity: Option<PathBuf>,
    /// Use nothing but this recovery kit and the bucket, as on a host that has nothing else: the identity is the kit's,
    /// too. This host's key signs the evidence.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "identity")]
    pub kit: Option<PathBuf>,
}

impl DrillRunArgs {
    /// The source, or the first of several.
    pub fn source(&self) -> &str {
        self.sources.first().map_or("", String::as_str)
    }
}

/// Which backup a drill tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// The newest good one; of a cluster: to the end of its WAL.
    Latest,
    /// The good one before the newest; the newest, where there is only one.
    Previous,
    /// The oldest good one.
    Oldest,
    /// The good one with the most WAL to replay, or the largest dump.
    Worst,
    /// Any good one.
    Random,
    /// What was there at a random moment between the oldest and the newest good one.
    Moment,
    /// The newest good base backup before a switch of the timeline, to the end of the WAL behind that.
    Timeline,
    /// The newest suspect one.
    Suspect,
    /// What was there at a moment.
    Time(Timestamp),
}

/// A point from what was typed.
fn point(text: &str) -> Result<Point, String> {
    Ok(match text {
        "latest" => Point::Latest,
        "previous" => Point::Previous,
        "oldest" => Point::Oldest,
        "worst" => Point::Worst,
        "random" => Point::Random,
        "moment" => Point::Moment,
        "timeline" => Point::Timeline,
        "suspect" => Point::Suspect,
        _ => {
            let names =
                "latest, previous, oldest, worst, random, moment, timeline, suspect or a time";
            Point::Time(time_of(text).map_err(|error| format!("{names}: {error:#}"))?)
        }
    })
}
