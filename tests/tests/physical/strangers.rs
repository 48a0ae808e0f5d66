//! Other accounts on the host, and a repository whose directory goes away.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use drctl_tests::apart::Apart;
use drctl_tests::cluster::{Cluster as _, as_owner, give_away};
use drctl_tests::site::{Ran, Site, drctl, until};

use crate::common::physical;
use crate::log::Archiving;
use crate::streaming::{Streaming, Writer, synchronous};

/// What another account reaches below a directory.
fn reached(at: &Path) -> String {
    let mut find = Command::new("setpriv");
    find.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--", "find"]).arg(at);
    let modes = ["-readable", "-o", "-writable", "-o", "-executable"];
    let found = find.args(["-mindepth", "1", "("]).args(modes).args([")", "-print"]);
    String::from_utf8_lossy(&found.output().expect("start find").stdout).into_owned()
}

/// Everything below a directory that has a mode for others than its owner.
fn open_to_others(at: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        let meta = path.symlink_metadata().unwrap();
        if meta.mode() & 0o077 != 0 && !meta.is_symlink() {
            found.push(path.clone());
        }
        if meta.is_dir() {
            open_to_others(&path, found);
        }
    }
}

/// `drctl`, or a shell's words, under a mask that hides nothing.
fn unmasked(words: &[&str]) -> Vec<String> {
    let shell = ["sh", "-c", "umask 000; exec \"$@\"", "sh"];
    shell.iter().chain(words).map(|word| (*word).to_owned()).collect()
}

#[test]
fn nothing_that_drctl_makes_is_reachable_by_another_account() {
    let shop = Archiving::with(false, |server| {
        let site = Site::empty();
        let url = format!("file://{}", site.path("repository").display());
        let mut words = site.init_words(server, &url);
        words.insert(0, drctl().display().to_string());
        let words = unmasked(&words.iter().map(String::as_str).collect::<Vec<_>>());
        let mut init = Command::new(&words[0]);
        init.args(&words[1..]).env("DRCTL_CONFIG", site.config());
        let _ = Ran::of(&init.output().unwrap()).ended(0);
        physical(&site);
        site
    });
    let program = shop.program().display().to_string();
    let run = |words: &[&str]| {
        let words = unmasked(words);
        let mut command = as_owner(&words[0]);
        command.args(&words[1..]).env("DRCTL_CONFIG", shop.site.config());
        Ran::of(&command.output().unwrap())
    };
    let own = |words: &[&str]| run(&[&[program.as_str()], words].concat()).ended(0);
    let at = |name: &str| shop.site.path(name).display().to_string();
    let command =
        format!("umask 000; {program} --config {} wal push shop %p", at("etc/drctl.toml"));
    shop.sql(&format!("alter system set archive_command = '{command}'; select pg_reload_conf()"));
    let _ = own(&["backup", "shop"]);
    let segment = shop.segments_of_ten(2).remove(0);
    let _ = own(&["keys", "new-identity", &at("i.txt")]);
    let _ = own(&["keys", "new-signing", &at("s.key")]);
    let system = shop.sql("select system_identifier from pg_control_system()");
    let _ = own(&[
        "wal",
        "fetch",
        "--system-id",
        &system,
        "--segment-bytes",
        "1048576",
        "shop",
        &segment,
        &at("segment"),
    ]);
    let _ = own(&["restore", "shop", "--latest", "--to-files", &at("files")]);
    let _ = own(&["restore", "shop", "--latest", "--to-directory", &at("cluster")]);
    let _ = own(&["catalog", "rebuild"]);
    let _ = own(&["verify", "--data"]);
    let id = shop.drctl(&["list"]).json()["backups"][0]["backup"].as_str().unwrap().to_owned();
    let script = own(&["show", &id, "--emergency"]).out;
    let (_folder, path) = drctl_tests::cluster::own_place();
    fs::write(&path, script).unwrap();
    let identity = shop.site.identity().display().to_string();
    let _ = run(&["bash", path.to_str().unwrap(), &identity, &at("emergency")]).ended(0);
    // What the shell and `init` saved is the test's; all else is ours.
    let mut open = Vec::new();
    open_to_others(&shop.site.path(""), &mut open);
    open.retain(|path| !path.ends_with("drctl.toml"));
    assert!(open.is_empty(), "{open:?}");
    fs::set_permissions(shop.site.path(""), Permissions::from_mode(0o755)).unwrap();
    let found = reached(&shop.site.path(""));
    assert_eq!(found, "", "another account reaches these");
}

#[test]
fn a_repository_that_is_moved_away_acknowledges_no_commit() {
    let shop = Archiving::start(false);
    let mut streaming = Streaming::start(&shop, &["--interval", "1"]);
    synchronous(&shop);
    // No memory of it, with keys in it, comes to a disk; nor can its account's other processes look.
    let limits = streaming.proc("limits");
    assert!(
        limits.lines().any(|line| line.starts_with("Max core file size        0 ")),
        "{limits}"
    );
    let dumpable = Path::new(&format!("/proc/{}/environ", streaming.id())).metadata().unwrap();
    assert_eq!(dumpable.uid(), 0, "its memory can be dumped");
    shop.tick(1..4);
    let (repository, elsewhere) = (shop.site.path("repository"), shop.site.path("elsewhere"));
    fs::rename(&repository, &elsewhere).unwrap();
    let writer = Writer::start(&shop.server, 10);
    assert_eq!(streaming.ended(), Some(8), "{}", streaming.said());
    let said = streaming.said();
    assert!(said.contains("is not the same directory any more: it is gone"), "{said}");
    assert!(said.contains("mount its file system again"), "{said}");
    assert_eq!(writer.acknowledged(), 9, "a commit was acknowledged");
    assert!(!repository.exists(), "the repository was made again");
    // As a mount point is without its file system.
    fs::create_dir(&repository).unwrap();
    give_away(&repository);
    let wal = shop.server.data_dir().join("pg_wal");
    let name = shop.sql("select pg_walfile_name(pg_current_wal_flush_lsn())");
    let file = wal.join(name).display().to_string();
    for words in [vec!["backup", "shop"], vec!["wal", "push", "shop", &file]] {
        let ran = shop.drctl(&words);
        assert_eq!(ran.json()["code"], "not_a_repository", "{}", ran.out);
    }
    assert_eq!(fs::read_dir(&repository).unwrap().count(), 0);
    assert_eq!(writer.acknowledged(), 9, "a commit was acknowledged");
    fs::remove_dir(&repository).unwrap();
    fs::rename(&elsewhere, &repository).unwrap();
    let _streaming = Streaming::start(&shop, &["--interval", "1"]);
    until("the commits to be acknowledged", || writer.acknowledged() > 10);
}

/// Asserts that the slot of the stream stands at the end of a piece that is there, or before it.
fn confirms_no_more_than_is_there(shop: &Archiving, apart: &Apart) {
    let mut find = Command::new("find");
    find.arg(shop.site.path("repository")).args(["-name", "*.log", "-printf", "%f\n"]);
    let found = apart.inside(&find).output().unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    let ends = found.lines().filter_map(|name| name.strip_suffix(".log")?.split_once('-'));
    let end = ends.map(|(_, end)| u64::from_str_radix(end, 16).unwrap()).max().unwrap();
    let confirmed = shop.sql("select max(restart_lsn - '0/0') from pg_replication_slots");
    assert!(confirmed.parse::<u64>().unwrap() <= end, "{confirmed} is confirmed, {end} is there");
}

#[test]
fn a_stream_whose_disk_is_unmounted_or_not_writable_acknowledges_nothing_and_goes_on_later() {
    let shop = Archiving::start(false);
    let apart = Apart::of(&shop.site);
    let run = |words: &[&str]| {
        let command = shop.command(&[&["--json"], words].concat());
        Ran::of(&apart.inside(&command).output().unwrap())
    };
    let stream = || apart.inside(&shop.command(&["wal", "stream", "shop", "--interval", "1"]));
    let mut streaming = Streaming::start_by(&shop, stream());
    synchronous(&shop);
    shop.tick(1..4);
    type Turn<'a> = &'a dyn Fn();
    let turns: [(Turn<'_>, [&str; 2], Turn<'_>); 2] = [
        (&|| apart.take_away(), ["another one is in its place", "not_a_repository"], &|| {
            apart.bring_back()
        }),
        (&|| apart.may_be_written(false), ["Read-only file system", "store_denied"], &|| {
            apart.may_be_written(true)
        }),
    ];
    let mut first = 10;
    for (away, [words, code], back) in turns {
        away();
        let writer = Writer::start(&shop.server, first);
        assert_eq!(streaming.ended(), Some(8), "{words}: {}", streaming.said());
        let said = streaming.said();
        assert!(said.contains(words), "{words}: {said}");
        assert_eq!(writer.acknowledged(), first - 1, "{words}: a commit was acknowledged");
        let ran = run(&["backup", "shop"]);
        assert_eq!(ran.json()["code"], code, "{}", ran.out);
        assert_eq!(apart.below(), 0, "{words}: the mount point was written into");
        assert_eq!(writer.acknowledged(), first - 1, "{words}: a commit was acknowledged");
        back();
        confirms_no_more_than_is_there(&shop, &apart);
        streaming = Streaming::start_by(&shop, stream());
        until("the commits to be acknowledged", || writer.acknowledged() > first);
        first += 1_000_000;
        drop(writer);
    }
    let _ = run(&["backup", "shop"]).ended(0);
    let _ = run(&["verify", "shop", "--data"]).ended(0);
    assert_eq!(apart.below(), 0);
}

#[test]
fn a_closed_folder_in_a_repository_stops_nothing() {
    let shop = Archiving::start(false);
    let closed = shop.site.path("repository/lost+found");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, Permissions::from_mode(0o000)).unwrap();
    shop.back_up();
    let found = shop.drctl(&["catalog", "check"]).ended(0).json();
    assert_eq!(found["equal"], true, "{found}");
    let _ = shop.drctl(&["catalog", "rebuild"]).ended(0);
    let _ = shop.drctl(&["verify", "--data"]).ended(0);
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
}
