//! A server that replays the data of a source which may be an intruder's: what reaches it, and what
//! it reaches.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use drctl_tests::cluster::{Cluster as _, give_away, list, own_place, ticks};
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::{Ran, until};

use crate::log::{Archiving, several};
use crate::recover_ends::Ends;

/// A command under an account that has nothing to do with the source's.
fn as_nobody(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(program);
    command.current_dir("/").env("LC_ALL", "C");
    command
}

/// The same command by way of a shell, which does something before.
fn after(words: &str, command: &Command) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &format!("{words} && exec \"$@\""), "sh"]);
    shell.arg(command.get_program()).args(command.get_args()).current_dir("/").stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

/// What of these places another account can read, write or enter.
fn open_to_others(places: &[&Path]) -> String {
    let mut find = as_nobody("find");
    find.args(places).args(["(", "-readable", "-o", "-writable", ")", "-not", "-type", "l"]);
    String::from_utf8_lossy(&find.output().expect("start find").stdout).into_owned()
}

/// A recovery that leaves its server open: its answer, a folder to be kept, its directory.
fn opened(shop: &Archiving, last: &str) -> (serde_json::Value, tempfile::TempDir, PathBuf) {
    let (folder, path) = own_place();
    let to = path.display().to_string();
    let all = ["--json", "restore", "shop", "--to-time", last, "--to-directory", &to, "--open"];
    let ran = after("umask 000", &shop.command(&all)).output().expect("start drctl");
    (Ran::of(&ran).ended(0).json(), folder, path)
}

#[test]
fn private_by_construction_a_recovering_server_is_reached_by_nobody_else() {
    let (shop, last) = several();
    let (open, _folder, path) = opened(&shop, &last);
    let _ends = Ends(path.clone());
    let socket = open["socket"].as_str().expect("a socket");
    let psql = |mut command: Command| {
        command.args(["-XAtq", "-h", socket, "-U", "postgres", "-c", "select 1", "postgres"]);
        command.output().unwrap()
    };
    let program = shop.server.bin_dir().join("psql");
    assert!(psql(shop.as_owner(&program)).status.success());
    assert!(!psql(as_nobody(&program)).status.success());
    assert_eq!(open_to_others(&[Path::new(socket), &path]), "");
    // Where somebody opens the directory, the server still asks the kernel who it is.
    for place in [socket.to_owned(), format!("{socket}/.s.PGSQL.5432")] {
        assert!(Command::new("chmod").args(["0777", &place]).status().unwrap().success());
    }
    let said = psql(as_nobody(&program));
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("Peer authentication failed"), "{said}");
}

/// A library that leaves a mark where it is loaded, made of a few lines of C.
fn evil(folder: &Path, mark: &Path) -> PathBuf {
    let (source, library) = (folder.join("evil.c"), folder.join("evil.so"));
    let text = format!(
        "#include <stdio.h>\n__attribute__((constructor)) static void loaded(void) {{ \
         FILE *f = fopen(\"{}\", \"a\"); if (f) fclose(f); f = fopen(\"evil.was.here\", \"a\"); \
         if (f) fclose(f); }}\n",
        mark.display()
    );
    fs::write(&source, text).unwrap();
    let mut gcc = Command::new("gcc");
    let made = gcc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    assert!(made.expect("gcc is missing: tests/components/install").success());
    library
}

/// Makes the source an intruder's: whatever can name code names some.
fn poison(shop: &Archiving, mark: &Path) {
    let data = shop.server.data_dir();
    let library = evil(&data.join("pg_logical"), mark);
    give_away(&data.join("pg_logical"));
    let library = library.display().to_string();
    // None of it is reloaded: the source itself does not obey it.
    for (name, value) in [
        ("shared_preload_libraries", "pg_logical/evil.so"),
        ("session_preload_libraries", &library),
        ("local_preload_libraries", "evil"),
        ("dynamic_library_path", "pg_logical"),
        ("jit_provider", "evil"),
        ("archive_library", &library),
        ("archive_cleanup_command", &format!("touch {}", mark.display())),
        ("recovery_end_command", &format!("touch {}", mark.display())),
        ("log_min_messages", "panic"),
        ("default_transaction_isolation", "serializable"),
    ] {
        // ALTER SYSTEM would load it to look at it.
        let auto = data.join("postgresql.auto.conf");
        let text = fs::read_to_string(&auto).unwrap() + &format!("{name} = '{value}'\n");
        fs::write(&auto, text).unwrap();
        let conf = data.join("postgresql.conf");
        let text = fs::read_to_string(&conf).unwrap() + "include '/nowhere/of/the/source.conf'\n";
        fs::write(&conf, text).unwrap();
    }
    let version: u32 = shop.sql("show server_version_num").parse().unwrap();
    if version >= 170_000 {
        shop.sql(&format!(
            "create function at_login() returns event_trigger language plpgsql as \
             $$ begin if current_setting('data_directory') <> '{1}' then \
             copy (select 1) to program 'touch {0} evil.was.here'; end if; end $$; \
             create event trigger at_login on login execute function at_login(); \
             alter event trigger at_login enable always",
            mark.display(),
            data.display()
        ));
    }
}

#[test]
fn a_process_that_serves_restored_data_reaches_no_key_no_network_and_no_source() {
    let shop = Archiving::start(true);
    let marks = own_place().0;
    let mark = marks.path().join("mark");
    poison(&shop, &mark);
    shop.back_up();
    shop.segments_of_ten(2);
    let last = shop.committed(20);
    let (open, _folder, path) = opened(&shop, &last);
    let _ends = Ends(path.clone());
    assert!(!mark.exists() && !path.join("data/evil.was.here").exists(), "it was loaded");
    // What an intruder has made run in it after all, as its superuser.
    let port = shop.server.port();
    let outside = [
        shop.site.identity(),
        shop.site.config(),
        shop.site.path("repository"),
        shop.site.path("state"),
        shop.server.data_dir().to_owned(),
        shop.program().to_owned(),
        path.join("recovery.json"),
        marks.path().to_owned(),
        "/etc/shadow".into(),
        "/root".into(),
        "/home".into(),
    ];
    let seen: String =
        outside.map(|place| format!("ls -d {0} && echo SEES {0};", place.display())).concat();
    let script = format!(
        "exec > /tmp/told 2> /dev/null; {seen} (echo > /dev/tcp/127.0.0.1/{port}) && echo REACHES; \
         echo x > {}/mark && echo WRITES; ls /sys/class/net /proc | grep -c eth; \
         cat /proc/[0-9]*/comm | grep -c physical; env | grep -i -e drctl_ -e aws -e secret; echo end",
        marks.path().display()
    );
    let script = format!("/bin/bash -c '{script}'").replace('\'', "''");
    let socket = open["socket"].as_str().expect("a socket");
    let psql = |sql: &str| {
        let mut psql = shop.as_owner(shop.server.bin_dir().join("psql"));
        psql.args(["-XAtq", "-h", socket, "-U", "postgres", "-c", sql, "postgres"]);
        Ran::of(&psql.output().unwrap())
    };
    let _ = psql(&format!("copy (select 1) to program '{script}'")).ended(0);
    let told = fs::read_to_string(path.join("box/tmp/told")).expect("it ran");
    assert_eq!(told, "0\n0\nend\n");
    for (name, value) in [("shared_preload_libraries", ""), ("jit", "off"), ("archive_library", "")]
    {
        assert_eq!(psql(&format!("show {name}")).out.trim(), value, "{name}");
    }
    // Another server on the same files would not see this one.
    let mut second = shop.as_owner(shop.server.bin_dir().join("postgres"));
    let second = Ran::of(&second.arg("-D").arg(path.join("data")).output().unwrap());
    assert!(second.err.contains("drctl_recovers_this_cluster"), "{}", second.err);
    assert_eq!(psql("select count(*) from ticks").out.trim(), "20");
    let to = path.display().to_string();
    let again = ["restore", "shop", "--to-time", &last, "--to-directory", &to, "--resume"];
    let _ = shop.drctl(&again).ended(0);
    assert!(!Path::new(socket).exists() && !path.join("box").exists());
    let conf = fs::read_to_string(path.join("data/postgresql.conf")).unwrap();
    assert!(conf.contains("/nowhere/of/the/source.conf"), "its own configuration is back");
}

#[test]
fn links_that_were_planted_in_the_box_are_refused_at_its_door() {
    let (shop, last) = several();
    let (open, _folder, path) = opened(&shop, &last);
    let _ends = Ends(path.clone());
    let mut psql = shop.as_owner(shop.server.bin_dir().join("psql"));
    let plant = "copy (select 1) to program 'ln -s /etc/passwd base/planted'";
    psql.args(["-XAtq", "-h", open["socket"].as_str().unwrap(), "-U", "postgres", "-c", plant]);
    assert!(psql.arg("postgres").status().unwrap().success());
    let to = path.display().to_string();
    let resume = |more: &[&str]| {
        let all = ["restore", "shop", "--to-time", &last, "--to-directory", &to, "--resume"];
        shop.drctl(&[&all[..], more].concat())
    };
    for more in [&[][..], &["--promote"]] {
        let ran = resume(more);
        assert!(ran.code != Some(0) && ran.out.contains("base/planted"), "{}", ran.out);
        assert!(ran.out.contains("do not start"), "{}", ran.out);
    }
    fs::remove_file(path.join("data/base/planted")).unwrap();
    let _ = resume(&["--promote"]).ended(0);
    assert_eq!(ticks(&path), list(1..41));
}

#[test]
fn settings_of_roles_and_databases_do_not_hold_for_a_recovery() {
    let shop = Archiving::start(true);
    let marks = own_place().0;
    let mark = marks.path().join("mark");
    let folder = shop.server.data_dir().join("pg_logical");
    let library = evil(&folder, &mark).display().to_string();
    give_away(&folder);
    shop.back_up();
    shop.segments_of_ten(1);
    let before = shop.pieces().len();
    let settings = [
        ("session_preload_libraries", library.as_str()),
        ("local_preload_libraries", "evil"),
        ("dynamic_library_path", "pg_logical"),
        ("search_path", "trap, pg_catalog"),
        ("role", "clerk"),
        ("default_transaction_read_only", "on"),
        ("default_transaction_isolation", "serializable"),
        ("statement_timeout", "1"),
        ("lock_timeout", "1"),
        ("idle_in_transaction_session_timeout", "1"),
        ("idle_session_timeout", "1"),
        ("row_security", "off"),
        ("datestyle", "German, DMY"),
        ("bytea_output", "escape"),
        ("client_min_messages", "error"),
    ];
    // In one session, which has none of them yet: the source's later ones would obey.
    let mut script = format!(
        "create role clerk; create schema trap; grant usage on schema trap to public; \
         create function trap.pg_is_in_recovery() returns boolean language plpgsql as \
         $$ begin copy (select 1) to program 'touch {} evil.was.here'; return false; end $$; \
         create view trap.pg_locks as select * from pg_catalog.pg_locks where false;",
        mark.display()
    );
    for (name, value) in settings {
        // Lists are lists, and not one text.
        let value = if name == "search_path" { value.to_owned() } else { format!("'{value}'") };
        for of in ["role postgres", "database postgres", "role postgres in database postgres"] {
            if !(name == "role" && of.starts_with("database")) {
                script += &format!("alter {of} set {name} = {value};");
            }
        }
    }
    script += "insert into ticks values (99, ''); select pg_switch_wal()";
    shop.sql(&script);
    until("the log to be archived", || shop.pieces().len() > before);
    let table = "postgres:public.ticks";
    let (ran, _folder, path) = shop.recover(&["--to-end", "--extract", table]);
    let done = ran.ended(0).json();
    assert_eq!(done["extracted"][0]["rows"], 11, "{done}");
    assert!(!mark.exists() && !path.join("data/evil.was.here").exists(), "code of it ran");
}

/// Every file below a directory, and what is in it.
fn contents(at: &Path) -> String {
    let find = "find . -type f -exec md5sum {} + | sort; find . -type l -exec ls -l {} + | sort";
    let output = Command::new("sh").args(["-c", find]).current_dir(at).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_recovery_never_changes_a_file_of_the_source() {
    let mut shop = Archiving::start(true);
    let outside = own_place().0;
    let place = |name: &str| {
        let place = outside.path().join(name);
        fs::create_dir_all(&place).unwrap();
        give_away(outside.path());
        place.display().to_string()
    };
    let rows = "select g id, 'first ' || g t from generate_series(1, 2000) g";
    shop.sql(&format!(
        "create tablespace of_base location '{}'; create table based tablespace of_base as {rows}",
        place("base")
    ));
    shop.back_up();
    shop.sql(&format!(
        "create tablespace fast location '{0}'; create table ledger tablespace fast as {rows}; \
         create tablespace gone location '{1}'; create table lost tablespace gone as {rows}; \
         drop table lost; checkpoint; drop tablespace gone; \
         create tablespace anew location '{1}'; create table found tablespace anew as {rows}",
        place("fast"),
        place("deep/er"),
    ));
    shop.tick(1..3);
    let target = shop.committed(2);
    shop.sql("update ledger set t = 'later'; delete from based; drop table found; checkpoint");
    shop.tick(3..5);
    shop.archived();
    // Nothing else changes its files then.
    shop.server.stop();
    let source = shop.server.data_dir().to_owned();
    let now = || (contents(&source), contents(outside.path()));
    let before = now();
    let at = ["--to-time", &target];
    for more in [&["--drill"][..], &["--extract", "postgres:public.ledger"], &["--promote"]] {
        let (ran, _folder, path) = shop.recover(&[&at[..], more].concat());
        let done = ran.ended(0).json();
        assert!(now() == before, "files of the source were changed by {more:?}");
        if more[0] == "--extract" {
            assert_eq!(done["extracted"][0]["rows"], 2000, "{done}");
        }
        for link in fs::read_dir(path.join("data/pg_tblspc")).unwrap() {
            let to = fs::read_link(link.unwrap().path()).unwrap();
            assert!(to.starts_with(path.join("tablespaces")), "{more:?}: {}", to.display());
        }
        if more[0] == "--promote" {
            let restored = Postgres::builder().data(&path.join("data")).start();
            let first = |table: &str| {
                let count = format!("select count(*) from {table} where t like 'first %'");
                restored.psql("postgres", &count)
            };
            assert_eq!(["based", "ledger", "found"].map(first), ["2000"; 3]);
            restored.psql("postgres", "insert into ledger values (0, 'new'); checkpoint");
            assert!(now() == before, "files of the source were changed");
        }
    }
    // Without a box nothing is replayed that would lead there.
    let (ran, _folder, _) = shop.recover(&[&at[..], &["--without-box"]].concat());
    assert!(ran.code != Some(0) && ran.out.contains("makes a tablespace at"), "{}", ran.out);
    assert!(now() == before, "files of the source were changed");
}

#[test]
fn without_a_box_no_drill_runs_and_nothing_else_without_a_word() {
    let (shop, last) = several();
    let without = |more: &[&str]| {
        let (folder, path) = own_place();
        let to = path.display().to_string();
        let program = shop.program().display().to_string();
        let mut all = shop.as_owner("/usr/bin/env");
        // bubblewrap is found by the search path.
        all.args(["PATH=/nowhere", &program, "--json", "restore", "shop", "--to-time", &last]);
        all.env("DRCTL_CONFIG", shop.site.config()).args(["--to-directory", &to]).args(more);
        (Ran::of(&all.output().unwrap()), folder, path)
    };
    for more in [&["--drill"][..], &[]] {
        let (ran, _folder, path) = without(more);
        let said = ran.failed(12, "no_box");
        assert!(said.contains("bubblewrap is not installed") && !path.exists(), "{said}");
    }
    let _ = without(&["--drill", "--without-box"]).0.failed(2, "usage");
    let (ran, _folder, path) = without(&["--without-box", "--promote"]);
    assert!(ran.clone().ended(0).err.contains("WITHOUT A BOX"), "{}", ran.err);
    assert_eq!(ticks(&path), list(1..41));
    let doctor = shop.as_owner("/usr/bin/env");
    let mut doctor = after("true", &doctor);
    doctor.env("DRCTL_CONFIG", shop.site.config()).arg("PATH=/nowhere").arg(shop.program());
    let found = Ran::of(&doctor.args(["doctor"]).output().unwrap());
    assert!(found.out.contains("bubblewrap is not installed"), "{}{}", found.out, found.err);
}

#[test]
fn where_proc_is_masked_the_box_does_without_and_says_so() {
    let (shop, last) = several();
    let (_folder, path) = own_place();
    let to = path.display().to_string();
    let all = ["restore", "shop", "--to-time", &last, "--to-directory", &to, "--promote"];
    // As in a container: what lies over a part of it keeps new ones from being mounted.
    let masked = after("mount --bind /dev/null /proc/version", &shop.command(&all));
    let mut apart = Command::new("unshare");
    apart.arg("--mount").arg(masked.get_program()).args(masked.get_args());
    apart.env("DRCTL_CONFIG", shop.site.config()).current_dir("/").stdin(Stdio::null());
    let ran = Ran::of(&apart.output().expect("start unshare")).ended(0);
    assert!(ran.err.contains("it has no /proc"), "{}", ran.err);
    assert_eq!(ticks(&path), list(1..41));
}

#[test]
fn libraries_that_the_log_needs_are_loaded_by_plain_names_alone() {
    let (shop, last) = several();
    let at = ["--to-time", last.as_str()];
    for name in ["/tmp/evil.so", "pg_logical/evil", ""] {
        let (ran, ..) = shop.recover(&[&at[..], &["--preload", name]].concat());
        let _ = ran.failed(2, "usage");
    }
    let (ran, _folder, path) = shop.recover(&[&at[..], &["--preload", "auto_explain"]].concat());
    let _ = ran.ended(0);
    let said = fs::read_to_string(path.join("recovery.log")).unwrap();
    assert!(!said.contains("could not access"), "{said}");
}

/// Directories of the host that are gone in the end.
struct Gone(Vec<PathBuf>);

impl Drop for Gone {
    fn drop(&mut self) {
        for place in &self.0 {
            let _ = fs::remove_file(place);
            let _ = fs::remove_dir_all(place);
        }
    }
}

#[test]
fn tablespaces_at_places_that_the_box_shows_lead_into_the_restore() {
    let mut shop = Archiving::start(true);
    shop.back_up();
    let name = format!("drctl-test-{}", std::process::id());
    let around = ["/usr/local/lib", "/usr/share", "/lib", "/dev/shm", "/etc", "/run", "/tmp"];
    let mut gone = Gone(around.iter().map(|at| Path::new(at).join(&name)).collect());
    let link = Path::new("/usr/lib").join(format!("{name}-link"));
    for place in &gone.0 {
        fs::create_dir(place).unwrap();
        fs::create_dir(place.join("ts")).unwrap();
        give_away(place);
    }
    // A way over a link of this host.
    fs::create_dir(gone.0[6].join("linked")).unwrap();
    give_away(&gone.0[6]);
    std::os::unix::fs::symlink(&gone.0[6], &link).unwrap();
    let mut places: Vec<PathBuf> = gone.0.iter().map(|place| place.join("ts")).collect();
    places.push(link.join("linked"));
    gone.0.push(link);
    for (n, place) in places.iter().enumerate() {
        let place = place.display();
        shop.sql(&format!("create tablespace s{n} location '{place}'"));
        shop.sql(&format!("create table in_{n} tablespace s{n} as select generate_series(1, 100)"));
    }
    shop.tick(1..3);
    shop.archived();
    shop.server.stop();
    let before: Vec<String> = places.iter().map(|place| contents(place)).collect();
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    let restored = Postgres::builder().data(&path.join("data")).start();
    for (n, place) in places.iter().enumerate() {
        let count = format!("select count(*) from in_{n}");
        assert_eq!(restored.psql("postgres", &count), "100", "{}", place.display());
    }
    for link in fs::read_dir(path.join("data/pg_tblspc")).unwrap() {
        let to = fs::read_link(link.unwrap().path()).unwrap();
        assert!(to.starts_with(path.join("tablespaces")), "{}", to.display());
    }
    let after: Vec<String> = places.iter().map(|place| contents(place)).collect();
    assert!(before == after, "files of the source were changed");
}
