use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::{Ran, Site};

use crate::{init_arguments, lone_site, server_with};

#[test]
fn private_files_are_private_and_nothing_is_overwritten() {
    let site = lone_site();
    let mode = |name: &str| fs::metadata(site.path(name)).expect(name).permissions().mode() & 0o777;
    for name in ["etc/keys/signing.key", "etc/keys/identity.txt", "kit.txt"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
    assert_eq!((mode("etc/keys"), mode("repository")), (0o700, 0o700));
    let files = ["etc/drctl.toml", "etc/keys/signing.key", "etc/keys/identity.txt", "kit.txt"];
    let all = || files.map(|name| fs::read(site.path(name)).expect(name));
    let before = all();
    let arguments = init_arguments(&site);
    let told = site.drctl(&arguments).ended(12);
    assert!(told.err.contains("kit.txt exists already"), "{}", told.err);
    let without_kit = &arguments[..arguments.len() - 2];
    let told = site.drctl(without_kit).ended(12);
    assert!(told.err.contains("drctl.toml exists already"), "{}", told.err);
    fs::remove_file(site.path("etc/drctl.toml")).expect("remove it");
    let told = site.drctl(without_kit).ended(12);
    assert!(told.err.contains("signing.key exists already"), "{}", told.err);
    fs::write(site.path("etc/drctl.toml"), &before[0]).expect("put it back");
    assert_eq!(all(), before);
}

#[test]
fn answers_that_cannot_work_leave_nothing_behind() {
    let site = Site::empty();
    let cases: &[&[&str]] = &[
        &["--url", "ftp://x", "--source", "shop"],
        &["--url", "az://container", "--source", "shop"],
        &["--url", "s3://user:hunter2@bucket", "--source", "shop"],
        &["--url", "file:///x", "--source", "Shop!"],
        &["--url", "file:///x", "--source", "shop", "--region", "x"],
        &["--source", "shop"],
        &["--url", "file:///x"],
    ];
    for case in cases {
        let told = site.drctl(&[&["init"], *case].concat()).ended(2);
        assert!(!told.err.contains("drctl.toml:"), "there is no such file: {}", told.err);
        assert!(!told.err.contains("hunter2"), "{}", told.err);
        assert!(!site.path("etc").exists(), "{case:?}");
    }
    let url = format!("file://{}", site.path("r").display());
    let kit = ["init", "--url", &url, "--source", "shop", "--kit", "no/such/folder/kit"];
    let _ = site.drctl(&kit).ended(2);
    assert!(!site.path("etc").exists(), "a kit that has no place would be lost");
    let told = site.drctl(&["init", "--join", "--kit", "no-such-kit.txt"]).ended(2);
    assert!(told.err.contains("there is no recovery kit at no-such-kit.txt"), "{}", told.err);
}

#[test]
fn a_repository_is_joined_only_when_that_is_asked_for() {
    let server = server_with(100);
    let site = Site::with(&server);
    let id = site.backup();
    let mut arguments = init_arguments(&site);
    arguments.truncate(arguments.len() - 2);
    let mut second: Vec<String> = vec!["--config".into(), "second/drctl.toml".into()];
    second.extend(arguments);
    let told = site.drctl(&second).ended(8);
    assert!(told.err.contains("holds a drctl repository already"), "{}", told.err);
    assert!(!site.path("second/drctl.toml").exists());
    second.push("--join".into());
    let kit = site.drctl(&second).ended(0);
    assert!(kit.out.contains("AGE-SECRET-KEY-"), "the kit is printed: {}", kit.out);
    assert!(kit.err.contains("print the recovery kit above"), "{}", kit.err);
    // The first host's key is not trusted before somebody says so.
    let show = ["--config", "second/drctl.toml", "show", &id];
    assert_eq!(site.json(4, &show)["code"], "untrusted");
    let other = format!("file://{}", site.path("empty").display());
    let join =
        ["--config", "third/drctl.toml", "init", "--join", "--source", "shop", "--url", &other];
    let told = site.drctl(&join).ended(8);
    assert!(told.err.contains("holds no drctl repository"), "{}", told.err);
}

#[test]
fn in_json_the_kit_is_a_field_or_a_file() {
    let site = Site::empty();
    let mut arguments = vec!["--json".to_owned()];
    arguments.extend(init_arguments(&site));
    let object = site.drctl(&arguments).ended(0).json();
    assert_eq!(object["kit_file"], site.path("kit.txt").display().to_string());
    assert!(object.get("recovery_kit").is_none());
    assert!(!object.to_string().contains("SECRET"), "{object}");
}

/// As the kit tells it: the identity on the sheet, the bucket's files, age and zstd.
#[test]
fn the_kit_restores_without_drctl() {
    let server = server_with(20_000);
    let site = Site::with(&server);
    let id = site.backup();
    let empty = Postgres::start();
    let script = format!(
        r#"set -euo pipefail
        recovery=$PWD/recovery
        grep '^AGE-SECRET-KEY-' kit.txt > "$recovery"
        grep -q 'drctl restore shop --latest' kit.txt
        cd repository/s/shop/b/{id}
        jq -r .payload manifest.json | base64 -d > ../payload
        for stream in $(jq -r '.streams[].id' ../payload); do
            for segment in "$stream"/*.zst.age; do age -d -i "$recovery" "$segment"; done \
                | zstd -dcq > "../$stream.dump"
        done"#
    );
    let bash = Command::new("bash").arg("-c").arg(script).current_dir(site.path("")).output();
    let _ = Ran::of(&bash.expect("start bash")).ended(0);
    let dump = site.path("repository/s/shop/b/d1.dump");
    let mut load = empty.client("pg_restore");
    load.args(["--create", "--exit-on-error", "-d", "postgres"]).arg(dump);
    let _ = Ran::of(&load.output().expect("start pg_restore")).ended(0);
    let all = "SELECT md5(string_agg(o::text, ',' ORDER BY id)) FROM orders o";
    assert_eq!(empty.psql("shop", all), server.psql("shop", all));
}

#[test]
fn a_place_that_holds_backups_never_becomes_a_new_repository() {
    let server = server_with(1000);
    let site = Site::with(&server);
    let id = site.backup();
    let marker = site.path("repository/drctl-repo.json");
    let good = fs::read(&marker).expect("a marker");
    fs::remove_file(&marker).expect("remove it");
    let mut again = vec!["--json".to_owned(), "--config".into(), "second/drctl.toml".into()];
    again.extend(init_arguments(&site).into_iter().take(9));
    let said = site.drctl(&again);
    let said = said.failed(8, "marker_lost");
    assert!(said.contains("--restore-marker"), "{said}");
    assert!(!marker.exists() && !site.path("second/drctl.toml").exists());
    // Nobody is locked out who knows which repository it is; and nothing is written.
    let files = site.path("files").display().to_string();
    let restore = ["restore", "shop", "--latest", "--to-files", &files];
    let told = site.drctl(&restore).ended(0);
    assert!(told.err.contains("drctl-repo.json"), "{}", told.err);
    assert_eq!(site.json(4, &["verify"])["alarms"][0]["code"], "object_lost");
    let _ = site.fails(8, "marker_lost", &["backup", "shop"]);
    assert!(!marker.exists());
    assert_eq!(site.json(0, &["init", "--restore-marker"])["written"], true);
    assert_eq!(site.json(0, &["init", "--restore-marker"])["written"], false);
    let repository = |bytes: &[u8]| {
        let object: serde_json::Value = serde_json::from_slice(bytes).expect("a marker");
        object["repository"].clone()
    };
    assert_eq!(repository(&fs::read(&marker).expect("a marker")), repository(&good));
    let _ = site.json(0, &["verify", &id]);
    let _ = site.backup();
    // One that is damaged is written over; one of another repository never.
    fs::write(&marker, "rubbish").expect("damage it");
    assert_eq!(site.json(0, &["init", "--restore-marker"])["written"], true);
    let other = String::from_utf8(good).expect("text");
    let id = site.json(0, &["config", "show"])["config"]["repository"]["id"].clone();
    let other = other.replace(id.as_str().expect("an id"), &"0".repeat(32));
    fs::write(&marker, &other).expect("another one");
    let _ = site.fails(8, "other_repository", &["init", "--restore-marker"]);
    assert_eq!(fs::read_to_string(&marker).expect("a marker"), other);
    // A place without backups is none of which a marker was lost.
    site.replace("/repository\"", "/empty\"");
    fs::create_dir(site.path("empty")).expect("make it");
    let _ = site.fails(8, "not_a_repository", &["init", "--restore-marker"]);
}

#[test]
fn a_missing_verifying_key_is_named_by_whoever_joins() {
    let server = server_with(100);
    let site = Site::with(&server);
    let _ = site.backup();
    let mut second: Vec<String> = vec!["--config".into(), "second/drctl.toml".into()];
    second.extend(init_arguments(&site).into_iter().take(7));
    let state = site.path("state2").display().to_string();
    second.extend(["--join".into(), "--state-dir".into(), state]);
    let told = site.drctl(&second).ended(0);
    let keys = site.json(0, &["keys", "list"]);
    let id = keys["verifying_keys"][0]["id"].as_str().expect("an id");
    assert!(told.err.contains(&id[..16]), "{}", told.err);
    assert!(told.err.contains("keys.verifying_keys"), "{}", told.err);
    // What counts is shown, and the rest once it does: nobody has to make the catalog anew.
    let config = site.path("second/drctl.toml");
    let listed = || site.drctl(&["--json", "--config", "second/drctl.toml", "list"]).ended(0);
    let ran = listed();
    assert_eq!(ran.json()["backups"].as_array().map(Vec::len), Some(0), "{}", ran.out);
    assert!(ran.err.contains("1 manifest(s) do not count here"), "{}", ran.err);
    let text = std::fs::read_to_string(&config).unwrap();
    let key = keys["verifying_keys"][0]["key"].as_str().expect("a key");
    let more = format!("verifying_keys = [\"{key}\", ");
    std::fs::write(&config, text.replace("verifying_keys = [", &more)).unwrap();
    assert_eq!(listed().json()["backups"].as_array().map(Vec::len), Some(1));
    let again = listed();
    assert!(!again.err.contains("do not count"), "{}", again.err);
}

#[test]
fn a_kit_without_a_directory_is_refused_before_anything_is_written() {
    let site = Site::empty();
    let all = init_arguments(&site);
    let mut arguments: Vec<&str> = all.iter().map(String::as_str).collect();
    let at = arguments.iter().position(|word| *word == "--kit").expect("a kit") + 1;
    arguments[at] = "nowhere/kit.txt";
    let said = site.fails(2, "usage", &arguments);
    assert!(said.contains("there is no directory nowhere for nowhere/kit.txt"), "{said}");
    assert!(!site.path("etc").exists() && !site.path("repository").exists());
    let said = site.fails(2, "usage", &["keys", "new-identity", "nowhere/id.txt"]);
    assert!(said.contains("there is no directory nowhere"), "{said}");
}

#[test]
fn servers_of_this_host_that_the_new_source_does_not_reach_are_named() {
    let (shop, other) = (server_with(1), server_with(1));
    let site = Site::empty();
    let url = format!("file://{}", site.path("repository").display());
    let words = site.init_words(&shop, &url);
    let said = site.drctl(&words).ended(0).err;
    let named = |port: u16| {
        let end = format!(" on port {port} is not backed up: `drctl discover` shows how");
        let of_it = said.lines().filter(|line| line.contains("PostgreSQL") && line.ends_with(&end));
        of_it.count()
    };
    assert_eq!((named(other.port()), named(shop.port())), (1, 0), "{said}");
    // Whoever joins restores: what runs beside it is no news to him.
    let second = ["--config", "second/drctl.toml"].map(str::to_owned);
    let kit = words.iter().position(|word| word == "--kit").expect("a kit");
    let join = [&second[..], &words[..kit], &["--join".to_owned()]].concat();
    let said = site.drctl(&join).ended(0).err;
    assert!(!said.contains("is not backed up"), "{said}");
}
