use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use drctl_model::SourceId;
use drctl_policies::{SourceTemplate, source_lines};
use serde_json::{Value, json};

use super::screen::{Screen, line, table};
use crate::health::{Discovered, Discovery, discover as look};
use crate::host::shell::paste_word;
use crate::host::{Exit, Setup};

/// `drctl discover`. A host without a configuration has no sources yet.
pub(super) async fn discover(screen: Screen, config: &Path) -> Result<Exit> {
    let setup = config.exists().then(|| Setup::load(config)).transpose()?;
    let found = look(setup.as_ref()).await;
    let object = json!({
        "servers": found.servers.iter().map(entry).collect::<Vec<_>>(),
        "sources_without_server": found.missing, "hidden": found.hidden,
    });
    let taken = setup.iter().flat_map(|setup| setup.config.sources.keys());
    let taken: BTreeSet<&str> = taken.map(SourceId::as_str).collect();
    screen.answer("drctl.discover/1", object, || text(&found, taken, config));
    let unprotected = found.servers.iter().any(Discovered::is_unprotected);
    Ok(if unprotected { Exit::Degraded } else { Exit::Success })
}

/// A server in JSON.
fn entry(one: &Discovered) -> Value {
    let server = &one.server;
    json!({
        "engine": server.engine, "version": server.version, "name": server.name,
        "running": server.running, "pid": server.pid, "data_directory": server.data,
        "socket": server.sockets.first(), "port": server.port, "container": server.contained,
        "off": server.off, "sources": one.sources, "disabled_sources": one.off,
        "ignored": one.ignored, "unprotected": one.is_unprotected(),
    })
}

/// A server as people name it.
pub(super) fn name(one: &Discovered) -> String {
    let server = &one.server;
    let mut text = server.engine.to_owned();
    if let Some(name) = server.name.as_ref().or(server.version.as_ref()) {
        let _ = write!(text, " {}", line(name));
    }
    match (server.port, server.sockets.first(), &server.data) {
        (Some(port), _, _) => {
            let _ = write!(text, " on port {port}");
        }
        (None, Some(socket), _) => {
            let _ = write!(text, " at {}", line(&socket.display().to_string()));
        }
        (None, None, Some(data)) => {
            let _ = write!(text, " in {}", line(&data.display().to_string()));
        }
        (None, None, None) => {
            let _ = write!(text, ", process {}", server.pid.unwrap_or_default());
        }
    }
    text
}

fn text(found: &Discovery, mut taken: BTreeSet<&str>, config: &Path) -> String {
    let mut text = String::new();
    if found.servers.is_empty() {
        text.push_str("no database server was found on this host\n");
    } else {
        let head = ["ENGINE", "VERSION", "NAME", "STATE", "PORT", "DATA DIRECTORY", "SOURCE"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(found.servers.iter().map(row));
        text.push_str(&table(&rows));
    }
    for source in &found.missing {
        let _ = write!(text, "\n{source}: no server was found on this host where it is configured");
    }
    for one in &found.servers {
        if let Some(off) = &one.server.off {
            let _ = write!(text, "\n{} is not running: {}", name(one), line(off));
        }
        if one.server.contained {
            let _ = write!(
                text,
                "\n{} runs in a container: which source reaches it is not known here",
                name(one)
            );
        }
    }
    if found.hidden {
        text.push_str(
            "\nthe processes of other accounts are hidden from this one (hidepid): a server without a \
             socket is not found; run this as root",
        );
    }
    let mut offered = BTreeSet::new();
    for one in found.servers.iter().filter(|one| one.is_unprotected()) {
        let _ = write!(text, "\n\n{}", what_to_do(one, config, &mut taken, &mut offered));
    }
    text
}

fn row(one: &Discovered) -> Vec<String> {
    let server = &one.server;
    let or_unknown = |text: Option<String>| text.map_or("unknown".to_owned(), |text| line(&text));
    let state = match (server.running, server.contained) {
        (true, true) => "in a container",
        (true, false) => "running",
        (false, _) => "off",
    };
    let sources: Vec<&str> = one.sources.iter().map(SourceId::as_str).collect();
    let source = match (sources.is_empty(), one.ignored) {
        (false, _) => sources.join(", "),
        (true, true) => "ignored".to_owned(),
        (true, false) => "none".to_owned(),
    };
    vec![
        server.engine.to_owned(),
        or_unknown(server.version.clone()),
        server.name.clone().map_or("-".to_owned(), |name| line(&name)),
        state.to_owned(),
        or_unknown(server.port.map(|port| port.to_string())),
        or_unknown(server.data.as_ref().map(|data| data.display().to_string())),
        source,
    ]
}

/// How an unprotected server gets a backup, or why it cannot have one.
fn what_to_do(
    one: &Discovered,
    config: &Path,
    taken: &mut BTreeSet<&str>,
    offered: &mut BTreeSet<String>,
) -> String {
    let server = &one.server;
    let name = name(one);
    if let [off, ..] = one.off.as_slice() {
        return format!(
            "{name} is not backed up on schedule: the source {off} has enabled = false in {}",
            line(&config.display().to_string())
        );
    }
    if !server.is_backed_up {
        return format!("{name} is not backed up, and this version of drctl cannot do it");
    }
    let Some(port) = server.port else {
        return format!(
            "{name} is not backed up. Its port is not known to this account: run this as root"
        );
    };
    let socket = server.sockets.first().map(|path| path.display().to_string());
    let id = free_name(server.name.as_deref(), port, taken, offered);
    if !config.exists() {
        return format!(
            "{name} is not backed up, and this host has no configuration yet. Begin with: drctl init \
             --source {id} --host {} --port {port}",
            paste_word(socket.as_deref().unwrap_or("localhost"))
        );
    }
    let lines = source_lines(&SourceTemplate {
        id,
        policy: "daily".to_owned(),
        host: socket.unwrap_or_else(|| "localhost".to_owned()),
        port,
        user: "drctl".to_owned(),
        databases: None,
        password: None,
    });
    let config = line(&config.display().to_string());
    format!(
        "{name} is not backed up. Add these lines to {config}, then run `drctl doctor`; or name it in \
         `ignore` of [discover]:\n\n{}",
        lines.trim_end()
    )
}

/// A name for a source that no other has: what the packages call the cluster, else its port.
fn free_name(
    name: Option<&str>,
    port: u16,
    taken: &BTreeSet<&str>,
    offered: &mut BTreeSet<String>,
) -> SourceId {
    let called = name.map(|name| name.rsplit('/').next().unwrap_or(name).to_lowercase());
    let numbered = (2..).map(|n| format!("postgresql-{port}-{n}"));
    let candidates = called.into_iter().chain([format!("postgresql-{port}")]).chain(numbered);
    let free = |text: &String| !taken.contains(text.as_str()) && !offered.contains(text);
    let mut ids = candidates.filter(free).filter_map(|text| text.parse::<SourceId>().ok());
    let id = ids.next().expect("numbers do not end");
    offered.insert(id.to_string());
    id
}
