use std::path::PathBuf;

use clap::{Args, ValueHint};

/// What `take-over` is told.
#[derive(Debug, Args)]
pub struct TakeOverArgs {
    /// The source whose server is gone for good.
    pub source: String,
    /// The directory of the restore: what `restore --to-directory` was given.
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub directory: PathBuf,
    /// The server's postgresql.conf, where it lies outside the data directory, as on Debian
    /// (/etc/postgresql/15/main/postgresql.conf): it then names the restored data.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub configuration: Option<PathBuf>,
    /// Its WAL is streamed (`wal stream`): no archive_command.
    #[arg(long)]
    pub streamed: bool,
    /// Carry out the plan of this digest; without --yes it is printed.
    #[arg(long, value_name = "DIGEST")]
    pub yes: Option<String>,
}
