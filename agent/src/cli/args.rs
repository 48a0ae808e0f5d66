mod agent;
mod audit;
mod clone;
mod drill;
mod keys;
mod notify;
mod policy;
mod report;
mod restore;
mod stanza;
mod statements;
mod take_over;
mod wal;
mod watch;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

pub(super) use agent::{AgentVerb, JobArgs, SomeJobs};
pub(super) use audit::AuditVerb;
pub(super) use clone::{CloneArgs, CloneVerb};
pub(super) use drill::{DrillRunArgs, DrillVerb, DrillVerifyArgs, Point};
pub(super) use keys::KeysVerb;
pub(super) use notify::NotifyVerb;
pub(super) use policy::{PolicyVerb, SimulateArgs};
pub(super) use report::{ReportArgs, ReportFormat};
pub(super) use restore::RestoreArgs;
pub(super) use stanza::StanzaVerb;
pub(super) use statements::{StatementVerb, UnfreezeArgs};
pub(super) use take_over::TakeOverArgs;
pub(super) use wal::{FetchArgs, WalVerb};
pub(super) use watch::WatchArgs;

/// Backup and disaster recovery of databases: a backup counts only when it was proven.
///
/// Streams dumps and base backups through zstd and age into object storage, and completes each with
/// a signed manifest. Restores dumps with every row counted, and clusters to any moment that their
/// WAL covers. Results go to standard output, progress and messages to standard error. Exit codes
/// and JSON objects are stable: docs/exit-codes.md, docs/json.md.
#[derive(Debug, Parser)]
#[command(name = "drctl", version, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 success, 1 failure, 2 usage, 3 degraded, 4 verification \
failed, 5 nothing\nsatisfies the target, 6 busy, 7 configuration, 8 storage, 9 key, 10 source's \
server,\n11 objective breached, 12 target not fit, 130 interrupted. \
Every other code means failure.")]
pub struct Cli {
    /// The configuration file.
    #[arg(long, global = true, env = "DRCTL_CONFIG", value_name = "FILE")]
    #[arg(default_value = "/etc/drctl/drctl.toml", value_hint = ValueHint::FilePath)]
    pub config: PathBuf,

    /// Print one JSON object on standard output instead of text, also for errors.
    #[arg(long, global = true)]
    pub json: bool,

    /// Print only the result and errors: no progress, no notes, no warnings.
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
        /// Make a full backup of the cluster, whatever the configuration says.
        #[arg(long, conflicts_with = "incremental")]
        full: bool,
        /// Make an incremental backup: only what has changed since the backup before, however old
        /// the full one is. If that is not possible, make a full one.
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
        /// SOURCE/BACKUP, or the backup's identifier, or the beginning of exactly one identifier.
        backup: String,
    },
    /// Show what is in a backup and how it was made, or print its emergency script.
    Show(ShowArgs),
    /// Restore a backup into a server, a new database or files, or recover a cluster to any moment.
    Restore(Box<RestoreArgs>),
    /// Prove that backups can be restored: try one in a scratch server, show what earlier tries said.
    Drill {
        /// What to do.
        #[command(subcommand)]
        verb: DrillVerb,
    },
    /// Make a throw-away server of a source as it was at a moment, for a while; list, extend, destroy such.
    Clone(Box<CloneArgs>),
    /// Configure a restored cluster to replace the source's server, which is gone: print the
    /// changes, or make them with --yes.
    TakeOver(TakeOverArgs),
    /// Check backups against their signed manifests.
    Verify(VerifyArgs),
    /// Show the state of every source, and what to do next.
    Status {
        /// Exit with 11 if an objective is breached, with 3 if something needs attention.
        #[arg(long)]
        check: bool,
    },
    /// Tell what was done in the last days, and where every source stands.
    Report(ReportArgs),
    /// Say which host or job is late, by the signed beats of all agents in the bucket; needs no more than
    /// to read it.
    Watch(WatchArgs),
    /// Test everything that a backup and a restore need.
    Doctor {
        /// Only this source.
        source: Option<String>,
        /// An age identity to test.
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        identity: Option<PathBuf>,
    },
    /// Find the database servers of this host, and those of them that are not backed up.
    Discover,
    /// Check or show the configuration.
    Config {
        /// What to do.
        #[command(subcommand)]
        verb: ConfigVerb,
    },
    /// Try policies out.
    Policy {
        /// What to do.
        #[command(subcommand)]
        verb: PolicyVerb,
    },
    /// Archive and fetch PostgreSQL's WAL: archive_command, restore_command, streaming.
    Wal {
        /// What to do.
        #[command(subcommand)]
        verb: WalVerb,
    },
    /// Set up pgBackRest for a source: its configuration, its stanza, its existing backups.
    Stanza {
        /// What to do.
        #[command(subcommand)]
        verb: StanzaVerb,
    },
    /// Show what can be recovered of a cluster: base backups, WAL, gaps, reachable times.
    Timeline {
        /// The source, as it is named in the repository.
        source: String,
    },
    /// Find drops, truncations, and large deletes and updates in a cluster's WAL, each with its
    /// time and transaction, so that you can recover to just before it.
    When(WhenArgs),
    /// Show which backups and which WAL no policy keeps, and why all others stay; remove them
    /// with --yes=DIGEST, which this prints.
    Prune(PruneArgs),
    /// Say what has to stay.
    #[command(flatten)]
    Say(StatementVerb),
    /// Run the agent: it takes backups as the policies say, streams WAL, and makes up for runs that were
    /// missed. The service manager starts it.
    Agent,
    /// Run jobs for drctl under this account, as root's file allows. systemd starts it
    /// (drctl-job@ACCOUNT.service).
    #[command(hide = true)]
    JobHelper {
        /// The file in which root says what may be asked for.
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        allowed: PathBuf,
    },
    /// Speak with the agent.
    #[command(flatten)]
    Ask(AgentVerb),
    /// Try the channels by which people are told when something is amiss; acknowledge test messages.
    Notify {
        /// What to do.
        #[command(subcommand)]
        verb: NotifyVerb,
    },
    /// Show what was done on this host and by whom, and check that nobody changed the log of it.
    Audit {
        /// What to do.
        #[command(subcommand)]
        verb: AuditVerb,
    },
    /// Rebuild or check the catalog, the local cache of what the bucket holds.
    Catalog {
        /// What to do.
        #[command(subcommand)]
        verb: CatalogVerb,
    },
    /// List, test and make keys.
    Keys {
        /// What to do.
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
    /// Use an existing repository, with new keys for this host. With the repository's recovery kit,
    /// --kit FILE, everything else is taken from the kit.
    #[arg(long)]
    pub join: bool,
    /// Only write the repository's marker again, after somebody removed or overwrote it.
    #[arg(long, conflicts_with_all = ["join", "url", "source", "kit"])]
    pub restore_marker: bool,
    /// The address of the store, if it is not the provider's own (S3, Azure, Google).
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
    /// The directory for catalog and locks.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/drctl")]
    pub state_dir: PathBuf,
    /// The directory for short-lived private files.
    #[arg(long, value_name = "DIR", default_value = "/run/drctl")]
    pub runtime_dir: PathBuf,
    /// Write the recovery kit into this new file instead of printing it. With --join an existing
    /// file is read: the kit of the repository to join.
    #[arg(long, value_name = "FILE")]
    pub kit: Option<PathBuf>,
}

/// What `show` is told.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The backup's identifier, or the beginning of exactly one identifier.
    pub backup: String,
    /// Print a script that restores it without drctl.
    #[arg(long)]
    pub emergency: bool,
    /// The age identity that opens the encrypted names and row counts.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub identity: Option<PathBuf>,
}

/// What `verify` is told.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// A source, or a backup's identifier. Default: every backup of every source.
    pub what: Option<String>,
    /// Read every stored byte; with an identity, decrypt and check the content too.
    #[arg(long)]
    pub data: bool,
    /// The age identity that opens the backups.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub identity: Option<PathBuf>,
}

/// What `prune` is told.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Only this source.
    pub source: Option<String>,
    /// Show what would go and why the rest stays, and remove nothing. The default.
    #[arg(long, conflicts_with = "yes")]
    pub plan: bool,
    /// Remove what was shown with this digest, if it is still what would be removed.
    #[arg(long, value_name = "DIGEST", requires = "source")]
    pub yes: Option<String>,
    /// How many backups you mean to remove: asked for where it is more than half of them, more than
    /// half of their bytes, or more than 100.
    #[arg(long, value_name = "NUMBER", requires = "yes")]
    pub backups: Option<u64>,
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
    /// From this time on. Default: one day before --to.
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Up to this time. Default: now.
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    /// Report deletes and updates of at least this many rows of one table.
    #[arg(long, value_name = "ROWS", default_value_t = 1000)]
    pub rows: u64,
    /// The age identity that opens the WAL.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub identity: Option<PathBuf>,
}

/// What `config` can do.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Check the configuration for mistakes, and show when the next backups are due.
    Check,
    /// Print the configuration with every default filled in; secrets are never read.
    Show,
    /// Print the JSON Schema of the configuration, for editors.
    Schema,
}

/// What `catalog` can do.
#[derive(Debug, Subcommand)]
pub enum CatalogVerb {
    /// Make the catalog anew from the bucket.
    Rebuild,
    /// Compare the catalog with the bucket; change nothing.
    Check,
    /// Stop reporting backups and WAL of a source that are lost, and WAL that was refused.
    Forget {
        /// The source.
        source: String,
        /// Forget what was shown with this digest. Default: show it, and on a terminal ask.
        #[arg(long, value_name = "DIGEST")]
        yes: Option<String>,
    },
}
