//! What the agent tells people: each thing once, its end too, and what nobody may believe without it.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::{Arc, Mutex};

use drctl_tests::agent::Agent;
use drctl_tests::servers::scripted::{Reply, Scripted};
use drctl_tests::site::{Site, until};
use serde_json::Value;

use crate::channels::{secret, url};
use crate::common::{NEVER, Shop};
use crate::metrics::{looked, told_at};
use crate::timed::Timed;

/// Somebody who is told by a webhook.
pub(crate) struct Person {
    heard: Arc<Mutex<Vec<Value>>>,
    server: Scripted,
}

impl Person {
    pub(crate) fn new() -> Self {
        let heard = Arc::<Mutex<Vec<Value>>>::default();
        let noted = Arc::clone(&heard);
        let server = Scripted::start(move |request| {
            let notice = serde_json::from_slice(&request.body).expect("JSON");
            noted.lock().expect("no panic").push(notice);
            Reply::new("204 No Content", "", "")
        });
        Person { heard, server }
    }

    /// Has the host tell him.
    pub(crate) fn channel(&self, site: &Site, name: &str) {
        let url = url(site, name, self.server.port());
        site.append(&format!(
            "\n[notify.{name}]\nkind = \"webhook\"\nallow_plain = true\nurl = {url}\n"
        ));
    }

    /// The same in PagerDuty's way.
    pub(crate) fn pager(&self, site: &Site, name: &str) {
        let (url, key) = (url(site, name, self.server.port()), secret(site, "routing", "k"));
        site.append(&format!(
            "\n[notify.{name}]\nkind = \"pagerduty\"\nallow_plain = true\nurl = {url}\nrouting_key = {key}\n"
        ));
    }

    /// Whether nothing that he was sent has these words.
    pub(crate) fn heard_nothing_of(&self, words: &str) -> bool {
        let heard = self.heard.lock().expect("no panic");
        assert!(!heard.is_empty(), "he was told something else");
        !heard.iter().any(|notice| notice.to_string().contains(words))
    }

    /// What he was told of a code so far: the events, in order.
    pub(crate) fn of(&self, code: &str) -> Vec<String> {
        let heard = self.heard.lock().expect("no panic");
        let of = heard.iter().filter(|notice| notice["code"] == code);
        of.map(|notice| notice["event"].as_str().expect("an event").to_owned()).collect()
    }

    /// Waits until the last thing that he heard of a code is this. To whose clock leaps while it tells something,
    /// that was not delivered in time: it tells it again.
    #[track_caller]
    pub(crate) fn hears_of(&self, code: &str, event: &str) -> Value {
        let is_it = || self.of(code).last().is_some_and(|last| last == event);
        until(&format!("{code} {event}, heard {:?}", self.of(code)), is_it);
        let heard = self.heard.lock().expect("no panic");
        heard.iter().rfind(|notice| notice["code"] == code).expect("one").clone()
    }

    #[track_caller]
    pub(crate) fn hears(&self, code: &str, events: &[&str]) -> Value {
        until(&format!("{code} {events:?}, heard {:?}", self.of(code)), || {
            self.of(code).len() >= events.len()
        });
        assert_eq!(self.of(code), events, "{code}");
        let heard = self.heard.lock().expect("no panic");
        heard.iter().rfind(|notice| notice["code"] == code).expect("one").clone()
    }
}

/// Lets an agent of this host run a backup, which the next look follows.
pub(crate) fn run(shop: &Shop, agent: &Agent<'_>, outcome: &str) {
    let begin = || drop(shop.site.json(0, &["run", "shop"]));
    let _ = agent.ends_anew("backup", outcome, begin);
}

/// Takes the catalog away under a running agent, which makes another one with its next backup.
fn loses_its_catalog(shop: &Shop, timed: &Timed<'_>) {
    for file in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
        let _ = fs::remove_file(shop.site.path(&format!("state/{file}")));
    }
    run(shop, &timed.agent, "succeeded");
    timed.looks_again();
}

#[test]
fn what_was_told_stands_while_a_host_does_not_know_what_it_knew() {
    let shop = Shop::open(NEVER);
    let person = Person::new();
    person.channel(&shop.site, "dba");
    let timed = Timed::start(&shop.site);
    run(&shop, &timed.agent, "succeeded");
    run(&shop, &timed.agent, "succeeded");
    let newest = shop.site.rows()[0]["backup"].as_str().expect("an identifier").to_owned();
    fs::remove_file(shop.site.path(&format!("repository/s/shop/b/{newest}/manifest.json")))
        .unwrap();
    timed.looks_again();
    let _ = person.hears_of("object_gone", "begun");
    loses_its_catalog(&shop, &timed);
    let _ = person.hears_of("catalog_unknown", "begun");
    assert!(!person.of("object_gone").contains(&"recovered".to_owned()), "nobody knows of it");
    // Somebody takes note; its data lie there still.
    let _ = shop.site.json(3, &["catalog", "rebuild"]);
    timed.looks_again();
    let _ = person.hears_of("catalog_unknown", "recovered");
    let _ = person.hears_of("object_gone", "recovered");
    assert!(shop.site.told("catalog_unknown").is_empty());
    loses_its_catalog(&shop, &timed);
    let _ = person.hears_of("catalog_unknown", "begun");
    let _ = timed.agent.stop().ended(0);
}

#[test]
fn what_is_amiss_is_told_once_and_its_end_too_whichever_agent_runs() {
    let shop = Shop::open(NEVER);
    let person = Person::new();
    person.channel(&shop.site, "dba");
    let agent = Agent::start(&shop.site);
    let notice = person.hears("no_good_backup", &["begun"]);
    assert_eq!((&notice["severity"], &notice["source"]), (&"breached".into(), &"shop".into()));
    assert!(notice["safe"].as_str().unwrap().contains("no good backup"), "{notice}");
    // Another agent looks as well, and has nothing new to tell.
    let _ = agent.stop().ended(0);
    let agent = Agent::start(&shop.site);
    until("a look", || !shop.site.json(0, &["jobs"])["looked"].is_null());
    run(&shop, &agent, "succeeded");
    let _ = person.hears("no_good_backup", &["begun", "recovered"]);
    let _ = agent.stop().ended(0);
    // The bucket is gone, and comes back.
    let (there, away) = (shop.site.path("repository"), shop.site.path("away"));
    fs::rename(&there, &away).unwrap();
    let agent = Agent::start(&shop.site);
    let notice = person.hears("bucket_unreadable", &["begun"]);
    assert!(notice["safe"].as_str().unwrap().contains("as far as this host remembers"), "{notice}");
    fs::rename(&away, &there).unwrap();
    run(&shop, &agent, "succeeded");
    let _ = person.hears("bucket_unreadable", &["begun", "recovered"]);
    assert_eq!(person.of("no_good_backup"), ["begun", "recovered"], "nothing of it was told again");
}

#[test]
fn a_run_that_is_given_up_is_told_until_one_comes_to_its_end() {
    let (shop, tools) = Shop::with_tools("* * * * *");
    shop.policy("attempts = ", "attempts = 1");
    let person = Person::new();
    person.channel(&shop.site, "dba");
    tools.set("pg_dump", "exit 1");
    let agent = Agent::start(&shop.site);
    agent.is_due("backup");
    agent.says("gave up");
    let notice = person.hears("gave_up", &["begun"]);
    assert_eq!((&notice["subject"], &notice["run"]), (&"backup".into(), &"drctl jobs".into()));
    let _ = person.hears("job_failed", &["begun"]);
    // A new agent does not know of it any more: that is no end of it.
    let _ = agent.stop().ended(0);
    shop.policy("schedule = ", &format!("schedule = \"{NEVER}\""));
    let agent = Agent::start(&shop.site);
    until("a look", || !shop.site.json(0, &["jobs"])["looked"].is_null());
    run(&shop, &agent, "failed");
    assert_eq!(person.of("gave_up"), ["begun"]);
    tools.honest("pg_dump");
    run(&shop, &agent, "succeeded");
    let _ = person.hears("gave_up", &["begun", "recovered"]);
    let _ = person.hears("job_failed", &["begun", "recovered"]);
}

#[test]
fn a_configuration_that_is_not_taken_is_told() {
    let shop = Shop::open(NEVER);
    let person = Person::new();
    person.channel(&shop.site, "dba");
    let agent = Agent::start(&shop.site);
    let _ = person.hears("no_good_backup", &["begun"]);
    let good = fs::read_to_string(shop.site.config()).unwrap();
    shop.site.append("\n[agent]\nnice = 99\n");
    agent.signal(rustix::process::Signal::HUP);
    let notice = person.hears("configuration_refused", &["begun"]);
    let text = notice["text"].as_str().unwrap();
    assert!(text.contains("nice") && !text.contains("\\n"), "{notice}");
    fs::write(shop.site.config(), good).unwrap();
    agent.signal(rustix::process::Signal::HUP);
    let notice = person.hears("configuration_refused", &["begun", "recovered"]);
    assert!(
        notice["text"].as_str().unwrap().contains("uses the configuration on disk"),
        "{notice}"
    );
}

#[test]
fn losses_are_told_again_when_they_grow_and_not_as_over_while_they_stand() {
    let shop = Shop::open(NEVER);
    for _ in 0..4 {
        let _ = shop.site.backup();
    }
    let manifests = shop.site.manifests();
    let remove = |at: usize| {
        fs::remove_file(shop.site.path("repository").join(&manifests[at])).expect("a manifest");
    };
    let person = Person::new();
    person.channel(&shop.site, "dba");
    remove(1);
    let agent = Agent::start(&shop.site);
    let first = person.hears("object_gone", &["begun"]);
    // One that comes after it, and one that comes before it.
    for (gone, events) in [(2, &["begun"; 2][..]), (0, &["begun"; 3][..])] {
        remove(gone);
        run(&shop, &agent, "succeeded");
        let notice = person.hears("object_gone", events);
        assert!(notice["text"].as_str().unwrap().starts_with("More: "), "{notice}");
        assert_eq!((&notice["key"], &notice["subject"]), (&first["key"], &"".into()));
    }
}

#[test]
fn a_program_that_hangs_ends_with_the_agent_and_its_children_too() {
    let shop = Shop::open(NEVER);
    let (script, child) = (shop.site.path("tell"), shop.site.path("child"));
    let text = format!(
        "#!/bin/sh\n/usr/bin/sleep 1000 &\necho $! > {0}.new\nmv {0}.new {0}\nwait\n",
        child.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    shop.site.append(&format!(
        "\n[notify.program]\nkind = \"command\"\ncommand = [\"{}\"]\n",
        script.display()
    ));
    let agent = Agent::start(&shop.site);
    until("the program to run", || child.exists());
    let place = format!("/proc/{}/cmdline", fs::read_to_string(&child).unwrap().trim());
    // Until then it is a shell, as the program is.
    until("its child to sleep", || fs::read_to_string(&place).unwrap().contains("sleep"));
    let _ = agent.stop().ended(0);
    until("its child to be gone", || fs::read_to_string(&place).unwrap_or_default().is_empty());
}

#[test]
fn metrics_that_are_told_nowhere_are_told_to_people() {
    let shop = Shop::open(NEVER);
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    shop.site.append(&format!("\n[agent]\nmetrics = \"127.0.0.1:{port}\"\n"));
    let person = Person::new();
    person.channel(&shop.site, "dba");
    let _agent = Agent::start(&shop.site);
    let notice = person.hears("metrics_fail", &["begun"]);
    assert!(notice["text"].as_str().unwrap().contains(&port.to_string()), "{notice}");
}

#[test]
fn a_channel_that_hangs_holds_up_neither_the_agent_nor_another_channel() {
    let shop = Shop::open(NEVER);
    let (silent, person) = (Scripted::silent(), Person::new());
    let hangs = url(&shop.site, "a-hangs", silent.port());
    shop.site.append(&format!(
        "\n[notify.a-hangs]\nkind = \"webhook\"\nallow_plain = true\nurl = {hangs}\n"
    ));
    person.channel(&shop.site, "dba");
    let agent = Agent::start(&shop.site);
    let _ = person.hears("no_good_backup", &["begun"]);
    assert!(silent.heads().len() < 3, "it is told while the other one is still tried");
    until("the other one to be tried", || !silent.heads().is_empty());
    run(&shop, &agent, "succeeded");
    let _ = person.hears("no_good_backup", &["begun", "recovered"]);
    assert!(!agent.said().contains("T0PSECRET"), "{}", agent.said());
    let _ = agent.stop().ended(0);
}

/// Pings: the way and what stands behind `rid=`, in order.
fn pings(server: &Scripted) -> Vec<(String, String)> {
    let path = |head: &String| {
        let line = head.lines().next()?.strip_prefix("post ")?.split(' ').next()?.to_owned();
        let (path, run) = line.split_once("?rid=").unwrap_or((&line, ""));
        Some((path.to_owned(), run.to_owned()))
    };
    server.heads().iter().filter_map(path).collect()
}

#[test]
fn a_dead_mans_ping_is_sent_for_a_good_backup_that_lies_there_and_for_nothing_else() {
    let (shop, tools) = Shop::with_tools(NEVER);
    shop.policy("attempts = ", "attempts = 1");
    let bucket = shop.site.path("repository");
    let lies_there = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&lies_there);
    let server = Scripted::start(move |heard| {
        if heard.head.starts_with("POST /shop?") {
            let found = Command::new("find").arg(&bucket).args(["-name", "manifest.json"]).output();
            noted.lock().unwrap().push(!found.unwrap().stdout.is_empty());
        }
        Reply::new("200 OK", "", "OK")
    });
    let at = |name: &str| {
        secret(&shop.site, name, &format!("http://127.0.0.1:{}/{name}\n", server.port()))
    };
    let (of_agent, of_shop) = (at("agent"), at("shop"));
    shop.site.source(&format!("ping_url = {of_shop}"));
    shop.site.append(&format!("\n[agent]\nping_url = {of_agent}\n"));
    let agent = Agent::start(&shop.site);
    until("a sign of life", || pings(&server).contains(&("/agent".to_owned(), String::new())));
    let of_shop = || -> Vec<(String, String)> {
        pings(&server).into_iter().filter(|(path, _)| path.starts_with("/shop")).collect()
    };
    let expect = |paths: &[&str]| {
        until(&format!("{paths:?}: {:?}", of_shop()), || of_shop().len() >= paths.len());
        let found: Vec<String> = of_shop().into_iter().map(|(path, _)| path).collect();
        assert_eq!(found, paths);
    };
    run(&shop, &agent, "succeeded");
    expect(&["/shop/start", "/shop"]);
    let sent = of_shop();
    assert!(sent[0].1.len() == 36 && sent[0].1 == sent[1].1, "one run: {sent:?}");
    until("the look into the bucket", || !lies_there.lock().unwrap().is_empty());
    assert!(lies_there.lock().unwrap().iter().all(|found| *found), "it lies there by then");
    tools.set("pg_dump", "exit 1");
    run(&shop, &agent, "failed");
    expect(&["/shop/start", "/shop", "/shop/start", "/shop/fail"]);
    tools.honest("pg_dump");
    shop.server.psql("postgres", "truncate orders");
    run(&shop, &agent, "succeeded");
    expect(&["/shop/start", "/shop", "/shop/start", "/shop/fail", "/shop/start", "/shop/fail"]);
    let sent = of_shop();
    assert_ne!(sent[0].1, sent[2].1, "another run");
}

#[test]
fn a_test_message_that_nobody_acknowledges_is_told_by_others() {
    let shop = Shop::open(NEVER);
    let (one, other) = (Person::new(), Person::new());
    one.channel(&shop.site, "one");
    other.channel(&shop.site, "other");
    let agent = Agent::start(&shop.site);
    let code = |person: &Person| {
        let test = person.hears("test", &["test"]);
        let text = test["text"].as_str().unwrap().to_owned();
        let code = text.split("drctl notify ack ").nth(1).expect("a code");
        code.chars().take_while(char::is_ascii_alphanumeric).collect::<String>()
    };
    let (of_one, of_other) = (code(&one), code(&other));
    let _ = agent.stop().ended(0);
    let said = shop.site.fails(2, "usage", &["notify", "ack", "NOSUCH"]);
    assert!(said.contains("NOSUCH"), "{said}");
    let answer = shop.site.json(0, &["notify", "ack", &of_other.to_lowercase()]);
    assert_eq!(answer["channel"], "other");
    let unanswered = || shop.site.json(0, &["status"])["notifications"].clone();
    assert_eq!(unanswered(), serde_json::json!([]));
    let catalog = shop.site.path("state/catalog.db");
    let sql =
        "UPDATE alert_tests SET sent = strftime('%Y-%m-%dT%H:%M:%S.000000000Z', 'now', '-8 days')";
    let done = Command::new("sqlite3").arg(&catalog).arg(sql).status().expect("sqlite3");
    assert!(done.success());
    assert_eq!(unanswered()[0]["channel"], "one");
    let port = told_at(&shop.site);
    let agent = Agent::start(&shop.site);
    let answered =
        |channel| format!("drctl_alert_path_last_ack_timestamp_seconds{{channel=\"{channel}\"}}");
    let seen = looked(port);
    assert!(
        seen.contains_key(&answered("other")) && !seen.contains_key(&answered("one")),
        "{seen:?}"
    );
    let notice = other.hears("alert_path", &["begun"]);
    assert_eq!(notice["subject"], "one");
    assert!(one.of("alert_path").is_empty(), "nobody is told there that nobody is told there");
    let _ = agent.stop().ended(0);
    let _ = shop.site.json(0, &["notify", "ack", &of_one]);
    assert_eq!(unanswered(), serde_json::json!([]));
    let _agent = Agent::start(&shop.site);
    let _ = other.hears("alert_path", &["begun", "recovered"]);
}
