//! Programs before and after jobs: in order, in time, and a job that is not begun where one fails.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use drctl_tests::agent::Agent;
use drctl_tests::servers::authority::Authority;
use drctl_tests::servers::scripted::{Reply, Scripted};
use drctl_tests::servers::told::Told;
use drctl_tests::site::{Site, until};
use serde_json::Value;

use crate::channels::{place, secret, signed, url};
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
    let begin = || drop(site.json(0, &["run", "shop"]));
    let _ = agent.ends_anew("backup", "succeeded", begin);
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
    assert!(
        ran.err.contains("failed after the backup, which changes nothing of how that ended"),
        "{}",
        ran.err
    );
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

#[test]
fn requests_are_sent_before_and_after_a_job_and_are_signed() {
    let shop = Shop::open(NEVER);
    let site = &shop.site;
    let (server, came) = place();
    let authority = Authority::new();
    let web = Told::web(&authority);
    fs::write(site.path("ca.pem"), authority.certificate()).expect("a certificate");
    let (at, key) = (url(site, "hook", server.port()), secret(site, "key", "k3y"));
    let tls = secret(site, "tls", &format!("https://localhost:{}/", web.port()));
    site.append(&format!(
        "\n[hooks.all]\nurl = {at}\nhmac_key = {key}\nallow_plain = true\n\
         on = [\"before\", \"success\", \"failure\", \"after\"]\n\
         [hooks.safe]\nurl = {tls}\nca_file = \"{}\"\non = [\"before\"]\n",
        site.path("ca.pem").display()
    ));
    let _ = site.drctl(&["backup", "shop"]).ended(0);
    let list = site.json(0, &["list"]);
    let id = list["backups"][0]["backup"].clone();
    let heard = came.lock().unwrap().clone();
    heard.iter().for_each(signed);
    let told: Vec<Value> =
        heard.iter().map(|(_, body)| serde_json::from_str(body).expect("JSON")).collect();
    let moments: Vec<&str> = told.iter().filter_map(|one| one["on"].as_str()).collect();
    assert_eq!(moments, ["before", "success", "after"], "{told:?}");
    for one in &told {
        let what = (&one["schema"], &one["hook"], &one["job"], &one["source"], &one["run"]);
        let run = &told[0]["run"];
        let expected =
            (&"drctl.hook/1".into(), &"all".into(), &"backup".into(), &"shop".into(), run);
        assert_eq!(what, expected);
        assert!(
            one["host"].is_string() && run.as_str().is_some_and(|run| run.len() == 16),
            "{one}"
        );
    }
    assert!(told[0]["outcome"].is_null() && told[0]["backup"].is_null(), "{told:?}");
    assert_eq!((&told[1]["outcome"], &told[1]["backup"]), (&"succeeded".into(), &id), "{told:?}");
}

#[test]
fn a_request_that_fails_before_a_job_stops_it_within_its_time() {
    let shop = Shop::open(NEVER);
    let site = &shop.site;
    let silent = Scripted::silent();
    let elsewhere = place();
    let location = format!("location: http://127.0.0.1:{}/\r\n", elsewhere.0.port());
    let redirect = Scripted::start(move |_| Reply::new("302 Found", &location, ""));
    let refuses = Scripted::start(|_| Reply::new("503 Service Unavailable", "", "T0PSECRET"));
    let good = fs::read_to_string(site.config()).expect("a configuration");
    for (port, more, why) in [
        (silent.port(), "allow_plain = true\ntimeout = \"1s\"", "no answer in time"),
        (redirect.port(), "allow_plain = true", "302"),
        (refuses.port(), "allow_plain = true", "503"),
        (refuses.port(), "", "https://"),
    ] {
        let at = url(site, "hook", port);
        site.append(&format!("\n[hooks.asks]\nurl = {at}\non = [\"before\"]\n{more}\n"));
        let said = site.fails(1, "hook_failed", &["backup", "shop"]);
        assert!(said.contains("the hook asks failed") && said.contains(why), "{why}: {said}");
        assert!(!said.contains("T0PSECRET"), "{said}");
        fs::write(site.config(), &good).expect("as before");
    }
    assert!(site.manifests().is_empty() && elsewhere.1.lock().unwrap().is_empty());
}

#[test]
fn doctor_tells_of_a_hook_that_could_not_run_and_runs_none() {
    let shop = Shop::open(NEVER);
    let site = &shop.site;
    let open = site.path("open.url");
    fs::write(&open, "http://127.0.0.1:1/").expect("an address");
    fs::set_permissions(&open, Permissions::from_mode(0o600)).expect("it is private");
    for (name, does, on) in [
        ("gone", "command = [\"/no/such/program\"]".to_owned(), "before"),
        ("late", "command = [\"/no/such/program\"]".to_owned(), "after"),
        ("open", format!("url = {{ file = \"{}\" }}", open.display()), "after"),
        ("lost", "url = { file = \"/no/such/url\" }".to_owned(), "before"),
    ] {
        site.append(&format!("\n[hooks.{name}]\n{does}\non = [\"{on}\"]\n"));
    }
    hook(site, "good", "", "on = [\"before\"]");
    let text = site.path("text");
    fs::write(&text, "no program").expect("a file");
    site.append(&format!(
        "\n[hooks.text]\ncommand = [\"{}\"]\non = [\"before\"]\n",
        text.display()
    ));
    for (name, script) in [("lone", "#!/no/such/shell\n"), ("empty", "")] {
        hook(site, name, "", "on = [\"before\"]");
        fs::write(site.path(name), script).expect("a script");
    }
    // Who can change what interprets a script runs what he likes, however far behind it stands.
    for (name, by, mode) in
        [("open.sh", "/bin/sh", 0o777), ("between", "open.sh", 0o700), ("behind", "between", 0o700)]
    {
        let by = if by.starts_with('/') { by.into() } else { site.path(by) };
        fs::write(site.path(name), format!("#!{}\n", by.display())).expect("a script");
        fs::set_permissions(site.path(name), Permissions::from_mode(mode)).expect("its mode");
    }
    site.append(&format!(
        "\n[hooks.behind]\ncommand = [\"{}\"]\non = [\"before\"]\n",
        site.path("behind").display()
    ));
    let pipe = site.path("pipe.url");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    site.append(&format!(
        "\n[hooks.pipe]\nurl = {{ file = \"{}\" }}\non = [\"before\"]\n",
        pipe.display()
    ));
    let found = site.json(1, &["doctor"]);
    let level = |name: &str| {
        let check = format!("hooks.{name}");
        let all = found["findings"].as_array().expect("findings").iter();
        let one = all.filter(|one| one["check"] == check.as_str()).map(|one| one["level"].clone());
        one.collect::<Vec<Value>>()
    };
    for (name, expected) in [
        ("gone", "bad"),
        ("late", "warning"),
        ("open", "warning"),
        ("lost", "bad"),
        ("good", "good"),
        ("text", "bad"),
        ("lone", "bad"),
        ("empty", "bad"),
        ("pipe", "bad"),
        ("behind", "bad"),
    ] {
        assert_eq!(level(name), [expected], "{name}: {found}");
    }
    assert!(told(site).is_empty(), "one was run");
}
