//! The whole way through Azure Blob Storage and Google Cloud Storage, as a user configures it.

use drctl_tests::servers::azurite::Azurite;
use drctl_tests::servers::gcs::FakeGcs;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::Site;

fn server() -> Postgres {
    let server = Postgres::start();
    server.psql("postgres", "CREATE DATABASE shop");
    server.psql(
        "shop",
        "CREATE TABLE item AS SELECT n, md5(n::text) FROM generate_series(1, 20000) n",
    );
    server
}

/// Doctor, backup, verify, rebuild, restore beside the old: everything that a source goes through.
fn the_whole_way(server: &Postgres, site: &Site) {
    let findings = site.drctl(&["--json", "doctor"]).ended(3).json();
    let bad = findings["findings"].as_array().into_iter().flatten().any(|f| f["level"] == "bad");
    assert!(!bad, "{findings}");
    let backup = site.backup();
    let verified = site.json(0, &["verify", "--data", &backup]);
    assert_eq!(verified["backups"][0]["opened"], true, "{verified}");
    let rebuilt = site.json(0, &["catalog", "rebuild"]);
    assert_eq!(rebuilt["backups"], 1, "{rebuilt}");
    let _ = site.json(0, &["restore", "shop", "--latest", "--database", "shop", "--as", "again"]);
    assert_eq!(server.psql("again", "SELECT count(*) FROM item").trim(), "20000");
    let script = site.drctl(&["show", &backup, "--emergency"]).ended(0).out;
    assert!(script.contains("fetch() { "), "{script}");
}

#[test]
fn a_backup_goes_to_azure_and_comes_back() {
    let (server, store, site) = (server(), Azurite::start(), Site::empty());
    store.make_container("backups");
    let key = site.path("account.key");
    std::fs::write(&key, store.key()).expect("write the key");
    let (endpoint, account) = (store.endpoint(), store.account());
    let key = key.display().to_string();
    let more =
        ["--endpoint", &endpoint, "--account", account, "--account-key-file", &key, "--allow-http"];
    site.init(&server, "az://backups/prefix", &more);
    the_whole_way(&server, &site);
}

#[test]
fn a_backup_goes_to_google_and_comes_back() {
    let (server, store, site) = (server(), FakeGcs::start(), Site::empty());
    store.make_bucket("backups");
    let gateway = store.gateway();
    let endpoint = format!("http://127.0.0.1:{}", gateway.port());
    let more = ["--endpoint", &endpoint, "--allow-http"];
    site.init(&server, "gs://backups/prefix", &more);
    the_whole_way(&server, &site);
}
