use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

/// What `wal` can do.
#[derive(Debug, Subcommand)]
pub enum WalVerb {
    /// For archive_command: store one file; success only once it was read back.
    Push {
        /// The source, as the configuration names it.
        source: String,
        /// The file (%p).
        #[arg(value_hint = ValueHint::FilePath)]
        path: PathBuf,
    },
    /// For restore_command: 0 delivered, 1 proven to be absent, 255 anything else.
    Fetch(FetchArgs),
    /// For the server that a recovery watches: asks that recovery for a WAL file. It needs no
    /// configuration and no key. Nobody types it.
    #[command(hide = true)]
    Take {
        /// Where the recovery listens.
        socket: PathBuf,
        /// The file's name (%f).
        name: String,
        /// Where to write it (%p).
        to: PathBuf,
    },
    /// Write the indexes that a source's WAL lacks; they make `timeline` and plans faster.
    Index {
        /// The source, as the configuration names it.
        source: String,
    },
    /// Stream the WAL as it is written, cut every few seconds.
    Stream {
        /// The source, as the configuration names it.
        source: String,
        /// How many seconds written WAL may wait.
        #[arg(long, value_name = "SECONDS", default_value_t = 3)]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=3600))]
        interval: u32,
        /// Ship and confirm every flush at once: with drctl_wal in synchronous_standby_names a
        /// commit returns when its WAL is in the bucket.
        #[arg(long)]
        synchronous: bool,
        /// How many pieces may be on their way into the bucket at once; they count in order.
        #[arg(long, value_name = "N", default_value_t = 4)]
        #[arg(value_parser = clap::value_parser!(u8).range(1..=64))]
        puts: u8,
        /// Commit a small message every so many seconds, so that recent times can be reached on an
        /// idle server too; 0: never.
        #[arg(long, value_name = "SECONDS", default_value_t = 0)]
        #[arg(value_parser = clap::value_parser!(u32).range(0..=3600))]
        heartbeat: u32,
        /// The heartbeat is a row in the table drctl.heartbeat, which is made where it is missing,
        /// and no mere message: restored data then tell which moment they show.
        #[arg(long, requires = "heartbeat")]
        heartbeat_table: bool,
        /// The replication slot; default: drctl_ and the source's name.
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
    /// WAL that must be there, as TIMELINE:FROM-UNTIL. A full stop after it says that the wanted
    /// WAL ends there. May be repeated.
    #[arg(long, value_name = "RANGE")]
    pub expect: Vec<crate::engine::wal::Expected>,
    /// WAL from this position on is not delivered, even if it is there.
    #[arg(long, value_name = "LSN")]
    pub until: Option<drctl_model::Lsn>,
    /// Where WAL that was fetched ahead is kept.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub ahead: Option<PathBuf>,
    /// The list of segments in pgBackRest's archive that a recovery has noted.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub segments: Option<PathBuf>,
    /// The age identity that opens the WAL.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub identity: Option<PathBuf>,
}
