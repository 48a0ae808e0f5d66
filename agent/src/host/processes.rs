//! What runs on this host and at which sockets it listens, as `/proc` tells any account.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// A process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// The process that started it.
    pub(crate) parent: u32,
    /// The number of the account that runs it.
    pub(crate) account: Option<u32>,
    /// The name of its program, up to 15 bytes.
    pub(crate) name: String,
    /// How it was started; a program may have written something else there.
    pub(crate) arguments: Vec<String>,
    /// Where it works, which only root and its own account are told.
    pub(crate) folder: Option<PathBuf>,
    /// The numbers of its sockets, which only root and its own account are told.
    pub(crate) holds: Vec<u64>,
    /// Whether its numbers are others than ours: it runs in a container or a sandbox.
    pub(crate) contained: bool,
}

/// A socket with a path at which somebody listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listening {
    /// Its number, by which whoever holds it is known.
    pub(crate) number: u64,
    pub(crate) path: PathBuf,
}

/// A host, as one account sees it.
#[derive(Debug, Default)]
pub(crate) struct HostView {
    /// Below which its files lie: `/`.
    pub(crate) root: PathBuf,
    /// By their numbers.
    pub(crate) processes: Vec<Process>,
    pub(crate) sockets: Vec<Listening>,
    /// The ports at which somebody listens, each after the number of its socket.
    pub(crate) ports: Vec<(u64, u16)>,
    /// Its own addresses.
    pub(crate) addresses: Vec<IpAddr>,
    /// Whether processes of other accounts are hidden (`hidepid`).
    pub(crate) hidden: bool,
}

impl HostView {
    /// Reads what there is. What ends meanwhile, or is not told to this account, is not in it.
    pub(crate) fn read(root: &Path) -> HostView {
        let proc = root.join("proc");
        let text = |name: &str| std::fs::read_to_string(proc.join(name)).unwrap_or_default();
        let own = Status::of(&text("self/status")).depth;
        let numbers = std::fs::read_dir(&proc).into_iter().flatten().flatten();
        let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let numbers: BTreeSet<u32> = numbers.collect();
        let mut addresses = four(&text("net/fib_trie"));
        addresses.extend(six(&text("net/if_inet6")));
        HostView {
            processes: numbers.into_iter().filter_map(|pid| process(&proc, pid, own)).collect(),
            sockets: listening(&text("net/unix")),
            ports: ["net/tcp", "net/tcp6"].map(|name| ports(&text(name))).concat(),
            addresses,
            hidden: !proc.join("1/status").exists(),
            root: root.to_owned(),
        }
    }

    /// A path of the host, where it lies for us.
    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// What a small file of the host says: one that an account owns, where it is to be that one's.
    pub(crate) fn text(&self, path: impl AsRef<Path>, account: Option<u32>) -> Option<String> {
        const LONGEST: u64 = 256 << 10;
        let file = self.file(path.as_ref(), account)?;
        if file.metadata().ok()?.len() > LONGEST {
            return None;
        }
        let mut text = String::new();
        file.take(LONGEST).read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// How a file begins that an account owns, however long it is.
    pub(crate) fn beginning<const N: usize>(&self, path: &Path, account: u32) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.file(path, Some(account))?.read_exact(&mut bytes).ok()?;
        Some(bytes)
    }

    /// A file of the host. Whoever owns its folder may have put there a pipe that nobody writes to, a
    /// device without an end, or a link to what only others may read: of these nothing is read.
    fn file(&self, path: &Path, account: Option<u32>) -> Option<File> {
        // What only root may write to may be a link.
        let links = if account.is_some() { OFlags::NOFOLLOW } else { OFlags::empty() };
        let flags = i32::try_from((links | OFlags::NONBLOCK).bits()).ok()?;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(self.path(path)).ok()?;
        let found = file.metadata().ok()?;
        let is_its_own = account.is_none_or(|account| account == found.uid());
        (found.is_file() && is_its_own).then_some(file)
    }

    /// Whether a process, or what started it, bears a name.
    pub(crate) fn is_below(&self, process: &Process, name: &str) -> bool {
        let mut at = Some(process);
        // A number that was given anew meanwhile could lead in a circle.
        for _ in 0..64 {
            let Some(one) = at else { return false };
            if one.name == name {
                return true;
            }
            at = self.processes.iter().find(|other| other.pid == one.parent);
        }
        false
    }
}

/// What `/proc/PID/status` says.
#[derive(Default)]
struct Status {
    name: String,
    parent: u32,
    account: Option<u32>,
    /// In how many spaces of numbers it has one.
    depth: usize,
}

impl Status {
    fn of(text: &str) -> Status {
        let value = |key: &str| {
            let mut lines = text.lines();
            lines.find_map(|line| Some(line.strip_prefix(key)?.strip_prefix(':')?.trim()))
        };
        Status {
            name: value("Name").unwrap_or_default().to_owned(),
            parent: value("PPid").and_then(|text| text.parse().ok()).unwrap_or_default(),
            // The real one, the effective one and two more.
            account: value("Uid").and_then(|text| text.split_whitespace().next()?.parse().ok()),
            depth: value("NSpid").map_or(1, |text| text.split_whitespace().count()),
        }
    }
}

fn process(proc: &Path, pid: u32, own: usize) -> Option<Process> {
    let folder = proc.join(pid.to_string());
    let status = Status::of(&std::fs::read_to_string(folder.join("status")).ok()?);
    let line = std::fs::read(folder.join("cmdline")).ok()?;
    let words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    Some(Process {
        pid,
        parent: status.parent,
        account: status.account,
        name: status.name,
        arguments: words.map(|word| String::from_utf8_lossy(word).into_owned()).collect(),
        holds: held(&folder.join("fd")),
        folder: std::fs::read_link(folder.join("cwd")).ok(),
        contained: status.depth > own,
    })
}

/// The sockets among the open files of a process: links such as `socket:[4711]`.
fn held(open: &Path) -> Vec<u64> {
    let links = std::fs::read_dir(open).into_iter().flatten().flatten();
    let number =
        |link: PathBuf| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok();
    links.filter_map(|entry| number(std::fs::read_link(entry.path()).ok()?)).collect()
}

/// The sockets of `/proc/net/unix` that have a path and take connections.
fn listening(text: &str) -> Vec<Listening> {
    const TAKES_CONNECTIONS: u32 = 0x1_0000;
    let socket = |line: &str| {
        let mut words = line.split_whitespace();
        let flags = words.nth(3)?;
        let takes = u32::from_str_radix(flags, 16).ok()? & TAKES_CONNECTIONS != 0;
        let at = line.find(" /").filter(|_| takes)?;
        Some(Listening { number: words.nth(2)?.parse().ok()?, path: line[at + 1..].into() })
    };
    text.lines().skip(1).filter_map(socket).collect()
}

/// The ports of `/proc/net/tcp` at which somebody listens, each after the number of its socket.
fn ports(text: &str) -> Vec<(u64, u16)> {
    const LISTENS: &str = "0A";
    let port = |line: &str| {
        let mut words = line.split_whitespace();
        let (_, port) = words.nth(1)?.rsplit_once(':')?;
        words.nth(1).filter(|state| *state == LISTENS)?;
        let number = words.nth(5)?.parse().ok()?;
        Some((number, u16::from_str_radix(port, 16).ok()?))
    };
    text.lines().skip(1).filter_map(port).collect()
}

/// The addresses of `/proc/net/fib_trie` that are this host's own.
fn four(text: &str) -> Vec<IpAddr> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let own = |pair: &[&str]| {
        let address = pair[0].strip_prefix("|-- ")?;
        pair[1].ends_with("host LOCAL").then(|| address.parse().ok()).flatten()
    };
    lines.windows(2).filter_map(own).collect()
}

/// The addresses of `/proc/net/if_inet6`.
fn six(text: &str) -> Vec<IpAddr> {
    let address = |line: &str| {
        let digits = line.split_whitespace().next()?;
        let bits = u128::from_str_radix(digits, 16).ok()?;
        Some(IpAddr::V6(bits.into()))
    };
    text.lines().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sockets_that_take_connections_and_have_a_path_are_told() {
        let text = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 22 /run/a b/.s.PGSQL.5432\n\
            0000000000000000: 00000003 00000000 00000000 0001 03 23 /run/a b/.s.PGSQL.5432\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 24 @/hidden\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 25\n";
        let expected = Listening { number: 22, path: "/run/a b/.s.PGSQL.5432".into() };
        assert_eq!(listening(text), [expected]);
    }

    #[test]
    fn only_ports_that_take_connections_are_told() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  \
            timeout inode\n   \
            0: 0100007F:0CEA 00000000:0000 0A 00000000:00000000 00:00000000 00000000   112        0 \
            9026586 1 0000000000000000 100 0 0 10 0\n   \
            1: 0100007F:D2F0 0100007F:0CEA 01 00000000:00000000 00:00000000 00000000     0        0 \
            9026587 1 0000000000000000 20 4 30 10 -1\n";
        assert_eq!(ports(text), [(9_026_586, 3306)]);
        let text = "  sl  local_address\n   0: 00000000000000000000000000000000:69A1 \
            00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 7 1\n";
        assert_eq!(ports(text), [(7, 27_041)]);
    }

    #[test]
    fn a_hosts_own_addresses_are_read() {
        let text = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.0.0.0\n        /24 link UNICAST\n     \
            |-- 10.0.0.7\n        /32 host LOCAL\n     |-- 10.0.0.255\n        /32 link BROADCAST\n";
        assert_eq!(four(text), ["10.0.0.7".parse::<IpAddr>().expect("an address")]);
        let text = "00000000000000000000000000000001 01 80 10 80       lo\n";
        assert_eq!(six(text), ["::1".parse::<IpAddr>().expect("an address")]);
    }

    #[test]
    fn this_process_is_found_with_its_arguments_and_what_it_is_below() {
        let view = HostView::read(Path::new("/"));
        let own = std::process::id();
        let own = view.processes.iter().find(|process| process.pid == own).expect("ourselves");
        assert_eq!(own.arguments[0], std::env::args().next().expect("a name"));
        assert_eq!(own.folder, std::env::current_dir().ok());
        let path = tempfile::tempdir().expect("a directory");
        let path = path.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
        let view = HostView::read(Path::new("/"));
        let again =
            view.processes.iter().find(|process| process.pid == own.pid).expect("ourselves");
        let socket = view.sockets.iter().find(|socket| socket.path == path).expect("our socket");
        assert!(again.holds.contains(&socket.number) && !own.holds.contains(&socket.number));
        assert!(!own.contained);
        assert!(view.is_below(own, &own.name) && !view.is_below(own, "no such program"));
        assert!(view.addresses.contains(&"127.0.0.1".parse().expect("an address")));
    }
}
