//! Data goes to standard output, everything for people to standard error.

use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::Site;

use crate::{lone_site, server_with};

#[test]
fn errors_are_objects_too() {
    let site = lone_site();
    let cases: &[(i32, &str, &[&str])] = &[
        (2, "usage", &["bakcup"]),
        (2, "usage", &["restore", "shop"]),
        (2, "usage", &["restore", "shop", "--latest", "--to-files", "f", "--jobs", "0"]),
        (2, "usage", &["init"]),
        (2, "unknown_source", &["backup", "sohp"]),
        (2, "unknown_source", &["restore", "sohp", "--to-end", "--to-directory", "x", "--plan"]),
        (1, "catalog_missing", &["list"]),
        (1, "catalog_missing", &["status"]),
        (1, "catalog_missing", &["catalog", "check"]),
        (5, "no_backup", &["show", "1"]),
        (5, "no_backup", &["verify"]),
        (7, "no_configuration", &["--config", "nowhere", "list"]),
        (10, "connect", &["backup", "shop"]),
        (12, "exists", &["keys", "new-signing", "kit.txt"]),
    ];
    for (exit, code, arguments) in cases {
        let arguments = [&["--json"], *arguments].concat();
        let ran = site.drctl(&arguments).ended(*exit);
        let object = ran.json();
        assert_eq!(object["schema"], "drctl.error/1", "{arguments:?}");
        assert_eq!(
            (&object["code"], &object["exit"]),
            (&(*code).into(), &(*exit).into()),
            "{arguments:?}"
        );
        assert_eq!(ran.out.lines().count(), 1, "one line: {}", ran.out);
        assert_eq!(ran.err, "", "{arguments:?}");
        let message = object["messages"][0].as_str().expect("a message");
        assert!(!message.starts_with("error") && !message.contains("Usage:"), "{message}");
    }
    let ran = site.drctl(&["backup", "--json"]).ended(2);
    assert_eq!(ran.json()["code"], "usage", "the flag's place does not matter");
}

#[test]
fn errors_for_people_leave_standard_output_alone() {
    let site = lone_site();
    for (exit, arguments) in
        [(2, &["bakcup"][..]), (1, &["list"]), (5, &["show", "1"]), (2, &["backup", "sohp"])]
    {
        let ran = site.drctl(arguments).ended(exit);
        assert_eq!(ran.out, "", "{arguments:?}");
        assert!(ran.err.starts_with("error: "), "{}", ran.err);
    }
    let told = site.drctl(&["backup", "sohp"]).ended(2).err;
    assert!(told.contains("there is no source `sohp`\nhint: configured are: shop"), "{told}");
    let told = site.drctl(&["list"]).ended(1).err;
    assert!(told.contains("The first backup makes it"), "{told}");
    assert!(told.contains("drctl catalog rebuild"), "{told}");
}

#[test]
fn answers_are_on_standard_output_and_notes_are_not() {
    let server = server_with(2000);
    let site = Site::with(&server);
    let ran = site.drctl(&["backup", "shop"]).ended(0);
    assert!(ran.out.contains(" stored in "), "{}", ran.out);
    assert_eq!(ran.err, "", "no terminal, less than a minute: no progress");
    let id = ran.out.lines().next().expect("an identifier").to_owned();
    let restore = ["restore", "shop", "--latest", "--database", "shop", "--as", "shop2"];
    let ran = site.drctl(&restore).ended(0);
    assert!(ran.out.starts_with("RESTORED") && ran.out.contains("2 000"), "{}", ran.out);
    assert!(ran.err.contains("database shop (1 table, 2 000 rows) -> shop2"), "{}", ran.err);
    let ran = site.drctl(&["show", &id, "--emergency"]).ended(0);
    assert!(ran.out.starts_with("#!/usr/bin/env bash\n") && ran.err.is_empty(), "{}", ran.err);
    let ran = site.drctl(&["show", &id[..12]]).ended(0);
    assert!(ran.out.contains("database shop") && ran.err.is_empty(), "{}", ran.err);
    server.psql("postgres", "DROP DATABASE shop2");
    let ran = site.drctl(&[&["--quiet"][..], &restore].concat()).ended(0);
    assert!(!ran.out.is_empty());
    assert_eq!(ran.err, "", "quiet is quiet");
}

#[test]
fn another_server_and_another_name_go_together() {
    let server = server_with(500);
    let site = Site::with(&server);
    let _ = site.backup();
    let empty = Postgres::start();
    let (host, port) = (empty.socket_dir().display().to_string(), empty.port().to_string());
    let to = ["--to-host", &host, "--to-port", &port, "--database", "shop", "--as", "shop_drill"];
    let _ = site.drctl(&[&["restore", "shop", "--latest"][..], &to].concat()).ended(0);
    assert_eq!(empty.psql("shop_drill", "SELECT count(*) FROM orders"), "500");
    assert_eq!(
        empty.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname = 'shop'"),
        "0"
    );
}

#[test]
fn one_database_goes_to_standard_output_byte_for_byte() {
    let server = server_with(5000);
    let site = Site::with(&server);
    let _ = site.backup();
    let restore = ["restore", "shop", "--latest"];
    let _ = site.drctl(&[&restore[..], &["--to-files", "f"]].concat()).ended(0);
    let pipe = [&restore[..], &["--database", "shop", "--to-stdout"]].concat();
    let output = site.command(&pipe).output().expect("start drctl");
    assert!(output.status.success());
    let file = std::fs::read(site.path("f/shop.dump")).expect("the dump");
    assert!(output.stdout == file, "{} and {} bytes", output.stdout.len(), file.len());
    let _ = site.drctl(&[&pipe[..], &["--json"]].concat()).ended(2);
    let _ = site.drctl(&[&pipe[..], &["--to-files", "g"]].concat()).ended(2);
    let all = site.drctl(&[&restore[..], &["--to-stdout"]].concat()).ended(2);
    assert!(all.out.is_empty() && all.err.contains("name one --database"), "{}", all.err);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let site = Site::empty();
    let drctl = drctl_tests::site::drctl();
    let script = format!("set -o pipefail; {} completions zsh | head -1", drctl.display());
    let mut bash = std::process::Command::new("bash");
    let output =
        bash.arg("-c").arg(script).current_dir(site.path("")).output().expect("start bash");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_answer_that_is_cut_is_a_failure() {
    let server = server_with(100);
    let site = Site::with(&server);
    let id = site.backup();
    for arguments in [&["list"][..], &["--json", "list"], &["show", &id, "--emergency"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").expect("/dev/full");
        let mut command = site.command(arguments);
        let output = command.stdout(full).output().expect("start drctl");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    }
    // Nor is one of use that goes nowhere.
    let to_stdout = ["restore", "shop", "--latest", "--database", "shop", "--to-stdout"];
    for arguments in [&to_stdout[..], &["show", &id, "--emergency"]] {
        let to = |redirection: &str| {
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", &format!("exec \"$0\" \"$@\" {redirection}")]);
            shell.arg(drctl_tests::site::drctl()).args(arguments).current_dir(site.path(""));
            shell.env("DRCTL_CONFIG", site.config()).output().expect("start a shell")
        };
        let closed = to(">&-");
        let said = String::from_utf8_lossy(&closed.stderr);
        assert_eq!(closed.status.code(), Some(12), "{arguments:?}: {said}");
        assert!(said.contains("standard output is closed"), "{said}");
        assert_eq!(to("> /dev/null").status.code(), Some(0), "{arguments:?}");
    }
    // A kit that nobody got is no kit.
    let other = Site::empty();
    let full = std::fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    let url = format!("file://{}", other.path("repository").display());
    let (state, run) = (other.path("state"), other.path("run"));
    let mut init = other.command(&["init", "--url", &url, "--source", "shop"]);
    init.arg("--state-dir").arg(state).arg("--runtime-dir").arg(run).stdout(full);
    let output = init.output().expect("start drctl");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("recovery key in it is lost") && said.contains("--join"), "{said}");
}

#[test]
fn what_a_pipe_is_told_has_no_colours_and_no_debug_text() {
    let site = Site::empty();
    std::fs::write(site.path("word"), "x").expect("write it");
    // Nobody listens there.
    let ran = site
        .drctl(&[
            "init",
            "--url",
            "s3://bucket/x",
            "--endpoint",
            "http://127.0.0.1:9",
            "--allow-http",
            "--region",
            "r",
            "--access-key-id-file",
            "word",
            "--secret-access-key-file",
            "word",
            "--source",
            "shop",
            "--kit",
            "kit.txt",
        ])
        .ended(8);
    assert!(ran.err.contains("the store failed; trying again: get drctl-repo.json"), "{}", ran.err);
    assert!(ran.err.contains("onnection refused"), "{}", ran.err);
    for word in ["\u{1b}", "{ ", "RetryError", "Generic {"] {
        assert!(!ran.err.contains(word), "{word:?}: {}", ran.err);
    }
}
