//! Drills that the agent runs.

use std::fs;

use drctl_tests::agent::Agent;
use drctl_tests::cluster::{Cluster as _, give_away};
use drctl_tests::site::until;
use serde_json::Value;

use crate::common::Shop;

/// When drills are due: on no day of a test.
const DRILLS: &str = "0 3 29 2 *";

/// Asks for drills in the policy, and no backups.
fn with_drills(shop: &Shop, more: &str) {
    with_drills_at(shop, DRILLS, more);
}

/// The same at other times.
pub(crate) fn with_drills_at(shop: &Shop, schedule: &str, more: &str) {
    let path = shop.site.path("etc/policies.d/daily.toml");
    let text =
        "schedule = \"0 2 29 2 *\"\n\n[retention]\nlast = 3\n\n[objectives]\nrpo = \"3650d\"\n";
    fs::write(&path, format!("{text}\n[drill]\nschedule = \"{schedule}\"\n{more}"))
        .expect("a policy");
    give_away(&path);
}

fn agent(shop: &Shop) -> Agent<'_> {
    Agent::start_as(&shop.site, shop.command(&["agent"]))
}

/// Lets the agent run a drill, and gives the evidence.
#[track_caller]
fn runs(shop: &Shop, agent: &Agent, outcome: &str) -> Value {
    let _ = agent.ends_anew("drill", outcome, || {
        let _ = shop.drctl(&["run", "shop", "drill"]).ended(0);
    });
    shop.drctl(&["drill", "show", "shop"]).ended(0).json()
}

#[test]
fn an_operators_questions_are_asked_of_dumps_and_of_clusters() {
    let checks = |count: &str| {
        format!(
            "[drill.checks.count]\ndatabase = \"postgres\"\nsql = \"select count(*) from orders\"\n\
             expect = \"{count}\"\n[drill.checks.still-there]\ndatabase = \"postgres\"\n\
             sql = \"select exists (select from orders where note = 'order 17')\"\n"
        )
    };
    for cluster in [false, true] {
        let shop = if cluster { Shop::cluster() } else { Shop::open() };
        with_drills(&shop, &checks("2000"));
        let _ = shop.back_up();
        if cluster {
            shop.archived();
        }
        let done = shop.drill(0, &[]);
        let told = serde_json::json!([
            { "name": "count", "passed": true },
            { "name": "still-there", "passed": true },
        ]);
        assert_eq!(done["run"]["checks"], told, "{done}");
        with_drills(&shop, &checks("2001"));
        let done = shop.drill(4, &[]);
        assert_eq!(
            (&done["verdict"], &done["result"]["error"]),
            (&"fail_data".into(), &"check".into())
        );
        assert_eq!(done["run"]["checks"][0]["passed"], false, "{done}");
        assert_eq!(done["why"], serde_json::json!(["check count: it is `2000`, and not `2001`"]));
        // What changes something, and what does not end.
        for (sql, words) in [
            ("delete from orders returning 't'", "read-only"),
            ("select pg_sleep(60)", "within 1 s"),
            ("select null", "null"),
            ("select broken", "does not exist"),
        ] {
            let check = "[drill.checks.odd]\ndatabase = \"postgres\"\ntimeout = \"1s\"\n";
            with_drills(&shop, &format!("{check}sql = \"{sql}\"\n"));
            let done = shop.drill(4, &[]);
            assert!(done["why"][0].as_str().unwrap().contains(words), "{done}");
        }
        let evidence = fs::read_to_string(shop.evidence().pop().unwrap()).unwrap();
        assert!(!evidence.contains("broken"), "{evidence}");
    }
}

#[test]
fn the_agent_tries_backups_by_itself() {
    let shop = Shop::open();
    with_drills(&shop, "latest = 0\nprevious = 0\nworst = 0\nrandom = 0\noldest = 1\n");
    let oldest = shop.back_up()["backup"]["backup"].clone();
    let _ = shop.back_up();
    let agent = agent(&shop);
    let job = agent.job("drill");
    assert!(job["next"].as_str().unwrap().ends_with("-02-29T03:00:00Z"), "{job}");
    assert!(shop.drctl(&["status"]).ended(0).json()["sources"][0]["proven"].is_null());
    let shown = runs(&shop, &agent, "succeeded");
    assert_eq!((&shown["verdict"], &shown["backup"]), (&"pass".into(), &oldest), "{shown}");
    assert_eq!(shown["run"]["point"]["wanted"], "oldest", "{shown}");
    let status = shop.drctl(&["status"]).ended(0).json();
    let proven = &status["sources"][0]["proven"];
    assert_eq!((&proven["drill"], &proven["backup"]), (&shown["drill"], &oldest), "{status}");
    // What does not pass is told, and is no run that has to be repeated.
    shop.with_script("pg_restore", "LC_ALL=C sed 's/order 17$/order 71/' | exec \"$REAL\" \"$@\"");
    let _ = shop.drctl(&["reload"]).ended(0);
    let shown = runs(&shop, &agent, "succeeded");
    assert_eq!(shown["verdict"], "fail_data", "{shown}");
    agent.says("drill: the data are not proven: ");
    assert_eq!(shop.told("drill_failed").len(), 1);
    assert!(shop.left().is_empty(), "{:?}", shop.left());
    let _ = agent.stop().ended(0);
}

#[test]
fn a_drill_ends_with_the_agent_and_what_is_left_goes() {
    let shop = Shop::open();
    with_drills(&shop, "");
    let _ = shop.back_up();
    let held = shop.site.path("held");
    let script = format!("touch {}; sleep 1000; exec \"$REAL\" \"$@\"", held.display());
    shop.with_script("pg_restore", &script);
    let first = agent(&shop);
    let _ = shop.drctl(&["run", "shop", "drill"]).ended(0);
    until("it to load", || held.exists());
    // A backup does not wait for it.
    let _ = first.ends_anew("backup", "succeeded", || {
        let _ = shop.drctl(&["run", "shop"]).ended(0);
    });
    assert_eq!(first.job("drill")["state"], "running");
    let _ = first.stop().ended(0);
    assert!(shop.left().is_empty() && shop.evidence().is_empty(), "{:?}", shop.left());
    // One that is killed leaves what the next agent removes.
    fs::remove_file(&held).unwrap();
    // The next one makes up for it.
    let second = agent(&shop);
    until("it to load", || held.exists());
    assert_eq!(shop.left().len(), 1);
    second.kill();
    assert_eq!(shop.left().len(), 1);
    let third = agent(&shop);
    until("what was left to be gone", || shop.left().is_empty());
    let _ = third.stop().ended(0);
}

#[test]
fn a_host_without_an_identity_says_that_nothing_is_proven() {
    let shop = Shop::open();
    with_drills(&shop, "");
    let _ = shop.back_up();
    let config = fs::read_to_string(shop.site.config()).unwrap();
    let without: Vec<&str> = config.lines().filter(|line| !line.starts_with("identity")).collect();
    fs::write(shop.site.config(), without.join("\n")).unwrap();
    let agent = agent(&shop);
    let shown = runs(&shop, &agent, "succeeded");
    assert_eq!(
        (&shown["verdict"], &shown["result"]["error"]),
        (&"inconclusive".into(), &"no_identity".into())
    );
    assert!(shop.drctl(&["status"]).ended(0).json()["sources"][0]["proven"].is_null());
    let _ = agent.stop().ended(0);
}

#[test]
fn a_drill_fetches_no_faster_than_it_may() {
    let shop = Shop::open();
    with_drills(&shop, "");
    // What compresses badly, so that it is fetched in full.
    shop.sql(
        "create table noise as select decode(md5(g::text) || md5((-g)::text), 'hex') from generate_series(1, 120000) g",
    );
    let backup = shop.back_up();
    let bytes = backup["backup"]["sealed_bytes"].as_u64().unwrap();
    assert!(bytes > 3 << 20, "{backup}");
    shop.site.append("\n[throttle.always]\nbytes_per_second = \"1MiB\"\n");
    let agent = agent(&shop);
    let shown = runs(&shop, &agent, "succeeded");
    assert_eq!(shown["verdict"], "pass", "{shown}");
    let phases = shown["run"]["phases"].as_array().unwrap();
    let loading = phases.iter().find(|clock| clock["phase"] == "loading").unwrap();
    // A second's worth may go at once.
    let least = (bytes / (1 << 20)).saturating_sub(2) * 1000;
    assert!(loading["ms"].as_u64().unwrap() >= least, "{bytes} {shown}");
    let _ = agent.stop().ended(0);
}
