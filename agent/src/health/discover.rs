//! Which database servers of this host are no source, so that nothing unprotected goes unseen.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use drctl_model::SourceId;
use drctl_policies::{Config, Source};
use futures_util::future::join_all;
use tokio::time::timeout;

use crate::engine::found::{FoundServer, servers};
use crate::host::processes::HostView;
use crate::host::{Setup, waited};

/// How long a name may take until it is known whether it is this host's.
const PATIENCE: Duration = Duration::from_secs(3);

/// A server of this host, and what backs it up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Discovered {
    pub(crate) server: FoundServer,
    /// The sources that reach it.
    pub(crate) sources: Vec<SourceId>,
    /// Those of them that the schedule leaves out (`enabled = false`).
    pub(crate) off: Vec<SourceId>,
    /// Whether the configuration says that it needs no backup.
    pub(crate) ignored: bool,
}

impl Discovered {
    /// Whether it runs and no source backs it up. Of one in a container that is not known.
    pub(crate) fn is_unprotected(&self) -> bool {
        let has_source = self.sources.iter().any(|source| !self.off.contains(source));
        self.server.running && !self.server.contained && !self.ignored && !has_source
    }
}

/// What was found on this host.
#[derive(Debug, Default)]
pub(crate) struct Discovery {
    /// Each server, the unprotected ones first.
    pub(crate) servers: Vec<Discovered>,
    /// Sources whose server is to be on this host, and was not found.
    pub(crate) missing: Vec<SourceId>,
    /// Whether processes of other accounts are hidden from this one.
    pub(crate) hidden: bool,
}

/// Looks for the database servers of this host; without a configuration none of them has a source.
pub(crate) async fn discover(setup: Option<&Setup>) -> Discovery {
    let view = waited(|| HostView::read(Path::new("/")));
    let Some(setup) = setup else { return judged(&view, servers(&view), None, &BTreeSet::new()) };
    let reached = setup.config.sources.values().filter_map(|source| source.engine.server());
    let names = reached.map(|server| server.host.as_str()).filter(|host| !host.starts_with('/'));
    let names: BTreeSet<&str> = names.collect();
    let (view, host) = (&view, &setup.host());
    // All at once: many names that no server answers for take as long as one.
    let asked = names.into_iter().map(async |name| is_here(name, host, view).await.then_some(name));
    let here = join_all(asked).await.into_iter().flatten().collect();
    judged(view, waited(|| servers(view)), Some(&setup.config), &here)
}

/// Whether a name or an address is this host's.
async fn is_here(name: &str, host: &str, view: &HostView) -> bool {
    if name == "localhost" || name == host {
        return true;
    }
    let own = |address: IpAddr| address.is_loopback() || view.addresses.contains(&address);
    if let Ok(address) = name.parse() {
        return own(address);
    }
    let found = timeout(PATIENCE, tokio::net::lookup_host((name, 0))).await;
    // A name that leads nowhere is no server of this host.
    found.is_ok_and(|found| found.is_ok_and(|mut all| all.any(|one| own(one.ip()))))
}

/// Puts servers and sources together; `here` are the names that are this host's.
fn judged(
    view: &HostView,
    found: Vec<FoundServer>,
    config: Option<&Config>,
    here: &BTreeSet<&str>,
) -> Discovery {
    let reaches = |source: &Source, server: &FoundServer| {
        let Some(at) = source.engine.server() else { return false };
        if !server.is_backed_up || server.contained || server.port != Some(at.port) {
            return false;
        }
        if !at.host.starts_with('/') {
            return here.contains(at.host.as_str());
        }
        let is_at = |socket: &PathBuf| same_place(view, Path::new(&at.host), socket);
        server.sockets.is_empty() || server.sockets.iter().any(is_at)
    };
    let sources = || config.into_iter().flat_map(|config| &config.sources);
    let ignore = config.map(|config| config.discover.ignore.as_slice()).unwrap_or_default();
    let of_server = |server: FoundServer| {
        let reached = || sources().filter(|(_, source)| reaches(source, &server));
        Discovered {
            sources: reached().map(|(id, _)| id.clone()).collect(),
            off: reached().filter(|(_, one)| !one.enabled).map(|(id, _)| id.clone()).collect(),
            ignored: ignore.iter().any(|text| names(text, &server)),
            server,
        }
    };
    let mut all: Vec<_> = found.into_iter().map(of_server).collect();
    all.sort_by_key(|one| (!one.is_unprotected(), !one.server.running));
    let is_found = |id: &SourceId| all.iter().any(|one| one.sources.contains(id));
    let local = |source: &Source| {
        let server = source.engine.server();
        server.is_some_and(|at| at.host.starts_with('/') || here.contains(at.host.as_str()))
    };
    let missing = sources().filter(|(id, source)| local(source) && !is_found(id));
    let missing = missing.map(|(id, _)| id.clone()).collect();
    Discovery { missing, hidden: view.hidden, servers: all }
}

/// Whether two directories are one: `/var/run` leads to `/run`.
fn same_place(view: &HostView, one: &Path, other: &Path) -> bool {
    let real = |path: &Path| waited(|| view.path(path).canonicalize()).ok();
    one == other || real(one).is_some_and(|real_one| real(other) == Some(real_one))
}

/// Whether an entry of `ignore` names a server.
fn names(text: &str, server: &FoundServer) -> bool {
    if text.starts_with('/') {
        let named = Path::new(text);
        // A directory of sockets may be that of several servers, a file is one's.
        let is_file = named.extension().is_some_and(|end| end == "sock");
        let is_socket = is_file && server.sockets.iter().any(|socket| socket == named);
        return is_socket || server.data.as_deref() == Some(named);
    }
    let Some((engine, port)) = text.split_once(':') else { return false };
    engine.eq_ignore_ascii_case(server.engine)
        && server.port.map(|p| p.to_string()).as_deref() == Some(port)
}

#[cfg(test)]
mod tests {
    use drctl_policies::{SAMPLE_POLICY, SourceFile, parse};

    use super::*;

    const KEYS: &str = r#"version = 1
repository.url = "file:///srv/backups"
[discover]
ignore = ["postgresql:6000", "/data/6001/"]
[keys]
recipients = [
 "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p",
 "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg"]
verifying_keys = ["ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="]
"#;

    fn config(sources: &str) -> Config {
        let file = |name: &str, text: String| SourceFile { name: name.into(), text };
        let policy = file("policies.d/daily.toml", SAMPLE_POLICY.to_owned());
        parse(&file("drctl.toml", format!("{KEYS}{sources}")), &[policy]).expect("a configuration")
    }

    fn source(name: &str, keys: &str) -> String {
        format!("[sources.{name}]\nengine = \"pg_dump\"\npolicy = \"daily\"\n{keys}\n")
    }

    fn server(port: u16, socket: &str) -> FoundServer {
        FoundServer {
            engine: "PostgreSQL",
            is_backed_up: true,
            running: true,
            port: Some(port),
            sockets: vec![socket.into()],
            data: Some(format!("/data/{port}").into()),
            ..FoundServer::default()
        }
    }

    fn look(config: &Config, found: Vec<FoundServer>) -> Discovery {
        let view = HostView { root: "/".into(), ..HostView::default() };
        judged(&view, found, Some(config), &BTreeSet::from(["localhost"]))
    }

    #[test]
    fn a_server_is_named_by_its_data_by_its_port_or_by_a_socket_that_is_its_own() {
        let mut mariadb = server(3306, "/run/mysqld/mysqld.sock");
        mariadb.engine = "MariaDB";
        for text in ["/data/3306", "/run/mysqld/mysqld.sock", "mariadb:3306"] {
            assert!(names(text, &mariadb), "{text}");
        }
        for text in ["/data", "/run/mysqld", "mysql:3306", "mariadb:3307", "/run/x/mysqld.sock"] {
            assert!(!names(text, &mariadb), "{text}");
        }
        assert!(!names("/run/a", &server(5432, "/run/a")));
    }

    /// The port of each server, whether it is unprotected, and its sources.
    fn told(found: &Discovery) -> Vec<(Option<u16>, bool, Vec<&str>)> {
        let mut all = Vec::new();
        for one in &found.servers {
            let sources = one.sources.iter().map(SourceId::as_str).collect();
            all.push((one.server.port, one.is_unprotected(), sources));
        }
        all
    }

    #[test]
    fn a_server_has_the_sources_that_reach_it_by_socket_or_by_port() {
        let config = config(
            &[
                source("shop", "host = \"/run/a\""),
                source("base", "host = \"localhost\"\nport = 5433"),
                source("far", "host = \"db.example\"\nport = 5434"),
                source("off", "host = \"/run/a\"\nport = 5435\nenabled = false"),
            ]
            .concat(),
        );
        let mut contained = server(5432, "/run/a");
        contained.contained = true;
        let mut stopped = server(5436, "/run/a");
        stopped.running = false;
        let all = [
            server(5432, "/run/a"),
            server(5432, "/run/b"),
            server(5433, "/run/a"),
            server(5434, "/run/a"),
            server(5435, "/run/a"),
            server(6000, "/run/a"),
            server(6001, "/run/a"),
            contained,
            stopped,
        ];
        let found = look(&config, all.to_vec());
        assert_eq!(
            told(&found),
            [
                (Some(5432), true, vec![]),
                (Some(5434), true, vec![]),
                (Some(5435), true, vec!["off"]),
                (Some(5432), false, vec!["shop"]),
                (Some(5433), false, vec!["base"]),
                (Some(6000), false, vec![]),
                (Some(6001), false, vec![]),
                (Some(5432), false, vec![]),
                (Some(5436), false, vec![]),
            ]
        );
        assert!(found.missing.is_empty(), "{:?}", found.missing);
    }

    #[test]
    fn a_source_of_this_host_whose_server_is_not_there_is_told() {
        let config = config(
            &[
                source("shop", "host = \"/run/a\""),
                source("base", "host = \"localhost\"\nport = 5433"),
                source("far", "host = \"db.example\"\nport = 5434"),
            ]
            .concat(),
        );
        let names: Vec<_> = look(&config, Vec::new()).missing;
        let names: Vec<&str> = names.iter().map(SourceId::as_str).collect();
        assert_eq!(names, ["base", "shop"]);
    }

    #[test]
    fn a_directory_is_one_by_whatever_name() {
        let root = tempfile::tempdir().expect("a directory");
        std::fs::create_dir_all(root.path().join("run/postgresql")).expect("make it");
        std::os::unix::fs::symlink("../run", root.path().join("var")).expect("a link");
        std::fs::create_dir_all(root.path().join("other")).expect("make it");
        let view = HostView { root: root.path().to_owned(), ..HostView::default() };
        let same = |one: &str, two: &str| same_place(&view, Path::new(one), Path::new(two));
        assert!(same("/run/postgresql", "/run/../run/postgresql") && same("/gone", "/gone"));
        assert!(!same("/run/postgresql", "/other") && !same("/gone", "/lost"));
    }
}
