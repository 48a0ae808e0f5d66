use std::path::PathBuf;

use clap::{Args, ValueHint};

/// What `take-over` is told.
#[derive(Debug, Args)]
pub struct TakeOverArgs {
    /// The source whose server is gone for good.
    pub source: String,
    /// The directory that was given to `restore --to-directory`.
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub directory: PathBuf,
    /// The server's postgresql.conf, if it is outside the data directory, as on Debian
    /// (/etc/postgresql/15/main/postgresql.conf). Its data_directory will be the restored data.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub configuration: Option<PathBuf>,
    /// The WAL will be streamed (`wal stream`): set no archive_command.
    #[arg(long)]
    pub streamed: bool,
    /// Carry out the plan with this digest. Without --yes the plan is only printed.
    #[arg(long, value_name = "DIGEST")]
    pub yes: Option<String>,
}
