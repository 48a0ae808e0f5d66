//! The rights that the documentation grants to a writer are enough, and do not delete.

use std::process::Command;

use drctl_tests::servers::minio::Minio;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::{Ran, Site};

use crate::markdown::blocks;
use crate::read;

/// The policy of `docs/stores.md`, for the bucket that its examples name.
fn documented() -> String {
    let found = blocks(&read("docs/stores.md"));
    let mut policies = found.into_iter().filter(|block| block.language == "json");
    policies.next().expect("a policy").text
}

/// Temporary credentials that may do what the policy says, and no more: id, secret, token.
fn credentials(minio: &Minio, policy: &str) -> [String; 3] {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--aws-sigv4", "aws:amz:us-east-1:sts", "--user"])
        .arg(format!("{}:{}", minio.access_key(), minio.secret_key()))
        .args(["--data", "Action=AssumeRole&Version=2011-06-15&DurationSeconds=3600"])
        .arg("--data-urlencode")
        .arg(format!("Policy={policy}"))
        .arg(format!("{}/", minio.endpoint()))
        .output()
        .expect("curl is missing: apt-get install curl");
    let answer = Ran::of(&output).ended(0).out;
    ["AccessKeyId", "SecretAccessKey", "SessionToken"].map(|name| {
        let rest = answer.split(&format!("<{name}>")).nth(1);
        let rest = rest.unwrap_or_else(|| panic!("no {name}: {answer}"));
        rest.split('<').next().expect("a value").to_owned()
    })
}

#[test]
fn a_writer_with_the_documented_rights_does_everything_but_delete() {
    let minio = Minio::start();
    minio.make_bucket("example-backups");
    let server = Postgres::start();
    server.psql("postgres", "CREATE DATABASE shop");
    server.psql("shop", "CREATE TABLE orders AS SELECT generate_series(1, 1000) AS id");
    let site = Site::empty();
    let (id, secret) =
        (site.path("id").display().to_string(), site.path("secret").display().to_string());
    std::fs::write(&id, minio.access_key()).expect("write a secret");
    std::fs::write(&secret, minio.secret_key()).expect("write a secret");
    let endpoint = minio.endpoint();
    let flags = ["--endpoint", &endpoint, "--allow-http", "--access-key-id-file", &id];
    let flags = [&flags[..], &["--secret-access-key-file", &secret]].concat();
    site.init(&server, "s3://example-backups/db1", &flags);
    // From here on only what the policy grants.
    let limited = credentials(&minio, &documented());
    for (name, text) in ["id", "secret", "token"].into_iter().zip(&limited) {
        std::fs::write(site.path(name), text).expect("write a secret");
    }
    let token = site.path("token").display().to_string();
    site.replace(
        "allow_http = true",
        &format!("allow_http = true\nsession_token = {{ file = \"{token}\" }}"),
    );
    let _ = site.backup();
    let doctor = site.json(3, &["doctor"]);
    let finding = |check: &str| {
        let all = doctor["findings"].as_array().expect("findings");
        let found = all.iter().find(|finding| finding["check"] == check);
        found.unwrap_or_else(|| panic!("{check}: {doctor}"))["level"].clone()
    };
    for check in ["bucket.put", "bucket.get", "bucket.list", "bucket.conditional_put"] {
        assert_eq!(finding(check), "good", "{check}");
    }
    assert_eq!(finding("bucket.no_delete"), "good");
    for arguments in [
        &["verify", "--data"][..],
        &["catalog", "rebuild"],
        &["catalog", "check"],
        &["keys", "test"],
        &["restore", "shop", "--latest", "--to-files", "f"],
    ] {
        let _ = site.drctl(arguments).ended(0);
    }
}
