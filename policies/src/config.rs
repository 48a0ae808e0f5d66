use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use drctl_model::SourceId;
use serde::Serialize;
use toml::Spanned;
use toml::de::DeTable;

use crate::agent::{self, AgentSettings};
use crate::bech32::is_age_recipient;
use crate::diagnostic::{Diagnostic, Report, SourceFile, show};
use crate::discover::{self, DiscoverSettings};
use crate::hooks::{self, Hook};
use crate::keys::{MAIN, POLICY};
use crate::notify::{self, Channel};
use crate::paths::{Paths, read_paths};
use crate::policy::{self, Policy};
use crate::reader::{Reader, Text};
use crate::repository::{self, Repository};
use crate::secret::SecretRef;
use crate::signers::{self, TrustedKey};
use crate::source::{self, Source};
use crate::throttle::{self, Throttle};

/// The version of the main file's form that this program reads.
const VERSION: u64 = 1;

/// A whole configuration: checked, every default applied, every reference followed.
///
/// Holds references to secrets, never a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Config {
    /// The version of the main file's form: 1.
    pub version: u64,
    /// The name of this host, written into manifests.
    pub host: Option<String>,
    /// The directory of the policy files, as written: see [`policies_dir`].
    pub policies_dir: String,
    /// Where backups are stored.
    pub repository: Repository,
    /// Who may read backups, and who vouches for them.
    pub keys: Keys,
    /// Directories of the agent.
    pub paths: Paths,
    /// Memory, object size and concurrency.
    pub limits: Limits,
    /// The service that runs the schedules.
    pub agent: AgentSettings,
    /// Servers of this host that are no source.
    pub discover: DiscoverSettings,
    /// The protected databases.
    pub sources: BTreeMap<SourceId, Source>,
    /// Who is told when something is amiss, by name.
    pub notify: BTreeMap<String, Channel>,
    /// What the agent leaves to the databases, by name.
    pub throttle: BTreeMap<String, Throttle>,
    /// Programs that are run before and after jobs, by name.
    pub hooks: BTreeMap<String, Hook>,
    /// Every policy, by name, used or not.
    pub policies: BTreeMap<String, Policy>,
}

/// Who may read backups, and who vouches for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Keys {
    /// age recipients (X25519), checksum checked; at least two, distinct.
    pub recipients: Vec<String>,
    /// The Ed25519 key that signs manifests; needed to back up.
    pub signing_key: Option<SecretRef>,
    /// Whose signatures are accepted; at least one, distinct.
    pub verifying_keys: Vec<TrustedKey>,
    /// The age identity that opens backups; needed to restore only.
    pub identity: Option<SecretRef>,
}

/// Memory, object size and concurrency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Plain bytes in one object. 1 KiB to 256 MiB; small values are meant for tests.
    pub segment_bytes: usize,
    /// Segments compressed and sealed at once. 1 to 64.
    pub seals: usize,
    /// Segments uploaded at once. 1 to 64.
    pub puts: usize,
    /// Segments downloaded at once. 1 to 64.
    pub fetches: usize,
    /// Segments in one page of a backup's list of segments. 1 to 65 536.
    pub page_segments: usize,
}

/// Reads a configuration, or says everything that is wrong with it.
///
/// # Errors
/// At least one [`Diagnostic`], those of the main file first, each file's from top to bottom.
///
/// At least one diagnostic, those of the main file first, each file's from top to bottom.
pub fn parse(main: &SourceFile, policies: &[SourceFile]) -> Result<Config, Vec<Diagnostic>> {
    let mut found = Vec::new();
    let read = read_policies(policies, &of_clusters(main), &mut found);
    let report = Report::new(main);
    let config = open(&report, |table| read_main(table, &report, &read));
    let mut all = report.into_found();
    all.append(&mut found);
    match config {
        Some(config) if all.is_empty() => Ok(config),
        _ => Err(all),
    }
}

/// The directory of the policy files: what `policies_dir` says, from the main file's directory.
///
/// Needs nothing of the main file but that it is TOML: mistakes elsewhere are left to [`parse`].
///
/// # Errors
/// [`Diagnostic`]s: the main file is no TOML, or the key's value is no directory.
///
/// The main file is no TOML, or the key's value is no directory.
pub fn policies_dir(main: &SourceFile) -> Result<PathBuf, Vec<Diagnostic>> {
    let report = Report::new(main);
    let dir = open(&report, |table| {
        let quiet = Report::new(main);
        let reader = Reader::new(table.get_ref(), 0..0, MAIN, &quiet);
        let dir = reader.text("policies_dir").map(|text| text.value.to_owned());
        // Only what is wrong with this key is worth stopping for here.
        if dir.is_none() {
            report.error(&reader.span_of("policies_dir"), "`policies_dir` must be a path");
        }
        dir
    });
    let base = Path::new(&main.name).parent().unwrap_or(Path::new(""));
    dir.map(|dir| base.join(dir)).ok_or_else(|| report.into_found())
}

/// Parses TOML and reads it. Behind a syntax error nothing is what it seems, so then nothing is
/// read; a key that is there twice hides nothing.
pub(crate) fn open<T>(
    report: &Report<'_>,
    read: impl FnOnce(&Spanned<DeTable<'_>>) -> Option<T>,
) -> Option<T> {
    let text = report.text();
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut readable = true;
    for error in errors {
        let span = error.span().unwrap_or(text.len()..text.len());
        if error.message().starts_with("duplicate key") {
            report.advise(&span, "this key is there twice", "keep one of the two");
        } else {
            readable = false;
            report.error(&span, format!("not TOML: {}", show(error.message())));
        }
    }
    if readable { read(&table) } else { None }
}

/// The policies that only clusters with base backups have: of these the log may be kept as well, so
/// that less is lost than the pause between two backups.
fn of_clusters(main: &SourceFile) -> BTreeSet<String> {
    let quiet = Report::new(main);
    let (mut clusters, mut others) = (BTreeSet::new(), BTreeSet::new());
    let read = open(&quiet, |table| {
        let reader = Reader::new(table.get_ref(), 0..0, MAIN, &quiet);
        for (_, (_, at)) in reader.named("sources") {
            let policy = at.text("policy").map(|text| text.value.to_owned());
            let copied = at
                .text("engine")
                .is_some_and(|text| matches!(text.value, "base_backup" | "pgbackrest"));
            if copied { clusters.extend(policy) } else { others.extend(policy) }
        }
        Some(())
    });
    read.map_or_else(BTreeSet::new, |()| clusters.difference(&others).cloned().collect())
}

/// Every policy by name; `None`: the file is there, and wrong.
type Policies = BTreeMap<String, Option<Policy>>;

fn read_policies(
    files: &[SourceFile],
    of_clusters: &BTreeSet<String>,
    found: &mut Vec<Diagnostic>,
) -> Policies {
    let mut policies = Policies::new();
    for file in files {
        let report = Report::new(file);
        let name =
            Path::new(&file.name).file_stem().map_or(Cow::Borrowed(""), |s| s.to_string_lossy());
        let good = policy::check_name(&name, &report);
        let policy = open(&report, |table| {
            let reader = Reader::new(table.get_ref(), 0..0, POLICY, &report);
            policy::read(&name, &reader, of_clusters.contains(&*name))
        });
        if good && policies.insert(name.to_string(), policy).is_some() {
            report.error(&(0..0), format!("another file is the policy `{name}` too"));
        }
        found.append(&mut report.into_found());
    }
    policies
}

fn read_main(
    table: &Spanned<DeTable<'_>>,
    report: &Report<'_>,
    policies: &Policies,
) -> Option<Config> {
    let version = read_version(table, report)?;
    let reader = Reader::new(table.get_ref(), 0..0, MAIN, report);
    let host = reader.text("host").map(|text| text.value.to_owned());
    let policies_dir = reader.text("policies_dir").map(|text| text.value.to_owned());
    let repository = reader.section("repository").and_then(|at| repository::read(&at));
    let keys = reader.section("keys").and_then(|at| read_keys(&at));
    let paths = reader.section("paths").and_then(|at| read_paths(&at));
    let limits = reader.section("limits").and_then(|at| read_limits(&at));
    let agent = reader.section("agent").and_then(|at| agent::read(&at));
    let discover = reader.section("discover").and_then(|at| discover::read(&at));
    let sources = read_sources(&reader, policies);
    let known = notify::names_in(&reader, "sources");
    let notify = read_named(&reader, "notify", |at, _| notify::read(at, &known));
    let throttle = read_named(&reader, "throttle", throttle::read);
    let hooks = read_named(&reader, "hooks", |at, _| hooks::read(at, &known));
    let policies =
        policies.iter().filter_map(|(name, policy)| Some((name.clone(), policy.clone()?)));
    Some(Config {
        version,
        host,
        policies_dir: policies_dir?,
        repository: repository?,
        keys: keys?,
        paths: paths?,
        limits: limits?,
        agent: agent?,
        discover: discover?,
        sources,
        notify,
        throttle,
        hooks,
        policies: policies.collect(),
    })
}

/// Reads the version before anything else: of another one, the rest would be misread.
fn read_version(table: &Spanned<DeTable<'_>>, report: &Report<'_>) -> Option<u64> {
    // A reader of its own would report the unknown keys twice.
    let quiet = Report::new(report.file());
    let reader = Reader::new(table.get_ref(), 0..0, MAIN, &quiet);
    match reader.number("version") {
        Some(VERSION) => Some(VERSION),
        Some(other) => {
            let message = format!("version {other} is not known: this program reads {VERSION}");
            let advice =
                format!("install the release that wrote the file, or write version = {VERSION}");
            report.advise(&reader.span_of("version"), message, advice);
            None
        }
        None => {
            let message = if reader.has("version") {
                "`version` must be a whole number"
            } else {
                "missing key `version`"
            };
            let advice = format!("write version = {VERSION} at the top");
            report.advise(&reader.span_of("version"), message, advice);
            Some(VERSION)
        }
    }
}

fn read_keys(reader: &Reader<'_>) -> Option<Keys> {
    let recipients = reader.texts("recipients");
    let verifying_keys = signers::read(reader);
    let (signing_key, identity) = (reader.secret("signing_key"), reader.secret("identity"));
    if let Some(texts) = &recipients {
        check_recipients(reader, texts);
    }
    let owned =
        |texts: Vec<Text<'_>>| texts.into_iter().map(|text| text.value.to_owned()).collect();
    Some(Keys {
        recipients: recipients.map(owned)?,
        signing_key,
        verifying_keys: verifying_keys?,
        identity,
    })
}

fn check_recipients(reader: &Reader<'_>, texts: &[Text<'_>]) {
    for text in texts {
        // Somebody may have pasted the secret half: nothing of it is shown.
        if text.value.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
            reader.report.advise(
                &text.span,
                "secret written inline in `recipients`",
                "write the public half, which begins with age1, and make a new identity",
            );
        } else if !is_age_recipient(text.value) {
            reader.report.advise(
                &text.span,
                "this is no age recipient",
                "it begins with age1 and has 62 characters; copy it again",
            );
        }
    }
    check_distinct(reader, "recipients", texts);
    if texts.len() < 2 {
        reader.report.advise(
            &reader.span_of("recipients"),
            "`recipients` needs at least two",
            "add the recipient of a recovery identity that is kept offline",
        );
    }
}

fn check_distinct(reader: &Reader<'_>, key: &str, texts: &[Text<'_>]) {
    let mut seen = BTreeSet::new();
    for text in texts.iter().filter(|text| !seen.insert(text.value)) {
        reader.report.error(&text.span, format!("`{key}` holds the same key twice"));
    }
}

fn read_limits(reader: &Reader<'_>) -> Option<Limits> {
    let segment_bytes = reader.size("segment_bytes");
    let (seals, puts) = (reader.number("seals"), reader.number("puts"));
    let (fetches, page_segments) = (reader.number("fetches"), reader.number("page_segments"));
    Some(Limits {
        segment_bytes: segment_bytes?,
        seals: seals?,
        puts: puts?,
        fetches: fetches?,
        page_segments: page_segments?,
    })
}

fn read_sources(reader: &Reader<'_>, policies: &Policies) -> BTreeMap<SourceId, Source> {
    let mut sources = BTreeMap::new();
    for (name, (span, at)) in reader.named("sources") {
        let id = read_id(name, &span, reader.report);
        let draft = source::read(&at);
        let policy = draft.policy.as_ref().and_then(|text| policy::find(text, policies, reader));
        if let (Some(id), Some(policy)) = (id, policy)
            && let Some(source) = draft.finish(policy)
        {
            sources.insert(id, source);
        }
    }
    sources
}

/// Reads a table of tables under names that the operator chooses.
fn read_named<'a, T>(
    reader: &Reader<'a>,
    table: &str,
    read: impl Fn(&Reader<'a>, &Range<usize>) -> Option<T>,
) -> BTreeMap<String, T> {
    let one = |(name, (span, at)): (&str, (Range<usize>, Reader<'a>))| {
        let id = read_id(name, &span, reader.report);
        let found = read(&at, &span);
        id.and(found).map(|found| (name.to_owned(), found))
    };
    reader.named(table).into_iter().filter_map(one).collect()
}

fn read_id(name: &str, span: &Range<usize>, report: &Report<'_>) -> Option<SourceId> {
    let error = match name.parse::<SourceId>() {
        Ok(id) => return Some(id),
        Err(error) => error,
    };
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let near: String = name.chars().take(63).map(letter).collect();
    let near = near.trim_matches('-').parse::<SourceId>().ok();
    report.push(span, error.to_string(), near.map(|near| format!("name it `{near}`")));
    None
}
