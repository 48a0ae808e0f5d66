//! A stanza: its configuration, its creation, and taking over what is there.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use drctl_engines::pg::{ClusterPlace, cluster_place};
use drctl_model::SourceId;
use drctl_policies::{Pgbackrest, Source};

use super::attempt::ask_server;
use super::conf::Setting;
use super::histories::keep_history;
use super::record::Recorder;
use super::sync::sync;
use super::{Synced, conf};
use crate::host::shell::server_word;
use crate::host::{AgentError, Setup, private, read_secret};
use crate::repository::cache;

/// Where pgBackRest looks for its configuration when it is not told where.
const DEFAULT_FILES: [&str; 2] = ["/etc/pgbackrest/pgbackrest.conf", "/etc/pgbackrest.conf"];

/// The directory beside it, of which every `*.conf` counts.
const DEFAULT_DIRECTORY: &str = "/etc/pgbackrest/conf.d";

/// What a stanza's configuration is to say beside what the server tells.
#[derive(Debug, Clone, Default)]
pub struct ConfigRequest {
    /// The directory of the repository, where it is one.
    pub repo_path: Option<PathBuf>,
    /// Further options of pgBackRest, as `KEY=VALUE`.
    pub set: Vec<String>,
    /// Whether nothing is written.
    pub print: bool,
}

/// The configuration of a stanza.
#[derive(Debug, Clone)]
pub struct Configured {
    /// The file.
    pub path: PathBuf,
    /// Whether it was written just now.
    pub written: bool,
    /// What is in it, without passphrase; nothing of a file that was there.
    pub text: Option<String>,
    /// What the server's `archive_command` has to be.
    pub archive_command: String,
}

/// What was taken over of a stanza.
#[derive(Debug, Clone)]
pub struct Adopted {
    /// What was found.
    pub synced: Synced,
    /// How pgBackRest says that the stanza is; empty when all is well.
    pub trouble: String,
}

fn opened<'a>(setup: &'a Setup, name: &str) -> Result<(&'a SourceId, &'a Source, &'a Pgbackrest)> {
    let (id, source) = setup.source(name)?;
    Ok((id, source, super::settings(name, source)?))
}

/// Writes pgBackRest's configuration for a source, where there is none; one that is there is looked
/// at and left as it is.
///
/// # Errors
/// [`AgentError::Target`] where the stanza is of another cluster's directory, or a file is there that
/// drctl has not written and that does not say where the stanza's data are; the server's; the file
/// system's.
pub async fn configure(setup: &Setup, name: &str, request: &ConfigRequest) -> Result<Configured> {
    let (_, source, settings) = opened(setup, name)?;
    if let Some(account) = settings.run_as.as_ref().filter(|_| !request.print) {
        let text = format!(
            "with run_as pgBackRest's configuration is no file of drctl's: with --print this shows what \
             to write there, as root or {account}"
        );
        return Err(AgentError::Usage(text).into());
    }
    let server = setup.server(source)?;
    let place = cluster_place(&server, "drctl/stanza").await;
    let place = place.context("ask the server where its cluster lies")?;
    let archive_command = archive_command(settings);
    let mut has_repository = false;
    for path in files(settings)? {
        let Some(text) = read(&path)? else { continue };
        let section = conf::section(&text, &settings.stanza);
        if let Some(data) = section.as_ref().and_then(|found| found.get("pg1-path")) {
            compare(&path, settings, data, &place)?;
            return Ok(Configured { path, written: false, text: None, archive_command });
        }
        let global = conf::section(&text, "global").unwrap_or_default();
        has_repository |= global.keys().any(|key| key.starts_with("repo"));
        // A second file with the section of the first would say some of it twice.
        if settings.config.is_some() || section.is_some() {
            let lines = settings_for(settings, request, &place, has_repository)?;
            conf::fit(&lines).map_err(AgentError::Usage)?;
            let text = conf::render(name, &settings.stanza, &conf::shown(&lines));
            return Err(AgentError::Target(format!(
                "{} does not say where the stanza's data are, and drctl changes no file that it did \
                 not write: add this to it\n  {}",
                path.display(),
                text.trim_end().replace('\n', "\n  ")
            ))
            .into());
        }
    }
    let mut lines = settings_for(settings, request, &place, has_repository)?;
    if let Some(reference) = &settings.cipher_pass {
        let pass = read_secret("the source's cipher_pass", reference)?;
        lines.push((format!("repo{}-cipher-type", settings.repo), "aes-256-cbc".to_owned()));
        lines.push((format!("repo{}-cipher-pass", settings.repo), pass));
    }
    conf::fit(&lines).map_err(AgentError::Usage)?;
    let own = || Path::new(DEFAULT_DIRECTORY).join(format!("drctl-{}.conf", settings.stanza));
    let path = settings.config.clone().unwrap_or_else(own);
    if !request.print {
        if settings.config.is_none() {
            let made = private::public_directory(Path::new(DEFAULT_DIRECTORY));
            made.map_err(|error| denied(error, Path::new(DEFAULT_DIRECTORY)))?;
        }
        let text = conf::render(name, &settings.stanza, &lines);
        write(&path, &text, place.data_directory.as_deref())?;
    }
    let text = Some(conf::render(name, &settings.stanza, &conf::shown(&lines)));
    Ok(Configured { path, written: !request.print, text, archive_command })
}

/// The files that pgBackRest reads for a source; none where they are another account's to read.
fn files(settings: &Pgbackrest) -> Result<Vec<PathBuf>> {
    if settings.run_as.is_some() {
        return Ok(Vec::new());
    }
    if let Some(path) = &settings.config {
        return Ok(vec![path.clone()]);
    }
    let mut found: Vec<PathBuf> = DEFAULT_FILES.map(PathBuf::from).to_vec();
    match fs::read_dir(DEFAULT_DIRECTORY) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        entries => {
            let entries = entries.with_context(|| format!("look into {DEFAULT_DIRECTORY}"))?;
            let mut inside: Vec<PathBuf> =
                entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
            inside.retain(|path| path.extension().is_some_and(|ending| ending == "conf"));
            inside.sort();
            found.append(&mut inside);
        }
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        text => Ok(Some(text.with_context(|| format!("read {}", path.display()))?)),
    }
}

/// A stanza that is there is taken as it is, if it is of this cluster.
fn compare(path: &Path, settings: &Pgbackrest, data: &str, place: &ClusterPlace) -> Result<()> {
    let same = |ours: &PathBuf| {
        let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        real(ours) == real(Path::new(data))
    };
    match place.data_directory.as_ref().filter(|ours| !same(ours)) {
        None => Ok(()),
        Some(ours) => Err(AgentError::Target(format!(
            "{} has the stanza `{}` for {data}, but the server's cluster is in {}: nothing was \
             written; name another stanza, or correct host and port of the source",
            path.display(),
            settings.stanza,
            ours.display()
        ))
        .into()),
    }
}

/// The command that archives into a source's stanza, whose configuration names this data directory.
///
/// # Errors
/// [`AgentError::Target`] where it names another one, or no file says which: drctl changes none of them.
pub(crate) fn leads_to(settings: &Pgbackrest, data: &Path) -> Result<String> {
    let (line, mut last) = (format!("pg1-path={}", data.display()), None);
    for path in files(settings)? {
        let Some(text) = read(&path)? else { continue };
        let section = conf::section(&text, &settings.stanza);
        match section.as_ref().and_then(|found| found.get("pg1-path")) {
            Some(named) if Path::new(named) == data => return Ok(archive_command(settings)),
            Some(named) => last = Some(format!("{} says pg1-path={named}", path.display())),
            None => {}
        }
    }
    let stanza = &settings.stanza;
    let text = format!(
        "{}, and drctl changes none of pgBackRest's files: write {line} there, in the section \
         [{stanza}], then run this again. Nothing was done",
        last.unwrap_or_else(|| format!(
            "no file of pgBackRest says where the data of {stanza} are"
        ))
    );
    Err(AgentError::Target(text).into())
}

/// What is written of a new stanza, without its passphrase.
fn settings_for(
    settings: &Pgbackrest,
    request: &ConfigRequest,
    place: &ClusterPlace,
    has_repository: bool,
) -> Result<Vec<Setting>> {
    let usage = |text: String| anyhow::Error::from(AgentError::Usage(text));
    let asked: Vec<Setting> =
        request.set.iter().map(|text| conf::setting(text).map_err(usage)).collect::<Result<_>>()?;
    let is_set = |name: &str| asked.iter().any(|(key, _)| key == name);
    let mut lines: Vec<Setting> = Vec::new();
    let mut add = |key: String, value: Option<String>| {
        if let Some(value) = value.filter(|_| !is_set(&key)) {
            lines.push((key, value));
        }
    };
    let path = |path: &PathBuf| path.display().to_string();
    add("pg1-path".to_owned(), place.data_directory.as_ref().map(path));
    add("pg1-port".to_owned(), Some(place.port.to_string()));
    add("pg1-socket-path".to_owned(), place.socket_directory.as_ref().map(path));
    let repo = format!("repo{}", settings.repo);
    add(format!("{repo}-path"), request.repo_path.as_ref().map(path));
    // What pgBackRest waits for otherwise is the server's next checkpoint.
    add("start-fast".to_owned(), Some("y".to_owned()));
    lines.extend(asked);
    if !lines.iter().any(|(key, _)| key == "pg1-path") {
        let text = "the role may not see the data directory: grant it pg_read_all_settings, or \
                    pass --set pg1-path=DIRECTORY";
        return Err(usage(text.to_owned()));
    }
    if !has_repository && !lines.iter().any(|(key, _)| key.starts_with(&repo)) {
        let text = "no repository is configured yet: name a directory with --repo-path, or another \
                    kind with --set (repo1-type=s3 …)";
        return Err(usage(text.to_owned()));
    }
    Ok(lines)
}

/// Why nothing can be written there: what root can do about it, where that is it.
fn denied(error: std::io::Error, directory: &Path) -> anyhow::Error {
    let place = directory.display();
    if error.kind() != ErrorKind::PermissionDenied {
        return anyhow::Error::new(error).context(format!("write into {place}"));
    }
    let uid = rustix::process::geteuid().as_raw();
    AgentError::Target(format!(
        "this account may not write into {place}: as root run `install -d -m 0750 -o {uid} \
         {place}`, then run this again; or name a file of its own with pgbackrest_config of the \
         source. Nothing was written"
    ))
    .into()
}

/// Writes a new file that only the server's account can read: pgBackRest runs under it.
fn write(path: &Path, text: &str, data: Option<&Path>) -> Result<()> {
    let opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = match opened {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(AgentError::Exists(path.to_owned()).into());
        }
        file => file.map_err(|error| denied(error, path.parent().unwrap_or(path)))?,
    };
    let mut done = || -> std::io::Result<()> {
        if let (true, Some(data)) = (rustix::process::geteuid().is_root(), data) {
            let owner = fs::metadata(data)?;
            fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    done().with_context(|| format!("write {}", path.display()))
}

/// What lets the server archive into the stanza.
fn archive_command(settings: &Pgbackrest) -> String {
    let program = settings.bin.as_deref().unwrap_or(Path::new("pgbackrest"));
    let config = settings.config.as_ref().map(|path| server_word(path));
    let config = config.map(|path| format!(" --config={path}")).unwrap_or_default();
    format!("{}{config} --stanza={} archive-push %p", server_word(program), settings.stanza)
}

/// Creates the stanza in the repository; one that is there is left as it is.
///
/// # Errors
/// [`AgentError::UnknownSource`]; [`AgentError::Usage`] for a source of another engine, and for root;
/// [`EngineError`](drctl_engines::EngineError) of pgBackRest's.
pub async fn create(setup: &Setup, name: &str) -> Result<()> {
    let (_, _, settings) = opened(setup, name)?;
    super::not_as_root(settings)?;
    Ok(super::engine(setup, settings)?.create_stanza().await?)
}

/// Lets the stanza belong to the cluster that the server has now.
///
/// # Errors
/// [`AgentError::UnknownSource`]; [`AgentError::Usage`] for a source of another engine, and for root;
/// [`EngineError`](drctl_engines::EngineError) of pgBackRest's.
pub async fn upgrade(setup: &Setup, name: &str) -> Result<()> {
    let (_, _, settings) = opened(setup, name)?;
    super::not_as_root(settings)?;
    Ok(super::engine(setup, settings)?.upgrade_stanza().await?)
}

/// Lets pgBackRest send one segment through the archive. It proves that one only.
///
/// # Errors
/// [`AgentError::UnknownSource`]; [`AgentError::Usage`] for a source of another engine, and for root;
/// [`EngineError`](drctl_engines::EngineError) of pgBackRest's.
pub async fn check(setup: &Setup, name: &str) -> Result<()> {
    let (_, _, settings) = opened(setup, name)?;
    super::not_as_root(settings)?;
    Ok(super::engine(setup, settings)?.check().await?)
}

/// Records every backup that is in the stanza and not recorded, and marks what has expired. Nothing
/// of pgBackRest's is changed.
///
/// # Errors
/// [`AgentError::Busy`]; pgBackRest's, the bucket's, the catalog's.
pub async fn adopt(setup: &Setup, name: &str) -> Result<Adopted> {
    let (id, source, settings) = opened(setup, name)?;
    let _lock = cache::lock(setup, id)?;
    let engine = super::engine(setup, settings)?;
    let info = engine.look().await?;
    let repository = setup.repository().await?;
    repository.may_write().await?;
    let catalog = setup.catalog(&repository).await?;
    let mut recorder = Recorder::new(setup, &repository, id, settings)?;
    let asked = ask_server(setup, source, &mut recorder);
    match tokio::time::timeout(SERVER_PATIENCE, asked).await {
        Ok(asked) => drop(asked?),
        Err(_) => tracing::warn!("the server does not answer: done without it"),
    }
    let synced = sync(&recorder, &catalog, &info).await?;
    if let Some(newest) = synced.recorded.iter().max_by_key(|backup| backup.finished) {
        let note = keep_history(&recorder, source, &engine, newest).await;
        note.iter().for_each(|note| tracing::warn!("{note}"));
    }
    let trouble = if info.is_whole() { String::new() } else { info.status.message.clone() };
    Ok(Adopted { synced, trouble })
}

/// How long a server may take to answer what `info` tells nearly always.
const SERVER_PATIENCE: Duration = Duration::from_secs(10);
