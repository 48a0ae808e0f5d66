use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::args::TakeOverArgs;
use super::screen::{Screen, line};
use crate::host::shell::word;
use crate::host::{AgentError, Exit, Setup};
use crate::restore::{
    Address, CONFIGURATION, TakeOverPlan, TakeOverRequest, finish_take_over, prepare_take_over,
};

/// `drctl take-over`.
pub(super) async fn take_over(screen: Screen, setup: &Setup, args: &TakeOverArgs) -> Result<Exit> {
    let request = TakeOverRequest {
        setup,
        source: &args.source,
        directory: std::path::absolute(&args.directory)?,
        configuration: args.configuration.clone(),
        streamed: args.streamed,
    };
    let prepared = prepare_take_over(&request).await;
    let mut prepared = prepared.with_context(|| {
        format!("let the cluster in {} replace a server", request.directory.display())
    })?;
    prepared.notes.extend(configurations(&prepared, args));
    let Some(wanted) = &args.yes else {
        screen.answer("drctl.take-over/1", object(&prepared, false), || plan_text(&prepared));
        return Ok(Exit::Success);
    };
    if *wanted != prepared.digest {
        let text = format!(
            "{wanted} is not the digest of what would be done now: run this without --yes, and read \
             what it shows. Nothing was done"
        );
        return Err(AgentError::Usage(text).into());
    }
    let address = finish_take_over(&mut prepared)?;
    screen.answer("drctl.take-over/1", object(&prepared, true), || {
        done_text(&prepared, &address, setup, args)
    });
    Ok(Exit::Success)
}

fn object(prepared: &TakeOverPlan, done: bool) -> serde_json::Value {
    let files = prepared.changes.edits.iter();
    json!({
        "source": prepared.source, "data": prepared.data, "done": done,
        "system_id": prepared.control.system_id.to_string(), "timeline": prepared.control.timeline,
        "files": files.map(|edit| json!({ "file": edit.file, "changes": edit.says })).collect::<Vec<_>>(),
        "ready": prepared.changes.ready, "notes": prepared.notes, "digest": prepared.digest,
    })
}

fn plan_text(prepared: &TakeOverPlan) -> String {
    let mut text = format!(
        "the cluster in {} (system {}, timeline {}) would become the server of {}; its data stays \
         there",
        prepared.data.display(),
        prepared.control.system_id,
        prepared.control.timeline,
        prepared.source
    );
    for edit in &prepared.changes.edits {
        let _ = write!(text, "\n  {}", line(&edit.file.display().to_string()));
        for change in &edit.says {
            let _ = write!(text, "\n    {}", line(change));
        }
    }
    if !prepared.changes.ready.is_empty() {
        let names = line(&prepared.changes.ready.join(", "));
        let _ = write!(text, "\n  to be archived, because they are not yet: {names}");
    }
    for note in &prepared.notes {
        let _ = write!(text, "\n  note: {}", line(note));
    }
    if prepared.changes.edits.is_empty() {
        text.push_str("\n  no setting has to change");
    }
    let digest = &prepared.digest;
    let _ = write!(text, "\n  plan {digest}: --yes={digest} does exactly this");
    text
}

fn done_text(
    prepared: &TakeOverPlan,
    address: &Address,
    setup: &Setup,
    args: &TakeOverArgs,
) -> String {
    let (source, data) = (&prepared.source, word(&prepared.data.display().to_string()));
    let mut text = format!(
        "the cluster in {data} is the server of {source}; the old versions of its files are kept \
         (.before-take-over)\n  start it: {}",
        start(prepared, args)
    );
    let configured = setup.source(source.as_str()).ok();
    if let Some(named) = configured.and_then(|(_, source)| source.engine.server())
        && (named.port != address.port
            || (named.host.starts_with('/') && named.host != address.host))
    {
        let _ = write!(
            text,
            "\n  then in {}, source {source}: host = \"{}\", port = {}",
            setup.path.display(),
            address.host,
            address.port
        );
    }
    if args.streamed {
        let _ = write!(text, "\n  then stream its WAL again: drctl wal stream {source}");
    }
    let due = "then take a base backup, because a new timeline has begun";
    let _ = write!(text, "\n  {due}: drctl backup {source}");
    let arrives = "then check that its WAL arrives";
    let _ = write!(text, "\n  {arrives}: drctl timeline {source}; drctl status");
    text
}

/// The command by which the server is started, as far as it can be told.
fn start(prepared: &TakeOverPlan, args: &TakeOverArgs) -> String {
    let configuration = args.configuration.as_deref();
    let debian = configuration.and_then(|file| {
        let folder = file.parent()?;
        let (version, name) = (folder.parent()?.file_name()?, folder.file_name()?);
        version.to_str()?.parse::<u32>().ok()?;
        Some(format!("pg_ctlcluster {} {} start", version.display(), name.display()))
    });
    debian.unwrap_or_else(|| {
        let data = word(&prepared.data.display().to_string());
        let file = configuration.map(|file| word(&file.display().to_string()));
        let file = file.map(|file| format!(" -o \"-c config_file={file}\"")).unwrap_or_default();
        format!(
            "pg_ctl -D {data}{file} -w start, or by the unit that starts it with this directory"
        )
    })
}

/// Configurations of Debian's, which lie outside of their data directories: one of them may be meant.
fn configurations(prepared: &TakeOverPlan, args: &TakeOverArgs) -> Vec<String> {
    let version = std::fs::read_to_string(prepared.data.join("PG_VERSION")).unwrap_or_default();
    let folder = Path::new("/etc/postgresql").join(version.trim());
    if args.configuration.is_some() {
        return Vec::new();
    }
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let files = entries.filter_map(|entry| Some(entry.ok()?.path().join("postgresql.conf")));
    let mut notes: Vec<String> = files
        .filter(|file| file.is_file())
        .map(|file| {
            format!(
                "this host has a configuration in {}: if it belongs to the server that is \
                 replaced, add --configuration {}",
                file.display(),
                word(&file.display().to_string())
            )
        })
        .collect();
    notes.sort();
    let brought = prepared.data.with_file_name(CONFIGURATION);
    if brought.is_dir() {
        notes.push(format!(
            "the configuration that the source kept outside of its data directory is in {}: put it where \
             the server reads it, and name its postgresql.conf with --configuration",
            brought.display()
        ));
    }
    notes
}
