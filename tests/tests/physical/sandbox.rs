//! A server that replays the data of a source which may be an intruder's: what reaches it, and what
//! it reaches.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use drctl_tests::cluster::{Cluster as _, give_away, held_whole, list, own_place, ticks};
use drctl_tests::hostile::{self, after, as_nobody, evil, opened};
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::{Ran, until};
use rustix::process::{Signal, kill_process};

use crate::log::{Archiving, several};
use crate::recover_ends::Ends;

#[test]
fn private_by_construction_a_recovering_server_is_reached_by_nobody_else() {
    let (shop, last) = several();
    hostile::nobody_else_reaches(&shop, &last);
}

#[test]
fn the_log_of_a_recovery_is_given_to_no_other_account() {
    let (shop, last) = several();
    let segment = shop.sql("select last_archived_wal from pg_stat_archiver");
    let (folder, path) = own_place();
    let to = path.display().to_string();
    let arguments = ["--json", "restore", "shop", "--to-time", &last, "--to-directory", &to];
    let mut command = shop.command(&arguments);
    let drctl = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // While its server is held, drctl goes on to give log to whoever may ask for it.
    let server = held_whole(&path.join("data"));
    let line = fs::read_to_string(format!("/proc/{}/cmdline", server[0].as_raw_pid())).unwrap();
    let place = |word: &str| Some(word.strip_prefix("unix_socket_directories=")?.to_owned());
    let private = line.split('\0').find_map(place).expect("its private directory");
    let socket = format!("{private}/log");
    let anybody = folder.path().join("anybody");
    fs::create_dir(&anybody).unwrap();
    for place in [private.as_str(), &socket, &anybody.display().to_string()] {
        assert!(Command::new("chmod").args(["0777", place]).status().unwrap().success());
    }
    let take = |mut command: Command, to: PathBuf| {
        let ran = command.args(["wal", "take", &socket, &segment]).arg(&to).output().unwrap();
        (Ran::of(&ran), to)
    };
    let (stranger, theirs) = take(as_nobody(shop.program()), anybody.join("theirs"));
    // It lies beside the server's own log, and has to be renamed only.
    let (own, ours) = take(shop.as_owner(shop.program()), path.join("data/pg_wal/ours"));
    // What is not taken is gone in the end.
    let (elsewhere, _) = take(shop.as_owner(shop.program()), anybody.join("ours"));
    let left = path.join(format!("data/pg_wal/{segment}.drctl"));
    assert!(elsewhere.code == Some(255) && left.exists(), "{}", elsewhere.err);
    for process in server {
        kill_process(process, Signal::CONT).unwrap();
    }
    let ran = Ran::of(&drctl.wait_with_output().unwrap()).ended(0);
    assert!(!left.exists(), "{}", left.display());
    let refused = stranger.err.contains("drctl gave no answer");
    assert!(stranger.code == Some(255) && refused && !theirs.exists(), "{}", stranger.err);
    assert!(own.code == Some(0) && fs::metadata(ours).unwrap().len() == 1 << 20, "{}", own.err);
    let log = fs::read_to_string(path.join("drctl.log")).unwrap() + &ran.err;
    assert!(log.contains("another account asked for the WAL of this recovery"), "{log}");
}

#[test]
fn a_process_that_serves_restored_data_reaches_no_key_no_network_and_no_source() {
    let shop = Archiving::start(true);
    let secret = shop.site.path("etc/keys/s3.secret");
    fs::write(&secret, "of-the-bucket").unwrap();
    give_away(&secret);
    hostile::nothing_is_run_or_reached(&shop, &[secret]);
}

#[test]
fn a_server_whose_program_the_sandbox_does_not_show_is_refused_with_words() {
    let (shop, last) = several();
    let (apart, bin) = (own_place().0, own_place().0);
    for entry in fs::read_dir(shop.server.bin_dir()).unwrap() {
        let entry = entry.unwrap();
        symlink(entry.path(), bin.path().join(entry.file_name())).unwrap();
    }
    // A link to where nobody looks for programs.
    let (program, real) = (bin.path().join("postgres"), apart.path().join("postgres"));
    fs::copy(&program, &real).unwrap();
    fs::remove_file(&program).unwrap();
    symlink(&real, &program).unwrap();
    give_away(apart.path());
    shop.site.bin_dir(bin.path());
    let (ran, _folder, path) = shop.recover(&["--to-time", &last]);
    let said = ran.failed(10, "config");
    assert!(said.contains("does not run in the sandbox") && said.contains("bin_dir"), "{said}");
    shop.site.bin_dir(shop.server.bin_dir());
    let to = path.display().to_string();
    let resume = ["restore", "shop", "--to-time", &last, "--to-directory", &to, "--resume"];
    let _ = shop.drctl(&[&resume[..], &["--promote"]].concat()).ended(0);
    assert_eq!(ticks(&path), list(1..41));
    let auto = fs::read_to_string(path.join("data/postgresql.auto.conf")).unwrap();
    assert_eq!(auto.matches("archive_mode").count(), 1, "{auto}");
}

#[test]
fn links_that_were_planted_in_the_sandbox_are_refused_at_its_door() {
    let (shop, last) = several();
    let (open, _folder, path) = opened(&shop, &last, &[]);
    let _ends = Ends(path.clone());
    let mut psql = shop.as_owner(shop.server.bin_dir().join("psql"));
    let plant = "copy (select 1) to program 'cat >/dev/null; ln -s /etc/passwd base/planted'";
    psql.args(["-XAtq", "-h", open["socket"].as_str().unwrap(), "-U", "postgres", "-c", plant]);
    assert!(psql.arg("postgres").status().unwrap().success());
    let to = path.display().to_string();
    let resume = |more: &[&str]| {
        let all = ["restore", "shop", "--to-time", &last, "--to-directory", &to, "--resume"];
        shop.drctl(&[&all[..], more].concat())
    };
    for more in [&[][..], &["--promote"]] {
        let said = resume(more).failed(10, "config");
        assert!(said.contains("base/planted") && said.contains("do not start"), "{said}");
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
         $$ begin copy (select 1) to program 'cat >/dev/null; touch {} evil.was.here'; return false; end $$; \
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
pub(crate) fn contents(at: &Path) -> String {
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
    let mut before = now();
    let at = ["--to-time", &target];
    for more in [&["--drill"][..], &["--extract", "postgres:public.ledger"], &["--promote"]] {
        if more[0] == "--promote" {
            // A place that this host has not, or has no more, is as good as any.
            fs::remove_dir_all(outside.path().join("deep")).unwrap();
            before = now();
        }
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
    // Without a sandbox nothing is replayed that would lead there.
    let (ran, _folder, _) = shop.recover(&[&at[..], &["--without-sandbox"]].concat());
    let said = ran.failed(12, "source_place");
    assert!(said.contains("creates a tablespace at"), "{said}");
    assert!(now() == before, "files of the source were changed");
}

#[test]
fn without_a_sandbox_no_drill_runs_and_nothing_else_without_a_word() {
    let (shop, last) = several();
    let without_in = |search: &str, more: &[&str]| {
        let (folder, path) = own_place();
        let to = path.display().to_string();
        let program = shop.program().display().to_string();
        let mut all = shop.as_owner("/usr/bin/env");
        // bubblewrap is found by the search path.
        all.args([
            &format!("PATH={search}"),
            &program,
            "--json",
            "restore",
            "shop",
            "--to-time",
            &last,
        ]);
        all.env("DRCTL_CONFIG", shop.site.config()).args(["--to-directory", &to]).args(more);
        (Ran::of(&all.output().unwrap()), folder, path)
    };
    let without = |more: &[&str]| without_in("/nowhere", more);
    // One that others may change is not run, and says nothing of the host.
    let open = own_place().0;
    fs::copy("/usr/bin/bwrap", open.path().join("bwrap")).unwrap();
    fs::set_permissions(open.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let (ran, _folder, _) = without_in(&open.path().display().to_string(), &[]);
    let said = ran.failed(12, "no_sandbox");
    assert!(said.contains("drctl does not use") && !said.contains("namespace"), "{said}");
    for more in [&["--drill"][..], &[]] {
        let (ran, _folder, path) = without(more);
        let said = ran.failed(12, "no_sandbox");
        assert!(said.contains("bubblewrap is not installed") && !path.exists(), "{said}");
    }
    let _ = without(&["--drill", "--without-sandbox"]).0.failed(2, "usage");
    let (ran, _folder, path) = without(&["--without-sandbox", "--promote"]);
    assert!(ran.clone().ended(0).err.contains("WITHOUT A SANDBOX"), "{}", ran.err);
    assert_eq!(ticks(&path), list(1..41));
    let doctor = shop.as_owner("/usr/bin/env");
    let mut doctor = after("true", &doctor);
    doctor.env("DRCTL_CONFIG", shop.site.config()).arg("PATH=/nowhere").arg(shop.program());
    let found = Ran::of(&doctor.args(["doctor"]).output().unwrap());
    assert!(found.out.contains("bubblewrap is not installed"), "{}{}", found.out, found.err);
}

#[test]
fn where_an_account_has_no_namespaces_no_recovery_runs_and_it_is_told_why() {
    let (shop, last) = several();
    for more in [&["--drill"][..], &["--promote"]] {
        let (folder, path) = own_place();
        let to = path.display().to_string();
        let all = ["--json", "restore", "shop", "--to-time", &last, "--to-directory", &to];
        let command = shop.command(&[&all[..], more].concat());
        // The kernel gives none to what runs in another root, be it the same one.
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        let words = format!("mount --rbind / {0} && set -- chroot {0} \"$@\"", root.display());
        let chrooted = after(&words, &command);
        let mut apart = Command::new("unshare");
        apart.arg("--mount").arg(chrooted.get_program()).args(chrooted.get_args());
        apart.env("DRCTL_CONFIG", shop.site.config()).current_dir("/").stdin(Stdio::null());
        let said = Ran::of(&apart.output().expect("start unshare")).failed(12, "no_sandbox");
        assert!(said.contains("a user namespace cannot be created") && !path.exists(), "{said}");
        assert!(said.contains("user.max_user_namespaces"), "{said}");
    }
}

#[test]
fn where_proc_is_masked_the_sandbox_does_without_and_says_so() {
    let (shop, last) = several();
    let (_folder, path) = own_place();
    let to = path.display().to_string();
    let all = ["restore", "shop", "--to-time", &last, "--to-directory", &to, "--promote"];
    // As in a container: what lies over a part of it keeps new ones from being mounted, where there is
    // no other one that is whole.
    let others = "awk '$3 == \"proc\" && $2 != \"/proc\" { print $2 }' /proc/mounts";
    let mask = format!("{others} | xargs -r umount -l && mount --bind /dev/null /proc/version");
    let masked = after(&mask, &shop.command(&all));
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
fn tablespaces_at_places_that_the_sandbox_shows_lead_into_the_restore() {
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
