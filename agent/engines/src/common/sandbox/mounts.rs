//! What is to be seen in a sandbox. Decides, and touches nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One thing that is put into a sandbox; the later ones lie above the earlier ones.
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

/// What is wanted in a sandbox.
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
    /// Places that lead elsewhere, though more of the host would be seen around them: which, and
    /// where to.
    pub led: Vec<(PathBuf, PathBuf)>,
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
];

/// In which order what is put into a sandbox.
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
    for (place, _) in &wanted.led {
        all = all.into_iter().flat_map(|mount| around(host, mount, place)).collect();
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
    // What is no directory of the sandbox's own root has no link yet.
    let apart = |place: &Path| {
        let within = |mount: &Mount| matches!(mount, Mount::Empty(at) if place.starts_with(at));
        place.starts_with("/dev") || all.iter().any(within)
    };
    let led = wanted.led.iter().filter(|(place, _)| apart(place));
    let led: Vec<Mount> = led.map(|(place, to)| Mount::Link(to.clone(), place.clone())).collect();
    all.extend(led);
    all
}

/// The same as a mount, without a place in it: what lies beside the way there is put into the sandbox
/// by itself, so that the way is the sandbox's own.
fn around(host: &Host, mount: Mount, place: &Path) -> Vec<Mount> {
    let at = match &mount {
        Mount::Read(at) if place.starts_with(at) => at.clone(),
        // What was put beside another place is in the way of this one.
        Mount::Link(_, at) if place.starts_with(at) => return Vec::new(),
        _ => return vec![mount],
    };
    let (mut beside, mut folder) = (Vec::new(), at);
    while let Ok(rest) = place.strip_prefix(&folder) {
        let Some(next) = rest.components().next() else { break };
        let next = folder.join(next);
        let within = host.iter().filter(|(path, _)| path.parent() == Some(&folder));
        beside.extend(within.filter(|(path, _)| **path != next).map(|(path, kind)| match kind {
            Kind::Link(to) => Mount::Link(to.clone(), path.clone()),
            Kind::Directory | Kind::File => Mount::Read(path.clone()),
        }));
        // A link there is the host's way, and none in the sandbox.
        if host.get(&next) != Some(&Kind::Directory) {
            break;
        }
        folder = next;
    }
    beside
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
            led: Vec::new(),
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
    fn a_place_in_what_is_seen_leads_elsewhere_and_all_beside_it_stays() {
        let mut host = host(&["/usr/lib", "/usr/lib/pg", "/usr/lib/pg/bin", "/usr/lib/c"]);
        host.insert("/usr/lib/ld.so".into(), Kind::File);
        host.insert("/usr/lib/x".into(), Kind::Link("c".into()));
        let led = |place: &str| Wanted {
            hidden: paths(&["/usr/share/drctl/key"]),
            led: vec![(place.into(), "/restored/5".into())],
            ..Wanted::default()
        };
        let mut beside = vec![
            Mount::Read("/usr/lib/c".into()),
            Mount::Read("/usr/lib/ld.so".into()),
            Mount::Link("c".into(), "/usr/lib/x".into()),
            Mount::Read("/usr/lib/pg/bin".into()),
            Mount::Link("usr/lib".into(), "/lib".into()),
        ];
        assert_eq!(mounts(&host, &led("/usr/lib/pg/ts")), beside);
        // Nothing of the host is seen where the way leads over a link of it.
        beside[2] = Mount::Read("/usr/lib/pg".into());
        beside.remove(3);
        let mut over_link = mounts(&host, &led("/usr/lib/x/ts"));
        over_link[..3].sort_by_key(|mount| format!("{mount:?}"));
        assert_eq!(over_link, beside);
        let dev = mounts(&host, &led("/dev/shm/ts"));
        assert_eq!(dev.last(), Some(&Mount::Link("/restored/5".into(), "/dev/shm/ts".into())));
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
