use std::collections::BTreeSet;

use crate::{Source, files, is_test, none, test_lines};

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
            "agent/src/health/doctor.rs",
            "agent/src/transfer/download.rs",
            "agent/src/repository/first.rs",
            "agent/src/repository/mod.rs",
        ],
    },
    Rule { word: "aws_sdk_s3::", only: &["agent/store/"] },
    Rule { word: "tokio_postgres::", only: &["agent/engines/"] },
    Rule { word: "Command::new", only: &["agent/engines/"] },
    Rule { word: "rusqlite::", only: &["catalog/"] },
    Rule {
        word: "env::var",
        only: &[
            "agent/src/host/secrets.rs",
            "agent/src/host/crash.rs",
            "agent/src/host/zone.rs",
            "agent/src/cli/told",
            "agent/engines/src/common/process.rs",
            "agent/engines/src/pg/server/tools.rs",
        ],
    },
    Rule { word: "SystemTime::now", only: &[] },
    Rule { word: "Timestamp::now", only: &["agent/model/src/clock.rs", "agent/src/cli/"] },
    // A lock is tried again, a few times; so is a control group whose processes were killed.
    Rule {
        word: "thread::sleep",
        only: &[
            "catalog/",
            "agent/src/host/locks.rs",
            "agent/engines/src/common/sandbox/limits.rs",
        ],
    },
    // Pauses between bounded attempts, nowhere as synchronisation.
    Rule {
        word: "time::sleep",
        only: &[
            "agent/store/src/retry.rs",
            "agent/engines/src/pg/",
            "agent/engines/src/backrest/",
            "agent/src/notify/mod.rs",
        ],
    },
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
fn code(text: &str) -> Vec<&str> {
    let tests = test_lines(text);
    let lines = text.lines().enumerate().filter(|(number, _)| !tests.contains(number));
    lines.map(|(_, line)| line).filter(|line| !is_comment(line)).collect()
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

fn out_of_place(file: &Source) -> Vec<String> {
    let mut found = Vec::new();
    if !file.path.ends_with(".rs") || is_test(&file.path) {
        return found;
    }
    let code = code(&file.text);
    let says = |word: &str| code.iter().any(|line| line.contains(word));
    for rule in RULES {
        let allowed = rule.only.iter().any(|place| file.path.starts_with(place));
        if !allowed && says(rule.word) {
            found.push(format!("{}: {} has no place here", file.path, rule.word));
        }
    }
    if PURE.iter().any(|place| file.path.starts_with(place)) {
        let said = IMPURE.iter().filter(|word| says(word));
        found.extend(said.map(|word| format!("{}: {word} in a crate that does no IO", file.path)));
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

/// What tests may hold only here, each with its reason.
const IN_TESTS: &[(&str, &[(&str, &str)])] = &[
    (
        concat!("#[", "ignore"),
        &[("tests/tests/servers.rs", "a child of another test, which runs it")],
    ),
    // What only a newer server does is tested on one (`Builder::at_least`): on an older one such a
    // test would end early.
    (
        concat!("server_version", "_num"),
        &[
            ("tests/src/hostile.rs", "an intruder's settings are those that the server has"),
            ("tests/tests/backrest/common.rs", "Debian's directories bear the major version"),
            ("tests/tests/backup/peers.rs", "older tools are refused, newer ones are started"),
        ],
    ),
    (
        concat!("sleep", "("),
        &[
            ("tests/src/servers/port.rs", "the system does not say when a port is free again"),
            ("tests/src/site.rs", "looks again until something has come about, or too late"),
        ],
    ),
];

/// Whether a line of code calls `word` by this very name.
fn calls(line: &str, word: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(joins))
}

/// Tests that are not run, or end early, prove nothing, and those that wait for time to pass prove
/// less than they seem to.
fn shaky(file: &Source) -> Vec<String> {
    if !file.path.ends_with(".rs") {
        return Vec::new();
    }
    let only_tests = is_test(&file.path);
    let tests = if only_tests { BTreeSet::new() } else { test_lines(&file.text) };
    let lines = file.text.lines().enumerate();
    let of_tests = lines.filter(|(number, _)| only_tests || tests.contains(number));
    let code: Vec<&str> = of_tests.map(|(_, line)| line).filter(|line| !is_comment(line)).collect();
    let held = IN_TESTS.iter().filter(|(word, only)| {
        let allowed = only.iter().any(|(place, _)| file.path == *place);
        !allowed && code.iter().any(|line| calls(line, word))
    });
    held.map(|(word, _)| format!("{}: {word} in a test", file.path)).collect()
}

/// Any exit code but that of success, a panic's among them, is no answer to what a program did.
fn any_failure(file: &Source) -> Vec<String> {
    let is = |line: &str| {
        let refused = line.contains("!= Some(0)") || line.contains("assert_ne!(");
        refused && line.contains("code") && line.contains("Some(0)")
    };
    let found = file.text.lines().filter(|line| file.path.ends_with(".rs") && is(line));
    found.map(|line| format!("{}: name the code: {}", file.path, line.trim())).collect()
}

/// Places that a rule names and that need it no more.
fn idle(files: &[Source]) -> Vec<String> {
    let begins = |place: &str, word: &str| {
        let here = files.iter().filter(|file| file.path.starts_with(place));
        here.into_iter().any(|file| file.text.contains(word))
    };
    let rules = RULES.iter().flat_map(|rule| rule.only.iter().map(|place| (*place, rule.word)));
    let tests = IN_TESTS.iter().flat_map(|(word, only)| only.iter().map(|(at, _)| (*at, *word)));
    let unused = rules.chain(tests).filter(|(place, word)| !begins(place, word));
    unused.map(|(place, word)| format!("{place} needs no {word} any more")).collect()
}

#[test]
fn tests_are_run_and_do_not_wait_for_time_to_pass() {
    let found: Vec<String> = files().iter().flat_map(shaky).collect();
    none(&found);
}

#[test]
fn tests_name_the_exit_code_that_they_expect() {
    let tests = files().into_iter().filter(|file| file.path.starts_with("tests/"));
    let others = tests.filter(|file| !file.path.ends_with("/tidy/words.rs"));
    none(&others.flat_map(|file| any_failure(&file)).collect::<Vec<_>>());
    for line in ["assert_ne!(ran.code, Some(0));", "assert!(ran.code != Some(0) && x);"] {
        let file = Source { path: "tests/tests/x.rs".to_owned(), text: line.to_owned() };
        assert_eq!(any_failure(&file).len(), 1, "{line}");
    }
}

#[test]
fn every_exception_is_still_needed() {
    none(&idle(&files()));
}

#[test]
fn every_rule_finds_a_planted_word() {
    let file = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
    for rule in RULES {
        let text = format!("x\nlet x = {}();\n", rule.word);
        assert!(!out_of_place(&file("agent/src/planted.rs", &text)).is_empty(), "{}", rule.word);
        for place in rule.only {
            let path = if place.ends_with('/') { format!("{place}x.rs") } else { (*place).into() };
            assert_eq!(out_of_place(&file(&path, &text)), [""; 0], "{path}");
        }
    }
    for word in IMPURE {
        assert_eq!(out_of_place(&file("policies/src/x.rs", word)).len(), 1, "{word}");
    }
    for word in nowhere() {
        assert_eq!(forbidden(&file("docs/x.md", &word)).len(), 1, "{word}");
    }
    for (word, only) in IN_TESTS {
        let end = match word {
            _ if word.ends_with('(') => ");",
            _ if word.starts_with('#') => "]",
            _ => ";",
        };
        let text = format!("    {word}{end}\n");
        assert_eq!(shaky(&file("tests/tests/x.rs", &text)).len(), 1, "{word}");
        let within = format!("#[cfg(test)]\nmod tests {{\n{text}}}\n");
        assert_eq!(shaky(&file("agent/src/x.rs", &within)).len(), 1, "{word}");
        assert_eq!(shaky(&file("catalog/src/testing.rs", &text)).len(), 1, "{word}");
        let behind = format!("#[cfg(test)]\nmod tests;\n{text}");
        assert_eq!(shaky(&file("agent/src/x.rs", &behind)), [""; 0], "{word}");
        assert_eq!(shaky(&file("agent/src/x.rs", &text)), [""; 0], "{word}");
        for (place, _) in *only {
            assert_eq!(shaky(&file(place, &text)), [""; 0], "{place}");
        }
    }
    let count = RULES.iter().map(|rule| rule.only.len()).sum::<usize>()
        + IN_TESTS.iter().map(|(_, only)| only.len()).sum::<usize>();
    assert_eq!(idle(&[]).len(), count);
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
    let within = format!("// Command::new\n#[cfg(test)]\nmod tests {{\n{spawn}}}\n");
    assert_eq!(planted("agent/src/x.rs", &within), 0);
    // A test in the middle of a file does not end it.
    assert_eq!(planted("agent/src/x.rs", &format!("#[cfg(test)]\nmod tests;\n{spawn}")), 1);
    assert_eq!(planted("agent/model/src/x.rs", "use std::fs;\n"), 1);
    assert_eq!(planted("tests/src/x.rs", spawn), 0);
    let file = Source { path: "docs/x.md".into(), text: format!("see {}x", nowhere()[0]) };
    assert_eq!(forbidden(&file).len(), 1);
}
