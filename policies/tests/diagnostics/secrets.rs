//! A secret in the configuration is refused, and never shown.

use crate::{POLICY, check_main, complaints};

const REFERENCE: &str =
    "put it into a file of mode 0600 and write { file = \"/path/to/the/file\" } in its place";

#[test]
fn secrets_written_inline() {
    let at = |place: &str, key: &str| {
        format!("drctl.toml:{place}: secret written inline in `{key}`: {REFERENCE}")
    };
    let unknown = |place: &str, key: &str| {
        format!("drctl.toml:{place}: secret written inline in `{key}`, an unknown key: {REFERENCE}")
    };
    check_main(&[
        ("", "password = \"hunter2\"", &at("12:12", "password")),
        ("", "db_password = \"hunter2\"", &unknown("12:15", "db_password")),
        ("[keys]", "[keys]\nsigning_key = \"hunter2\"", &at("5:15", "signing_key")),
        ("[keys]", "api_token = \"hunter2\"\n[keys]", &unknown("4:13", "api_token")),
        (
            "file:///srv",
            "s3://id:hunter2@srv",
            "drctl.toml:3:7: secret written inline in `url`: a URL holds no user and password: give them as references under keys of their own",
        ),
        (
            "\"age1lgg",
            "\"AGE-SECRET-KEY-hunter2",
            "drctl.toml:7:2: secret written inline in `recipients`: write the public half, which begins with age1, and make a new identity",
        ),
        (
            "",
            "password = { file = \"hunter2\" }",
            "drctl.toml:12:21: `file` must be an absolute path: begin it with `/`",
        ),
        (
            "",
            "password = { env = \"hunter-2\" }",
            "drctl.toml:12:20: `env` must be the name of an environment variable: letters, digits and _",
        ),
        (
            "",
            "password = { credential = \"hunter 2\" }",
            "drctl.toml:12:27: `credential` must be a name of letters, digits, `.`, `_` and -",
        ),
        (
            "",
            "host = \"postgres://u:hunter2@h/d\"",
            "drctl.toml:12:8: `host` takes one name, not a connection string: give host, port, user and databases under keys of their own, and the password as a reference",
        ),
    ]);
    let exactly = "`password` must be exactly one of { file = \"/path\" }, { env = \"NAME\" } and \
                   { credential = \"name\" }";
    check_main(&[
        ("", "password = {}", &format!("drctl.toml:12:12: {exactly}")),
        ("", "password = { file = \"/x\", env = \"X\" }", &format!("drctl.toml:12:12: {exactly}")),
        ("", "password = { value = \"hunter2\" }", &format!("drctl.toml:12:14: {exactly}")),
        ("", "password = { file = 1 }", &format!("drctl.toml:12:12: {exactly}")),
    ]);
}

#[test]
fn no_secret_is_ever_shown() {
    // Wherever a secret may end up by mistake.
    let places = [
        "version = \"hunter2\"",
        "[repository]\nurl = \"hunter2\"",
        "[repository]\nurl = \"s3://AKIA:hunter2/x/b\"",
        "[repository]\nurl = \"s3://bucket/hunter2 x\"",
        "[repository]\nurl = \"file://hunter2\"",
        "[repository]\nendpoint = \"https://u:hunter2@host\"",
        "[repository]\nendpoint = \"hunter2\"",
        "[repository]\nca_file = \"hunter2\"",
        "[repository]\naccount_key = [\"hunter2\"]",
        "[repository]\naccount_key = { hunter2 = 1 }",
        "[keys]\nrecipients = [\"hunter2\", \"hunter2\"]",
        "[keys]\nverifying_keys = [\"hunter2\", \"hunter2\"]",
        "[keys]\nidentity = \"hunter2\"",
        "[keys]\nidentity = hunter2",
        "[keys]\nidentity = \"hunter2",
        "[keys]\nidentity = { env = \"1hunter2\" }",
        "[sources.x]\npassword = 'hunter2",
        "[sources.x]\ndatabases = [\"postgres://u:hunter2@h/d\", \"password=hunter2\"]",
    ];
    for text in places {
        let found = complaints(text, POLICY);
        assert!(!found.is_empty(), "{text}");
        assert!(!found.join("\n").contains("hunter2"), "{text}: {found:#?}");
    }
}
