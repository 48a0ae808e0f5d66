//! MySQL and MariaDB: only known by sight so far.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::found::{FoundServer, file_of, held, option, port, processes, short};
use crate::host::processes::{HostView, Process};

/// Where the packages of Debian and of Red Hat keep the data.
const DATA: &str = "/var/lib/mysql";

/// Where both listen if nothing else is said.
const PORT: u16 = 3306;

/// So many files of options of one server are read: whoever runs a process may name more, in circles.
const MOST_FILES: usize = 100;

/// So many entries of a folder of such are looked at.
const LOOKED_AT: usize = 1000;

/// What a file of the name of a socket is called.
const SOCKETS: &[&str] = &["mysqld.sock", "mysql.sock", "mariadb.sock", "mariadbd.sock"];

/// A file that every data directory of MariaDB has, and none of MySQL.
const MARIADBS: &str = "aria_log_control";

/// Every server of the kind on this host.
pub(super) fn servers(view: &HostView) -> Vec<FoundServer> {
    let running = processes(view, &["mysqld", "mariadbd"]);
    let running = running.into_iter().filter(|process| serves(process));
    let mut running: Vec<_> = running
        .map(|process| {
            let settings = Settings::of(view, process);
            let tells =
                option(process, "--socket").or_else(|| settings.value("--socket")).is_some();
            (process, tells, of_process(view, process, &settings))
        })
        .collect();
    // A socket is a file here, and has one server.
    let is_taken = |path: &Path| {
        let mut own = running.iter().filter(|(process, ..)| !process.contained);
        own.any(|(.., one)| one.sockets.iter().any(|socket| socket == path))
    };
    let loose = view.sockets.iter().map(|socket| socket.path.as_path());
    let mut loose: Vec<&Path> = loose.filter(is_socket).filter(|path| !is_taken(path)).collect();
    // A process that does not tell where it listens, and a socket whose process is not seen.
    let deaf = running.iter_mut().filter(|(process, tells, one)| {
        process.holds.is_empty() && !process.contained && !tells && one.sockets.is_empty()
    });
    let mut deaf: Vec<_> = deaf.collect();
    if let ([(.., one)], [socket]) = (deaf.as_mut_slice(), loose.as_slice()) {
        one.sockets.push(socket.to_path_buf());
        loose.clear();
    }
    let loose = loose.into_iter().map(|path| FoundServer {
        running: true,
        sockets: vec![path.to_owned()],
        ..blank("MySQL or MariaDB")
    });
    let running = running.into_iter().map(|(.., one)| one);
    let mut found: Vec<FoundServer> = running.chain(loose).collect();
    let off = off(view, &found);
    found.extend(off);
    found
}

/// The packages' data directory, where no process uses it.
fn off(view: &HostView, found: &[FoundServer]) -> Option<FoundServer> {
    let real = |path: &Path| view.path(path).canonicalize().ok();
    let uses = |one: &FoundServer| {
        // Of one whose data this account is not told, these are taken to be its.
        let is_same = |data: &Path| real(data) == real(Path::new(DATA));
        one.running && !one.contained && one.data.as_deref().is_none_or(is_same)
    };
    let data = view.path(DATA);
    if !data.join("mysql").is_dir() || found.iter().any(uses) {
        return None;
    }
    let engine = if data.join(MARIADBS).exists() { "MariaDB" } else { "MySQL or MariaDB" };
    let off = Some("no process of it was found".to_owned());
    Some(FoundServer { data: Some(DATA.into()), off, ..blank(engine) })
}

fn blank(engine: &'static str) -> FoundServer {
    FoundServer { engine, ..FoundServer::default() }
}

/// Whether a process takes connections: some only make a data directory, or print something.
fn serves(process: &Process) -> bool {
    const NO_SERVER: &[&str] = &[
        "--bootstrap",
        "--initialize",
        "--initialize-insecure",
        "--validate-config",
        "--print-defaults",
        "--help",
        "-?",
        "--version",
        "-V",
    ];
    !process.arguments.iter().any(|word| NO_SERVER.contains(&word.as_str()))
}

fn is_socket(path: &&Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| SOCKETS.contains(&name))
}

fn of_process(view: &HostView, process: &Process, settings: &Settings) -> FoundServer {
    let told = |name: &str, letter: Option<&str>| {
        let short = letter.and_then(|letter| short(process, letter));
        option(process, name).or(short).or_else(|| settings.value(name))
    };
    let data = told("--datadir", Some("-h")).map(Path::new).filter(|path| path.is_absolute());
    let built = (settings.are_the_packages && view.path(DATA).is_dir()).then(|| Path::new(DATA));
    // It works in its data directory.
    let data = process.folder.clone().or_else(|| data.or(built).map(Path::to_owned));
    // A name without a path lies in the data directory, and an empty one is no socket.
    let socket = told("--socket", None).filter(|path| !path.is_empty()).and_then(|path| {
        let path = Path::new(path);
        if path.is_absolute() { Some(path.to_owned()) } else { Some(data.as_ref()?.join(path)) }
    });
    let held = held(view, process).into_iter().filter(is_socket).map(Path::to_owned);
    let mut sockets: Vec<PathBuf> = held.chain(socket).collect();
    sockets.dedup();
    let is_local = process.arguments.iter().any(|word| word == "--skip-networking")
        || settings.value("--skip-networking").is_some_and(|word| !["0", "OFF"].contains(&word));
    let built = settings.are_known.then_some(PORT);
    let told = told("--port", Some("-P")).map_or(built, |text| text.parse().ok());
    let told = told.filter(|_| !is_local);
    let seen = data.as_deref().filter(|_| !process.contained);
    let is_mariadb = process.arguments[0].contains("mariadb")
        || seen.is_some_and(|data| view.path(data.join(MARIADBS)).exists());
    FoundServer {
        version: seen.and_then(|data| version(view, process, data)),
        running: true,
        pid: Some(process.pid),
        sockets,
        port: port(view, process, told),
        contained: process.contained,
        data,
        ..blank(if is_mariadb { "MariaDB" } else { "MySQL" })
    }
}

/// The release that made or last renewed the tables of a data directory: as the server or its tool has
/// written it there, else as MySQL's dictionary has it.
fn version(view: &HostView, process: &Process, data: &Path) -> Option<String> {
    let said = |name: &str| file_of(view, process, &data.join(name));
    let newest = said("mysql_upgrade_history").and_then(|text| {
        let (_, newest) = text.rsplit_once("\"version\"")?;
        release(newest.split('"').nth(1)?)
    });
    let said = |name: &str| said(name).and_then(|text| release(text.trim()));
    let told = newest.or_else(|| said("mariadb_upgrade_info"));
    told.or_else(|| said("mysql_upgrade_info")).or_else(|| {
        let page: [u8; 12] = view.beginning(&data.join("mysql.ibd"), process.account?)?;
        let number = u32::from_be_bytes(*page.last_chunk()?);
        // 80400 is 8.4.0.
        let is_one = (80_000..1_000_000).contains(&number);
        is_one.then(|| format!("{}.{}", number / 10_000, number / 100 % 100))
    })
}

/// What `10.11.19-MariaDB` is a release of: `10.11`.
fn release(text: &str) -> Option<String> {
    let mut numbers = text.split('.').map(|number| number.parse::<u16>().ok());
    Some(format!("{}.{}", numbers.next()??, numbers.next()??))
}

/// What the files of options say that a server reads.
#[derive(Default)]
struct Settings {
    /// By their names; the last of each counts.
    values: BTreeMap<String, String>,
    /// Whether they are those of the packages, so that what these are built with holds too.
    are_the_packages: bool,
    /// Whether they could be read.
    are_known: bool,
    /// Those that were read: each once, and no more than [`MOST_FILES`].
    files: BTreeSet<PathBuf>,
}

impl Settings {
    fn of(view: &HostView, process: &Process) -> Settings {
        let mut all = Settings::default();
        if process.contained {
            return all;
        }
        all.are_known = true;
        let suffix = option(process, "--defaults-group-suffix").unwrap_or_default();
        if let Some(file) = option(process, "--defaults-file") {
            all.are_known = all.read(view, Some(process), Path::new(file), suffix, 0);
        } else if !process.arguments.iter().any(|word| word == "--no-defaults") {
            all.are_the_packages = true;
            for file in ["/etc/my.cnf", "/etc/mysql/my.cnf"] {
                all.read(view, None, Path::new(file), suffix, 0);
            }
            if let Some(file) = option(process, "--defaults-extra-file") {
                all.are_known = all.read(view, Some(process), Path::new(file), suffix, 0);
            }
        }
        all
    }

    /// Reads a file and what it includes; whether it could be read. What a process names is to be its
    /// account's, or root's.
    fn read(
        &mut self,
        view: &HostView,
        named_by: Option<&Process>,
        file: &Path,
        suffix: &str,
        depth: u8,
    ) -> bool {
        const DEEPEST: u8 = 5;
        if depth >= DEEPEST || self.files.len() >= MOST_FILES || !self.files.insert(file.to_owned())
        {
            return false;
        }
        let of_process = |process| file_of(view, process, file);
        let text = named_by.map_or_else(|| view.text(file, None), of_process);
        let Some(text) = text else { return false };
        let mut is_servers = false;
        for line in text.lines().map(str::trim) {
            if let Some(group) = line.strip_prefix('[') {
                is_servers = is_of_servers(group.split(']').next().unwrap_or_default(), suffix);
            } else if let Some(folder) = line.strip_prefix("!includedir ") {
                for file in options_in(view, Path::new(folder.trim())) {
                    self.read(view, named_by, &file, suffix, depth + 1);
                }
            } else if let Some(file) = line.strip_prefix("!include ") {
                self.read(view, named_by, Path::new(file.trim()), suffix, depth + 1);
            } else if is_servers && !line.starts_with(['#', ';']) {
                let (name, value) = line.split_once('=').unwrap_or((line, ""));
                let value = value.split('#').next().unwrap_or_default().trim();
                let value = value.trim_matches(['"', '\'']);
                self.values.insert(name.trim().replace('_', "-"), value.to_owned());
            }
        }
        true
    }

    fn value(&self, option: &str) -> Option<&str> {
        self.values.get(option.trim_start_matches('-')).map(String::as_str)
    }
}

/// Whether a server reads this group of a file: `mysqld`, `mariadb-10.11`, or with the suffix that it is
/// told.
fn is_of_servers(group: &str, suffix: &str) -> bool {
    const GROUPS: &[&str] = &["mysqld", "server", "mariadb", "mariadbd", "client-server"];
    let is_of = |name: &str| {
        let Some(rest) = group.strip_prefix(name) else { return false };
        let release = rest.strip_prefix('-').and_then(|rest| rest.chars().next());
        rest.is_empty() || rest == suffix || release.is_some_and(|first| first.is_ascii_digit())
    };
    GROUPS.iter().any(|name| is_of(name))
}

/// The files of options in a folder, by name.
fn options_in(view: &HostView, folder: &Path) -> Vec<PathBuf> {
    let files =
        std::fs::read_dir(view.path(folder)).into_iter().flatten().flatten().take(LOOKED_AT);
    let files = files.map(|entry| folder.join(entry.file_name()));
    let mut files: Vec<_> =
        files.filter(|file| file.extension().is_some_and(|end| end == "cnf")).collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::found::made::Host;

    /// A server of the packages, as an account without rights sees it.
    fn packaged() -> Host {
        Host::new()
            .process(1, 0, "/sbin/init", 1)
            .process(40, 1, "/usr/sbin/mariadbd", 1)
            .with(
                "etc/mysql/my.cnf",
                "# all\n[client-server]\nsocket = /run/mysqld/mysqld.sock\n\
                !includedir /etc/mysql/conf.d/\n",
            )
            .with("etc/mysql/conf.d/50-server.cnf", "[mysqld]\nbind-address = 127.0.0.1 # alone\n")
            .with("etc/mysql/conf.d/README", "[mysqld]\nport = 1\n")
            .with("var/lib/mysql/mysql/db.frm", "")
            .with("var/lib/mysql/mysql_upgrade_info", "10.11.19-MariaDB")
            .listens(&["/run/mysqld/mysqld.sock"])
    }

    type Told = (&'static str, Option<String>, Option<u16>, Option<PathBuf>);

    /// The engine, the release, the port and the first socket of each.
    fn told(host: &Host) -> Vec<Told> {
        let all = servers(&host.view()).into_iter();
        all.map(|one| (one.engine, one.version, one.port, one.sockets.into_iter().next())).collect()
    }

    #[test]
    fn a_server_that_is_told_nothing_has_what_its_packages_say() {
        let found = servers(&packaged().view());
        assert_eq!(found.len(), 1, "{found:?}");
        let one = &found[0];
        assert_eq!((one.engine, one.pid, one.port), ("MariaDB", Some(40), Some(PORT)));
        assert_eq!(one.sockets, [Path::new("/run/mysqld/mysqld.sock")]);
        assert_eq!(one.data.as_deref(), Some(Path::new(DATA)));
        assert_eq!(one.version.as_deref(), Some("10.11"));
        let other = packaged().with("etc/mysql/conf.d/60-own.cnf", "[mariadb-10.11]\nport=3307\n");
        assert_eq!(servers(&other.view())[0].port, Some(3307));
        let local = packaged().with("etc/mysql/conf.d/60-own.cnf", "[server]\nskip_networking\n");
        assert_eq!(servers(&local.view())[0].port, None);
    }

    #[test]
    fn servers_with_files_of_their_own_are_told_apart() {
        let file = |port: u16| {
            format!(
                "[mysqld_safe]\nport=1\n[mysqld]\ndatadir='/data/{port}'\nport={port}\n\
                socket=/data/{port}/mysqld.sock\n"
            )
        };
        let host = Host::new()
            .process(7, 1, "/usr/sbin/mysqld --defaults-file=/etc/a.cnf", 1)
            .process(8, 1, "/usr/sbin/mysqld --defaults-file=/etc/b.cnf --port=3309", 1)
            .with("etc/a.cnf", &file(3307))
            .with("etc/b.cnf", &file(3308))
            .listens(&["/data/3308/mysqld.sock", "/data/3307/mysqld.sock"]);
        let socket = |port: u16| Some(PathBuf::from(format!("/data/{port}/mysqld.sock")));
        assert_eq!(
            told(&host),
            [("MySQL", None, Some(3307), socket(3307)), ("MySQL", None, Some(3309), socket(3308))]
        );
    }

    #[test]
    fn files_that_include_each_other_are_read_once() {
        let circle = "!include /data/a.cnf\n!include /data/b.cnf\n!includedir /data\n".repeat(1000);
        let host = Host::new()
            .process(7, 1, "/opt/mysqld --defaults-file=/data/a.cnf", 1)
            .with("data/a.cnf", &circle)
            .with("data/b.cnf", &format!("{circle}[mysqld]\nport=3307\n"));
        assert_eq!(told(&host)[0].2, Some(3307));
    }

    #[test]
    fn what_is_told_by_its_arguments_is_one_server() {
        let line = "/opt/mysqld --no-defaults --datadir=/data --socket=mysqld.sock -P 3307";
        let host = Host::new().process(7, 1, line, 1).listens(&["/data/mysqld.sock"]);
        let expected = ("MySQL", None, Some(3307), Some("/data/mysqld.sock".into()));
        assert_eq!(told(&host), [expected]);
        let host = Host::new().process(7, 1, "/opt/mysqld --no-defaults --socket=", 1);
        assert_eq!(told(&host), [("MySQL", None, Some(PORT), None)]);
    }

    #[test]
    fn a_process_that_tells_no_socket_has_the_only_one_that_is_left() {
        let line = "/opt/mysqld --defaults-file=/closed/my.cnf";
        let host = Host::new().process(7, 1, line, 1).listens(&["/tmp/mysql.sock"]);
        assert_eq!(told(&host), [("MySQL", None, None, Some("/tmp/mysql.sock".into()))]);
        let none = "/opt/mysqld --no-defaults --socket=";
        let host = Host::new().process(7, 1, none, 1).listens(&["/tmp/mysql.sock"]);
        assert_eq!(told(&host).len(), 2, "it says that it has none: that is another one's");
        let host =
            Host::new().process(7, 1, line, 1).process(8, 1, line, 1).listens(&["/tmp/mysql.sock"]);
        assert_eq!(told(&host).len(), 3, "which of both listens there is not known");
    }

    #[test]
    fn the_ports_that_are_seen_count_more_than_what_was_told() {
        let line = "/opt/mariadbd --no-defaults --port=3307 --socket=/run/x/db.sock";
        let host = Host::new().process(7, 1, line, 1).listens_on(&[(4, 33060), (5, 3306)]);
        let host = host.holds(7, 4).holds(7, 5);
        let socket = Some("/run/x/db.sock".into());
        assert_eq!(told(&host), [("MariaDB", None, Some(3306), socket)]);
    }

    #[test]
    fn what_only_makes_or_prints_something_is_no_server() {
        let host = Host::new()
            .process(7, 1, "/opt/mysqld --initialize-insecure --datadir=/data", 1)
            .process(8, 1, "/opt/mariadbd --bootstrap", 1)
            .process(9, 1, "/opt/mysqld --verbose --help", 1);
        assert!(told(&host).is_empty());
    }

    #[test]
    fn the_data_tell_the_engine_and_its_release() {
        let host = || Host::new().process(7, 1, "/opt/mysqld --no-defaults --datadir=/data", 1);
        let told = |host: Host| {
            let one = servers(&host.view()).remove(0);
            (one.engine, one.version)
        };
        let is = |engine, release: &str| (engine, Some(release.to_owned()));
        let newer = host()
            .with("data/aria_log_control", "")
            .with("data/mysql_upgrade_info", "10.3.1-MariaDB")
            .with("data/mariadb_upgrade_info", "11.8.6-MariaDB\n");
        assert_eq!(told(newer), is("MariaDB", "11.8"));
        let page = "\0\0\0\0\0\0\0\0\0\u{1}:\u{10}\0\0\0\u{1}";
        assert_eq!(told(host().with("data/mysql.ibd", page)), is("MySQL", "8.4"));
        assert_eq!(told(host().with("data/mysql.ibd", "short")), ("MySQL", None));
        let history =
            r#"{"upgrade_history":[{"version":"8.4.0"},{"version":"9.7.4","maturity":"LTS"}]}"#;
        let history = host().with("data/mysql_upgrade_history", history);
        assert_eq!(told(history), is("MySQL", "9.7"));
    }

    #[test]
    fn the_packages_data_that_no_process_uses_are_off() {
        let data = || Host::new().with("var/lib/mysql/mysql/db.frm", "");
        let off = |host: Host| servers(&host.view()).iter().any(|one| one.off.is_some());
        assert!(off(data()));
        assert!(!off(data().process(7, 1, "/usr/sbin/mysqld", 1)));
        let line = "/opt/mysqld --no-defaults --datadir=/data --port=3307";
        assert!(off(data().process(7, 1, line, 1)), "another one runs elsewhere");
    }
}
