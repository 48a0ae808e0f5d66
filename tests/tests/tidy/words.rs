use crate::{Source, files, none};

/// A word that may stand only in some places.
struct Rule {
    word: &'static str,
    only: &'static [&'static str],
}

/// Where each kind of IO is done, and nowhere else. A place is the beginning of a path; what lies
/// in `tests/` may do all of it.
const RULES: &[Rule] = &[
    Rule {
        word: "object_store::",
        // The agent has the path type of keys, the store all the rest.
        only: &[
            "agent/store/",
            "agent/src/doctor.rs",
            "agent/src/fetch.rs",
            "agent/src/repository.rs",
        ],
    },
    Rule { word: "aws_sdk_s3::", only: &["agent/store/"] },
    Rule { word: "tokio_postgres::", only: &["agent/engines/"] },
    Rule { word: "Command::new", only: &["agent/engines/"] },
    Rule { word: "rusqlite::", only: &["catalog/"] },
    Rule {
        word: "env::var",
        only: &[
            "agent/src/secrets.rs",
            "agent/src/crash.rs",
            "agent/engines/src/process.rs",
            "agent/engines/src/pg/tools.rs",
        ],
    },
    Rule { word: "SystemTime::now", only: &[] },
    Rule { word: "Timestamp::now", only: &["agent/model/src/clock.rs", "agent/src/cli/"] },
    Rule { word: "thread::sleep", only: &["catalog/"] },
    // Pauses between bounded attempts, nowhere as synchronisation.
    Rule { word: "time::sleep", only: &["agent/store/src/bucket.rs", "agent/engines/src/pg/"] },
    Rule { word: "todo!", only: &[] },
    Rule { word: "unimplemented!", only: &[] },
    Rule { word: "println!", only: &[] },
    Rule { word: "unsafe ", only: &[] },
];

/// Crates that decide and do no IO.
const PURE: &[&str] = &["agent/model/src/", "policies/src/"];

/// What a pure crate must not say.
const IMPURE: &[&str] = &["std::fs", "std::net", "std::process", "tokio", "async fn"];

/// Words that no file may hold, spelt so that this one does not.
fn nowhere() -> Vec<String> {
    let join = |parts: &[&str]| parts.concat();
    vec![
        join(&["/wo", "rk/ma", "in"]),
        join(&["/ro", "ot/"]),
        join(&["TO", "DO"]),
        join(&["FIX", "ME"]),
        join(&["deb.deb", "ian.org"]),
        join(&["registry.npm", "js.org"]),
        join(&["proxy.gol", "ang.org"]),
        join(&["static.crates", ".io"]),
    ]
}

/// The code of a file, its comments and its unit tests left out.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .take_while(|line| *line != "#[cfg(test)]")
        .filter(|line| !line.trim_start().starts_with("//"))
}

fn out_of_place(file: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let in_tests = file.path.starts_with("tests/")
        || file.path.contains("/tests/")
        || file.path.ends_with("/testing.rs")
        || file.path.ends_with("/tests.rs");
    if !file.path.ends_with(".rs") || in_tests {
        return found;
    }
    for rule in RULES {
        let allowed = rule.only.iter().any(|place| file.path.starts_with(place));
        if !allowed && code(&file.text).any(|line| line.contains(rule.word)) {
            found.push(format!("{}: {} has no place here", file.path, rule.word));
        }
    }
    if PURE.iter().any(|place| file.path.starts_with(place)) {
        for word in IMPURE {
            if code(&file.text).any(|line| line.contains(word)) {
                found.push(format!("{}: {word} in a crate that does no IO", file.path));
            }
        }
    }
    found
}

fn forbidden(file: &Source) -> Vec<String> {
    let held = nowhere().into_iter().filter(|word| file.text.contains(word.as_str()));
    held.map(|word| format!("{}: {word}", file.path)).collect()
}

#[test]
fn io_is_done_where_the_map_says() {
    let found: Vec<String> = files().iter().flat_map(out_of_place).collect();
    none(&found);
}

#[test]
fn nothing_of_a_machine_or_of_unfinished_work_is_kept() {
    let found: Vec<String> = files().iter().flat_map(forbidden).collect();
    none(&found);
}

#[test]
fn an_ignored_test_has_a_reason() {
    let bare = |file: &Source| {
        let bare = file.text.lines().any(|line| line.trim() == concat!("#[", "ignore]"));
        bare.then(|| file.path.clone())
    };
    let found: Vec<String> = files().iter().filter_map(bare).collect();
    none(&found);
}

#[test]
fn words_out_of_place_are_found() {
    let planted = |path: &str, text: &str| {
        let file = Source { path: path.to_owned(), text: text.to_owned() };
        out_of_place(&file).len()
    };
    let spawn = "fn x() { std::process::Command::new(\"ls\"); }\n";
    assert_eq!(planted("agent/src/x.rs", spawn), 1);
    assert_eq!(planted("agent/engines/src/x.rs", spawn), 0);
    assert_eq!(planted("policies/src/x.rs", spawn), 2);
    assert_eq!(planted("agent/src/x.rs", "// Command::new\n#[cfg(test)]\nCommand::new\n"), 0);
    assert_eq!(planted("agent/model/src/x.rs", "use std::fs;\n"), 1);
    assert_eq!(planted("tests/src/x.rs", spawn), 0);
    let file = Source { path: "docs/x.md".into(), text: format!("see {}x", nowhere()[0]) };
    assert_eq!(forbidden(&file).len(), 1);
}
