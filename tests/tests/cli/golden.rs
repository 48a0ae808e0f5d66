//! What the program says of itself, word by word. `DRCTL_BLESS=1` writes it anew.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use drctl::cli::Cli;
use drctl_tests::site::Site;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/golden")
}

/// Compares with the file of that name, or writes it when it is blessed.
fn compare(name: &str, found: &str) {
    let path = folder().join(name);
    if std::env::var_os("DRCTL_BLESS").is_some() {
        fs::write(&path, found).expect("write what is golden");
        return;
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, golden, "{name}: DRCTL_BLESS=1 accepts what is new");
}

/// Every command with its words, the program itself first.
fn commands(command: &clap::Command, words: &[String], found: &mut Vec<Vec<String>>) {
    found.push(words.to_vec());
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        commands(verb, &[words, &[verb.get_name().to_owned()]].concat(), found);
    }
}

#[test]
fn help_is_as_it_was() {
    let mut all = Vec::new();
    commands(&Cli::command(), &[], &mut all);
    assert!(all.len() >= 22, "{all:?}");
    let site = Site::empty();
    let mut names = BTreeSet::new();
    for words in all {
        let help = [words.clone(), vec!["--help".to_owned()]].concat();
        let mut command = site.command(&help);
        command.env_remove("DRCTL_CONFIG").env_remove("COLUMNS");
        let output = command.output().expect("start drctl");
        assert!(output.status.success() && output.stderr.is_empty(), "{words:?}");
        let name = [vec!["drctl".to_owned()], words].concat().join("-") + ".txt";
        compare(&name, &String::from_utf8(output.stdout).expect("UTF-8"));
        names.insert(name);
    }
    let entries = fs::read_dir(folder()).expect("the golden folder");
    let kept = entries.map(|entry| entry.expect("an entry").file_name().into_string());
    let kept: BTreeSet<String> = kept.map(|name| name.expect("UTF-8")).collect();
    assert_eq!(kept, names, "a golden file for every command, and no other");
}

#[test]
fn the_short_help_is_shorter() {
    let site = Site::empty();
    let (short, long) = (site.drctl(&["-h"]).ended(0), site.drctl(&["--help"]).ended(0));
    assert!(short.out.len() < long.out.len());
    assert!(short.out.contains("Exit codes: 0 success"), "{}", short.out);
}
