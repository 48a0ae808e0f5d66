//! Database servers that are on this host, whether or not they are a source: every engine knows
//! its own by their processes, their sockets, their configuration and their directories.

use std::path::{Path, PathBuf};

use super::{mongodb, mysql, pg};
use crate::host::processes::{HostView, Listening, Process};

/// A server of this host, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FoundServer {
    /// What people call the engine.
    pub(crate) engine: &'static str,
    /// Whether this program backs such servers up.
    pub(crate) is_backed_up: bool,
    /// As far as a path or a file tells it.
    pub(crate) version: Option<String>,
    /// What its packages call it: `15/main`.
    pub(crate) name: Option<String>,
    /// Whether it runs.
    pub(crate) running: bool,
    /// Its first process, where that is seen.
    pub(crate) pid: Option<u32>,
    /// Where its data lie.
    pub(crate) data: Option<PathBuf>,
    /// Its sockets, or the directories of them, as a client is told them.
    pub(crate) sockets: Vec<PathBuf>,
    pub(crate) port: Option<u16>,
    /// Whether it runs in a container, so that its paths and ports are not ours.
    pub(crate) contained: bool,
    /// Why it does not run, where that is known.
    pub(crate) off: Option<String>,
}

impl FoundServer {
    /// Whether both are one server: by their data, else by where they are reached.
    fn is(&self, other: &FoundServer) -> bool {
        if self.contained || other.contained {
            return false;
        }
        if let (Some(one), Some(two)) = (&self.data, &other.data) {
            return one == two;
        }
        let reached = |server: &FoundServer| server.port.or(server.sockets.first().map(|_| 0));
        let unknown = self.sockets.is_empty() || other.sockets.is_empty();
        let shared = || self.sockets.iter().any(|path| other.sockets.contains(path));
        reached(self).is_some() && reached(self) == reached(other) && (unknown || shared())
    }

    /// Adds what is known from elsewhere.
    fn learn(&mut self, other: FoundServer) {
        self.version = self.version.take().or(other.version);
        self.name = self.name.take().or(other.name);
        self.pid = self.pid.or(other.pid);
        self.data = self.data.take().or(other.data);
        let new = other.sockets.into_iter().filter(|path| !self.sockets.contains(path));
        let new: Vec<_> = new.collect();
        self.sockets.extend(new);
        self.port = self.port.or(other.port);
        self.running |= other.running;
        self.off = self.off.take().or(other.off).filter(|_| !self.running);
    }
}

/// All servers of one engine, from what is seen of them: processes, then configuration, then sockets,
/// then directories, so that what is known best comes first.
pub(super) fn joined(all: impl IntoIterator<Item = FoundServer>) -> Vec<FoundServer> {
    let mut found: Vec<FoundServer> = Vec::new();
    for one in all {
        match found.iter_mut().find(|other| other.is(&one)) {
            Some(other) => other.learn(one),
            None => found.push(one),
        }
    }
    // A process that does not tell where it listens, and a socket whose process is not seen.
    let deaf = |server: &FoundServer| {
        server.pid.is_some()
            && server.sockets.is_empty()
            && server.port.is_none()
            && !server.contained
    };
    let loose = |server: &FoundServer| server.running && server.pid.is_none();
    let only = |found: &[FoundServer], is: &dyn Fn(&FoundServer) -> bool| {
        let mut all = found.iter().enumerate().filter(|(_, one)| is(one));
        all.next().filter(|_| all.next().is_none()).map(|(at, _)| at)
    };
    if let (Some(process), Some(socket)) = (only(&found, &deaf), only(&found, &loose)) {
        let socket = found[socket].clone();
        found[process].learn(socket.clone());
        found.retain(|one| one.pid.is_some() || *one != socket);
    }
    found
}

/// The processes that are servers of an engine: the first of each, and none of our own, which
/// restore something.
pub(super) fn processes<'a>(view: &'a HostView, programs: &[&str]) -> Vec<&'a Process> {
    let is_named = |process: &Process| {
        let program = process.arguments.first().map(Path::new).and_then(Path::file_name);
        program.and_then(|name| name.to_str()).is_some_and(|name| programs.contains(&name))
    };
    let is_first = |process: &Process| {
        !view.processes.iter().any(|other| other.pid == process.parent && is_named(other))
    };
    let found = view.processes.iter().filter(|process| is_named(process) && is_first(process));
    found.filter(|process| !view.is_below(process, "drctl")).collect()
}

/// The sockets that a process holds and listens at; none where this account is not told.
pub(super) fn held<'a>(view: &'a HostView, process: &Process) -> Vec<&'a Path> {
    let ours = |socket: &&Listening| process.holds.contains(&socket.number);
    view.sockets.iter().filter(ours).map(|socket| socket.path.as_path()).collect()
}

/// The port that a process listens at: the one that is told of it, else the lowest, for others are for
/// more than its clients. Of a process whose sockets this account is not told, the told one is believed.
pub(super) fn port(view: &HostView, process: &Process, told: Option<u16>) -> Option<u16> {
    if process.holds.is_empty() || process.contained {
        return told;
    }
    let held = view.ports.iter().filter(|(number, _)| process.holds.contains(number));
    let held: Vec<u16> = held.map(|(_, port)| *port).collect();
    told.filter(|port| held.contains(port)).or(held.into_iter().min())
}

/// What a file of a process says: one of its account, or of root.
pub(super) fn file_of(view: &HostView, process: &Process, path: &Path) -> Option<String> {
    let of = |account: u32| view.text(path, Some(account));
    process.account.and_then(of).or_else(|| of(0))
}

/// What `-D DIR` or `-DDIR` says; the last one counts.
pub(super) fn short<'a>(process: &'a Process, name: &str) -> Option<&'a str> {
    let words = process.arguments.iter().enumerate();
    let mut values = words.filter_map(|(at, word)| match word.strip_prefix(name)? {
        "" => process.arguments.get(at + 1).map(String::as_str),
        rest => Some(rest),
    });
    values.next_back()
}

/// The value of an option of a process: `--NAME VALUE`, `--NAME=VALUE`.
pub(super) fn option<'a>(process: &'a Process, name: &str) -> Option<&'a str> {
    let words = process.arguments.iter().enumerate();
    let mut values = words.filter_map(|(at, word)| match word.strip_prefix(name)? {
        "" => process.arguments.get(at + 1).map(String::as_str),
        rest => rest.strip_prefix('='),
    });
    // The last one counts.
    values.next_back()
}

/// Every server of this host.
pub(crate) fn servers(view: &HostView) -> Vec<FoundServer> {
    [pg::found::servers(view), mysql::servers(view), mongodb::servers(view)].concat()
}

#[cfg(test)]
pub(crate) mod made {
    use std::fs;
    use std::os::unix::fs::symlink;

    use crate::host::processes::HostView;

    /// A host in a directory of its own.
    pub(crate) struct Host(pub(crate) tempfile::TempDir);

    impl Host {
        pub(crate) fn new() -> Host {
            Host(tempfile::tempdir().expect("a directory"))
        }

        pub(crate) fn with(self, path: &str, text: &str) -> Host {
            let file = self.0.path().join(path);
            fs::create_dir_all(file.parent().expect("a folder")).expect("make it");
            fs::write(file, text).expect("write it");
            self
        }

        /// A process that was started so, by `parent`, in as many spaces of numbers as `depth`.
        pub(crate) fn process(self, pid: u32, parent: u32, line: &str, depth: usize) -> Host {
            let name = line.split(' ').next().and_then(|path| path.rsplit('/').next());
            let numbers = "1 ".repeat(depth);
            let own = rustix::process::getuid().as_raw();
            let status = format!(
                "Name:\t{}\nPPid:\t{parent}\nUid:\t{own}\t{own}\t{own}\t{own}\nNSpid:\t{numbers}\n",
                name.expect("a name")
            );
            let folder = format!("proc/{pid}");
            self.with(&format!("{folder}/status"), &status)
                .with(&format!("{folder}/cmdline"), &line.replace(' ', "\0"))
        }

        pub(crate) fn listens(self, paths: &[&str]) -> Host {
            let mut text = "Num RefCount Protocol Flags Type St Inode Path\n".to_owned();
            for (number, path) in paths.iter().enumerate() {
                text += &format!("0: 00000002 00000000 00010000 0001 01 {number} {path}\n");
            }
            self.with("proc/net/unix", &text)
        }

        /// A process has the socket of this number in the list of those that listen.
        pub(crate) fn holds(self, pid: u32, number: u32) -> Host {
            let folder = self.0.path().join(format!("proc/{pid}/fd"));
            fs::create_dir_all(&folder).expect("make it");
            let link = format!("socket:[{number}]");
            symlink(link, folder.join(number.to_string())).expect("a link");
            self
        }

        /// Somebody listens on these ports, each after the number of its socket.
        pub(crate) fn listens_on(self, ports: &[(u32, u16)]) -> Host {
            let mut text = "sl local_address rem_address st\n".to_owned();
            for (number, port) in ports {
                text += &format!("0: 0100007F:{port:04X} 0:0 0A 0:0 00:0 0 112 0 {number} 1\n");
            }
            self.with("proc/net/tcp", &text)
        }

        pub(crate) fn view(&self) -> HostView {
            HostView::read(self.0.path())
        }
    }
}
