//! Directories that others can change, and links in place of files of ours.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::geteuid;

use drctl_tests::cluster::Program;
use drctl_tests::hostile::as_nobody;
use drctl_tests::site::{Ran, Site};

use crate::{init_arguments, lone_site, server_with};

#[test]
fn a_state_directory_of_others_is_refused() {
    let site = lone_site();
    let state = site.path("state");
    fs::create_dir_all(&state).expect("make it");
    for mode in [0o777, 0o1777, 0o770] {
        fs::set_permissions(&state, Permissions::from_mode(mode)).expect("open it");
        let said = site.fails(7, "not_private", &["backup", "shop"]);
        assert!(said.contains(&format!("its mode is {:03o}", mode & 0o777)), "{said}");
        assert!(said.contains("chmod it to 0700"), "{said}");
    }
    assert_eq!(fs::read_dir(&state).expect("a directory").count(), 0);
    fs::set_permissions(&state, Permissions::from_mode(0o700)).expect("close it");
    assert!(geteuid().is_root(), "run this as root: it gives a directory away");
    chown(&state, Some(65_534), Some(65_534)).expect("give it away");
    let said = site.fails(2, "usage", &["backup", "shop"]);
    assert!(said.contains("sudo -u nobody drctl"), "{said}");
    assert_eq!(fs::read_dir(&state).expect("a directory").count(), 0);
}

#[test]
fn a_catalog_that_others_can_change_is_not_believed() {
    let server = server_with(10);
    let site = Site::with(&server);
    let id = site.backup();
    let files = site.path("files").display().to_string();
    let plan = ["restore", "shop", "--latest", "--to-files", &files, "--plan"];
    let _ = site.drctl(&["status", "--check"]).ended(0);
    let refused = || {
        for arguments in [&["status", "--check"][..], &["list"], &["catalog", "check"]] {
            let said = site.fails(7, "not_private", arguments);
            assert!(said.contains("catalog.db"), "{said}");
        }
        let ran = site.drctl(&plan).ended(0);
        assert!(
            ran.err.contains("record of lost and damaged backups cannot be read"),
            "{}",
            ran.err
        );
        assert!(ran.out.contains(&id), "{}", ran.out);
    };
    let state = site.path("state");
    fs::set_permissions(&state, Permissions::from_mode(0o777)).expect("open it");
    refused();
    fs::set_permissions(&state, Permissions::from_mode(0o700)).expect("close it");
    chown(&state, Some(65_534), Some(65_534)).expect("give it away");
    refused();
    chown(&state, Some(0), Some(0)).expect("take it back");
    let _ = site.drctl(&["status", "--check"]).ended(0);
}

#[test]
fn a_runtime_or_spool_directory_of_others_is_refused() {
    let server = server_with(10);
    let site = Site::with(&server);
    let _ = site.backup();
    let spool = site.path("spool");
    site.replace("[paths]\n", &format!("[paths]\nspool_dir = \"{}\"\n", spool.display()));
    let restore =
        ["restore", "shop", "--latest", "--database", "shop", "--as", "new", "--jobs", "2"];
    let uses: [(&str, &[&str]); 3] =
        [("run", &["backup", "shop"]), ("run", &restore), ("spool", &restore)];
    for (name, arguments) in uses {
        let at = site.path(name);
        fs::create_dir_all(&at).expect("make it");
        for mode in [0o777, 0o1777, 0o770] {
            fs::set_permissions(&at, Permissions::from_mode(mode)).expect("open it");
            let said = site.fails(7, "not_private", arguments);
            assert!(said.contains(&at.display().to_string()), "{said}");
        }
        fs::set_permissions(&at, Permissions::from_mode(0o700)).expect("close it");
        chown(&at, Some(65_534), Some(65_534)).expect("give it away");
        let said = site.fails(2, "usage", arguments);
        assert!(said.contains(&at.display().to_string()), "{said}");
        assert_eq!(fs::read_dir(&at).expect("a directory").count(), 0);
        chown(&at, Some(0), Some(0)).expect("take it back");
    }
    let _ = site.json(0, &restore);
}

#[test]
fn a_lock_that_is_a_link_is_neither_taken_nor_emptied() {
    let site = lone_site();
    fs::create_dir_all(site.path("state")).expect("make it");
    fs::set_permissions(site.path("state"), Permissions::from_mode(0o700)).expect("close it");
    fs::write(site.path("precious"), "all of it").expect("write");
    symlink(site.path("precious"), site.path("state/shop.lock")).expect("link");
    let ran = site.drctl(&["backup", "shop"]);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(ran.err.contains("take the lock"), "{}", ran.err);
    assert_eq!(fs::read_to_string(site.path("precious")).expect("it"), "all of it");
}

#[test]
fn a_restore_goes_into_nothing_of_drctl_s_own_and_into_no_cluster() {
    let site = lone_site();
    let cluster = site.path("live");
    fs::create_dir_all(cluster.join("base")).expect("make it");
    fs::write(cluster.join("PG_VERSION"), "15").expect("write");
    symlink(site.path("repository"), site.path("link")).expect("link");
    for (place, word) in [
        ("repository/new", "the repository"),
        ("link/new/deeper", "the repository"),
        ("state/new", "state directory"),
        ("run/new", "runtime directory"),
        ("live/base/new", "the data directory of a cluster"),
    ] {
        let to = site.path(place).display().to_string();
        for flag in ["--to-files", "--to-directory"] {
            let said = site.fails(12, "target_unfit", &["restore", "shop", "--latest", flag, &to]);
            assert!(said.contains(word), "{place}: {said}");
        }
        let to_end = ["restore", "shop", "--to-end", "--to-directory", &to];
        let said = site.fails(12, "target_unfit", &to_end);
        assert!(said.contains(word), "{place}: {said}");
        assert!(!site.path(place).exists(), "{place}");
    }
}

#[test]
fn nothing_of_drctl_s_own_is_made_in_a_cluster() {
    let site = Site::empty();
    let (cluster, space) = (site.path("live"), site.path("space"));
    fs::create_dir_all(cluster.join("global")).expect("make it");
    fs::write(cluster.join("PG_VERSION"), "15").expect("write");
    fs::write(cluster.join("global/pg_control"), "x").expect("write");
    fs::create_dir_all(space.join("PG_15_202209061")).expect("make it");
    symlink(&cluster, site.path("link")).expect("link");
    let before = (site.files("live"), site.files("space"));
    let usual = init_arguments(&site);
    for place in ["live", "live/base", "link/new/deeper", "space/new"] {
        let at = site.path(place);
        let url = format!("file://{}", at.display());
        for (flag, value) in [
            ("--url", url.as_str()),
            ("--state-dir", &at.join("state").display().to_string()),
            ("--runtime-dir", &at.join("run").display().to_string()),
            ("--kit", &at.join("kit.txt").display().to_string()),
        ] {
            let mut arguments = usual.clone();
            let position = arguments.iter().position(|one| one == flag).expect("a flag");
            arguments[position + 1] = value.to_owned();
            let said = site.drctl(&arguments).ended(2).err;
            assert!(said.contains("of a cluster") && said.contains("Nothing was done"), "{said}");
        }
        let config = at.join("etc/drctl.toml").display().to_string();
        let told = [&["--config".to_owned(), config][..], &usual].concat();
        assert!(site.drctl(&told).ended(2).err.contains("of a cluster"), "{place}");
        for verb in ["new-identity", "new-signing"] {
            let file = at.join("key").display().to_string();
            let said = site.fails(2, "usage", &["keys", verb, &file]);
            assert!(said.contains("of a cluster"), "{said}");
        }
    }
    assert_eq!((site.files("live"), site.files("space")), before);
    for made in ["etc", "repository", "state", "kit.txt"] {
        assert!(!site.path(made).exists(), "{made}");
    }
    // One that was set up by hand is told of.
    let _ = site.drctl(&usual).ended(0);
    site.replace(
        &site.path("state").display().to_string(),
        &cluster.join("x").display().to_string(),
    );
    let found = site.drctl(&["--json", "doctor"]).ended(1).json();
    let all = found["findings"].as_array().expect("findings").iter();
    let mut told = all.filter(|one| one["check"] == "paths" && one["level"] == "bad");
    assert!(told.any(|one| one["text"].to_string().contains("state directory")), "{found}");
}

/// What belongs to root below a directory that was given to another account.
fn of_root(at: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(at).expect("a directory") {
        let path = entry.expect("an entry").path();
        let meta = path.symlink_metadata().expect("it");
        if meta.uid() == 0 {
            found.push(path.clone());
        }
        if meta.is_dir() {
            found.extend(of_root(&path));
        }
    }
    found
}

#[test]
fn root_reads_what_is_another_accounts_and_leaves_nothing_there() {
    let site = lone_site();
    assert!(geteuid().is_root(), "run this as root: it gives directories away");
    let _ = site.drctl(&["catalog", "rebuild"]).ended(0);
    let places = ["state", "run", "repository"].map(|name| site.path(name));
    for locked in [true, false] {
        for place in &places {
            fs::create_dir_all(place).expect("make it");
            let given = Command::new("chown").args(["-R", "65534:65534"]).arg(place).status();
            assert!(given.expect("start chown").success());
        }
        if !locked {
            fs::remove_file(site.path("state/catalog.db.lock")).expect("remove the lock");
        }
        for (arguments, code) in [
            (&["list"][..], 0),
            (&["status"], 0),
            (&["timeline", "shop"], 5),
            (&["catalog", "check"], 0),
            (&["config", "check"], 0),
            (&["verify"], 5),
            // These would write.
            (&["doctor"], 1),
            (&["backup", "shop"], 2),
            (&["catalog", "rebuild"], 2),
        ] {
            let ran = site.drctl(&[&["--json"], arguments].concat());
            let left: Vec<PathBuf> = places.iter().flat_map(|place| of_root(place)).collect();
            assert!(left.is_empty(), "{arguments:?} left {left:?}");
            assert_eq!(ran.code, Some(code), "{arguments:?}: {}{}", ran.out, ran.err);
            if arguments == ["verify"] {
                let told = "verified, but not recorded: run this as nobody";
                assert!(ran.err.contains(told), "{}", ran.err);
                assert!(!ran.err.contains("Nothing was done"), "{}", ran.err);
            }
        }
    }
    // A repository may belong to another account than the state directory.
    let given = Command::new("chown").args(["-R", "0:0"]).args(&places[..2]).status();
    assert!(given.expect("start chown").success());
    for (arguments, code) in [(&["doctor"][..], 1), (&["backup", "shop"], 2)] {
        let ran = site.drctl(&[&["--json"], arguments].concat());
        assert_eq!(of_root(&places[2]), Vec::<PathBuf>::new(), "{arguments:?}");
        assert_eq!(ran.code, Some(code), "{arguments:?}: {}{}", ran.out, ran.err);
        assert!(ran.out.contains("sudo -u nobody"), "{}", ran.out);
    }
}

#[test]
fn a_restore_goes_nowhere_that_another_account_may_change() {
    let site = lone_site();
    let made = |name: &str, mode: u32| {
        fs::create_dir_all(site.path(name)).expect("make it");
        fs::set_permissions(site.path(name), Permissions::from_mode(mode)).expect("open it");
    };
    assert!(geteuid().is_root(), "run this as root: it gives a directory away");
    for (name, mode) in
        [("theirs", 0o700), ("open", 0o777), ("group", 0o770), ("sticky", 0o1777), ("wide", 0o777)]
    {
        made(name, mode);
    }
    chown(site.path("theirs"), Some(65_534), Some(65_534)).expect("give it away");
    made("ours", 0o700);
    symlink(site.path("ours"), site.path("sticky/link")).expect("link");
    std::os::unix::fs::lchown(site.path("sticky/link"), Some(65_534), None).expect("give it away");
    let restore = |name: &str, flags: &[&str]| {
        let to = site.path(name).display().to_string();
        site.drctl(&[&["--json", "restore", "shop"], flags, &[&to]].concat())
    };
    for (name, word) in [
        ("theirs", "belongs to nobody"),
        ("theirs/new", "belongs to nobody"),
        ("sticky/link", "belongs to nobody"),
        ("sticky/link/new", "belongs to nobody"),
        ("open", "(mode 777)"),
        ("group", "(mode 770)"),
        ("sticky", "(mode 1777)"),
        ("wide/new/deeper", "(mode 777)"),
    ] {
        for flags in [["--latest", "--to-files"], ["--to-end", "--to-directory"]] {
            let said = restore(name, &flags).failed(12, "target_unfit");
            assert!(said.contains(word) && said.contains("Nothing was done"), "{name}: {said}");
        }
    }
    assert!(!site.path("wide/new").exists() && !site.path("theirs/new").exists());
    // In a directory like /tmp a name of ours is ours.
    for name in ["sticky/new", "ours", "ours/new"] {
        let _ = restore(name, &["--latest", "--to-files"]).failed(5, "no_backup");
    }
}

/// Every command that reads the configuration.
const COMMANDS: [&[&str]; 9] = [
    &["backup", "shop"],
    &["list"],
    &["status"],
    &["doctor"],
    &["verify"],
    &["config", "check"],
    &["keys", "list"],
    &["catalog", "rebuild"],
    &["restore", "shop", "--latest", "--to-files", "files"],
];

#[test]
fn a_configuration_that_others_can_change_is_refused_by_every_command() {
    let site = lone_site();
    let policy = site.path("etc/policies.d/daily.toml");
    let etc = site.path("etc");
    for (path, mode, was) in [
        (site.config(), 0o666, 0o600),
        (site.config(), 0o620, 0o600),
        (policy, 0o602, 0o600),
        (site.path("etc/policies.d"), 0o777, 0o700),
        (etc.clone(), 0o1777, 0o700),
        (etc.clone(), 0o770, 0o700),
    ] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("open it");
        for arguments in COMMANDS {
            let ran = site.drctl(&[&["--json"], arguments].concat());
            // A directory like /tmp may be on the way: what is ours in it is ours.
            if mode == 0o1777 {
                assert!(!ran.out.contains("not_private"), "{arguments:?}: {}", ran.out);
                continue;
            }
            let said = ran.failed(7, "not_private");
            let word = format!("{} may be changed by other accounts", path.display());
            assert!(said.contains(&word) && said.contains("chmod go-w"), "{arguments:?}: {said}");
        }
        fs::set_permissions(&path, Permissions::from_mode(was)).expect("close it");
    }
    // As the way is named, and as it is.
    symlink(site.path("etc"), site.path("link")).expect("link");
    let named = |at: &str| {
        let mut command = site.command(&["--json", "config", "check"]);
        Ran::of(&command.env("DRCTL_CONFIG", site.path(at)).output().expect("start drctl"))
    };
    let _ = named("link/drctl.toml").ended(0);
    fs::create_dir(site.path("open")).expect("make it");
    fs::set_permissions(site.path("open"), Permissions::from_mode(0o777)).expect("open it");
    fs::rename(site.path("link"), site.path("open/link")).expect("move it");
    let said = named("open/link/drctl.toml").failed(7, "not_private");
    assert!(said.contains("open may be changed by other accounts"), "{said}");
    let _ = site.drctl(&["config", "check"]).ended(0);
}

#[test]
fn a_key_that_others_can_change_is_not_used() {
    let site = lone_site();
    let (keys, signing) = (site.path("etc/keys"), site.path("etc/keys/signing.key"));
    let test = ["--json", "keys", "test"];
    for (path, mode, was) in [(&signing, 0o622, 0o600), (&keys, 0o770, 0o700)] {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("open it");
        let found = site.drctl(&["--json", "doctor"]).json();
        let told = found["findings"].as_array().expect("findings").iter();
        let mut told = told.filter(|f| f["check"] == "keys.signing_key" && f["level"] == "bad");
        assert!(told.any(|f| f["text"].to_string().contains("other accounts")), "{found}");
        fs::set_permissions(path, Permissions::from_mode(was)).expect("close it");
    }
    fs::set_permissions(site.identity(), Permissions::from_mode(0o606)).expect("open it");
    let said = site.drctl(&test).failed(7, "not_private");
    assert!(said.contains("identity.txt"), "{said}");
}

#[test]
fn programs_and_certificates_that_others_can_change_are_neither_run_nor_believed() {
    let server = server_with(10);
    let site = Site::with(&server);
    let honest = fs::read_to_string(site.config()).expect("a configuration");
    let open = |at: &Path, mode| {
        fs::set_permissions(at, Permissions::from_mode(mode)).expect("open it");
    };
    // A program that would say who ran it.
    let (bin, ran) = (site.path("bin"), site.path("ran"));
    fs::create_dir(&bin).expect("make it");
    let dump = bin.join("pg_dump");
    fs::write(&dump, format!("#!/bin/sh\ntouch {}\n", ran.display())).expect("write it");
    site.source(&format!("bin_dir = \"{}\"", bin.display()));
    for (folder, file) in [(0o755, 0o777), (0o777, 0o755), (0o775, 0o755)] {
        open(&bin, folder);
        open(&dump, file);
        let said = site.fails(7, "not_private", &["backup", "shop"]);
        assert!(said.contains("drctl does not use ") && said.contains("pg_dump: "), "{said}");
        assert!(!ran.exists(), "{folder:o} {file:o}");
    }
    // What decides whom we believe.
    let root = site.path("root.crt");
    fs::write(&root, "no certificate").expect("write it");
    fs::write(site.config(), &honest).expect("write it");
    site.replace(&format!("host = \"{}\"", server.socket_dir().display()), "host = \"127.0.0.1\"");
    site.source(&format!("ssl_root_cert = \"{}\"", root.display()));
    open(&root, 0o666);
    let said = site.fails(7, "not_private", &["backup", "shop"]);
    assert!(said.contains("drctl does not use ") && said.contains("root.crt: "), "{said}");
    open(&root, 0o644);
    assert!(!site.drctl(&["--json", "backup", "shop"]).out.contains("not_private"));
    fs::write(site.config(), &honest).expect("write it");
    site.replace("[repository]\n", &format!("[repository]\nca_file = \"{}\"\n", root.display()));
    let url = format!("url = \"file://{}\"", site.path("repository").display());
    site.replace(&url, "url = \"s3://bucket/below\"\nendpoint = \"https://127.0.0.1:1\"");
    open(&root, 0o666);
    let said = site.fails(7, "not_private", &["verify"]);
    assert!(said.contains("root.crt"), "{said}");
}

#[test]
fn a_directory_of_ours_below_a_place_of_others_is_refused() {
    let site = lone_site();
    assert!(geteuid().is_root(), "run this as root: it gives a directory away");
    let theirs = site.path("theirs");
    for name in ["theirs", "theirs/state", "ours"] {
        fs::create_dir(site.path(name)).expect("make it");
    }
    symlink(site.path("ours"), theirs.join("link")).expect("link");
    chown(&theirs, Some(65_534), Some(65_534)).expect("give it away");
    let line = |name: &str| format!("state_dir = \"{}\"", site.path(name).display());
    let mut is = "state";
    for name in ["theirs/state", "theirs/link", "theirs/new"] {
        site.replace(&line(is), &line(name));
        is = name;
        let said = site.fails(7, "not_private", &["backup", "shop"]);
        assert!(said.contains("theirs belongs to nobody"), "{name}: {said}");
        assert!(!theirs.join("new").exists() && site.files("ours").is_empty(), "{name}");
    }
    site.replace(&line(is), &line("state"));
    let run = |name: &str| format!("runtime_dir = \"{}\"", site.path(name).display());
    site.replace(&run("run"), &run("theirs/link"));
    let found = site.drctl(&["--json", "doctor"]).json();
    let mut told = found["findings"].as_array().expect("findings").iter();
    assert!(told.any(|f| f["check"] == "paths.runtime_dir" && f["level"] == "bad"), "{found}");
}

#[test]
fn a_catalog_that_may_not_be_read_is_not_called_missing() {
    let site = lone_site();
    assert!(geteuid().is_root(), "run this as root: it looks as another account");
    let said = site.fails(1, "catalog_missing", &["status"]);
    assert!(said.contains("drctl backup"), "{said}");
    let _ = site.drctl(&["catalog", "rebuild"]).ended(0);
    for open in ["", "etc", "etc/policies.d"] {
        fs::set_permissions(site.path(open), Permissions::from_mode(0o755)).expect("open it");
    }
    for open in ["etc/drctl.toml", "etc/policies.d/daily.toml"] {
        fs::set_permissions(site.path(open), Permissions::from_mode(0o644)).expect("open it");
    }
    let program = Program::placed();
    // The directory that may not be entered, and the file alone.
    for mode in [0o700, 0o755] {
        fs::set_permissions(site.path("state"), Permissions::from_mode(mode)).expect("set it");
        for arguments in [&["list"][..], &["status"], &["status", "--check"]] {
            let mut command = as_nobody(program.path());
            command.arg("--json").args(arguments).env("DRCTL_CONFIG", site.config());
            let ran = Ran::of(&command.output().expect("start drctl"));
            let said = ran.failed(7, "catalog_denied");
            assert!(said.contains("Permission denied"), "{arguments:?}: {said}");
        }
    }
}

#[test]
fn a_target_that_cannot_be_written_is_unfit_before_anything_is_done() {
    let site = lone_site();
    assert!(geteuid().is_root(), "run this as root: it mounts a file system");
    fs::create_dir(site.path("ro")).expect("make it");
    let text = "mount -t tmpfs -o ro,mode=700 none \"$SITE/ro\" && exec \"$@\"";
    for place in ["ro", "ro/new"] {
        for flags in [
            ["--latest", "--to-files"],
            ["--latest", "--to-directory"],
            ["--to-end", "--to-directory"],
        ] {
            let to = site.path(place).display().to_string();
            let command =
                site.command(&[&["--json", "restore", "shop"][..], &flags, &[&to]].concat());
            let mut unshare = Command::new("unshare");
            unshare.args(["--mount", "sh", "-c", text, "sh"]).arg(command.get_program());
            unshare.args(command.get_args()).env("SITE", site.path(""));
            unshare.env("DRCTL_CONFIG", site.config());
            let said = Ran::of(&unshare.output().expect("start it")).failed(12, "target_unfit");
            assert!(said.contains("Read-only") && said.contains("Nothing was done"), "{said}");
        }
    }
}

#[test]
fn a_restore_goes_into_no_tablespace() {
    let site = lone_site();
    fs::create_dir_all(site.path("space/PG_15_202209061/5")).expect("make it");
    fs::create_dir_all(site.path("like/PG_15_new")).expect("make it");
    for (place, flags) in [
        ("space", ["--latest", "--to-files"]),
        ("space/new", ["--to-end", "--to-directory"]),
        ("space/PG_15_202209061/5/new", ["--latest", "--to-directory"]),
    ] {
        let to = site.path(place).display().to_string();
        let all = [&["restore", "shop"][..], &flags, &[&to]].concat();
        let said = site.fails(12, "target_unfit", &all);
        assert!(said.contains("a tablespace of a cluster"), "{said}");
    }
    let to = site.path("like/new").display().to_string();
    let _ = site.fails(5, "no_backup", &["restore", "shop", "--latest", "--to-files", &to]);
}
