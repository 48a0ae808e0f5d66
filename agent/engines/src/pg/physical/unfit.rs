//! Settings of a restored cluster that this host cannot take: a server that is started with them ends at
//! once. The server's own program is asked, and what it finds out only when it starts is looked at here.

use std::fmt;
use std::fs::{self, File};
use std::net::{TcpListener, ToSocketAddrs as _};
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use drctl_model::shown;
use nix::unistd::Group;
use tempfile::TempDir;

use super::Layout;
use super::conf;
use super::forced::is_a_librarys;
use super::guard::{CONFIGURATION, INSTANCE};
use super::libraries::libraries;
use super::memory::{beyond, huge_pages};
use super::own_settings::{OwnSetting, OwnSettings};
use super::prepare::is_dropped;
use super::private::{LIKENESS, folder};
use crate::common::EngineError;
use crate::common::process::told;

/// Settings that tell where files are: they would lead the program that is asked away from the likeness.
const PLACES: [&str; 5] =
    ["config_file", "data_directory", "external_pid_file", "hba_file", "ident_file"];

/// Files that must be there where a server encrypts connections, and their usual names.
const SSL: [(&str, &str); 5] = [
    ("ssl_cert_file", "server.crt"),
    ("ssl_key_file", "server.key"),
    ("ssl_ca_file", ""),
    ("ssl_crl_file", ""),
    ("ssl_dh_params_file", ""),
];

/// How many connections a server takes.
const CONNECTIONS: &str = "max_connections";

/// A setting with which no server starts here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfitSetting {
    /// Its name.
    pub name: String,
    /// The file that sets it.
    pub file: PathBuf,
    /// The line in it.
    pub line: usize,
    /// Why not, for people.
    pub why: String,
}

impl fmt::Display for UnfitSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UnfitSetting { name, file, line, why } = self;
        write!(f, "{name} in {}, line {line}: {why}", file.display())
    }
}

impl UnfitSetting {
    fn of(set: &OwnSetting, why: impl AsRef<str>) -> Self {
        let OwnSetting { name, file, line, .. } = set.clone();
        UnfitSetting { name: shown(&name, 100), file, line, why: shown(why.as_ref(), 300) }
    }
}

/// The settings in a cluster's own files with which its server does not start on this host. Starts no
/// server, loads nothing that they name, and changes nothing.
///
/// # Errors
/// [`EngineError::Io`] where the server's program cannot be asked.
pub fn unfit_settings(bin_dir: &Path, layout: &Layout) -> Result<Vec<UnfitSetting>, EngineError> {
    let own = OwnSettings::of(layout);
    let mut unfit = refused(bin_dir, &own)?;
    let missing = own.missing.iter();
    unfit.extend(missing.map(|set| UnfitSetting::of(set, format!("{} is not there", set.value))));
    let host = Host { data: &layout.data(), libraries: libraries(bin_dir), pages: huge_pages() };
    unfit.extend(host.looks(&own));
    unfit.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    Ok(unfit)
}

/// What the program does not take, by its own words.
fn refused(bin_dir: &Path, own: &OwnSettings) -> Result<Vec<UnfitSetting>, EngineError> {
    let asked = |set: &&OwnSetting| {
        let name = set.name.as_str();
        !PLACES.contains(&name) && !is_dropped(name) && !is_a_librarys(name)
    };
    let mut left: Vec<&OwnSetting> = own.settings.values().filter(asked).collect();
    let program = Program::beside(bin_dir)?;
    let mut unfit = Vec::new();
    loop {
        // It tells of several at once, but of names that it does not know before all others.
        let said = program.objects(&lines(left.iter().copied()))?;
        if said.is_empty() {
            return Ok(unfit);
        }
        let before = left.len();
        left.retain(|set| {
            let why = said.iter().find(|words| is_about(words, &set.name));
            unfit.extend(why.map(|why| UnfitSetting::of(set, why)));
            why.is_none()
        });
        if left.len() == before {
            break;
        }
    }
    // Its words name none of them: each by itself.
    for set in left {
        let said = program.objects(&lines([set]))?;
        unfit.extend(said.first().map(|why| UnfitSetting::of(set, why)));
    }
    Ok(unfit)
}

fn lines<'a>(settings: impl IntoIterator<Item = &'a OwnSetting>) -> String {
    settings.into_iter().map(|set| conf::line(&set.name, &set.value)).collect()
}

fn is_about(words: &str, name: &str) -> bool {
    words.to_ascii_lowercase().contains(&format!("parameter \"{name}\""))
}

/// Of lines of a configuration those that the program takes.
pub(super) fn taken(bin_dir: &Path, lines: &str) -> Result<String, EngineError> {
    let program = Program::beside(bin_dir)?;
    if program.objects(lines)?.is_empty() {
        return Ok(lines.to_owned());
    }
    let mut taken = String::new();
    for line in lines.lines() {
        match program.objects(line)?.first() {
            None => taken.extend([line, "\n"]),
            Some(why) => tracing::debug!("the recovery does without the source's {line}: {why}"),
        }
    }
    Ok(taken)
}

/// The server's program, and a place in which it finds a configuration and no cluster.
struct Program {
    postgres: PathBuf,
    folder: TempDir,
    _owner: File,
}

impl Program {
    fn beside(bin_dir: &Path) -> Result<Program, EngineError> {
        let (folder, _owner) = folder(LIKENESS)?;
        Ok(Program { postgres: bin_dir.join("postgres"), folder, _owner })
    }

    /// Why it does not take lines of a configuration; nothing where it does.
    fn objects(&self, lines: &str) -> Result<Vec<String>, EngineError> {
        let at = self.folder.path();
        let written = fs::write(at.join(CONFIGURATION), lines);
        let written = written.and_then(|()| fs::write(at.join(INSTANCE), ""));
        written.map_err(EngineError::io("write a configuration"))?;
        let mut tool = Command::new(&self.postgres);
        // In this order root may ask, too.
        tool.args(["-C", "port", "-D"]).arg(at);
        tool.env_clear().env("LC_ALL", "C").current_dir("/");
        let output = told(&mut tool).map_err(EngineError::io("ask postgres for its settings"))?;
        match output.status.success() {
            true => Ok(Vec::new()),
            false => Ok(words(&String::from_utf8_lossy(&output.stderr))),
        }
    }
}

/// What it says, each with what it adds to that. The file and the line of the likeness are nobody's.
fn words(said: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for line in said.lines() {
        if let Some((_, words)) = line.split_once("LOG:") {
            all.push(words.split(" in file \"").next().unwrap_or_default().trim().to_owned());
        } else if let (Some((_, words)), Some(last)) = (line.split_once("DETAIL:"), all.last_mut())
        {
            last.extend([": ", words.trim()]);
        }
    }
    if all.is_empty() {
        all.push(said.trim().to_owned());
    }
    all
}

/// What this host offers.
struct Host<'a> {
    data: &'a Path,
    /// Where the server's libraries are.
    libraries: Option<PathBuf>,
    /// How many huge pages there are.
    pages: Option<u64>,
}

impl Host<'_> {
    /// What a server finds out only when it starts.
    fn looks(&self, own: &OwnSettings) -> Vec<UnfitSetting> {
        let mut unfit = Vec::new();
        for set in own.settings.values() {
            let why = match set.name.as_str() {
                "huge_pages" if is(&set.value, "on") && self.pages == Some(0) => {
                    Some("this host has no huge pages (vm.nr_hugepages)".to_owned())
                }
                "ssl" if is_on(&set.value) => self.no_ssl(own),
                "hba_file" => self.gone(&set.value),
                "data_directory" => {
                    let other = self.data.join(&set.value) != self.data;
                    other.then(|| format!("it names another cluster's directory, {}", set.value))
                }
                "external_pid_file" => self.foreign_pid_file(&set.value),
                "wal_level" if is(&set.value, "minimal") => {
                    let senders = number(own, "max_wal_senders", 10);
                    let why = "minimal, and max_wal_senders is not 0: no server starts so";
                    senders.is_some_and(|senders| senders > 0).then(|| why.to_owned())
                }
                "superuser_reserved_connections" => {
                    let (reserved, all) =
                        (number(own, &set.name, 3), number(own, CONNECTIONS, 100));
                    let none_left =
                        reserved.zip(all).is_some_and(|(reserved, all)| reserved >= all);
                    none_left.then(|| format!("it leaves none of {CONNECTIONS} to others"))
                }
                "log_directory" => {
                    let collects = own.value("logging_collector").is_some_and(is_on);
                    let above = self.data.join(&set.value);
                    let nowhere = above.parent().is_some_and(|above| !above.exists());
                    (collects && nowhere).then(|| format!("{} cannot be made", above.display()))
                }
                "unix_socket_group" => no_group(&set.value),
                "unix_socket_directories" => no_sockets(&set.value),
                "listen_addresses" => no_address(&set.value),
                "shared_preload_libraries" | "session_preload_libraries" => {
                    self.no_library(own, &set.value)
                }
                name => beyond(name, &set.value),
            };
            unfit.extend(why.map(|why| UnfitSetting::of(set, why)));
        }
        unfit
    }

    fn gone(&self, file: &str) -> Option<String> {
        let file = self.data.join(file);
        (!file.exists()).then(|| format!("{} is not there", file.display()))
    }

    /// A server writes its number into that file, and removes it at its end: of one that runs by such a
    /// file, as by its `postmaster.pid`, that is the end.
    fn foreign_pid_file(&self, file: &str) -> Option<String> {
        let place = self.data.join(file);
        let inside = place
            .strip_prefix(self.data)
            .ok()
            .filter(|inside| inside.components().all(|part| matches!(part, Component::Normal(_))));
        let own = inside.is_some_and(|inside| inside != Path::new("postmaster.pid"));
        (!file.is_empty() && !own).then(|| {
            format!(
                "a server that is started with it writes over {} and removes it at its end: if that \
                 is another server's, it stops that one",
                place.display()
            )
        })
    }

    fn no_ssl(&self, own: &OwnSettings) -> Option<String> {
        let file =
            |(name, usual): &(&str, &'static str)| own.value(name).unwrap_or(usual).to_owned();
        let named = SSL.iter().map(file).filter(|file| !file.is_empty());
        let gone: Vec<String> = named.filter_map(|file| self.gone(&file)).collect();
        (!gone.is_empty()).then(|| gone.join(", "))
    }

    /// Plain names, as packages have them.
    fn no_library(&self, own: &OwnSettings, value: &str) -> Option<String> {
        let folder = self.libraries.as_ref()?;
        if own.value("dynamic_library_path").is_some_and(|path| path != "$libdir") {
            return None;
        }
        let plain = |name: &str| {
            let name = name.strip_prefix("$libdir/").unwrap_or(name);
            name.strip_suffix(".so").unwrap_or(name).to_owned()
        };
        let names = listed(value).into_iter().map(plain);
        let gone =
            |name: &String| !name.contains('/') && !folder.join(format!("{name}.so")).exists();
        let gone: Vec<String> = names.filter(gone).collect();
        let text = || format!("no library {} in {}", gone.join(", "), folder.display());
        (!gone.is_empty()).then(text)
    }
}

/// The number that a setting has, if it is a plain one.
fn number(own: &OwnSettings, name: &str, usual: i64) -> Option<i64> {
    own.value(name).map_or(Some(usual), |value| value.trim().parse().ok())
}

fn is(value: &str, wanted: &str) -> bool {
    value.trim().eq_ignore_ascii_case(wanted)
}

/// As the server reads what is on or off.
fn is_on(value: &str) -> bool {
    ["on", "true", "tru", "tr", "t", "yes", "ye", "y", "1"].iter().any(|one| is(value, one))
}

/// The names in a list.
fn listed(list: &str) -> Vec<&str> {
    let names = list.split(',').map(|name| name.trim().trim_matches('"'));
    names.filter(|name| !name.is_empty()).collect()
}

/// A group has a name that the host knows, or a number.
fn no_group(value: &str) -> Option<String> {
    let numbered = value.is_empty() || value.parse::<u64>().is_ok();
    let unknown = !numbered && matches!(Group::from_name(value), Ok(None));
    unknown.then(|| format!("this host has no group {value}"))
}

/// A server needs one of its sockets; one in no directory has no place.
fn no_sockets(value: &str) -> Option<String> {
    let all = listed(value);
    let gone = |place: &&str| place.starts_with('/') && !Path::new(place).is_dir();
    let none = !all.is_empty() && all.iter().all(gone);
    none.then(|| format!("{} is not there", all.join(", ")))
}

/// A server needs one of its addresses, by whatever name.
fn no_address(value: &str) -> Option<String> {
    let all = listed(value);
    let foreign = |text: &&str| {
        let found = (*text, 0).to_socket_addrs();
        *text != "*"
            && !found.is_ok_and(|mut found| found.any(|one| TcpListener::bind(one).is_ok()))
    };
    let none = !all.is_empty() && all.iter().all(foreign);
    none.then(|| format!("{} is no address of this host", all.join(", ")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn own(settings: &[(&str, &str)]) -> OwnSettings {
        let set = |(at, (name, value)): (usize, &(&str, &str))| {
            let set = OwnSetting {
                name: (*name).to_owned(),
                value: (*value).to_owned(),
                file: "/srv/data/postgresql.conf".into(),
                line: at + 1,
            };
            (set.name.clone(), set)
        };
        let settings: BTreeMap<_, _> = settings.iter().enumerate().map(set).collect();
        OwnSettings { settings, missing: Vec::new() }
    }

    #[test]
    fn what_keeps_a_server_from_starting_on_this_host_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display().to_string();
        fs::write(folder.path().join("there.so"), "").unwrap();
        fs::write(folder.path().join("server.crt"), "").unwrap();
        let host =
            Host { data: folder.path(), libraries: Some(folder.path().to_owned()), pages: Some(0) };
        for (settings, word) in [
            (&[("huge_pages", "on")][..], "vm.nr_hugepages"),
            (&[("huge_pages", "try")], ""),
            (&[("ssl", "Yes")], "server.key is not there"),
            (&[("ssl", "on"), ("ssl_key_file", "server.crt")], ""),
            (&[("ssl", "off"), ("ssl_key_file", "/nowhere/k")], ""),
            (&[("hba_file", "/nowhere/pg_hba.conf")], "/nowhere/pg_hba.conf is not there"),
            (&[("data_directory", "/var/lib/postgresql/15/main")], "another cluster's"),
            (&[("data_directory", &at)], ""),
            (
                &[("external_pid_file", "/srv/source/postmaster.pid")],
                "writes over /srv/source/post",
            ),
            (&[("external_pid_file", "../../source/postmaster.pid")], "writes over"),
            (&[("external_pid_file", "postmaster.pid")], "writes over"),
            (&[("external_pid_file", "own.pid")], ""),
            (&[("external_pid_file", "")], ""),
            (&[("wal_level", "minimal")], "max_wal_senders is not 0"),
            (&[("wal_level", "Minimal"), ("max_wal_senders", "0")], ""),
            (&[("wal_level", "replica")], ""),
            (&[("superuser_reserved_connections", "100")], "none of max_connections"),
            (&[("superuser_reserved_connections", "100"), ("max_connections", "101")], ""),
            (&[("unix_socket_group", "nobody-has-this-group")], "no group nobody-has-this-group"),
            (&[("unix_socket_group", "root")], ""),
            (&[("unix_socket_group", "4711")], ""),
            (&[("log_directory", "/nowhere/log")], ""),
            (&[("log_directory", "/nowhere/log"), ("logging_collector", "on")], "cannot be made"),
            (&[("log_directory", "log"), ("logging_collector", "on")], ""),
            (&[("unix_socket_directories", "/nowhere, /nor/here")], "/nor/here is not there"),
            (&[("unix_socket_directories", "/nowhere, /tmp")], ""),
            (&[("unix_socket_directories", "")], ""),
            (&[("listen_addresses", "203.0.113.9")], "no address of this host"),
            (&[("listen_addresses", "203.0.113.9, 127.0.0.1")], ""),
            (&[("listen_addresses", "*")], ""),
            (&[("listen_addresses", "no-host.invalid")], "no address of this host"),
            (&[("listen_addresses", "no-host.invalid, localhost")], ""),
            (&[("shared_preload_libraries", "there, \"$libdir/gone\"")], "no library gone"),
            (&[("shared_preload_libraries", "there.so")], ""),
            (&[("shared_preload_libraries", "x"), ("dynamic_library_path", "/x")], ""),
            (&[("shared_buffers", "4000TB")], "is too much"),
        ] {
            let unfit = host.looks(&own(settings));
            match word {
                "" => assert_eq!(unfit, [], "{settings:?}"),
                word => {
                    assert_eq!(unfit.len(), 1, "{settings:?}: {unfit:?}");
                    assert!(unfit[0].why.contains(word), "{unfit:?}");
                }
            }
        }
    }

    #[test]
    fn the_servers_words_are_told_without_the_places_of_the_likeness() {
        let said = "2026-11-27 19:31:40.871 GMT [9570] LOG:  invalid value for parameter \
                    \"max_stack_depth\": 1000000\n2026-11-27 19:31:40.871 GMT [9570] DETAIL:  \
                    \"max_stack_depth\" must not exceed 7680kB.\n2026-11-27 GMT [9570] FATAL:  \
                    configuration file \"/tmp/x/postgresql.conf\" contains errors\n";
        let told = "invalid value for parameter \"max_stack_depth\": 1000000: \"max_stack_depth\" \
                    must not exceed 7680kB.";
        assert_eq!(words(said), [told]);
        assert!(is_about(told, "max_stack_depth") && !is_about(told, "stack_depth"));
        let said =
            "GMT [1] LOG:  unrecognized configuration parameter \"x\" in file \"/t/x\" line 6";
        assert_eq!(words(said), ["unrecognized configuration parameter \"x\""]);
        assert_eq!(words("no such program"), ["no such program"]);
    }
}
