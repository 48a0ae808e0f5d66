//! Keys, types, bounds, syntax.

use drctl_policies::{SourceFile, policies_dir};

use crate::{MAIN, POLICY, check_main, check_policy, complaints, edit};

#[test]
fn unknown_keys() {
    check_main(&[
        ("[keys]", "retenton = 1\n[keys]", "drctl.toml:4:1: unknown key `retenton`"),
        (
            "policy = ",
            "polcy = 1\npolicy = ",
            "drctl.toml:11:1: unknown key `polcy`: did you mean `policy`?",
        ),
        ("", "dbname = 1", "drctl.toml:12:1: unknown key `dbname`: did you mean `databases`?"),
        (
            "[repo",
            "region = \"x\"\n[repo",
            "drctl.toml:2:1: unknown key `region`: it belongs in [repository]",
        ),
        (
            "[repo",
            "schedule = \"x\"\n[repo",
            "drctl.toml:2:1: unknown key `schedule`: it belongs in a policy file",
        ),
        ("", "[zzzzzz]", "drctl.toml:12:2: unknown key `zzzzzz`"),
        ("", "[pats]", "drctl.toml:12:2: unknown key `pats`: did you mean `paths`?"),
    ]);
    check_policy(&[
        (
            "[retention]",
            "[retenton]\n[retention]",
            "policies.d/daily.toml:3:2: unknown key `retenton`: did you mean `retention`?",
        ),
        ("timezone", "corn = \"x\"\ntimezone", "policies.d/daily.toml:2:1: unknown key `corn`"),
        (
            "timezone",
            "cron = \"x\"\ntimezone",
            "policies.d/daily.toml:2:1: unknown key `cron`: did you mean `schedule`?",
        ),
        (
            "",
            "keep_weekly = 1",
            "policies.d/daily.toml:5:1: unknown key `keep_weekly`: did you mean `weekly`?",
        ),
        ("", "fortnightly = 1", "policies.d/daily.toml:5:1: unknown key `fortnightly`"),
    ]);
}

#[test]
fn syntax() {
    check_main(&[
        ("[keys]", "[keys", "drctl.toml:4:6: not TOML: unclosed table, expected `]`"),
        (
            "\"daily\"",
            "daily",
            "drctl.toml:11:10: not TOML: string values must be quoted, expected literal string",
        ),
        (
            "version = 1",
            "version = 1\nversion = 1",
            "drctl.toml:2:1: this key is there twice: keep one of the two",
        ),
        ("", "[sources.shop]", "drctl.toml:12:10: this key is there twice: keep one of the two"),
        (
            "",
            "\u{e4} = 1",
            "drctl.toml:12:1: not TOML: invalid unquoted key, expected letters, numbers, `-`, `_`",
        ),
    ]);
}

#[test]
fn versions_and_missing_keys() {
    let about_keys = "Who may read backups, and who vouches for them.";
    check_main(&[
        (
            "version = 1\n",
            "",
            "drctl.toml:1:1: missing key `version`: write version = 1 at the top",
        ),
        (
            "= 1\n",
            "= 2\nother = 3\n",
            "drctl.toml:1:11: version 2 is not known: this program reads 1: install the release that wrote the file, or write version = 1",
        ),
        (
            "= 1\n",
            "= \"1\"\n",
            "drctl.toml:1:11: `version` must be a whole number: write version = 1 at the top",
        ),
        (
            "engine = \"pg_dump\"\n",
            "",
            "drctl.toml:9:1: missing key `engine`: How it is backed up.",
        ),
    ]);
    let text = "version = 1\n[repository]\nurl = \"file:///x\"\n";
    assert_eq!(
        complaints(text, POLICY),
        [format!("drctl.toml:1:1: missing key `keys`: {about_keys}")]
    );
}

#[test]
fn wrong_types_and_bounds() {
    check_main(&[
        ("", "port = \"5432\"", "drctl.toml:12:8: `port` must be a whole number, not a string"),
        ("", "port = 0", "drctl.toml:12:8: `port` must be 1 to 65535"),
        ("", "port = -1", "drctl.toml:12:8: `port` must be 1 to 65535"),
        ("", "port = 0x1_0000", "drctl.toml:12:8: `port` must be 1 to 65535"),
        (
            "",
            "enabled = \"yes\"",
            "drctl.toml:12:11: `enabled` must be true or false, not a string",
        ),
        ("", "user = \"\"", "drctl.toml:12:8: the value must not be empty"),
        ("", "user = \"a\\nb\"", "drctl.toml:12:8: a control character is not allowed here"),
        (
            "",
            "databases = \"shop\"",
            "drctl.toml:12:13: `databases` must be an array of strings, not a string",
        ),
        (
            "",
            "databases = [1]",
            "drctl.toml:12:14: `databases` must be an array of strings, not a whole number",
        ),
        (
            "",
            "bin_dir = \"bin\"",
            "drctl.toml:12:11: `bin_dir` must be an absolute path: begin it with `/`",
        ),
        (
            "",
            "lock_timeout = 30",
            "drctl.toml:12:16: `lock_timeout` must be a duration such as \"30s\" or \"26h\", not a whole number",
        ),
        (
            "",
            "lock_timeout = \"30\"",
            "drctl.toml:12:16: `30` is no value of `lock_timeout`: the unit is missing: write for example \"90m\"",
        ),
        ("", "lock_timeout = \"2h\"", "drctl.toml:12:16: `lock_timeout` must be 1s to 1h"),
        (
            "",
            "[limits]\nsegment_bytes = \"1GiB\"",
            "drctl.toml:13:17: `segment_bytes` must be 1KiB to 256MiB",
        ),
        (
            "",
            "[limits]\nsegment_bytes = \"16MB\"",
            "drctl.toml:13:17: `16MB` is no value of `segment_bytes`: the unit is unknown: write for example \"16MiB\"",
        ),
        ("", "[limits]\nseals = 65", "drctl.toml:13:9: `seals` must be 1 to 64"),
        (
            "",
            "sslmode = \"verify_full\"",
            "drctl.toml:12:11: `verify_full` is no value of `sslmode`: did you mean `verify-full`?",
        ),
        (
            "\"pg_dump\"",
            "\"mysql\"",
            "drctl.toml:10:10: `mysql` is no value of `engine`: write one of pg_dump, base_backup, pgbackrest",
        ),
        (
            "[sources.shop]",
            "paths = 1\n[sources.shop]",
            "drctl.toml:9:1: unknown key `paths`: it belongs at the top of the main file",
        ),
        (
            "[repository]",
            "paths = 1\n[repository]",
            "drctl.toml:2:9: `paths` must be a table, not a whole number",
        ),
    ]);
}

#[test]
fn everything_is_found_at_once_and_in_order() {
    let main = edit(MAIN, "\"file:///srv/backups\"", "\"x\"\nregoin = \"y\"");
    let main = edit(&main, "\"pg_dump\"", "\"pgdump\"\nport = 0");
    let found = complaints(&main, "schedule = \"x\"\n[retention]\ndaily = true\nlost = 1\n");
    let places: Vec<_> = found.iter().map(|text| text.split(": ").next().unwrap()).collect();
    let expected = [
        "drctl.toml:3:7",
        "drctl.toml:4:1",
        "drctl.toml:11:10",
        "drctl.toml:12:8",
        "policies.d/daily.toml:1:12",
        "policies.d/daily.toml:3:9",
        "policies.d/daily.toml:4:1",
    ];
    assert_eq!(places, expected, "{found:#?}");
}

#[test]
fn the_directory_of_policies() {
    let dir = |name: &str, text: &str| {
        let file = SourceFile { name: name.into(), text: text.into() };
        policies_dir(&file).map_err(|found| found[0].to_string())
    };
    // Nothing else has to be right.
    assert_eq!(dir("/etc/drctl/drctl.toml", "x = 1"), Ok("/etc/drctl/policies.d".into()));
    assert_eq!(dir("drctl.toml", "policies_dir = \"p\""), Ok("p".into()));
    assert_eq!(dir("/etc/d.toml", "policies_dir = \"/srv/p\""), Ok("/srv/p".into()));
    assert_eq!(
        dir("d.toml", "policies_dir = 1"),
        Err("d.toml:1:16: `policies_dir` must be a path".into())
    );
    assert!(dir("d.toml", "policies_dir = ").is_err());
}
