use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

/// What `wal` can do.
#[derive(Debug, Subcommand)]
pub enum WalVerb {
    /// For archive_command: store one file. Succeeds only after the file was read back. A running
    /// agent does it, if there is one; else this command does.
    Push {
        /// The source, as the configuration names it.
        source: String,
        /// The file (%p).
        #[arg(value_hint = ValueHint::FilePath)]
        path: PathBuf,
        /// Where the agent listens. While it answers, this command needs neither a configuration nor
        /// keys. Default: as the configuration says.
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        socket: Option<PathBuf>,
    },
    /// For restore_command: fetch one file. Exits with 0 if it is delivered, 1 if it is proven to
    /// be absent, else 255.
    Fetch(FetchArgs),
    /// For the server of a running recovery: ask that recovery for a WAL file. Needs no
    /// configuration and no key. You never type it.
    #[command(hide = true)]
    Take {
        /// The socket of the recovery.
        socket: PathBuf,
        /// The file's name (%f).
        name: String,
        /// Where to write it (%p).
        to: PathBuf,
    },
    /// Write the missing indexes over a source's WAL. They make `timeline` and plans faster.
    Index {
        /// The source, as the configuration names it.
        source: String,
    },
    /// Stream the WAL into the bucket as it is written, one object every few seconds.
    Stream {
        /// The source, as the configuration names it.
        source: String,
        /// The most seconds that written WAL waits before it is stored.
        #[arg(long, value_name = "SECONDS", default_value_t = 3)]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=3600))]
        interval: u32,
        /// Store and confirm every flush at once. With drctl_wal in synchronous_standby_names a
        /// commit returns when its WAL is in the bucket.
        #[arg(long)]
        synchronous: bool,
        /// How many objects are uploaded at once. They are confirmed in the order of the WAL.
        #[arg(long, value_name = "N", default_value_t = 4)]
        #[arg(value_parser = clap::value_parser!(u8).range(1..=64))]
        puts: u8,
        /// Commit a small message every so many seconds, so that you can recover to a recent time
        /// on an idle server too. 0: never.
        #[arg(long, value_name = "SECONDS", default_value_t = 0)]
        #[arg(value_parser = clap::value_parser!(u32).range(0..=3600))]
        heartbeat: u32,
        /// Write the heartbeat into the table drctl.heartbeat, which is created if it is missing:
        /// restored data then shows its time.
        #[arg(long, requires = "heartbeat")]
        heartbeat_table: bool,
        /// The replication slot. Default: drctl_ and the source's name.
        #[arg(long, value_name = "NAME")]
        slot: Option<String>,
    },
}

/// What `wal fetch` is told.
#[derive(Debug, Args)]
pub struct FetchArgs {
    /// The source, as it is named in the repository.
    pub source: String,
    /// The file's name (%f).
    pub name: String,
    /// Where to write it (%p).
    #[arg(value_hint = ValueHint::FilePath)]
    pub to: PathBuf,
    /// The cluster's system identifier.
    #[arg(long, value_name = "NUMBER")]
    pub system_id: u64,
    /// The size of the cluster's WAL segments.
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20)]
    pub segment_bytes: u64,
    /// WAL that must be there, as TIMELINE:FROM-UNTIL. A full stop after it means that the planned
    /// WAL ends there. May be repeated.
    #[arg(long, value_name = "RANGE")]
    pub expect: Vec<crate::engine::wal::Expected>,
    /// Do not deliver WAL from this position on, even if it is there.
    #[arg(long, value_name = "LSN")]
    pub until: Option<drctl_model::Lsn>,
    /// The directory with WAL that was fetched ahead.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub ahead: Option<PathBuf>,
    /// The file with a recovery's list of the segments in pgBackRest's archive.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub segments: Option<PathBuf>,
    /// The age identity that opens the WAL.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub identity: Option<PathBuf>,
}
