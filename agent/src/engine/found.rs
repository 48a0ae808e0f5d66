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
