//! What people hear of each kind of trouble, and that it is over. Time goes by at a test's word: the agent looks
//! by itself, every five minutes of its own clock, and so nobody waits for that.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use drctl_tests::agent::Agent;
use drctl_tests::fake::Tools;
use drctl_tests::servers::free_port;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::servers::scripted::{Reply, Scripted};
use drctl_tests::site::until;
use serde_json::Value;

use crate::channels::{Came, place, secret, url};
use crate::clock::backed_up_days_ago;
use crate::common::{NEVER, Shop};
use crate::log_index::site;
use crate::timed::Timed;
use crate::told::{Person, run};

/// A text that an object has.
fn words<'a>(notice: &'a Value, field: &str) -> &'a str {
    notice[field].as_str().unwrap_or_else(|| panic!("no {field} in {notice}"))
}

/// Waits until that is told as over, and asserts that it is the same thing that begun.
#[track_caller]
fn is_over(person: &Person, begun: &Value) {
    let code = words(begun, "code");
    let over = person.hears(code, &["begun", "recovered"]);
    for field in ["key", "source", "subject", "severity"] {
        assert_eq!(over[field], begun[field], "{over}");
    }
    assert!(words(&over, "text").starts_with("It is over."), "{over}");
    // What was told of it is told again, as far as that is kept.
    let before: String = words(begun, "text").chars().take(100).collect();
    assert!(words(&over, "text").contains(&before), "{over}");
}

#[test]
fn a_backup_that_is_suspect_is_told_until_somebody_accepts_it() {
    let shop = Shop::open(NEVER);
    let good = shop.site.backup();
    let person = Person::new();
    person.channel(&shop.site, "dba");
    let timed = Timed::start(&shop.site);
    shop.server.psql("postgres", "truncate orders");
    run(&shop, &timed.agent, "succeeded");
    let begun = person.hears("backup_suspect", &["begun"]);
    let rows = shop.site.rows();
    let mut others = rows.iter().map(|row| words(row, "backup")).filter(|id| *id != good);
    let suspect = others.next().expect("another backup").to_owned();
    assert_eq!(
        (&begun["severity"], &begun["source"], &begun["subject"]),
        (&"attention".into(), &"shop".into(), &suspect.as_str().into())
    );
    let text = words(&begun, "text");
    assert!(text.contains("no table in it holds a row"), "{begun}");
    assert!(text.contains(&format!("`drctl accept {suspect}`")), "{begun}");
    assert!(words(&begun, "safe").contains(&good), "{begun}");
    assert!(shop.site.finds("backup_suspect", &suspect));
    // It is not over because time goes by.
    timed.looks_again();
    let _ = person.hears("backup_suspect", &["begun"]);
    let _ = shop.site.json(0, &["accept", &suspect]);
    timed.looks_again();
    is_over(&person, &begun);
    assert!(shop.site.told("backup_suspect").is_empty());
    let _ = timed.agent.stop().ended(0);
}

/// A shop whose last backup is three days old, and who is to hear of it; the next backup halts in the middle.
fn late() -> (Shop, Tools, Person) {
    let shop = Shop::open("0 2 * * *");
    backed_up_days_ago(&shop, 3);
    let tools = Tools::of(&shop.server);
    shop.site.source(&tools.line());
    tools.pause("pg_dump", 10);
    let person = Person::new();
    person.channel(&shop.site, "dba");
    (shop, tools, person)
}

#[test]
fn more_that_would_be_lost_than_may_be_is_told_until_there_is_a_backup() {
    let (shop, tools, person) = late();
    let policy = fs::read_to_string(shop.policy_file()).unwrap();
    fs::write(shop.policy_file(), format!("{policy}\n[objectives]\nrpo = \"26h\"\n")).unwrap();
    let old = words(&shop.site.rows()[0], "backup").to_owned();
    let agent = Agent::start(&shop.site);
    tools.await_pause();
    let begun = person.hears("rpo_breached", &["begun"]);
    assert_eq!(
        (&begun["severity"], &begun["source"], &begun["subject"]),
        (&"breached".into(), &"shop".into(), &"".into())
    );
    assert!(words(&begun, "text").contains("older than the RPO of 26h"), "{begun}");
    assert!(words(&begun, "safe").contains(&old), "{begun}");
    assert_eq!(shop.site.told("rpo_breached").len(), 1);
    tools.go_on();
    is_over(&person, &begun);
    assert!(shop.site.told("rpo_breached").is_empty());
    let _ = agent.stop().ended(0);
}

#[test]
fn runs_that_were_missed_are_told_until_one_comes_to_its_end() {
    let (shop, tools, person) = late();
    let agent = Agent::start(&shop.site);
    tools.await_pause();
    let begun = person.hears("runs_missed", &["begun"]);
    assert_eq!(
        (&begun["severity"], &begun["source"], &begun["subject"], &begun["run"]),
        (&"attention".into(), &"shop".into(), &"backup".into(), &"drctl jobs".into())
    );
    let text = words(&begun, "text");
    assert!(text.starts_with("the backup of shop missed 3 runs from "), "{begun}");
    assert!(text.contains("no agent ran"), "{begun}");
    assert_eq!(agent.job("backup")["missed"]["count"], 3);
    tools.go_on();
    is_over(&person, &begun);
    let job = agent.job_is("backup", |job| job["state"] == "idle");
    assert_eq!((&job["missed"], &job["last"]["outcome"]), (&Value::Null, &"succeeded".into()));
    let _ = agent.stop().ended(0);
}

#[test]
fn a_stream_that_has_been_failing_for_long_is_told_until_it_streams() {
    let mut server = Postgres::builder().start();
    let site = site(&server, "");
    let person = Person::new();
    person.channel(&site, "dba");
    server.stop();
    let timed = Timed::start(&site);
    let _ = timed.agent.job_is("log_stream", |job| job["last"]["outcome"] == "failed");
    // It is no news as long as it has not failed for five minutes.
    let _ = person.hears("no_good_backup", &["begun"]);
    assert!(!timed.has_told("stream_down"), "{}", timed.agent.said());
    timed.pass(6);
    let begun = person.hears("stream_down", &["begun"]);
    assert_eq!(
        (&begun["severity"], &begun["source"], &begun["subject"], &begun["run"]),
        (&"attention".into(), &"shop".into(), &"log_stream".into(), &"drctl jobs".into())
    );
    assert!(words(&begun, "text").contains("has been failing since"), "{begun}");
    server.start_again();
    // Whenever the next attempt was to be.
    timed.pass(6);
    timed.agent.says("streaming the WAL of timeline 1");
    let _ = timed.agent.job_is("log_stream", |job| job["state"] == "running");
    // One that has only just begun may fail again.
    let _ = person.hears("stream_down", &["begun"]);
    timed.pass(12);
    is_over(&person, &begun);
    // A server that goes away in the midst of it is told, too.
    let _ = timed.agent.ends_anew("log_stream", "failed", || {
        server.stop();
        timed.agent.says("the stream broke off");
        timed.pass(3);
    });
    timed.pass(6);
    let _ = person.hears("stream_down", &["begun", "recovered", "begun"]);
    let _ = timed.agent.stop().ended(0);
}

/// A place of a channel that refuses what it is told until it works, and which codes it took.
fn refuses() -> (Scripted, Arc<AtomicBool>, Arc<Mutex<Vec<String>>>) {
    let (works, took) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<String>>>::default());
    let (willing, noted) = (Arc::clone(&works), Arc::clone(&took));
    let server = Scripted::start(move |heard| {
        if !willing.load(Ordering::SeqCst) {
            return Reply::new("404 Not Found", "", "");
        }
        let notice: Value = serde_json::from_slice(&heard.body).expect("JSON");
        noted.lock().expect("no panic").push(words(&notice, "code").to_owned());
        Reply::new("204 No Content", "", "")
    });
    (server, works, took)
}

#[test]
fn a_channel_that_delivers_nothing_is_told_by_another_one_until_it_delivers() {
    let shop = Shop::open(NEVER);
    let (server, works, took) = refuses();
    let at = url(&shop.site, "broken", server.port());
    shop.site.append(&format!(
        "\n[notify.broken]\nkind = \"webhook\"\nallow_plain = true\nurl = {at}\n"
    ));
    let person = Person::new();
    person.channel(&shop.site, "dba");
    let timed = Timed::start(&shop.site);
    let failed = || timed.agent.said().matches("a notification is not delivered").count();
    until("it to fail", || failed() >= 1);
    timed.looks_again();
    // Once may be by chance.
    until("it to fail again", || failed() >= 2);
    let _ = person.hears("no_good_backup", &["begun"]);
    assert!(!timed.has_told("channel_fails"), "{}", timed.agent.said());
    timed.looks_again();
    let begun = person.hears("channel_fails", &["begun"]);
    assert_eq!(
        (&begun["severity"], &begun["source"], &begun["subject"], &begun["run"]),
        (&"attention".into(), &Value::Null, &"broken".into(), &"drctl notify test".into())
    );
    assert!(words(&begun, "text").contains("404"), "{begun}");
    assert!(!begun.to_string().contains("T0PSECRET"), "{begun}");
    works.store(true, Ordering::SeqCst);
    timed.looks_again();
    timed.agent.says("told channel=\"broken\" event=\"begun\" code=\"no_good_backup\"");
    timed.looks_again();
    is_over(&person, &begun);
    let took = took.lock().expect("no panic").clone();
    assert!(took.contains(&"no_good_backup".to_owned()), "what was due is told late: {took:?}");
    assert!(!took.contains(&"channel_fails".to_owned()), "it is not told of itself: {took:?}");
    let _ = timed.agent.stop().ended(0);
}

#[test]
fn a_look_that_fails_is_told_until_one_does_not() {
    let shop = Shop::open(NEVER);
    let person = Person::new();
    person.channel(&shop.site, "dba");
    // A host that has no catalog yet makes one from what the repository has.
    let (there, away) = (shop.site.path("repository"), shop.site.path("away"));
    assert!(!shop.site.path("state/catalog.db").exists());
    fs::rename(&there, &away).unwrap();
    let timed = Timed::start(&shop.site);
    let begun = person.hears("look_failed", &["begun"]);
    assert_eq!(
        (&begun["severity"], &begun["source"], &begun["safe"], &begun["run"]),
        (
            &"attention".into(),
            &Value::Null,
            &"runs go on as scheduled".into(),
            &"drctl doctor".into()
        )
    );
    let text = words(&begun, "text");
    assert!(text.starts_with("where the sources stand is not known: "), "{begun}");
    assert!(text.contains(&there.display().to_string()), "{begun}");
    assert!(!timed.has_told("no_good_backup"), "{}", timed.agent.said());
    timed.looks_again();
    let _ = person.hears("look_failed", &["begun"]);
    fs::rename(&away, &there).unwrap();
    timed.looks_again();
    is_over(&person, &begun);
    // Now it is known.
    let _ = person.hears("no_good_backup", &["begun"]);
    let _ = timed.agent.stop().ended(0);
}

/// What a scrape says of a series; nothing where it says nothing of it.
fn metric(port: u16, series: &str) -> Option<f64> {
    let mut peer = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    peer.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").ok()?;
    let mut answer = String::new();
    peer.read_to_string(&mut answer).ok()?;
    let mut values = answer.lines().filter_map(|line| line.strip_prefix(series));
    values.next()?.trim().parse().ok()
}

#[test]
fn an_object_that_vanishes_is_found_by_the_agents_next_look_which_tells_it_everywhere() {
    let shop = Shop::open(NEVER);
    let port = free_port();
    shop.site.append(&format!("\n[agent]\nmetrics = \"127.0.0.1:{port}\"\n"));
    let both = [shop.site.backup(), shop.site.backup()];
    let newest = words(&shop.site.status()["newest_good"], "backup").to_owned();
    let older = both.into_iter().find(|id| *id != newest).expect("an older one");
    let person = Person::new();
    person.channel(&shop.site, "dba");
    let timed = Timed::start(&shop.site);
    let gone = "drctl_findings{source=\"shop\",code=\"object_gone\",severity=\"bad\"}";
    let health = "drctl_source_health{source=\"shop\"}";
    until("the first look to be told", || metric(port, health) == Some(0.0));
    assert_eq!(metric(port, gone), None);
    let manifest = format!("s/shop/b/{newest}/manifest.json");
    let mut heard = Vec::new();
    for (object, why) in [
        ("d0/000000.zst.age", "the bucket lists 1 objects of it"),
        ("manifest.json", "its manifest is gone"),
    ] {
        let there = shop.site.path(&format!("repository/s/shop/b/{newest}/{object}"));
        let away = shop.site.path("away");
        fs::rename(&there, &away).unwrap();
        // Time for one look: nobody asks for anything.
        timed.pass(6);
        heard.push("begun");
        let notice = person.hears("object_gone", &heard);
        assert_eq!((&notice["severity"], &notice["subject"]), (&"breached".into(), &"".into()));
        assert!(words(&notice, "text").contains(&manifest), "{object}: {notice}");
        assert!(words(&notice, "text").contains(why), "{object}: {notice}");
        assert!(words(&notice, "safe").contains(&older), "{object}: {notice}");
        until("its metric", || metric(port, gone) == Some(1.0));
        assert_eq!(metric(port, health), Some(2.0), "{object}");
        assert!(shop.site.finds("object_gone", &manifest), "{object}: before anybody asks");
        let told = shop.site.told("object_gone");
        assert_eq!((told.len(), &told[0]["severity"]), (1, &"bad".into()), "{told:?}");
        assert_eq!(told[0]["subject"], manifest.as_str(), "{told:?}");
        fs::rename(&away, &there).unwrap();
        timed.pass(6);
        heard.push("recovered");
        let _ = person.hears("object_gone", &heard);
        until("its metric to go", || metric(port, gone).is_none());
        assert_eq!(metric(port, health), Some(0.0), "{object}");
    }
    assert!(shop.site.told("object_gone").is_empty());
    let _ = timed.agent.stop().ended(0);
}

/// The pings to a name: where behind it, and of which run.
fn pings(came: &Came, name: &str) -> Vec<(String, String)> {
    let came = came.lock().expect("no panic");
    let path = |(head, body): &(String, String)| {
        assert_eq!(body, "", "{head}");
        let line = head.strip_prefix(&format!("POST /{name}"))?;
        let (path, run) = line.split(' ').next()?.split_once("?rid=")?;
        Some((path.to_owned(), run.to_owned()))
    };
    came.iter().filter_map(path).collect()
}

#[test]
fn runs_of_prune_and_of_verify_send_pings_to_addresses_of_their_own() {
    let shop = Shop::open(NEVER);
    let text = format!(
        "schedule = \"{NEVER}\"\n\n[retention]\nlast = 2\n\n[prune]\nschedule = \"{NEVER}\"\n\n\
         [verify]\nschedule = \"0 0 1 * *\"\nwithin = \"365d\"\n"
    );
    fs::write(shop.policy_file(), text).unwrap();
    let (server, came) = place();
    for name in ["prune", "verify"] {
        let address = format!("http://127.0.0.1:{}/{name}\n", server.port());
        let address = secret(&shop.site, &format!("{name}.ping"), &address);
        shop.site.source(&format!("{name}_ping_url = {address}"));
    }
    for _ in 0..3 {
        let _ = shop.site.backup();
    }
    let agent = Agent::start(&shop.site);
    let expect = |name: &str, paths: &[&str]| {
        until(&format!("{name} {paths:?}"), || pings(&came, name).len() >= paths.len());
        let sent = pings(&came, name);
        let found: Vec<&str> = sent.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(found, paths, "{name}");
        sent.into_iter().map(|(_, run)| run).collect::<Vec<_>>()
    };
    let _ = shop.site.json(0, &["run", "shop", "verify"]);
    let verify = expect("verify", &["/start", ""]);
    assert!(verify[0].len() == 36 && verify[0] == verify[1], "one run: {verify:?}");
    assert!(pings(&came, "prune").is_empty(), "it is not asked for");
    let _ = shop.site.json(0, &["run", "shop", "prune"]);
    let prune = expect("prune", &["/start", ""]);
    assert!(prune[0].len() == 36 && prune[0] == prune[1], "one run: {prune:?}");
    assert_ne!(prune[0], verify[0]);
    assert_eq!(shop.site.manifests().len(), 2);
    // Too much would go: it fails.
    for _ in 0..3 {
        let _ = shop.site.backup();
    }
    let _ = shop.site.json(0, &["run", "shop", "prune"]);
    let prune = expect("prune", &["/start", "", "/start", "/fail"]);
    assert!(prune[2] == prune[3] && prune[2] != prune[0], "another run: {prune:?}");
    assert_eq!(shop.site.manifests().len(), 5);
    assert_eq!(pings(&came, "verify").len(), 2);
    // A verify that finds something is no success, either.
    for manifest in shop.site.manifests() {
        let below = manifest.parent().expect("a directory").join("d0/000000.zst.age");
        fs::remove_file(shop.site.path("repository").join(below)).unwrap();
    }
    let _ = shop.site.json(0, &["run", "shop", "verify"]);
    let verify = expect("verify", &["/start", "", "/start", "/fail"]);
    assert!(verify[2] == verify[3] && verify[2] != verify[0], "another run: {verify:?}");
    let _ = agent.stop().ended(0);
}
