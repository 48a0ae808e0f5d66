use std::fs;

use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::{Ran, Site};

use crate::{lone_site, seed};

/// With all that upsets a parser: quotation marks, colons, backslashes, blanks.
const PASSWORD: &str = "hunter2 \"':\\ canary";

fn secrets(site: &Site) -> Vec<String> {
    let read = |name: &str| fs::read_to_string(site.path(name)).unwrap_or_default();
    let private = |text: String| {
        text.lines().filter(|l| !l.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut found = vec!["canary".to_owned(), "hunter2".to_owned()];
    found.extend(private(read("etc/keys/identity.txt")));
    found.extend(private(read("etc/keys/signing.key")));
    found.extend(read("kit.txt").lines().filter(|l| l.starts_with("AGE-")).map(str::to_owned));
    found.retain(|secret| !secret.trim().is_empty());
    found
}

fn silent(ran: &Ran, secrets: &[String], what: &str) {
    for secret in secrets {
        let core = secret.trim();
        assert!(!ran.out.contains(core) && !ran.err.contains(core), "{what} shows a secret");
    }
}

#[test]
fn no_command_shows_a_secret() {
    let server = Postgres::builder().password(PASSWORD).start();
    seed(&server, 200);
    let site = Site::empty();
    fs::write(site.path("password"), format!("{PASSWORD}\n")).expect("write the password");
    let file = site.path("password").display().to_string();
    let url = format!("file://{}", site.path("repository").display());
    site.init(&server, &url, &["--password-file", &file]);
    let secrets = secrets(&site);
    assert!(secrets.len() >= 5, "{}", secrets.len());
    let id = site.backup();
    let wrong = |to: &str| site.replace(&format!("port = {}", server.port()), to);
    let verbs: &[&[&str]] = &[
        &["config", "show"],
        &["config", "check"],
        &["doctor"],
        &["keys", "list"],
        &["keys", "test"],
        &["backup", "shop"],
        &["list"],
        &["show", &id],
        &["show", &id, "--emergency"],
        &["status"],
        &["verify", "--data"],
        &["catalog", "rebuild"],
        &["catalog", "check"],
        &["restore", "shop", "--latest", "--database", "shop", "--as", "again"],
        &["restore", "shop", "--latest", "--to-files", "files"],
        // The right file in the wrong place.
        &["keys", "test", "--identity", "etc/keys/signing.key"],
        &["keys", "test", "--identity", "password"],
    ];
    for verb in verbs {
        for mode in [&["--json"][..], &[]] {
            let mut command = site.command(&[mode, *verb].concat());
            let ran = Ran::of(&command.env("DRCTL_LOG", "debug").output().expect("start drctl"));
            silent(&ran, &secrets, &format!("{verb:?}"));
        }
    }
    wrong("port = 1");
    silent(&site.drctl(&["backup", "shop"]).ended(10), &secrets, "a failure");
    for file in site.files("state").into_iter().map(|name| site.path("state").join(name)) {
        let bytes = String::from_utf8_lossy(&fs::read(&file).expect("a file")).into_owned();
        assert!(secrets.iter().all(|secret| !bytes.contains(secret.trim())), "{}", file.display());
    }
    assert_eq!(site.files("run"), Vec::<std::path::PathBuf>::new(), "no password file is left");
}

#[test]
fn a_secret_in_the_configuration_is_refused_and_not_repeated() {
    let cases = [
        ("user = \"drctl\"", "user = \"drctl\"\npassword = \"hunter2\""),
        ("user = \"drctl\"", "user = \"drctl\"\npassword = { plain = \"hunter2\" }"),
        ("user = \"drctl\"", "user = \"postgres://me:hunter2@host\""),
        ("user = \"drctl\"", "user = \"drctl\"\nmy_password = \"hunter2\""),
        ("url = \"file://", "url = \"s3://me:hunter2@bucket/"),
        ("signing_key = { file", "signing_key = \"hunter2\" #"),
        ("identity = { file", "identity = [\"hunter2\"] #"),
    ];
    for (from, to) in cases {
        let site = lone_site();
        site.replace(from, to);
        for arguments in
            [&["config", "check"][..], &["--json", "config", "check"], &["config", "show"]]
        {
            let ran = site.drctl(arguments).ended(7);
            assert!(!ran.out.contains("hunter2") && !ran.err.contains("hunter2"), "{to}: {ran:?}");
        }
    }
}

#[test]
fn references_to_secrets_are_shown_and_never_followed() {
    let site = lone_site();
    site.append("password = { env = \"NO_SUCH_VARIABLE\" }\n");
    let shown = site.drctl(&["config", "show"]).ended(0).json();
    assert_eq!(shown["sources"]["shop"]["password"]["env"], "NO_SUCH_VARIABLE");
    fs::remove_file(site.path("etc/keys/signing.key")).expect("remove it");
    let _ = site.drctl(&["config", "show"]).ended(0);
    let told = site.drctl(&["backup", "shop"]);
    assert_eq!(told.code, Some(9), "{}", told.err);
}
