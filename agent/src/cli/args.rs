mod restore;
mod stanza;
mod take_over;
mod wal;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

pub(super) use restore::RestoreArgs;
pub(super) use stanza::StanzaVerb;
pub(super) use take_over::TakeOverArgs;
pub(super) use wal::{FetchArgs, WalVerb};

/// Backup and disaster recovery of databases: a backup counts only when it was proven.
///
/// Streams dumps through zstd and age into object storage, commits each with a signed manifest,
/// and restores them with every row counted. Data goes to standard output, everything for people
/// to standard error. Exit codes and JSON objects are stable: docs/exit-codes.md, docs/json.md.
#[derive(Debug, Parser)]
#[command(name = "drctl", version, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 success, 1 failure, 2 usage, 3 degraded, 4 verification \
failed, 5 nothing\nsatisfies the target, 6 busy, 7 configuration, 8 storage, 9 key, 10 source's \
server,\n11 objective breached, 12 target not fit, 130 interrupted. Others mean failure.")]
pub struct Cli {
    /// The configuration.
    #[arg(long, global = true, env = "DRCTL_CONFIG", value_name = "FILE")]
    #[arg(default_value = "/etc/drctl/drctl.toml", value_hint = ValueHint::FilePath)]
    pub config: PathBuf,

    /// Print one JSON object on standard output instead of text; errors too.
    #[arg(long, global = true)]
    pub json: bool,

    /// Say nothing but the answer and errors: no progress, no notes, no warnings.
    #[arg(long, short, global = true)]
    pub quiet: bool,

    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Write a configuration, keys and a repository; print the recovery kit.
    Init(Box<InitArgs>),
    /// Back a source up now.
    Backup {
        /// The source, as the configuration names it.
        source: String,
        /// A full backup of the cluster, whatever the configuration says.
        #[arg(long, conflicts_with = "incremental")]
        full: bool,
        /// An incremental backup: only what has changed since the backup before, however old the
        /// full one is. Where that is not possible, a full one is made.
        #[arg(long)]
        incremental: bool,
    },
    /// List the backups that the catalog knows.
    List {
        /// Only those of this source.
        source: Option<String>,
    },
    /// Let a suspect backup count as good; later ones are compared with it.
    Accept {
        /// SOURCE/BACKUP, or the backup's identifier, or a beginning of it that fits only one.
        backup: String,
    },
    /// Show one backup: what is in it, how it was made; print its emergency script.
    Show(ShowArgs),
    /// Restore a backup into a server, beside a database, into files, or a cluster to any moment.
    Restore(Box<RestoreArgs>),
    /// Make a restored cluster the source's server, whose own is gone: print what would change of its
    /// configuration, and change it with --yes.
    TakeOver(TakeOverArgs),
    /// Check backups against their signed manifests.
    Verify(VerifyArgs),
    /// The state of every source, and what to do next.
    Status {
        /// Exit with 11 where an objective is breached, with 3 where something needs attention.
        #[arg(long)]
        check: bool,
    },
    /// Try everything that a backup and a restore need.
    Doctor {
        /// Only this source.
        source: Option<String>,
        /// An age identity to try.
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        identity: Option<PathBuf>,
    },
    /// Look at the configuration.
    Config {
        /// How.
        #[command(subcommand)]
        verb: ConfigVerb,
    },
    /// PostgreSQL's WAL: archive_command, restore_command, streaming.
    Wal {
        /// How.
        #[command(subcommand)]
        verb: WalVerb,
    },
    /// pgBackRest's side of a source: its configuration, its stanza, what is in it.
    Stanza {
        /// How.
        #[command(subcommand)]
        verb: StanzaVerb,
    },
    /// What can be recovered of a cluster: base backups, WAL, gaps, reachable times.
    Timeline {
        /// The source, as it is named in the repository.
        source: String,
    },
    /// Find when it happened: drops, truncations, and large deletes and updates in a cluster's WAL,
    /// each with its transaction, so that you can recover to just before it.
    When(WhenArgs),
    /// Look after the catalog, the local cache of what the bucket holds.
    Catalog {
        /// How.
        #[command(subcommand)]
        verb: CatalogVerb,
    },
    /// Look after keys.
    Keys {
        /// How.
        #[command(subcommand)]
        verb: KeysVerb,
    },
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print a manual page, or write all of them.
    Man {
        /// Write every page into this directory instead.
        #[arg(value_hint = ValueHint::DirPath)]
        directory: Option<PathBuf>,
    },
}

/// What `init` is told.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The repository: file:///DIR, s3://BUCKET/PREFIX, az://CONTAINER/PREFIX, gs://BUCKET/PREFIX.
    #[arg(long)]
    pub url: Option<String>,
    /// The first source's name.
    #[arg(long)]
    pub source: Option<String>,
    /// Use the repository that is there already; this host gets keys of its own. With --kit and
    /// the recovery kit of the repository, all is taken from there.
    #[arg(long)]
    pub join: bool,
    /// Write the marker of the configured repository again, which somebody removed or overwrote;
    /// nothing else is made.
    #[arg(long, conflicts_with_all = ["join", "url", "source", "kit"])]
    pub restore_marker: bool,
    /// Another server than the provider's own (S3, Azure, Google).
    #[arg(long)]
    pub endpoint: Option<String>,
    /// The bucket's region (S3).
    #[arg(long)]
    pub region: Option<String>,
    /// Allow a plain http:// endpoint.
    #[arg(long)]
    pub allow_http: bool,
    /// A file with the access key's id (S3).
    #[arg(long, value_name = "FILE")]
    pub access_key_id_file: Option<PathBuf>,
    /// A file with the secret access key (S3).
    #[arg(long, value_name = "FILE")]
    pub secret_access_key_file: Option<PathBuf>,
    /// The storage account (Azure).
    #[arg(long)]
    pub account: Option<String>,
    /// A file with the account's key (Azure).
    #[arg(long, value_name = "FILE")]
    pub account_key_file: Option<PathBuf>,
    /// A file with a service account's key (Google).
    #[arg(long, value_name = "FILE")]
    pub service_account_file: Option<PathBuf>,
    /// The server's host, or the directory of its socket.
    #[arg(long, default_value = "/var/run/postgresql")]
    pub host: String,
    /// The server's port.
    #[arg(long, default_value_t = 5432)]
    pub port: u16,
    /// The role that connects.
    #[arg(long, default_value = "drctl")]
    pub user: String,
    /// A file with the role's password.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Only this database; may be repeated. Default: all.
    #[arg(long = "database", value_name = "NAME")]
    pub databases: Vec<String>,
    /// Where catalog and locks live.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/drctl")]
    pub state_dir: PathBuf,
    /// Where short-lived private files live.
    #[arg(long, value_name = "DIR", default_value = "/run/drctl")]
    pub runtime_dir: PathBuf,
    /// Write the recovery kit into this new file instead of printing it; with --join, a file that
    /// is there is the kit of the repository to join.
    #[arg(long, value_name = "FILE")]
    pub kit: Option<PathBuf>,
}

/// What `show` is told.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The backup's identifier, or a beginning of it that fits only one.
    pub backup: String,
    /// Print a script that restores it without drctl.
    #[arg(long)]
    pub emergency: bool,
    /// The age identity that opens what only a key holder may read.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub identity: Option<PathBuf>,
}

/// What `verify` is told.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// A source, or a backup's identifier. Default: every backup of every source.
    pub what: Option<String>,
    /// Read every stored byte; with an identity, every plain byte too.
    #[arg(long)]
    pub data: bool,
    /// The age identity that opens the backups.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub identity: Option<PathBuf>,
}

/// What `when` is told.
#[derive(Debug, Args)]
pub struct WhenArgs {
    /// The source, as it is named in the repository.
    pub source: String,
    /// Around this time: 2026-03-01T01:12:40Z, or in this machine's time zone.
    #[arg(long, value_name = "TIME", conflicts_with_all = ["from", "to"])]
    pub around: Option<String>,
    /// How long before and after that time.
    #[arg(long, value_name = "SPAN", default_value = "1h", requires = "around")]
    pub window: String,
    /// From this time on. Default: a day before the end.
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Up to this time. Default: now.
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    /// Tell of deletes and updates of at least so many rows of one table.
    #[arg(long, value_name = "ROWS", default_value_t = 1000)]
    pub rows: u64,
    /// The age identity that opens the WAL.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub identity: Option<PathBuf>,
}

/// What `config` can do.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Look for mistakes; show when the next backups are due.
    Check,
    /// Print it with every default filled in; secrets are never read.
    Show,
    /// Print the JSON Schema for editors.
    Schema,
}

/// What `catalog` can do.
#[derive(Debug, Subcommand)]
pub enum CatalogVerb {
    /// Make it anew from the bucket.
    Rebuild,
    /// Compare it with the bucket; change nothing.
    Check,
    /// Stop reporting the lost backups and WAL of a source, which `status` and `list` name.
    Forget {
        /// The source.
        source: String,
        /// Forget what has this digest, as it is shown without; default: show it, and on a terminal ask.
        #[arg(long, value_name = "DIGEST")]
        yes: Option<String>,
    },
}

/// What `keys` can do.
#[derive(Debug, Subcommand)]
pub enum KeysVerb {
    /// Show recipients, trusted keys, and which of the private ones are at hand.
    List,
    /// Try whether an identity opens the newest backup of every source.
    Test {
        /// The age identity. Default: that of the configuration.
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        identity: Option<PathBuf>,
    },
    /// Make a new age identity in a new file; prints its recipient.
    NewIdentity {
        /// The file.
        file: PathBuf,
    },
    /// Make a new signing key in a new file; prints its verifying key.
    NewSigning {
        /// The file.
        file: PathBuf,
    },
}
