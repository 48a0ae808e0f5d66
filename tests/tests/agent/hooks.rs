//! Programs before and after jobs: in order, in time, and a job that is not begun where one fails.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use drctl_tests::agent::Agent;
use drctl_tests::site::{Site, until};

use crate::common::{NEVER, Shop};

/// A hook that runs these lines of a shell, and notes first what it was told.
fn hook(site: &Site, name: &str, script: &str, more: &str) {
    let (path, notes) = (site.path(name), site.path("notes"));
    let what =
        "$DRCTL_ON $DRCTL_HOOK $DRCTL_JOB $DRCTL_SOURCE $DRCTL_OUTCOME $DRCTL_BACKUP$DRCTL_CODE";
    let text = format!(
        "#!/bin/sh\necho \"{what}\" >> {notes}\necho \"$DRCTL_RUN\" >> {notes}.run\n{script}\n",
        notes = notes.display()
    );
    fs::write(&path, text).expect("a script");
    fs::set_permissions(&path, Permissions::from_mode(0o700)).expect("it can be run");
    site.append(&format!("\n[hooks.{name}]\ncommand = [\"{}\"]\n{more}\n", path.display()));
}

/// What the hooks were told since the last time.
fn told(site: &Site) -> Vec<String> {
    let text = fs::read_to_string(site.path("notes")).unwrap_or_default();
    let _ = fs::remove_file(site.path("notes"));
    text.lines().map(|line| line.trim().to_owned()).collect()
}

/// Whether a process that noted its number there lives.
fn lives(noted: &Path) -> bool {
    let number = fs::read_to_string(noted).expect("a number");
    let stat = fs::read_to_string(format!("/proc/{}/stat", number.trim()));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn hooks_run_in_order_and_know_of_what() {
    let shop = Shop::open(NEVER);
    let site = &shop.site;
    hook(site, "b-second", "", "on = [\"before\", \"after\"]");
    hook(site, "a-first", "echo a word >&2", "on = [\"before\"]\nsources = [\"shop\"]");
    hook(site, "good", "", "on = [\"success\"]\njobs = [\"backup\", \"prune\"]");
    hook(site, "bad", "", "on = [\"failure\"]");
    let ran = site.drctl(&["backup", "shop"]).ended(0);
    assert!(ran.err.contains("a word"), "{}", ran.err);
    let list = site.json(0, &["list"]);
    let id = list["backups"][0]["backup"].as_str().expect("a backup").to_owned();
    let expected = [
        "before a-first backup shop".to_owned(),
        "before b-second backup shop".to_owned(),
        format!("success good backup shop succeeded {id}"),
        format!("after b-second backup shop succeeded {id}"),
    ];
    assert_eq!(told(site), expected);
    let runs = fs::read_to_string(site.path("notes.run")).unwrap();
    let runs: Vec<&str> = runs.lines().collect();
    assert!(runs[0].len() == 16 && runs.iter().all(|run| *run == runs[0]), "{runs:?}");
    // Who looks what would go removes nothing.
    site.retention("last = 1");
    let _ = site.backup();
    assert_eq!(told(site).len(), 4);
    let plan = site.json(0, &["prune", "shop"]);
    assert!(told(site).is_empty());
    let yes = format!("--yes={}", plan["sources"][0]["digest"].as_str().expect("a plan"));
    let _ = site.json(0, &["prune", "shop", &yes, "--backups", "1"]);
    assert_eq!(told(site), ["success good prune shop succeeded"]);
    // The agent's are the same.
    let agent = Agent::start(site);
    let _ = site.json(0, &["run", "shop"]);
    let _ = agent.job_is("backup", |job| job["last"]["outcome"] == "succeeded");
    let _ = agent.stop().ended(0);
    assert_eq!(told(site).len(), 4);
}

#[test]
fn a_job_is_not_begun_where_a_hook_fails_before_it_unless_that_is_wished_for() {
    let shop = Shop::open(NEVER);
    let site = &shop.site;
    hook(site, "mount", "echo no such disk >&2; exit 3", "on = [\"before\"]");
    hook(site, "next", "", "on = [\"before\"]");
    hook(site, "bad", "exit 1", "on = [\"success\", \"failure\", \"after\"]");
    let before = site.files("repository");
    let said = site.fails(1, "hook_failed", &["backup", "shop"]);
    assert!(said.contains("the hook mount failed") && said.contains("no such disk"), "{said}");
    let after: Vec<_> =
        site.files("repository").into_iter().filter(|path| !path.starts_with("a")).collect();
    assert_eq!(after, before, "nothing was written");
    let expected = [
        "before mount backup shop",
        "failure bad backup shop failed hook_failed",
        "after bad backup shop failed hook_failed",
    ];
    assert_eq!(told(site), expected);
    let status = site.json(0, &["status"]);
    let job = &status["sources"][0]["last_job"];
    assert!(job.to_string().contains("hook_failed"), "{job}");
    site.replace("on = [\"before\"]", "on = [\"before\"]\non_failure = \"go-on\"");
    let ran = site.drctl(&["backup", "shop"]).ended(0);
    assert!(ran.err.contains("begins all the same"), "{}", ran.err);
    assert!(ran.err.contains("which changes nothing of the backup"), "{}", ran.err);
    assert_eq!(site.manifests().len(), 1);
    assert_eq!(told(site).len(), 4);
}

#[test]
fn a_hook_that_does_not_end_is_killed_with_its_children() {
    let shop = Shop::open(NEVER);
    let site = &shop.site;
    let child = site.path("child");
    let script = format!("sleep 1000 & echo $! > {}; wait", child.display());
    hook(site, "hangs", &script, "on = [\"before\"]\ntimeout = \"1s\"");
    let said = site.fails(1, "hook_failed", &["backup", "shop"]);
    assert!(said.contains("it did not end within 1 s, and was killed"), "{said}");
    until("the hook's child to be gone", || !lives(&child));
    assert!(site.manifests().is_empty());
}

#[test]
fn an_agent_that_ends_ends_the_hook_that_runs() {
    let shop = Shop::open(NEVER);
    let site = &shop.site;
    let child = site.path("child");
    let script = format!("sleep 1000 & echo $! > {0}.new; mv {0}.new {0}; wait", child.display());
    hook(site, "hangs", &script, "on = [\"before\"]\ntimeout = \"1h\"");
    hook(site, "undo", "", "on = [\"after\"]");
    site.append("\n[agent]\nstop_timeout = \"1s\"\n");
    let agent = Agent::start(site);
    let _ = site.json(0, &["run", "shop"]);
    until("the hook to run", || child.exists());
    let _ = agent.stop().ended(0);
    until("the hook's child to be gone", || !lives(&child));
    assert_eq!(
        told(site),
        ["before hangs backup shop", "after undo backup shop stopped interrupted"]
    );
    assert!(site.manifests().is_empty());
}
