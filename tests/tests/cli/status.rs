use std::process::Stdio;
use std::time::{Duration, Instant};

use drctl_tests::envelope::resign;
use drctl_tests::servers::scripted::{Reply, Scripted};
use drctl_tests::site::Site;
use jiff::SignedDuration;

use crate::server_with;

/// Signs a backup anew, as if it had begun so much earlier.
fn make_older(site: &Site, id: &str, by: SignedDuration) {
    resign(site, id, |manifest| {
        manifest.started -= by;
        manifest.finished -= by;
    });
}

#[test]
fn a_breached_objective_is_11() {
    let server = server_with(100);
    let site = Site::with(&server);
    let _ = site.drctl(&["catalog", "rebuild"]).ended(0);
    let told = site.drctl(&["status", "--check"]).ended(11);
    assert!(told.out.contains("no good backup"), "{}", told.out);
    let id = site.backup();
    let _ = site.drctl(&["status", "--check"]).ended(0);
    // The sample's RPO is 26 hours.
    make_older(&site, &id, SignedDuration::from_hours(25));
    let _ = site.drctl(&["catalog", "rebuild"]).ended(0);
    let _ = site.drctl(&["status", "--check"]).ended(0);
    make_older(&site, &id, SignedDuration::from_hours(2));
    let told = site.drctl(&["catalog", "check"]).ended(4);
    assert!(told.out.contains("1 different"), "{}", told.out);
    let _ = site.drctl(&["catalog", "rebuild"]).ended(0);
    let told = site.drctl(&["status", "--check"]).ended(11);
    assert!(
        told.out.contains("older than the RPO of 26h: run `drctl backup shop`"),
        "{}",
        told.out
    );
    let status = site.json(0, &["status"]);
    assert_eq!(status["sources"][0]["health"], "breached");
    let _ = site.backup();
    let _ = site.drctl(&["status", "--check"]).ended(0);
}

/// Has a site look for its bucket where nobody answers. A request may take longer than whoever looks
/// waits for an answer.
fn ask(site: &Site, silent: &Scripted) {
    let url = format!("url = \"file://{}\"", site.path("repository").display());
    let away = format!(
        "url = \"s3://bucket/below\"\nendpoint = \"http://127.0.0.1:{}\"\nallow_http = true\n\
         request_timeout = \"1s\"\naccess_key_id = {{ env = \"KEY\" }}\n\
         secret_access_key = {{ env = \"KEY\" }}",
        silent.port()
    );
    site.replace(&url, &away);
}

#[test]
fn a_bucket_that_does_not_answer_is_told_in_bounded_time() {
    let server = server_with(100);
    let site = Site::with(&server);
    let _ = site.backup();
    let _ = site.drctl(&["status", "--check"]).ended(0);
    let silent = Scripted::silent();
    ask(&site, &silent);
    let begun = Instant::now();
    let ran = site.command(&["status", "--check"]).env("KEY", "key").output().expect("start it");
    let (took, told) = (begun.elapsed(), String::from_utf8_lossy(&ran.stdout));
    assert_eq!(ran.status.code(), Some(3), "{told}{}", String::from_utf8_lossy(&ran.stderr));
    assert!(
        told.contains("the bucket cannot be read (it does not answer, or is very slow"),
        "{told}"
    );
    assert!(took < Duration::from_secs(30), "{took:?}");
}

#[test]
fn commands_that_look_say_that_a_bucket_does_not_answer_and_end() {
    let server = server_with(100);
    let site = Site::with(&server);
    let id = site.backup();
    let silent = Scripted::silent();
    ask(&site, &silent);
    let plan = ["restore", "shop", "--latest", "--to-files", "f", "--plan"];
    let looks: [(&[&str], i32); 13] = [
        (&["when", "shop"], 8),
        (&["accept", &id], 8),
        (&["keys", "test"], 8),
        (&["verify", "--data"], 8),
        (&["catalog", "rebuild"], 8),
        (&["catalog", "forget", "shop"], 8),
        (&["list"], 3),
        (&["show", &id], 8),
        (&["timeline", "shop"], 8),
        (&["doctor", "shop"], 8),
        (&["catalog", "check"], 8),
        (&["verify"], 8),
        (&plan, 8),
    ];
    let begun = Instant::now();
    let running: Vec<_> = looks
        .iter()
        .map(|(look, _)| {
            let mut command = site.command(look);
            command.env("KEY", "key").stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().expect("start it")
        })
        .collect();
    for (child, (look, code)) in running.into_iter().zip(looks) {
        let ran = child.wait_with_output().expect("its end");
        let said = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(code), "{look:?}: {said}");
        // Who reads data waits for one request more.
        let data = ["when", "--data"].iter().any(|word| look.contains(word));
        let bound = format!("drctl waits up to {} s", if data { 11 } else { 10 });
        assert!(said.contains(&format!("does not answer: {bound}")), "{look:?}: {said}");
        let told = String::from_utf8_lossy(&ran.stdout);
        assert!(code != 0 || told.contains(&id) && told.contains("has not answered"), "{told}");
    }
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[test]
fn a_bucket_that_answers_byte_by_byte_does_not_answer() {
    let server = server_with(100);
    let site = Site::with(&server);
    let id = site.backup();
    let slow = Scripted::start(|_| {
        let Reply::Stalls(head) = Reply::object(99, "") else { unreachable!() };
        Reply::Trickles(head, Duration::from_millis(300))
    });
    ask(&site, &slow);
    let begun = Instant::now();
    for look in [&["when", "shop"][..], &["accept", &id], &["keys", "test"], &["verify", "--data"]]
    {
        let ran = site.command(look).env("KEY", "key").output().expect("start it");
        let said = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(8), "{look:?}: {said}");
        assert!(said.contains("does not answer"), "{look:?}: {said}");
    }
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}

#[test]
fn a_failure_and_a_suspect_backup_need_attention() {
    let server = server_with(100);
    let site = Site::with(&server);
    let good = site.backup();
    server.psql("shop", "CREATE TABLE kept AS TABLE orders; TRUNCATE orders; TRUNCATE kept");
    let _ = site.drctl(&["backup", "shop"]).ended(3);
    let suspect = site.rows()[0]["backup"].as_str().expect("an identifier").to_owned();
    assert!(site.finds("backup_suspect", &suspect), "kept as soon as it is there");
    let told = site.drctl(&["status", "--check"]).ended(3);
    assert!(told.out.contains("is suspect (no table in it holds a row)"), "{}", told.out);
    assert!(told.out.contains(&good), "the last good one counts: {}", told.out);
    let told = site.told("backup_suspect");
    assert_eq!((told.len(), &told[0]["severity"]), (1, &"warning".into()), "{told:?}");
    assert_eq!(told[0]["subject"], suspect.as_str(), "{told:?}");
    assert!(told[0]["since"].is_string(), "{told:?}");
    assert_eq!(site.told("backup_suspect"), told, "since when it is so does not change");
    let plan = site.json(0, &["restore", "shop", "--latest", "--to-files", "f", "--plan"]);
    assert_eq!(plan["backup"], good.as_str(), "a suspect one is passed over");
    server.psql("shop", "INSERT INTO orders VALUES (1)");
    let _ = site.backup();
    assert!(!site.finds("backup_suspect", &suspect), "settled by the next good one");
    let _ = site.drctl(&["status", "--check"]).ended(0);
    assert!(site.told("backup_suspect").is_empty(), "another one is the newest");
    site.replace(&format!("port = {}", server.port()), "port = 1");
    let _ = site.drctl(&["backup", "shop"]).ended(10);
    let told = site.drctl(&["status", "--check"]).ended(3);
    assert!(told.out.contains("the last backup failed: cannot reach"), "{}", told.out);
    assert_eq!(site.told("job_failed").len(), 1, "{}", site.status());
    let _ = site.drctl(&["status"]).ended(0);
}
