use std::path::PathBuf;

use clap::{Args, ValueHint};
use drctl_engines::pg::physical::PickedTable;

/// A transaction's number as the WAL has it. `pg_current_xact_id()` tells one of 64 bits.
fn xid(text: &str) -> Result<u32, String> {
    let Ok(number) = text.parse::<u64>() else {
        return Err("it is not a transaction ID".to_owned());
    };
    let rest = number % (1 << 32);
    u32::try_from(number).map_err(|_| {
        format!(
            "transaction IDs start again after 4294967295, and the WAL has this one as {rest}: \
             give that number, if it is of the same epoch as the WAL"
        )
    })
}

/// What `restore` is told.
#[derive(Debug, Clone, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true)
    .args(["latest", "backup", "to_time", "to_lsn", "to_xid", "before_xid", "to_name", "to_end"]))]
#[command(group = clap::ArgGroup::new("point").requires("to_directory")
    .args(["to_time", "to_lsn", "to_xid", "before_xid", "to_name", "to_end"]))]
#[command(group = clap::ArgGroup::new("where").required(true).multiple(true)
    .args(["to_files", "to_directory", "to_stdout", "to_host", "rename"]))]
pub struct RestoreArgs {
    /// The source, as it is named in the repository.
    pub source: String,
    /// The newest good backup.
    #[arg(long, conflicts_with_all = ["backup", "point"])]
    pub latest: bool,
    /// This backup: its identifier, or the beginning of exactly one. With a point in time: the base
    /// backup to start from.
    #[arg(long, value_name = "ID")]
    pub backup: Option<String>,
    /// A cluster as it was at this time: 2026-03-01T01:12:40Z, or in this machine's time zone.
    #[arg(long, value_name = "TIME")]
    pub to_time: Option<String>,
    /// A cluster as it was at this WAL position (LSN), such as 16/B374D848, without the record that
    /// begins there.
    #[arg(long, value_name = "LSN")]
    pub to_lsn: Option<String>,
    /// A cluster with this transaction, and all that were committed before it.
    #[arg(long, value_name = "XID", value_parser = xid)]
    pub to_xid: Option<u32>,
    /// A cluster just before this transaction was committed.
    #[arg(long, value_name = "XID", value_parser = xid)]
    pub before_xid: Option<u32>,
    /// A cluster at this restore point (pg_create_restore_point).
    #[arg(long, value_name = "NAME")]
    pub to_name: Option<String>,
    /// A cluster, recovered to the end of its WAL in the bucket.
    #[arg(long)]
    pub to_end: bool,
    /// Include what is exactly at the target. The default for times and transactions.
    #[arg(long, conflicts_with = "exclusive", requires = "point")]
    #[arg(conflicts_with_all = ["latest", "to_name", "to_end", "before_xid"])]
    pub inclusive: bool,
    /// Leave out what is exactly at the target. The default for positions.
    #[arg(long, requires = "point")]
    #[arg(conflicts_with_all = ["latest", "to_name", "to_end", "before_xid"])]
    pub exclusive: bool,
    /// The cluster's system identifier, if the source has had several clusters. Default: the
    /// current one; with --to-time an earlier one, if that alone lived at that time.
    #[arg(long, value_name = "NUMBER", requires = "point")]
    pub system_id: Option<u64>,
    /// With --to-end: recover although the result will lack some WAL, for example after a gap or of
    /// a timeline whose history file is missing.
    #[arg(long, requires = "to_end")]
    pub accept_loss: bool,
    /// The timeline to follow. Default: the newest. --to-end needs it if several are in use.
    #[arg(long, value_name = "N", requires = "point")]
    pub timeline: Option<u32>,
    /// Run only the plan with this digest, which --plan prints.
    #[arg(long, value_name = "DIGEST", requires = "point")]
    pub yes: Option<String>,
    /// Continue a recovery that broke off: the same command and directory as before.
    #[arg(long, requires = "point", conflicts_with = "plan")]
    pub resume: bool,
    /// Continue although this host lacks locales, libraries or extensions that the cluster needs.
    #[arg(long, requires = "point")]
    pub despite_missing: bool,
    /// Run the restored server without a sandbox: it can then read the keys, the network and
    /// all files of this account. Not for drills.
    #[arg(long, requires = "point", conflicts_with = "drill")]
    pub without_sandbox: bool,
    /// Load this library from the server's own directory: the replay needs it for an extension with
    /// its own WAL resource manager. May be repeated.
    #[arg(long, value_name = "LIBRARY", requires = "point", value_parser = library)]
    pub preload: Vec<String>,
    /// Promote the recovered cluster when it is proven to be at its target: open for writing, on a
    /// new timeline.
    #[arg(long, requires = "point", conflicts_with_all = ["open", "extract"])]
    pub promote: bool,
    /// Keep the recovered cluster's server running, read-only, on its private socket.
    #[arg(long, requires = "point", conflicts_with = "extract")]
    pub open: bool,
    /// Dump this table, DATABASE:SCHEMA.TABLE, from the recovered cluster into the directory. May
    /// be repeated.
    #[arg(long, value_name = "TABLE", requires = "point")]
    pub extract: Vec<PickedTable>,
    /// Run this recovery as a drill: store its result in the bucket, signed, also if it fails after
    /// it began. `timeline` shows it.
    #[arg(long, requires = "point", conflicts_with_all = ["plan", "resume"])]
    pub drill: bool,
    /// Compare each database that was loaded with its dump, row by row: it is dumped once more.
    #[arg(long, conflicts_with_all = ["point", "to_files", "to_directory", "to_stdout"])]
    pub prove: bool,
    /// Write files into this new or empty directory: a dump for each database, SQL for the roles.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    #[arg(conflicts_with_all = ["to_host", "to_port", "to_user", "to_password_file", "to_sslmode"])]
    #[arg(conflicts_with_all = ["to_ca_file", "to_require_peer"])]
    #[arg(conflicts_with_all = ["to_stdout", "rename", "jobs", "no_owner", "no_globals"])]
    pub to_files: Option<PathBuf>,
    /// Extract a base backup into this new or empty directory, ready to be started.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    #[arg(conflicts_with_all = ["to_files", "to_stdout", "to_host", "rename", "databases", "jobs"])]
    #[arg(conflicts_with_all = ["no_owner", "no_globals"])]
    pub to_directory: Option<PathBuf>,
    /// Write one dump to standard output, for example for pg_restore. The bytes are valid only if
    /// drctl ends with 0.
    #[arg(long, conflicts_with_all = ["json", "to_host", "rename"])]
    pub to_stdout: bool,
    /// Restore into the empty server at this host, or with its socket in this directory.
    #[arg(long, value_name = "HOST")]
    pub to_host: Option<String>,
    /// The target server's port.
    #[arg(long, value_name = "PORT", default_value_t = 5432, requires = "to_host")]
    pub to_port: u16,
    /// The role that restores.
    #[arg(long, value_name = "ROLE", default_value = "postgres", requires = "to_host")]
    pub to_user: String,
    /// A file with that role's password.
    #[arg(long, value_name = "FILE", requires = "to_host", value_hint = ValueHint::FilePath)]
    pub to_password_file: Option<PathBuf>,
    /// How the connection to the target is secured: disable, prefer, require, verify-ca,
    /// verify-full. Without effect on a socket.
    #[arg(long, value_name = "MODE", default_value = "verify-full", requires = "to_host")]
    pub to_sslmode: String,
    /// Certificate authorities for the target server (PEM), instead of those of the system.
    #[arg(long, value_name = "FILE", requires = "to_host", value_hint = ValueHint::FilePath)]
    pub to_ca_file: Option<PathBuf>,
    /// The account that the target server behind a socket runs as.
    #[arg(long, value_name = "ACCOUNT", requires = "to_host")]
    pub to_require_peer: Option<String>,
    /// Restore under this new name, on the source's own server or that of --to-host. Needs exactly
    /// one --database.
    #[arg(long = "as", value_name = "NAME", requires = "databases")]
    pub rename: Option<String>,
    /// Only this database; may be repeated. Roles are restored only with all databases.
    #[arg(long = "database", value_name = "NAME")]
    pub databases: Vec<String>,
    /// Load over this many connections at once. More than one needs disk space for the dump.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub jobs: u32,
    /// Restore only databases, roles and tablespaces that are not on the server yet. A database that
    /// has all the rows that were dumped is kept, and so are roles and tablespaces that exist.
    #[arg(long, conflicts_with_all = ["to_files", "to_directory", "to_stdout"])]
    pub missing: bool,
    /// Allow functions of database owners to run as a superuser of the target during the restore:
    /// exactly those that --plan lists with this digest.
    #[arg(
        long,
        value_name = "DIGEST",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "",
        conflicts_with_all = ["to_files", "to_directory", "to_stdout"]
    )]
    pub trust_code: Option<String>,
    /// Give everything to the role that restores.
    #[arg(long)]
    pub no_owner: bool,
    /// Leave roles and tablespaces out.
    #[arg(long)]
    pub no_globals: bool,
    /// The age identity that opens the backup.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub identity: Option<PathBuf>,
    /// Print what would be done, and change nothing.
    #[arg(long)]
    pub plan: bool,
}

/// The plain name of a library: no path leads elsewhere.
fn library(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => Ok(text.to_owned()),
        false => {
            Err("a plain name is wanted, of a library in the server's own directory".to_owned())
        }
    }
}

impl RestoreArgs {
    /// Whether it is a recovery to a point in time.
    #[must_use]
    pub fn is_to_point(&self) -> bool {
        self.to_end
            || self.to_time.is_some()
            || self.to_lsn.is_some()
            || self.to_xid.is_some()
            || self.before_xid.is_some()
            || self.to_name.is_some()
    }
}
