//! MongoDB: only known by sight so far.

use std::path::{Path, PathBuf};

use super::found::{FoundServer, joined, option, processes};
use crate::host::processes::{HostView, Process};

/// Where its packages keep the data.
const DATA: &str = "/var/lib/mongodb";

/// Every server of the kind on this host.
pub(super) fn servers(view: &HostView) -> Vec<FoundServer> {
    let running = processes(view, &["mongod"]).into_iter().map(running);
    let sockets = view.sockets.iter().filter_map(|socket| listening(&socket.path));
    let mut found = joined(running.chain(sockets));
    let is_known = found.iter().any(|one| one.running && !one.contained);
    if view.path(DATA).join("WiredTiger").exists() && !is_known {
        let off = Some("no process of it was found".to_owned());
        found.push(FoundServer { data: Some(DATA.into()), off, ..blank() });
    }
    found
}

fn blank() -> FoundServer {
    FoundServer { engine: "MongoDB", ..FoundServer::default() }
}

/// A socket such as `mongodb-27017.sock`.
fn listening(path: &Path) -> Option<FoundServer> {
    let name = path.file_name()?.to_str()?;
    let port = name.strip_prefix("mongodb-")?.strip_suffix(".sock")?.parse().ok()?;
    let sockets = vec![path.to_owned()];
    Some(FoundServer { running: true, sockets, port: Some(port), ..blank() })
}

fn running(process: &Process) -> FoundServer {
    FoundServer {
        running: true,
        pid: Some(process.pid),
        data: option(process, "--dbpath").map(PathBuf::from),
        port: option(process, "--port").and_then(|port| port.parse().ok()),
        contained: process.contained,
        ..blank()
    }
}
