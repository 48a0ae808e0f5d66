//! On a terminal: `script` gives us one.

use std::io::Write as _;
use std::process::{Command, Stdio};

use drctl_tests::site::{Ran, Site, drctl};

use crate::{init_arguments, server_with};

/// Runs drctl on a terminal of 100 columns and types `input`; both outputs come as one.
fn on_terminal(site: &Site, arguments: &[&str], input: &str) -> Ran {
    let quoted: Vec<String> =
        arguments.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect();
    let line = format!("stty cols 100; '{}' {}", drctl().display(), quoted.join(" "));
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    script.env("DRCTL_CONFIG", site.config()).env("TERM", "xterm").env_remove("NO_COLOR");
    script.current_dir(site.path("")).stdin(Stdio::piped());
    script.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = script.spawn().expect("script is missing: apt-get install bsdutils");
    child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("type");
    Ran::of(&child.wait_with_output().expect("wait for script"))
}

#[test]
fn init_asks_for_what_is_missing() {
    let site = Site::empty();
    let all = init_arguments(&site);
    let (url, rest) = (all[2].clone(), &all[5..]);
    let mut arguments = vec!["init"];
    arguments.extend(rest.iter().map(String::as_str));
    // An empty answer is asked for again.
    let ran = on_terminal(&site, &arguments, &format!("\n{url}\nshop\n")).ended(0);
    assert_eq!(ran.out.matches("Repository (file:///DIR").count(), 2, "{}", ran.out);
    assert_eq!(ran.out.matches("Name of the first source").count(), 1, "{}", ran.out);
    assert!(ran.out.contains("next: `drctl doctor`, then `drctl backup shop`"), "{}", ran.out);
    let _ = site.drctl(&["config", "check"]).ended(0);
    assert!(site.path("kit.txt").exists());
    let other = Site::empty();
    let ran = on_terminal(&other, &["init"], "\u{4}").ended(2);
    assert!(ran.out.contains("no answer was given"), "{}", ran.out);
}

#[test]
fn a_backup_shows_a_bar_with_rate_and_time_left() {
    let server = server_with(400_000);
    let site = Site::with(&server);
    let ran = on_terminal(&site, &["backup", "shop"], "").ended(0);
    assert!(ran.out.contains("database shop ["), "a bar: {}", ran.out);
    assert!(ran.out.contains(" of ~") && ran.out.contains("iB/s"), "size and rate: {}", ran.out);
    assert!(ran.out.contains(" left"), "time left: {}", ran.out);
    for quiet in [&["--quiet", "backup", "shop"][..], &["--json", "backup", "shop"]] {
        let ran = on_terminal(&site, quiet, "").ended(0);
        assert!(!ran.out.contains("database shop ["), "{quiet:?}: {}", ran.out);
    }
}

#[test]
fn a_table_that_is_too_wide_for_the_terminal_becomes_blocks() {
    let server = server_with(100);
    let site = Site::with(&server);
    let id = site.backup();
    let ran = on_terminal(&site, &["list"], "").ended(0);
    let lines: Vec<&str> = ran.out.lines().map(str::trim_end).collect();
    assert_eq!(lines[0], id, "{}", ran.out);
    assert!(lines[1].starts_with("  source shop  kind logical"), "{}", ran.out);
    assert!(lines.iter().all(|line| line.chars().count() <= 100), "{}", ran.out);
    // A pipe has no width.
    let piped = site.drctl(&["list"]).ended(0).out;
    assert!(piped.starts_with("BACKUP ") && piped.lines().count() == 2, "{piped}");
}
