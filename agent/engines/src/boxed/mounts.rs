//! What is to be seen in a box. Decides, and touches nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One thing that is put into a box; the later ones lie above the earlier ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mount {
    /// A place of the host, to be read.
    Read(PathBuf),
    /// A file of the host, to be read elsewhere.
    ReadAs(PathBuf, PathBuf),
    /// A place of the host, to be written.
    Write(PathBuf),
    /// A symbolic link: what it says, and where it is.
    Link(PathBuf, PathBuf),
    /// An empty directory where one of the host's would be seen.
    Empty(PathBuf),
    /// Nothing where a file of the host would be seen.
    Nothing(PathBuf),
}

/// What a place of the host is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
    Link(PathBuf),
}

/// What of the host could be shown: all that was looked for and is there.
pub(super) type Host = BTreeMap<PathBuf, Kind>;

/// What is wanted in a box.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Places with programs and libraries, beside those of the system.
    pub programs: Vec<PathBuf>,
    /// Places that are written.
    pub writable: Vec<PathBuf>,
    /// Places that are read.
    pub readable: Vec<PathBuf>,
    /// Files that are shown elsewhere: which, and where.
    pub files: Vec<(PathBuf, PathBuf)>,
    /// What must never be seen, wherever it lies: keys, configurations, state.
    pub hidden: Vec<PathBuf>,
}

/// The system's own: programs, libraries, what they need to run. Not all of `/usr`: in
/// `/usr/local` and `/usr/src` lies what people put there, a source's data among it.
pub(super) const SYSTEM: &[&str] = &[
    "/usr/bin",
    "/usr/sbin",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/share",
    "/usr/local/lib",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/localtime",
    "/var/cache/postgresql",
];

/// In which order what is put into a box.
pub(super) fn mounts(host: &Host, wanted: &Wanted) -> Vec<Mount> {
    let mut all = Vec::new();
    for path in SYSTEM.iter().map(Path::new) {
        match host.get(path) {
            Some(Kind::Link(to)) => all.push(Mount::Link(to.clone(), path.to_owned())),
            Some(_) => all.push(Mount::Read(path.to_owned())),
            None => {}
        }
    }
    let covered = |all: &[Mount], path: &Path| all.iter().any(|mount| shows(mount, path));
    for path in wanted.programs.iter().chain(&wanted.readable) {
        if host.contains_key(path) && !covered(&all, path) {
            all.push(Mount::Read(path.clone()));
        }
    }
    all.extend(wanted.writable.iter().cloned().map(Mount::Write));
    let files = wanted.files.iter().cloned();
    all.extend(files.map(|(file, place)| Mount::ReadAs(file, place)));
    let hidden = wanted.hidden.iter().filter(|path| covered(&all, path));
    let cover = |path: &PathBuf| match host.get(path) {
        Some(Kind::File) => Some(Mount::Nothing(path.clone())),
        Some(_) => Some(Mount::Empty(path.clone())),
        None => None,
    };
    let hidden: Vec<Mount> = hidden.filter_map(cover).collect();
    all.extend(hidden);
    all
}

/// Whether a place of the host is seen through a mount, under its own name.
fn shows(mount: &Mount, path: &Path) -> bool {
    match mount {
        Mount::Read(place) | Mount::Write(place) => path.starts_with(place),
        _ => false,
    }
}

/// The same as arguments of bubblewrap.
pub(super) fn arguments(mounts: &[Mount]) -> Vec<std::ffi::OsString> {
    let mut all = Vec::new();
    let mut add = |option: &str, paths: &[&Path]| {
        all.push(option.into());
        all.extend(paths.iter().map(|path| path.as_os_str().to_owned()));
    };
    for mount in mounts {
        match mount {
            Mount::Read(path) => add("--ro-bind", &[path, path]),
            Mount::ReadAs(file, place) => add("--ro-bind", &[file, place]),
            Mount::Write(path) => add("--bind", &[path, path]),
            Mount::Link(to, path) => add("--symlink", &[to, path]),
            Mount::Empty(path) => add("--tmpfs", &[path]),
            Mount::Nothing(path) => add("--ro-bind", &[Path::new("/dev/null"), path]),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(directories: &[&str]) -> Host {
        let mut host: Host =
            directories.iter().map(|path| (PathBuf::from(path), Kind::Directory)).collect();
        host.insert("/lib".into(), Kind::Link("usr/lib".into()));
        host.insert("/usr/share/drctl/key".into(), Kind::File);
        host
    }

    fn paths(list: &[&str]) -> Vec<PathBuf> {
        list.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn only_what_is_wanted_is_seen_and_nothing_that_is_hidden() {
        let host =
            host(&["/usr/lib", "/usr/share", "/opt/pg/bin", "/usr/lib/state", "/srv/source"]);
        let wanted = Wanted {
            programs: paths(&["/opt/pg/bin", "/usr/lib/postgresql/15/bin", "/nowhere"]),
            writable: paths(&["/srv/restored/data"]),
            readable: Vec::new(),
            files: vec![("/usr/bin/drctl".into(), "/run/drctl".into())],
            hidden: paths(&["/usr/lib/state", "/usr/share/drctl/key", "/srv/source", "/etc/drctl"]),
        };
        assert_eq!(
            mounts(&host, &wanted),
            [
                Mount::Read("/usr/lib".into()),
                Mount::Read("/usr/share".into()),
                Mount::Link("usr/lib".into(), "/lib".into()),
                Mount::Read("/opt/pg/bin".into()),
                Mount::Write("/srv/restored/data".into()),
                Mount::ReadAs("/usr/bin/drctl".into(), "/run/drctl".into()),
                Mount::Empty("/usr/lib/state".into()),
                Mount::Nothing("/usr/share/drctl/key".into()),
            ]
        );
    }

    #[test]
    fn mounts_are_told_to_bubblewrap() {
        let told = arguments(&[
            Mount::Read("/usr".into()),
            Mount::ReadAs("/a".into(), "/b".into()),
            Mount::Nothing("/k".into()),
            Mount::Link("usr/lib".into(), "/lib".into()),
        ]);
        let words =
            "--ro-bind /usr /usr --ro-bind /a /b --ro-bind /dev/null /k --symlink usr/lib /lib";
        assert_eq!(told, words.split(' ').collect::<Vec<_>>());
    }
}
