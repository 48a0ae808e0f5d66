use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use drctl_tests::site::Site;

use crate::{lone_site, server_with};

#[test]
fn new_keys_are_private_and_print_their_public_half_alone() {
    let site = lone_site();
    let made = site.drctl(&["keys", "new-identity", "i.txt"]).ended(0);
    assert!(made.out.starts_with("age1") && made.out.trim().lines().count() == 1, "{}", made.out);
    let made = site.drctl(&["keys", "new-signing", "s.txt"]).ended(0);
    assert!(made.out.starts_with("ed25519:") && made.out.lines().count() == 1, "{}", made.out);
    for name in ["i.txt", "s.txt"] {
        let mode = fs::metadata(site.path(name)).expect(name).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let before = fs::read(site.path("i.txt")).expect("an identity");
    let _ = site.drctl(&["keys", "new-identity", "i.txt"]).ended(12);
    let _ = site.drctl(&["keys", "new-signing", "i.txt"]).ended(12);
    assert_eq!(fs::read(site.path("i.txt")).expect("an identity"), before);
}

#[test]
fn the_list_tells_what_is_at_hand() {
    let site = lone_site();
    let keys = site.json(0, &["keys", "list"]);
    let count = |list: &str, flag: &str| {
        let all = keys[list].as_array().expect("a list");
        (all.len(), all.iter().filter(|key| key[flag] == true).count())
    };
    assert_eq!(count("recipients", "identity_at_hand"), (2, 1));
    assert_eq!(count("verifying_keys", "signs_here"), (1, 1));
    fs::remove_file(site.identity()).expect("take the identity away");
    let told = site.drctl(&["keys", "list"]).ended(0);
    assert!(!told.out.contains("its identity is here"), "{}", told.out);
    assert!(told.out.contains("this host signs with it"), "{}", told.out);
}

#[test]
fn a_host_without_an_identity_backs_up_and_another_restores() {
    let server = server_with(1000);
    let site = Site::with(&server);
    fs::rename(site.identity(), site.path("carried.txt")).expect("carry it away");
    let text = fs::read_to_string(site.config()).expect("the configuration");
    let kept = text.lines().filter(|line| !line.starts_with("identity = "));
    fs::write(site.config(), kept.collect::<Vec<_>>().join("\n")).expect("write it");
    let _ = site.backup();
    let told = site.drctl(&["doctor"]).ended(3);
    assert!(told.out.contains("this host cannot read its backups"), "{}", told.out);
    let told = site.drctl(&["verify", "--data"]).ended(0);
    assert!(told.out.contains("not decrypted: no identity at hand fits"), "{}", told.out);
    let restore = ["restore", "shop", "--latest", "--to-files", "f", "--identity", "carried.txt"];
    let _ = site.drctl(&restore).ended(0);
}

#[test]
fn a_key_that_others_may_read_is_complained_of() {
    let site = lone_site();
    let readable = fs::Permissions::from_mode(0o644);
    fs::set_permissions(site.path("etc/keys/signing.key"), readable).expect("open it");
    let found = site.json(1, &["doctor"]);
    let found = found["findings"].as_array().expect("findings");
    let warned = found.iter().find(|f| f["check"] == "keys.signing_key" && f["level"] == "warning");
    let warned = warned.expect("a warning")["text"].as_str().expect("a text").to_owned();
    assert!(warned.contains("others on this host may read"), "{warned}");
}

#[test]
fn every_secret_that_others_may_read_is_complained_of() {
    let site = lone_site();
    let secret = |name: &str| {
        let path = site.path(name);
        fs::write(&path, "a secret\n").expect("write");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("open it");
        format!("{{ file = \"{}\" }}", path.display())
    };
    let url = format!("url = \"file://{}\"", site.path("repository").display());
    let (id, word, token) = (secret("id"), secret("word"), secret("token"));
    let s3 = format!(
        "url = \"s3://shop/below\"\nendpoint = \"http://127.0.0.1:1\"\nallow_http = true\n\
         access_key_id = {id}\nsecret_access_key = {word}\nsession_token = {token}"
    );
    site.replace(&url, &s3);
    site.source(&format!("password = {}", secret("password")));
    let policy = fs::read_to_string(site.config()).expect("a configuration");
    let policy = policy.lines().find(|line| line.starts_with("policy = ")).expect("a policy");
    site.append(&format!(
        "\n[sources.other]\n{policy}\nengine = \"pgbackrest\"\nstanza = \"other\"\n\
         cipher_pass = {}\npassword = {}\n\
         [repository.prune]\nsigning_key = {}\n",
        secret("cipher"),
        secret("other"),
        secret("prune")
    ));
    let wide = fs::Permissions::from_mode(0o604);
    for key in ["signing.key", "identity.txt"] {
        let path = site.path("etc/keys").join(key);
        fs::set_permissions(path, wide.clone()).expect("open it");
    }
    let doctor = site.drctl(&["--json", "doctor"]).json();
    let findings = doctor["findings"].as_array().expect("findings");
    let open = |f: &&serde_json::Value| f["text"].to_string().contains("others on this host may");
    let mut named: Vec<&str> =
        findings.iter().filter(open).filter_map(|f| f["check"].as_str()).collect();
    named.sort_unstable();
    let all = [
        "keys.identity",
        "keys.signing_key",
        "repository.access_key_id",
        "repository.prune.signing_key",
        "repository.secret_access_key",
        "repository.session_token",
        "source.other.cipher_pass",
        "source.other.password",
        "source.shop.password",
    ];
    assert_eq!(named, all, "{doctor}");
}

#[test]
fn a_backup_made_for_another_key_is_not_called_bad() {
    let server = server_with(100);
    let site = Site::with(&server);
    let old = site.backup();
    let made = site.drctl(&["keys", "new-identity", "new.txt"]).ended(0);
    let list = site.json(0, &["keys", "list"]);
    let ours = list["recipients"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|r| r["identity_at_hand"] == true);
    let ours = ours.expect("ours")["recipient"].as_str().expect("a recipient").to_owned();
    site.replace(&ours, made.out.trim());
    let new = site.backup();
    let told = site.json(0, &["verify", "--data"]);
    let opened = |id: &str| {
        let all = told["backups"].as_array().expect("a list");
        all.iter().find(|b| b["backup"] == id).expect("it is there")["opened"].clone()
    };
    assert_eq!((opened(&old), opened(&new)), (true.into(), false.into()));
    // Who names an identity wants to know.
    let _ = site.drctl(&["verify", &old, "--data", "--identity", "new.txt"]).ended(4);
}
