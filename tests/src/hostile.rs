//! A source that is an intruder's, and what reaches the server that replays its data: wherever the
//! cluster's base backups and its log lie.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::cluster::{Cluster, Ends, give_away, own_place};
use crate::site::Ran;

/// A command under an account that has nothing to do with the source's.
pub fn as_nobody(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(program);
    command.current_dir("/").env("LC_ALL", "C");
    command
}

/// The same command by way of a shell, which does something before.
#[must_use]
pub fn after(words: &str, command: &Command) -> Command {
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
///
/// # Panics
/// If it cannot be looked for.
#[must_use]
pub fn open_to_others(places: &[&Path]) -> String {
    let mut find = as_nobody("find");
    find.args(places).args(["(", "-readable", "-o", "-writable", ")", "-not", "-type", "l"]);
    String::from_utf8_lossy(&find.output().expect("start find").stdout).into_owned()
}

/// A recovery that leaves its server open: its answer, a folder to be kept, its directory.
///
/// # Panics
/// If it fails.
#[track_caller]
pub fn opened(shop: &impl Cluster, last: &str, more: &[&str]) -> (Value, TempDir, PathBuf) {
    let (folder, path) = own_place();
    let to = path.display().to_string();
    let all = ["--json", "restore", "shop", "--to-time", last, "--to-directory", &to, "--open"];
    let mut command = after("umask 000", &shop.command(&[&all[..], more].concat()));
    // What opens the bucket comes with the environment in many places.
    let ran = command.env("AWS_SECRET_ACCESS_KEY", "of-the-bucket").output().expect("start drctl");
    (Ran::of(&ran).ended(0).json(), folder, path)
}

/// Runs SQL as the superuser of a server that was left open.
pub(crate) fn asked(shop: &impl Cluster, open: &Value, sql: &str) -> Ran {
    let mut psql = shop.as_owner(shop.server().bin_dir().join("psql"));
    psql.args(["-XAtq", "-h", open["socket"].as_str().expect("a socket"), "-U", "postgres"]);
    Ran::of(&psql.args(["-c", sql, "postgres"]).output().expect("start psql"))
}

/// Asserts that another account reaches nothing of a server that is left open at this time.
///
/// # Panics
/// If it does.
pub fn nobody_else_reaches(shop: &impl Cluster, last: &str) {
    let (open, _folder, path) = opened(shop, last, &[]);
    let _ends = Ends(path.clone());
    let socket = open["socket"].as_str().expect("a socket");
    let program = shop.server().bin_dir().join("psql");
    let nobody = || {
        let mut psql = as_nobody(&program);
        psql.args(["-XAtq", "-h", socket, "-U", "postgres", "-c", "select 1", "postgres"]);
        psql.output().expect("start psql")
    };
    let _ = asked(shop, &open, "select 1").ended(0);
    assert!(!nobody().status.success());
    assert_eq!(open_to_others(&[Path::new(socket), &path]), "");
    // Where somebody opens the directory, the server still asks the kernel who it is.
    for place in [socket.to_owned(), format!("{socket}/.s.PGSQL.5432")] {
        assert!(Command::new("chmod").args(["0777", &place]).status().unwrap().success());
    }
    let said = String::from_utf8_lossy(&nobody().stderr).into_owned();
    assert!(said.contains("Peer authentication failed"), "{said}");
}

/// A library that leaves a mark where it is loaded, made of a few lines of C.
///
/// # Panics
/// If it cannot be made.
#[must_use]
pub fn evil(folder: &Path, mark: &Path) -> PathBuf {
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

/// Makes the source an intruder's: whatever can name code names some, and whatever could keep a
/// recovery from being judged is set.
///
/// # Panics
/// If it cannot be done.
pub fn poison(shop: &impl Cluster, mark: &Path) {
    let data = shop.server().data_dir();
    let library = evil(&data.join("pg_logical"), mark);
    give_away(&data.join("pg_logical"));
    let (library, touch) = (library.display().to_string(), format!("touch {}", mark.display()));
    let settings = [
        ("shared_preload_libraries", "pg_logical/evil.so"),
        ("session_preload_libraries", &library),
        ("local_preload_libraries", "evil"),
        ("dynamic_library_path", "pg_logical"),
        ("jit_provider", "evil"),
        ("archive_library", &library),
        ("archive_cleanup_command", &touch),
        ("recovery_end_command", &touch),
        ("log_min_messages", "panic"),
        ("log_destination", "csvlog"),
        ("logging_collector", "on"),
        ("log_directory", "/nowhere"),
        ("statement_timeout", "1ms"),
        ("lock_timeout", "1ms"),
        ("idle_in_transaction_session_timeout", "1ms"),
        ("idle_session_timeout", "1ms"),
        ("default_transaction_read_only", "on"),
        ("default_transaction_isolation", "serializable"),
    ];
    // ALTER SYSTEM would load it to look at it. None of it is reloaded: the source itself does not
    // obey it.
    let append = |name: &str, lines: String| {
        let file = data.join(name);
        let text = fs::read_to_string(&file).unwrap() + &lines;
        fs::write(&file, text).unwrap();
    };
    let lines = settings.map(|(name, value)| format!("{name} = '{value}'\n"));
    append("postgresql.auto.conf", lines.concat());
    append("postgresql.conf", "include '/nowhere/of/the/source.conf'\n".to_owned());
    if version(shop) >= 170_000 {
        shop.sql(&format!(
            "create function at_login() returns event_trigger language plpgsql as \
             $$ begin if current_setting('data_directory') <> '{1}' then \
             copy (select 1) to program 'cat >/dev/null; touch {0} evil.was.here'; end if; end $$; \
             create event trigger at_login on login execute function at_login(); \
             alter event trigger at_login enable always",
            mark.display(),
            data.display()
        ));
    }
}

fn version(shop: &impl Cluster) -> u32 {
    shop.sql("show server_version_num").parse().expect("a number")
}

/// What a server that replays must have set for itself.
const OURS: &[(&str, &str)] = &[
    ("shared_preload_libraries", ""),
    ("session_preload_libraries", ""),
    ("local_preload_libraries", ""),
    ("dynamic_library_path", "$libdir"),
    ("jit", "off"),
    ("jit_provider", "llvmjit"),
    ("archive_cleanup_command", ""),
    ("recovery_end_command", ""),
    ("log_min_messages", "warning"),
    ("log_destination", "stderr"),
    ("logging_collector", "off"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "on"),
];

/// Asserts that a server that was left open has our settings, and none of the source's.
#[track_caller]
fn has_our_settings(shop: &impl Cluster, open: &Value) {
    let mut wanted = OURS.to_vec();
    if version(shop) >= 150_000 {
        wanted.push(("archive_library", ""));
    }
    let others = wanted.iter().filter_map(|(name, value)| {
        let told = asked(shop, open, &format!("show {name}")).ended(0).out;
        (told.trim() != *value).then(|| format!("{name} = {told}"))
    });
    assert_eq!(others.collect::<String>(), "");
}

/// Asserts that what an intruder's source names is neither loaded nor run by a recovery, and that
/// what runs there after all reaches no key, no network and no source: none of `outside` either.
/// The source has no backup yet.
///
/// # Panics
/// If anything does.
pub fn nothing_is_run_or_reached(shop: &impl Cluster, outside: &[PathBuf]) {
    let marks = own_place().0;
    let mark = marks.path().join("mark");
    poison(shop, &mark);
    shop.back_up();
    shop.segments_of_ten(2);
    let last = shop.committed(20);
    let (open, _folder, path) = opened(shop, &last, &[]);
    let _ends = Ends(path.clone());
    assert!(!mark.exists() && !path.join("data/evil.was.here").exists(), "it was loaded");
    has_our_settings(shop, &open);
    let (script, told) =
        (script(shop, outside, marks.path(), &path), path.join("sandbox/tmp/told"));
    let _ = asked(shop, &open, &format!("copy (select 1) to program 'cat >/dev/null; {script}'"))
        .ended(0);
    assert_eq!(fs::read_to_string(told).expect("it ran"), "0\n0\nend\n");
    // Another server on the same files would not see this one.
    let mut second = shop.as_owner(shop.server().bin_dir().join("postgres"));
    let second = Ran::of(&second.arg("-D").arg(path.join("data")).output().unwrap());
    assert!(second.err.contains("drctl_recovers_this_cluster"), "{}", second.err);
    assert_eq!(asked(shop, &open, "select count(*) from ticks").out.trim(), "20");
    let to = path.display().to_string();
    let again = ["restore", "shop", "--to-time", &last, "--to-directory", &to, "--resume"];
    let _ = shop.drctl(&again).ended(0);
    let socket = open["socket"].as_str().expect("a socket");
    assert!(!Path::new(socket).exists() && !path.join("sandbox").exists());
    let conf = fs::read_to_string(path.join("data/postgresql.conf")).unwrap();
    assert!(conf.contains("/nowhere/of/the/source.conf"), "its own configuration is back");
    // Without a sandbox all of that could be reached: what is forced is all that is left.
    let (open, _folder, path) = opened(shop, &last, &["--without-sandbox"]);
    let _ends = Ends(path.clone());
    has_our_settings(shop, &open);
    let to = path.display().to_string();
    let again = ["restore", "shop", "--to-time", &last, "--to-directory", &to, "--resume"];
    let _ = shop.drctl(&[&again[..], &["--without-sandbox", "--promote"]].concat()).ended(0);
    assert!(!mark.exists() && !path.join("data/evil.was.here").exists(), "it was run");
}

/// What an intruder has made run in the sandbox after all, as the superuser of the server there: it
/// writes down what it sees.
fn script(shop: &impl Cluster, outside: &[PathBuf], marks: &Path, path: &Path) -> String {
    let site = shop.site();
    let mut places = vec![
        site.path("etc"),
        site.identity(),
        site.config(),
        site.path("repository"),
        site.path("state"),
        shop.server().data_dir().to_owned(),
        shop.program().to_owned(),
        path.join("recovery.json"),
        marks.to_owned(),
    ];
    places.extend(["/etc/shadow", "/etc/pgbackrest", "/etc/pgbackrest.conf"].map(PathBuf::from));
    places.extend(["/root", "/home"].map(PathBuf::from));
    places.extend(outside.iter().cloned());
    // A way to the server's own programs is seen, where they lie in somebody's home.
    places.retain(|place| !shop.server().bin_dir().starts_with(place));
    let seen = |place: &PathBuf| format!("ls -d {0} && echo SEES {0};", place.display());
    let seen: String = places.iter().map(seen).collect();
    // Processes of the host: that of this test is one.
    let own = fs::read_to_string("/proc/self/comm").expect("a name");
    let script = format!(
        "exec > /tmp/told 2> /dev/null; {seen} (echo > /dev/tcp/127.0.0.1/{}) && echo REACHES; \
         echo x > {}/mark && echo WRITES; ls /sys/class/net | grep -c -v -x lo; \
         cat /proc/[0-9]*/comm | grep -c -x -e \"{}\"; \
         env | grep -i -e drctl_ -e aws -e secret; echo end",
        shop.server().port(),
        marks.display(),
        own.trim()
    );
    format!("/bin/bash -c '{script}'").replace('\'', "''")
}
