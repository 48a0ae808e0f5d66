//! MongoDB: only known by sight so far.

use std::path::{Path, PathBuf};

use super::found::{FoundServer, file_of, held, joined, option, port, processes, short};
use crate::host::processes::{HostView, Process};

/// Where its packages keep the data.
const DATA: &str = "/var/lib/mongodb";

/// Every server of the kind on this host.
pub(super) fn servers(view: &HostView) -> Vec<FoundServer> {
    let running = processes(view, &["mongod"]).into_iter().filter(|process| serves(process));
    let running = running.map(|process| of_process(view, process));
    let sockets = view.sockets.iter().filter_map(|socket| listening(&socket.path));
    let mut found = joined(running.chain(sockets));
    let uses = |one: &FoundServer| {
        let is_same = |data: &Path| data == Path::new(DATA);
        one.running && !one.contained && one.data.as_deref().is_none_or(is_same)
    };
    if view.path(DATA).join("WiredTiger").exists() && !found.iter().any(uses) {
        let off = Some("no process of it was found".to_owned());
        found.push(FoundServer { data: Some(DATA.into()), off, ..blank() });
    }
    found
}

fn blank() -> FoundServer {
    FoundServer { engine: "MongoDB", ..FoundServer::default() }
}

/// Whether a process takes connections: some only stop another one, or print something.
fn serves(process: &Process) -> bool {
    const NO_SERVER: &[&str] = &["--shutdown", "--repair", "--version", "--help", "-h"];
    !process.arguments.iter().any(|word| NO_SERVER.contains(&word.as_str()))
}

/// A socket such as `mongodb-27017.sock`.
fn listening(path: &Path) -> Option<FoundServer> {
    let name = path.file_name()?.to_str()?;
    let port = name.strip_prefix("mongodb-")?.strip_suffix(".sock")?.parse().ok()?;
    let sockets = vec![path.to_owned()];
    Some(FoundServer { running: true, sockets, port: Some(port), ..blank() })
}

fn of_process(view: &HostView, process: &Process) -> FoundServer {
    let file = option(process, "--config").or_else(|| short(process, "-f")).map(Path::new);
    let file = file.filter(|file| !process.contained && file.is_absolute());
    let file = file.and_then(|file| file_of(view, process, file)).unwrap_or_default();
    let told = |name: &str| option(process, name).or_else(|| value(&file, &name[2..]));
    let held = held(view, process).into_iter().filter_map(listening);
    let (sockets, held): (Vec<_>, Vec<_>) = held.map(|one| (one.sockets, one.port)).unzip();
    let told_port = told("--port").and_then(|text| text.parse().ok());
    FoundServer {
        running: true,
        pid: Some(process.pid),
        data: told("--dbpath").or_else(|| value(&file, "dbPath")).map(PathBuf::from),
        sockets: sockets.concat(),
        port: held.into_iter().flatten().next().or_else(|| port(view, process, told_port)),
        contained: process.contained,
        ..blank()
    }
}

/// What a file of options says of one, in YAML or as `name = value`.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let of_line = |line: &'a str| {
        let rest = line.trim().strip_prefix(name)?.trim_start().strip_prefix([':', '='])?;
        let value = rest.split('#').next()?.trim().trim_matches(['"', '\'']);
        Some(value).filter(|value| !value.is_empty())
    };
    text.lines().find_map(of_line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::found::made::Host;

    /// The port, the data and the sockets of each.
    fn told(host: &Host) -> Vec<(Option<u16>, Option<PathBuf>, usize)> {
        let all = servers(&host.view()).into_iter();
        all.map(|one| (one.port, one.data, one.sockets.len())).collect()
    }

    #[test]
    fn a_server_of_the_packages_has_what_its_file_says() {
        let yaml =
            "storage:\n  dbPath: /var/lib/mongodb\n#  engine:\nnet:\n  port: 27018 # its own\n";
        let ini = "dbpath=/var/lib/mongodb\nport = 27018\n";
        for file in [yaml, ini] {
            let host = Host::new()
                .process(7, 1, "/usr/bin/mongod --config /etc/mongod.conf", 1)
                .with("etc/mongod.conf", file)
                .with("var/lib/mongodb/WiredTiger", "WiredTiger\n")
                .listens(&["/tmp/mongodb-27018.sock"]);
            assert_eq!(told(&host), [(Some(27_018), Some(DATA.into()), 1)], "{file}");
        }
    }

    #[test]
    fn servers_are_told_apart_by_their_ports_and_what_stops_one_is_none() {
        let host = Host::new()
            .process(7, 1, "mongod --dbpath /a --port 27018", 1)
            .process(8, 1, "mongod --dbpath=/b -f /gone.conf", 1)
            .process(9, 1, "mongod --shutdown --dbpath /a", 1)
            .listens(&["/tmp/mongodb-27018.sock"])
            .listens_on(&[(5, 27_019)])
            .holds(8, 5);
        let expected = [(Some(27_018), Some("/a".into()), 1), (Some(27_019), Some("/b".into()), 0)];
        assert_eq!(told(&host), expected);
        let off = host.with("var/lib/mongodb/WiredTiger", "WiredTiger\n");
        assert_eq!(told(&off)[2], (None, Some(DATA.into()), 0));
    }
}
