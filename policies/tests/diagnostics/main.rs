//! Invariant 19: what is wrong in a configuration is refused with file, line, column and advice.

mod form;
mod hooks;
mod secrets;
mod service;
mod values;

use drctl_policies::{SourceFile, parse};

const MAIN: &str = r#"version = 1
[repository]
url = "file:///srv/backups"
[keys]
recipients = [
 "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p",
 "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg"]
verifying_keys = ["ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="]
[sources.shop]
engine = "pg_dump"
policy = "daily"
"#;

const POLICY: &str = r#"schedule = "0 2 * * *"
timezone = "Europe/Berlin"
[retention]
daily = 7
"#;

fn complaints(main: &str, policy: &str) -> Vec<String> {
    let main = SourceFile { name: "drctl.toml".into(), text: main.into() };
    let policy = SourceFile { name: "policies.d/daily.toml".into(), text: policy.into() };
    match parse(&main, &[policy]) {
        Ok(_) => Vec::new(),
        Err(found) => found.iter().map(ToString::to_string).collect(),
    }
}

/// Replaces a part of the main file (or adds to its end, for `""`) and expects one complaint.
fn check_main(cases: &[(&str, &str, &str)]) {
    assert_eq!(complaints(MAIN, POLICY), Vec::<String>::new());
    for (old, new, expected) in cases {
        let text = edit(MAIN, old, new);
        assert_eq!(complaints(&text, POLICY), [*expected], "{old} → {new}");
    }
}

fn check_policy(cases: &[(&str, &str, &str)]) {
    for (old, new, expected) in cases {
        let text = edit(POLICY, old, new);
        assert_eq!(complaints(MAIN, &text), [*expected], "{old} → {new}");
    }
}

fn edit(base: &str, old: &str, new: &str) -> String {
    if old.is_empty() {
        return format!("{base}{new}");
    }
    assert_eq!(base.matches(old).count(), 1, "{old} is not there once");
    base.replace(old, new)
}
