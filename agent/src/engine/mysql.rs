//! MySQL and MariaDB: only known by sight so far.

use std::path::{Path, PathBuf};

use super::found::{FoundServer, held, joined, option, processes};
use crate::host::processes::{HostView, Process};

/// Where the packages of Debian and of Red Hat keep the data.
const DATA: &str = "/var/lib/mysql";

/// What a file of the name of a socket is called.
const SOCKETS: &[&str] = &["mysqld.sock", "mysql.sock", "mariadb.sock", "mariadbd.sock"];

/// Every server of the kind on this host.
pub(super) fn servers(view: &HostView) -> Vec<FoundServer> {
    let running = processes(view, &["mysqld", "mariadbd"]);
    let running = running.into_iter().map(|process| of_process(view, process));
    let sockets = view.sockets.iter().map(|socket| socket.path.as_path()).filter(is_socket);
    let sockets = sockets.map(|path| FoundServer {
        running: true,
        sockets: vec![path.to_owned()],
        ..blank("MySQL or MariaDB")
    });
    let mut found = joined(running.chain(sockets));
    let is_known = found.iter().any(|one| one.running && !one.contained);
    if view.path(DATA).join("mysql").is_dir() && !is_known {
        let off = Some("no process of it was found".to_owned());
        found.push(FoundServer { data: Some(DATA.into()), off, ..blank("MySQL or MariaDB") });
    }
    found
}

fn blank(engine: &'static str) -> FoundServer {
    FoundServer { engine, ..FoundServer::default() }
}

fn is_socket(path: &&Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| SOCKETS.contains(&name))
}

fn of_process(view: &HostView, process: &Process) -> FoundServer {
    let held = held(view, process).into_iter().filter(is_socket).map(Path::to_owned);
    let told = option(process, "--socket").map(PathBuf::from);
    let mut sockets: Vec<PathBuf> = held.chain(told).collect();
    sockets.dedup();
    let is_mariadb = process.arguments[0].contains("mariadb");
    let data = option(process, "--datadir").map(Path::new).filter(|path| path.is_absolute());
    FoundServer {
        running: true,
        pid: Some(process.pid),
        data: process.folder.clone().or_else(|| data.map(Path::to_owned)),
        sockets,
        port: option(process, "--port").and_then(|port| port.parse().ok()),
        contained: process.contained,
        ..blank(if is_mariadb { "MariaDB" } else { "MySQL" })
    }
}
