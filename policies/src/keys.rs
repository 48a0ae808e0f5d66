//! Every key that a configuration may hold, once: reader and schema both follow these tables.

use crate::agent::AGENT;
use crate::discover::DISCOVER;
use crate::drill::DRILL;
use crate::engine;
use crate::hooks::HOOKS;
use crate::notify::NOTIFY;
use crate::throttle::THROTTLE;
use crate::timing::{LOG_INDEX, PRUNE, REPORT, VERIFY, WINDOW};

/// A key: what it takes, whether it must be there, and what holds when it is not.
#[derive(Clone, Copy)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) required: bool,
    /// As it would be written, without quotation marks.
    pub(crate) default: Option<&'static str>,
    pub(crate) about: &'static str,
}

/// What a key takes; bounds are inclusive.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// A string, neither empty nor with control characters.
    Text,
    /// One of these strings.
    Choice(&'static [&'static str]),
    Flag,
    Number {
        min: u64,
        max: u64,
    },
    /// A string such as `30s`; bounds in seconds.
    Duration {
        min: u64,
        max: u64,
    },
    /// A string such as `16MiB`; bounds in bytes.
    Size {
        min: u64,
        max: u64,
    },
    /// An absolute path.
    Path,
    /// `{ file = … }`, `{ env = … }` or `{ credential = … }`.
    Secret,
    /// An array of strings.
    Texts,
    /// An array of strings and of tables with these keys, whose `key` such a string is.
    Signers(&'static [Key]),
    /// A table with these keys.
    Section(&'static [Key]),
    /// A table of tables with these keys, under names that the operator chooses.
    Named(&'static [Key]),
}

impl Key {
    pub(crate) const fn optional(name: &'static str, kind: Kind, about: &'static str) -> Key {
        Key { name, kind, required: false, default: None, about }
    }

    pub(crate) const fn required(name: &'static str, kind: Kind, about: &'static str) -> Key {
        Key { name, kind, required: true, default: None, about }
    }

    pub(crate) const fn with_default(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        about: &'static str,
    ) -> Key {
        Key { name, kind, required: false, default: Some(default), about }
    }
}

pub(crate) const MINUTE: u64 = 60;
pub(crate) const HOUR: u64 = 60 * MINUTE;
pub(crate) const DAY: u64 = 24 * HOUR;

pub(crate) const fn number(min: u64, max: u64) -> Kind {
    Kind::Number { min, max }
}

pub(crate) const fn duration(min: u64, max: u64) -> Kind {
    Kind::Duration { min, max }
}

use Kind::{Flag, Named, Path, Secret, Section, Signers, Text, Texts};

/// The main file.
pub(crate) static MAIN: &[Key] = &[
    Key::required("version", number(0, i64::MAX as u64), "The version of this file's format: 1."),
    Key::optional("host", Text, "The name of this host, written into manifests."),
    Key::with_default(
        "policies_dir",
        Text,
        "policies.d",
        "The directory of the policy files, relative to this file's directory.",
    ),
    Key::required("repository", Section(REPOSITORY), "Where backups are stored."),
    Key::required("keys", Section(KEYS), "Who may read backups, and who vouches for them."),
    Key::optional("paths", Section(PATHS), "Directories of the agent."),
    Key::optional("limits", Section(LIMITS), "Memory, object size and concurrency."),
    Key::optional("agent", Section(AGENT), "The service that runs the schedules."),
    Key::optional(
        "discover",
        Section(DISCOVER),
        "Database servers of this host that are no source.",
    ),
    Key::optional(
        "sources",
        Named(engine::KEYS),
        "The protected databases, by name (a-z, 0-9 and -).",
    ),
    Key::optional(
        "notify",
        Named(NOTIFY),
        "Who is told when something is amiss, by name (a-z, 0-9 and -).",
    ),
    Key::optional(
        "throttle",
        Named(THROTTLE),
        "What the agent leaves to the databases, by name (a-z, 0-9 and -).",
    ),
    Key::optional(
        "hooks",
        Named(HOOKS),
        "What is run or asked before and after jobs, by name (a-z, 0-9 and -).",
    ),
];

pub(crate) static REPOSITORY: &[Key] = &[
    Key::required(
        "url",
        Text,
        "file:///absolute/path, s3://bucket/prefix, az://container/prefix or gs://bucket/prefix.",
    ),
    Key::optional(
        "id",
        Text,
        "The repository's identifier, written by `drctl init`: another repository at this URL is \
         refused.",
    ),
    Key::optional("endpoint", Text, "The address of the store, when it is not the provider's own."),
    Key::optional("region", Text, "S3: the region; default us-east-1."),
    Key::optional(
        "path_style",
        Flag,
        "S3: the bucket in the path, not in the host name; default: whether an endpoint is given.",
    ),
    Key::with_default("allow_http", Flag, "false", "Allow an endpoint without encryption."),
    Key::optional(
        "ca_file",
        Path,
        "Certificates to trust in addition to those of the system \
                                    (PEM).",
    ),
    Key::optional("access_key_id", Secret, "S3: the access key's id."),
    Key::optional("secret_access_key", Secret, "S3: the access key."),
    Key::optional("session_token", Secret, "S3: the token of temporary credentials."),
    Key::optional("account", Text, "Azure: the storage account."),
    Key::optional("account_key", Secret, "Azure: the account's key."),
    Key::optional("service_account", Secret, "Google: the service account's key, as JSON."),
    Key::optional(
        "request_timeout",
        duration(1, HOUR),
        "How long one request to the store may take; default: 30s and a segment's time at 1 \
         Mbit/s.",
    ),
    Key::optional(
        "prune",
        Section(PRUNER),
        "What `prune` uses in place of the host's own key and credentials.",
    ),
];

pub(crate) static PRUNER: &[Key] = &[
    Key::optional("signing_key", Secret, "The Ed25519 key that signs removals."),
    Key::optional("access_key_id", Secret, "S3: the access key's id."),
    Key::optional("secret_access_key", Secret, "S3: the access key."),
    Key::optional("session_token", Secret, "S3: the token of temporary credentials."),
    Key::optional("account_key", Secret, "Azure: the account's key."),
    Key::optional("service_account", Secret, "Google: the service account's key, as JSON."),
];

pub(crate) static KEYS: &[Key] = &[
    Key::required(
        "recipients",
        Texts,
        "The age recipients that can read backups: at least two, one of them kept offline.",
    ),
    Key::optional(
        "signing_key",
        Secret,
        "The Ed25519 key that signs manifests and WAL; needed to \
                                          back up.",
    ),
    Key::required(
        "verifying_keys",
        Signers(SIGNER),
        "The keys whose signatures are accepted: `ed25519:` and 32 bytes in base64, or a table \
         that limits the key to sources.",
    ),
    Key::optional(
        "identity",
        Secret,
        "The age identity that opens backups; needed only to \
                                       restore.",
    ),
];

/// An entry of `verifying_keys` that is a table.
pub(crate) static SIGNER: &[Key] = &[
    Key::required("key", Text, "`ed25519:` and 32 bytes in base64."),
    Key::optional("name", Text, "The key's name, for people; default: a part of the key."),
    Key::optional("sources", Texts, "The sources for which it is trusted; default: all."),
    Key::optional(
        "roles",
        Texts,
        "What it may sign for them: `backup`, `log`, `drill`, `prune`; default: all of it.",
    ),
];

pub(crate) static PATHS: &[Key] = &[
    Key::with_default("state_dir", Path, "/var/lib/drctl", "Catalog and locks."),
    Key::with_default("runtime_dir", Path, "/run/drctl", "Private short-lived files, on a tmpfs."),
    Key::with_default("job_dir", Path, "/run/drctl-job", "Sockets of helpers, for `run_as`."),
    Key::optional("spool_dir", Path, "Room for data in transit; default: spool in state_dir."),
    Key::optional(
        "scratch_dir",
        Path,
        "Where drills restore to; default: beside state_dir, with `-scratch` behind its name.",
    ),
];

pub(crate) static LIMITS: &[Key] = &[
    Key::with_default(
        "segment_bytes",
        Kind::Size { min: 1 << 10, max: 256 << 20 },
        "16MiB",
        "Plain bytes in one object. Small values cost requests and are meant for tests.",
    ),
    Key::with_default("seals", number(1, 64), "2", "Segments compressed and sealed at once."),
    Key::with_default("puts", number(1, 64), "2", "Segments uploaded at once."),
    Key::with_default("fetches", number(1, 64), "4", "Segments downloaded at once."),
    Key::with_default(
        "page_segments",
        number(1, 65_536),
        "4096",
        "Segments in one page of a backup's list of segments.",
    ),
];

/// A policy file.
pub(crate) static POLICY: &[Key] = &[
    Key::optional(
        "schedule",
        Text,
        "When to back up: cron with 5 fields, for example 0 2 * * *, or @daily and the like; \
         absent: only by hand.",
    ),
    Key::with_default("timezone", Text, "UTC", "The IANA time zone of schedules and retention."),
    Key::with_default(
        "jitter",
        duration(0, 12 * HOUR),
        "0s",
        "A run begins later by a part of this, which is fixed for each host, source and kind.",
    ),
    Key::optional("blackout", Texts, "Dates, or ranges of dates, on which no run begins."),
    Key::with_default("attempts", number(1, 20), "3", "How often a run that fails is tried."),
    Key::with_default("compression_level", number(1, 19), "3", "The zstd level."),
    Key::with_default(
        "log_compression_level",
        number(1, 19),
        "1",
        "The zstd level for WAL; archiving uses the server's processor.",
    ),
    Key::required("retention", Section(RETENTION), "Which backups are kept; at least one rule."),
    Key::optional("objectives", Section(OBJECTIVES), "What is promised."),
    Key::optional("window", Section(WINDOW), "When runs may begin; absent: at any time."),
    Key::optional("prune", Section(PRUNE), "When what is not kept is removed."),
    Key::optional("verify", Section(VERIFY), "When stored backups and WAL are verified."),
    Key::optional("drill", Section(DRILL), "When backups are tried in scratch servers."),
    Key::optional("log_index", Section(LOG_INDEX), "When indexes over the WAL are written."),
    Key::optional("report", Section(REPORT), "When reports are sent."),
];

pub(crate) static RETENTION: &[Key] = &[
    Key::with_default("last", number(0, 10_000), "0", "Keep this many of the newest."),
    Key::with_default(
        "hourly",
        number(0, 10_000),
        "0",
        "Keep the newest of each of this many hours.",
    ),
    Key::with_default(
        "daily",
        number(0, 36_500),
        "0",
        "Keep the newest of each of this many days.",
    ),
    Key::with_default(
        "weekly",
        number(0, 5_200),
        "0",
        "Keep the newest of each of this many ISO \
                                                        weeks.",
    ),
    Key::with_default(
        "monthly",
        number(0, 1_200),
        "0",
        "Keep the newest of each of this many \
                                                         months.",
    ),
    Key::with_default("yearly", number(0, 100), "0", "Keep the newest of each of this many years."),
    Key::optional(
        "within",
        duration(HOUR, 36_500 * DAY),
        "Keep all that are younger than this, and for a source with WAL every moment of it.",
    ),
    Key::with_default(
        "min_backups",
        number(1, 10_000),
        "1",
        "This many of the newest stay, however old they are.",
    ),
    Key::with_default(
        "min_proven",
        number(1, 10_000),
        "1",
        "This many of the newest proven ones stay, however old they are.",
    ),
    Key::optional(
        "max_age",
        duration(HOUR, 36_500 * DAY),
        "What is older is not kept by any rule but `min_backups` and `min_proven`.",
    ),
];

pub(crate) static OBJECTIVES: &[Key] = &[
    Key::optional(
        "rpo",
        duration(MINUTE, 3_650 * DAY),
        "The most that may be lost: the age of the newest good backup, or of the last commit that \
         a cluster's WAL in the bucket holds.",
    ),
    Key::optional("rto", duration(MINUTE, 365 * DAY), "The most that a restore may take."),
    Key::optional("max_duration", duration(MINUTE, 30 * DAY), "The most that a backup may take."),
];

/// Where a key belongs, for one that stands in the wrong place: "in [paths]".
pub(crate) fn home_of(name: &str) -> Option<String> {
    let in_main = MAIN.iter().find_map(|key| match key.kind {
        Kind::Section(keys) if has(keys, name) => Some(format!("in [{}]", key.name)),
        Kind::Named(keys) if has(keys, name) => Some(format!("in [{}.NAME]", key.name)),
        _ => None,
    });
    let in_policy = || {
        let section = POLICY.iter().find_map(|key| match key.kind {
            Kind::Section(keys) if has(keys, name) => {
                Some(format!("in [{}] of a policy", key.name))
            }
            _ => None,
        });
        has(POLICY, name).then(|| "in a policy file".to_owned()).or(section)
    };
    let top = || has(MAIN, name).then(|| "at the top of the main file".to_owned());
    in_main.or_else(in_policy).or_else(top)
}

fn has(keys: &[Key], name: &str) -> bool {
    keys.iter().any(|key| key.name == name)
}

/// What other tools call a key of ours.
pub(crate) fn synonym(name: &str) -> Option<&'static str> {
    const SYNONYMS: &[(&str, &str)] = &[
        ("bucket", "url"),
        ("compression", "compression_level"),
        ("cron", "schedule"),
        ("dbname", "databases"),
        ("exclude", "exclude_databases"),
        ("hostname", "host"),
        ("keep", "retention"),
        ("keep_daily", "daily"),
        ("keep_hourly", "hourly"),
        ("keep_last", "last"),
        ("keep_monthly", "monthly"),
        ("keep_weekly", "weekly"),
        ("keep_within", "within"),
        ("keep_yearly", "yearly"),
        ("passwd", "password"),
        ("tz", "timezone"),
        ("username", "user"),
    ];
    SYNONYMS.iter().find(|(other, _)| *other == name).map(|(_, ours)| *ours)
}
