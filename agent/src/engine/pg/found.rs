//! PostgreSQL's servers on this host: by process, by Debian's configuration, by socket, by the
//! directories of the packages.

use std::path::{Path, PathBuf};

use crate::engine::found::{FoundServer, held, joined, option, processes, short};
use crate::host::processes::{HostView, Process};

/// Where PostgreSQL listens if nothing else is said.
const PORT: u16 = 5432;

/// Where a process keeps its number, its data, its port and the directory of its socket, each on a
/// line of its own (miscadmin.h, `LOCK_FILE_LINE_*`).
const LOCK_FILE: &str = "postmaster.pid";

/// Every server on this host.
pub(crate) fn servers(view: &HostView) -> Vec<FoundServer> {
    let running = processes(view, &["postgres", "postmaster"]);
    let running = running.into_iter().filter(|process| serves(process));
    let running = running.map(|process| of_process(view, process));
    let sockets = view.sockets.iter().filter_map(|socket| of_socket(&socket.path));
    joined(running.chain(configured(view)).chain(sockets).chain(directories(view)))
}

fn blank() -> FoundServer {
    FoundServer { engine: "PostgreSQL", is_backed_up: true, ..FoundServer::default() }
}

/// Whether a process takes connections: some only print a setting, or have one user.
fn serves(process: &Process) -> bool {
    const NO_SERVER: &[&str] =
        &["--single", "--boot", "--check", "--describe-config", "--version", "-V", "-C", "--help"];
    !process.arguments.iter().any(|word| NO_SERVER.contains(&word.as_str()))
}

fn of_process(view: &HostView, process: &Process) -> FoundServer {
    let told = setting(process, "data_directory").or_else(|| short(process, "-D"));
    let told = told.map(PathBuf::from).filter(|path| path.is_absolute());
    let data = process.folder.clone().or(told);
    let own = |data: &PathBuf| view.text(data.join(LOCK_FILE), process.account);
    let lock = data.as_ref().and_then(own).unwrap_or_default();
    let lock: Vec<&str> = lock.lines().collect();
    let lock = lock.first().is_some_and(|pid| pid.parse() == Ok(process.pid)).then_some(lock);
    let line = |at: usize| lock.as_ref()?.get(at).copied().filter(|text| !text.is_empty());
    let told = setting(process, "unix_socket_directories").or_else(|| short(process, "-k"));
    let mut sockets: Vec<_> = line(4).or(told).map(directories_of).unwrap_or_default();
    let port = setting(process, "port").or_else(|| short(process, "-p"));
    let mut port = line(3).or(port).and_then(|text| text.parse().ok());
    for socket in held(view, process).into_iter().filter_map(of_socket) {
        port = socket.port;
        sockets.extend(socket.sockets);
    }
    sockets.sort();
    sockets.dedup();
    FoundServer {
        version: data
            .as_ref()
            .and_then(|data| version(view, data, process))
            .or_else(|| built(process)),
        running: true,
        pid: Some(process.pid),
        sockets,
        port,
        contained: process.contained,
        data,
        ..blank()
    }
}

/// What `-c NAME=VALUE` or `--NAME=VALUE` says of a setting.
fn setting<'a>(process: &'a Process, name: &str) -> Option<&'a str> {
    let told = process.arguments.iter().rev().find_map(|word| {
        let word = word.strip_prefix("-c").unwrap_or(word).trim_start_matches("--");
        word.strip_prefix(name)?.strip_prefix('=')
    });
    let long = format!("--{}", name.replace('_', "-"));
    told.or_else(|| option(process, &long))
}

/// The directories of a list. A server without a socket has an empty one.
fn directories_of(list: &str) -> Vec<PathBuf> {
    let paths = list.split(',').map(|path| path.trim().trim_matches('"'));
    paths.filter(|path| path.starts_with('/')).map(PathBuf::from).collect()
}

fn version(view: &HostView, data: &Path, process: &Process) -> Option<String> {
    let text = view.text(data.join("PG_VERSION"), process.account)?;
    Some(text.trim().to_owned()).filter(|text| text.len() < 10)
}

/// The version in the path of a program: `/usr/lib/postgresql/15/bin/postgres`.
fn built(process: &Process) -> Option<String> {
    let mut parts = Path::new(process.arguments.first()?).components().rev();
    let number = parts.nth(2)?.as_os_str().to_str()?.trim_start_matches("pgsql-");
    number.parse::<f32>().ok().map(|_| number.to_owned())
}

/// A socket such as `/var/run/postgresql/.s.PGSQL.5432`.
fn of_socket(path: &Path) -> Option<FoundServer> {
    let port = path.file_name()?.to_str()?.strip_prefix(".s.PGSQL.")?.parse().ok()?;
    let sockets = path.parent().map(Path::to_owned).into_iter().collect();
    Some(FoundServer { running: true, sockets, port: Some(port), ..blank() })
}

/// The clusters that Debian's packages configure: `/etc/postgresql/15/main`.
fn configured(view: &HostView) -> Vec<FoundServer> {
    let mut found = Vec::new();
    let top = Path::new("/etc/postgresql");
    for (version, folder) in folders(&view.path(top)) {
        for (name, _) in folders(&folder) {
            let folder = top.join(&version).join(&name);
            let Some(text) = view.text(folder.join("postgresql.conf"), None) else {
                continue;
            };
            let said = |name: &str| value(&text, name);
            let start = view.text(folder.join("start.conf"), None).unwrap_or_default();
            let start = start.lines().map(str::trim).find(|l| !l.is_empty() && !l.starts_with('#'));
            let off = match start {
                Some(word @ ("manual" | "disabled")) => format!("its start.conf says {word}"),
                _ => "it is configured, and no process of it was found".to_owned(),
            };
            found.push(FoundServer {
                version: Some(version.clone()),
                name: Some(format!("{version}/{name}")),
                data: said("data_directory").map(PathBuf::from),
                sockets: said("unix_socket_directories")
                    .map(|list| directories_of(&list))
                    .unwrap_or_default(),
                port: said("port").map_or(Some(PORT), |text| text.parse().ok()),
                off: Some(off),
                ..blank()
            });
        }
    }
    found
}

/// The folders in one, by name.
fn folders(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let entries = entries.filter(|entry| entry.path().is_dir());
    let mut all: Vec<_> = entries
        .filter_map(|entry| Some((entry.file_name().to_str()?.to_owned(), entry.path())))
        .collect();
    all.sort();
    all
}

/// What a `postgresql.conf` says of a setting; the last line counts. Files that it includes are not
/// read.
fn value(text: &str, name: &str) -> Option<String> {
    let of_line = |line: &str| {
        let rest = line.trim().strip_prefix(name)?;
        let rest = rest.trim_start_matches([' ', '\t', '=']);
        let value = match rest.strip_prefix('\'') {
            Some(quoted) => quoted.split('\'').next()?,
            None => rest.split([' ', '\t', '#']).next()?,
        };
        Some(value.to_owned())
    };
    text.lines().rev().find_map(of_line)
}

/// Data directories of the packages that nothing else tells of.
fn directories(view: &HostView) -> Vec<FoundServer> {
    let mut found = Vec::new();
    for top in ["/var/lib/postgresql", "/var/lib/pgsql"] {
        for (version, folder) in folders(&view.path(top)) {
            if version.parse::<f32>().is_err() {
                continue;
            }
            for (name, data) in folders(&folder) {
                // The directory itself is closed to others.
                let is_cluster =
                    data.join("PG_VERSION").exists() || std::fs::read_dir(&data).is_err();
                if !is_cluster {
                    continue;
                }
                found.push(FoundServer {
                    version: Some(version.clone()),
                    data: Some(Path::new(top).join(&version).join(name)),
                    off: Some("no process uses its data, and no configuration names them".into()),
                    ..blank()
                });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, FileType, Mode};

    use super::*;
    use crate::engine::found::made::Host;

    impl Host {
        fn servers(&self) -> Vec<FoundServer> {
            servers(&self.view())
        }
    }

    const MAIN: &str = "/usr/lib/postgresql/15/bin/postgres -D /var/lib/postgresql/15/main -c \
                        config_file=/etc/postgresql/15/main/postgresql.conf";

    const CONF: &str = "#port = 1\ndata_directory = '/var/lib/postgresql/15/main'\t# where\n\
                        port = 5432\t# (change requires restart)\n port=5433\n\
                        unix_socket_directories = '/var/run/postgresql, /tmp'\n";

    #[test]
    fn what_runs_is_configured_and_listens_is_one_server() {
        let host = Host::new()
            .process(40, 1, MAIN, 1)
            .process(41, 40, "postgres:-checkpointer", 1)
            // A child before it has a title of its own.
            .process(42, 40, MAIN, 1)
            .with("etc/postgresql/15/main/postgresql.conf", CONF)
            .with("var/lib/postgresql/15/main/PG_VERSION", "15\n")
            .listens(&["/var/run/postgresql/.s.PGSQL.5433", "/tmp/.s.PGSQL.5433"]);
        let found = host.servers();
        let main = &found[0];
        assert_eq!((main.pid, main.port, main.running), (Some(40), Some(5433), true), "{main:?}");
        assert_eq!(main.name.as_deref(), Some("15/main"));
        assert_eq!(main.sockets, [Path::new("/var/run/postgresql"), Path::new("/tmp")]);
        assert_eq!(main.data.as_deref(), Some(Path::new("/var/lib/postgresql/15/main")));
        assert_eq!(main.version.as_deref(), Some("15"));
        assert_eq!(main.off, None);
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn what_is_configured_and_does_not_run_is_off_with_its_reason() {
        let conf = CONF.replace("15/main", "15/dev");
        let host = Host::new()
            .with("etc/postgresql/15/main/postgresql.conf", CONF)
            .with("etc/postgresql/15/dev/postgresql.conf", &conf)
            .with("etc/postgresql/15/dev/start.conf", "# how\n\nmanual\n")
            .with("var/lib/postgresql/14/old/PG_VERSION", "14\n")
            .with("var/lib/postgresql/14/empty/nothing", "")
            .process(1, 0, "/sbin/init", 1);
        let told: Vec<_> = host
            .servers()
            .into_iter()
            .map(|one| (one.data.expect("data").display().to_string(), one.running, one.off))
            .collect();
        let entry = |data: &str, why: &str| (data.to_owned(), false, Some(why.to_owned()));
        assert_eq!(
            told,
            [
                entry("/var/lib/postgresql/15/dev", "its start.conf says manual"),
                entry(
                    "/var/lib/postgresql/15/main",
                    "it is configured, and no process of it was found"
                ),
                entry(
                    "/var/lib/postgresql/14/old",
                    "no process uses its data, and no configuration names them"
                ),
            ]
        );
    }

    #[test]
    fn a_socket_alone_is_a_server_and_a_process_alone_too() {
        let found = Host::new().listens(&["/run/x/.s.PGSQL.6000", "/run/x/other.sock"]).servers();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].port, found[0].pid), (Some(6000), None));
        let host = Host::new()
            .process(7, 1, "/opt/bin/postgres -D /data/a -p 6000 -k /run/x", 1)
            .process(8, 1, "/opt/bin/postgres -D /data/b --port=6001", 1);
        let found = host.listens(&["/run/x/.s.PGSQL.6000", "/run/y/.s.PGSQL.6001"]).servers();
        let told: Vec<_> =
            found.iter().map(|one| (one.pid, one.port, one.sockets.clone())).collect();
        assert_eq!(
            told,
            [
                (Some(7), Some(6000), vec!["/run/x".into()]),
                (Some(8), Some(6001), vec!["/run/y".into()])
            ]
        );
    }

    #[test]
    fn a_process_whose_sockets_are_seen_has_all_of_them() {
        let host = Host::new()
            .process(7, 1, "/opt/bin/postgres -D /data/a", 1)
            .process(8, 1, "/opt/bin/postgres -D /data/b", 1)
            .listens(&["/a/.s.PGSQL.6000", "/b/.s.PGSQL.6000", "/c/.s.PGSQL.6000"]);
        let found = host.holds(7, 0).holds(7, 2).holds(8, 1).servers();
        let told: Vec<_> = found.iter().map(|one| (one.pid, one.sockets.clone())).collect();
        assert_eq!(
            told,
            [(Some(7), vec!["/a".into(), "/c".into()]), (Some(8), vec!["/b".into()])],
            "{found:?}"
        );
    }

    #[test]
    fn a_process_that_does_not_tell_its_port_has_the_only_socket_that_is_left() {
        let host = Host::new().process(7, 1, "/opt/bin/postgres -D /data/a", 1);
        let found = host.listens(&["/run/x/.s.PGSQL.6000"]).servers();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].pid, found[0].port), (Some(7), Some(6000)));
        let host = Host::new().process(7, 1, "/opt/bin/postgres -D /data/a", 1).process(
            8,
            1,
            "/opt/bin/postgres -D /data/b",
            1,
        );
        let found = host.listens(&["/run/x/.s.PGSQL.6000"]).servers();
        assert_eq!(found.len(), 3, "which of both listens there is not known: {found:?}");
    }

    #[test]
    fn containers_are_told_apart_and_what_restores_is_none() {
        let host = Host::new()
            .with("proc/self/status", "NSpid:\t9\n")
            .process(7, 1, "postgres", 2)
            .process(20, 1, "drctl restore", 1)
            .process(21, 20, "bwrap postgres", 1)
            .process(22, 21, "/opt/bin/postgres -D /scratch", 2)
            .process(30, 1, "/opt/bin/postgres -C data_directory", 1)
            .process(31, 1, "/opt/bin/postgres --single -D /data/a", 1);
        let found = host.servers();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contained && found[0].pid == Some(7));
    }

    /// What one process tells of itself, where `make` has put something into its data directory.
    fn told(make: impl Fn(&Path)) -> FoundServer {
        let host = Host::new().process(7, 1, "/opt/bin/postgres -D /data/a -p 6000", 1);
        let data = host.0.path().join("data/a");
        fs::create_dir_all(&data).expect("make it");
        make(&data);
        host.servers().remove(0)
    }

    #[test]
    fn what_lies_in_a_strangers_data_directory_holds_nobody_up_and_tells_nothing_of_others() {
        let honest = told(|data| {
            fs::write(data.join("PG_VERSION"), "15\n").expect("write it");
            fs::write(data.join(LOCK_FILE), "7\n/data/a\n0\n6001\n/run/x\n").expect("write it");
        });
        assert_eq!((honest.version.as_deref(), honest.port), (Some("15"), Some(6001)));
        let pipes = told(|data| {
            for name in ["PG_VERSION", LOCK_FILE] {
                let (kind, mode) = (FileType::Fifo, Mode::RWXU);
                rustix::fs::mknodat(CWD, data.join(name), kind, mode, 0).expect("make a pipe");
            }
        });
        assert_eq!((pipes.version, pipes.port), (None, Some(6000)));
        let links = told(|data| {
            fs::write(data.join("secret"), "s3cr3t\n").expect("write it");
            symlink(data.join("secret"), data.join("PG_VERSION")).expect("a link");
            symlink("/dev/zero", data.join(LOCK_FILE)).expect("a link");
        });
        assert_eq!((links.version, links.port), (None, Some(6000)));
        let long = told(|data| {
            let file = fs::File::create(data.join(LOCK_FILE)).expect("make it");
            file.set_len(1 << 40).expect("make it long");
        });
        assert_eq!(long.port, Some(6000));
    }

    #[test]
    fn a_file_of_another_account_is_none_of_the_servers() {
        let host = Host::new()
            .process(7, 1, "/opt/bin/postgres -D /data/a", 1)
            .with("data/a/PG_VERSION", "15\n");
        assert_eq!(host.servers()[0].version.as_deref(), Some("15"));
        let path = host.0.path().join("proc/7/status");
        let own = format!("Uid:\t{}\t", rustix::process::getuid().as_raw());
        let text = fs::read_to_string(&path).expect("read it").replace(&own, "Uid:\t4294000000\t");
        fs::write(&path, text).expect("write it");
        assert_eq!(host.servers()[0].version, None);
    }
}
