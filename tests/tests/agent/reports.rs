//! Reports: what was done since the one before, and where the source stands.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use drctl_tests::agent::Agent;
use drctl_tests::servers::scripted::{Reply, Scripted};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::channels::url;
use crate::common::{NEVER, Shop};
use crate::told::Person;

/// When reports are due: on no day of a test.
const REPORTS: &str = "0 8 29 2 *";

/// A shop of which reports are made.
fn shop() -> Shop {
    let shop = Shop::open(NEVER);
    let policy = fs::read_to_string(shop.policy_file()).unwrap();
    // What keeps backups away keeps no report away.
    let window = "[window]\nfrom = \"00:00\"\nuntil = \"00:01\"";
    let text = format!("{policy}\n[report]\nschedule = \"{REPORTS}\"\n\n{window}\n");
    fs::write(shop.policy_file(), text).unwrap();
    shop
}

fn text(notice: &Value) -> String {
    notice["text"].as_str().expect("a text").to_owned()
}

#[test]
fn a_report_tells_what_was_done_since_the_one_before_and_how_it_stands() {
    let shop = shop();
    let (dba, urgent) = (Person::new(), Person::new());
    dba.channel(&shop.site, "dba");
    urgent.channel(&shop.site, "urgent");
    shop.site.append("min_severity = \"breached\"\n");
    let port = format!("port = {}\n", shop.server.port());
    shop.site.replace(&port, "port = 1\n");
    let _ = shop.site.drctl(&["backup", "shop"]).ended(10);
    shop.site.replace("port = 1\n", &port);
    let good = shop.site.backup();
    let agent = Agent::start(&shop.site);
    let report = || drop(shop.site.json(0, &["run", "shop", "report"]));
    let next = agent.job("report")["next"].as_str().expect("a time").to_owned();
    assert!(next.ends_with("-02-29T08:00:00Z"), "the window is for what burdens a server: {next}");
    let _ = agent.ends_anew("report", "succeeded", report);
    let told = dba.hears("report", &["report"]);
    assert_eq!((&told["source"], &told["severity"]), (&"shop".into(), &"attention".into()));
    let said = text(&told);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("shop, from ") && lines[0].ends_with(": good"), "{said}");
    assert!(lines[1].starts_with("backups from this time: 1 good ("), "{said}");
    assert!(lines[2].starts_with(&format!("newest good backup: {good}, ")), "{said}");
    let drills =
        "drills: none, and none is scheduled; of 1 backup good, 0 proven in 30 days, 0 in 90";
    assert_eq!(lines[3..], [drills, "runs on this host: backup 1 succeeded, 1 FAILED"], "{said}");
    assert!(told["title"].as_str().expect("a title").ends_with(": report (good)"), "{told}");
    agent.says("report: backups from this time: 1 good (");
    // Then one more was made, and is suspect; and a good one is gone.
    shop.server.psql("postgres", "truncate orders");
    let begin = || drop(shop.site.json(0, &["run", "shop"]));
    let _ = agent.ends_anew("backup", "succeeded", begin);
    let manifest = format!("repository/s/shop/b/{good}/manifest.json");
    fs::remove_file(shop.site.path(&manifest)).unwrap();
    let _ = agent.ends_anew("report", "succeeded", report);
    let said = text(&dba.hears("report", &["report", "report"]));
    assert!(said.contains("\nbackups from this time: 0 good, 1 suspect ("), "{said}");
    assert!(said.contains("; in all: 0 good, 1 suspect ("), "{said}");
    assert!(said.contains("\nnewest good backup: none\n"), "{said}");
    assert!(said.contains("\nruns on this host: backup 1 succeeded\n"), "{said}");
    assert!(said.contains("\nbreached: ") && said.contains("suspect"), "{said}");
    let _ = agent.stop().ended(0);
    // Whoever wants to hear of broken promises alone hears of those.
    let told = urgent.hears("report", &["report"]);
    assert_eq!((&told["severity"], &told["subject"]), (&"breached".into(), &"breached".into()));
}

#[test]
fn a_report_has_failed_if_no_channel_takes_it_and_the_next_one_goes_back_further() {
    let shop = shop();
    let works = Arc::<AtomicBool>::default();
    let willing = Arc::clone(&works);
    let server = Scripted::start(move |_| match willing.load(Ordering::SeqCst) {
        true => Reply::new("204 No Content", "", ""),
        false => Reply::new("404 Not Found", "", ""),
    });
    let channel = |name: &str| {
        let at = url(&shop.site, name, server.port());
        shop.site.append(&format!(
            "\n[notify.{name}]\nkind = \"webhook\"\nallow_plain = true\nurl = {at}\n"
        ));
    };
    channel("broken");
    // Whoever is called at night is sent none, and so takes none.
    let called = Person::new();
    called.pager(&shop.site, "pager");
    let agent = Agent::start(&shop.site);
    let report = || drop(shop.site.json(0, &["run", "shop", "report"]));
    let _ = agent.ends_anew("report", "failed", report);
    agent.says("the report was not taken by broken: ");
    // Whoever takes it has it, whatever becomes of the others.
    let dba = Person::new();
    dba.channel(&shop.site, "dba");
    let _ = shop.site.json(0, &["reload"]);
    let begun = || shop.site.json(0, &["run", "shop", "report"]);
    let _ = agent.ends_anew("report", "succeeded", || drop(begun()));
    let said = text(&dba.hears("report", &["report"]));
    assert!(said.contains(": breached\n") && said.contains("newest good backup: none"), "{said}");
    let from = |said: &str| -> Timestamp {
        let (_, rest) = said.split_once("from ").expect("a time");
        rest.split_whitespace().next().expect("a time").parse().expect("a time")
    };
    // No report was sent before: it goes back a week.
    assert!(Timestamp::now().duration_since(from(&said)) > SignedDuration::from_hours(6 * 24));
    works.store(true, Ordering::SeqCst);
    let _ = agent.ends_anew("report", "succeeded", || drop(begun()));
    let said = text(&dba.hears("report", &["report", "report"]));
    assert!(Timestamp::now().duration_since(from(&said)) < SignedDuration::from_hours(1), "{said}");
    let _ = agent.stop().ended(0);
    assert!(called.heard_nothing_of("report (breached)"));
}

#[test]
fn a_report_is_printed_at_any_time_and_the_agent_makes_none_without_a_schedule() {
    let shop = Shop::open(NEVER);
    let good = shop.site.backup();
    let agent = Agent::start(&shop.site);
    let said = shop.site.fails(1, "agent_refused", &["run", "shop", "report"]);
    assert!(
        said.contains("[report] has no schedule") && said.contains("drctl report shop"),
        "{said}"
    );
    let _ = agent.stop().ended(0);
    let printed = shop.site.drctl(&["report", "shop", "--period", "1h"]).ended(0).out;
    assert!(printed.starts_with("shop, from ") && printed.contains(&good), "{printed}");
    let told = shop.site.json(0, &["report"]);
    let of = &told["sources"][0];
    assert_eq!((&of["health"], &of["made"]["good"]), (&"good".into(), &1.into()), "{told}");
    assert_eq!((&of["made"], &of["newest_good"]), (&of["kept"], &good.as_str().into()), "{told}");
    for (words, code, why) in [
        (&["report", "--period", "0s"][..], "usage", "is no span of time"),
        (&["report", "--period", "1y2"], "usage", "is no span of time"),
        (&["report", "bank"], "unknown_source", "bank"),
    ] {
        let said = shop.site.fails(2, code, words);
        assert!(said.contains(why), "{words:?}: {said}");
    }
}
