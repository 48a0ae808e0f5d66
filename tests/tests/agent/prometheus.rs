//! What comes of the metrics in a Prometheus that is set up as docs/metrics.md says, and judges them by the
//! rules that are shipped.

use std::collections::BTreeMap;
use std::fs;

use drctl_tests::agent::Agent;
use drctl_tests::servers::prometheus::Prometheus;
use drctl_tests::site::{Site, until};
use serde_json::Value;

use crate::common::{NEVER, Shop};
use crate::metrics::{looked, root, scrape, told_at};

/// What changes from one scrape to the next one.
const GROWS: &str = "drctl_rpo_seconds";

/// A Prometheus that reads every second what the agent tells at a port.
fn prometheus(site: &Site, port: u16) -> Prometheus {
    let page = fs::read_to_string(root("docs/metrics.md")).expect("a page");
    let block = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
    let (block, there) = (block.expect("how it is set up"), "192.0.2.10:9532");
    assert!(block.contains(there), "{block}");
    let scrapes = block.replace(there, &format!("127.0.0.1:{port}"));
    let rules = root("packaging/prometheus/drctl.rules.yml");
    let every = "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\n";
    let text = format!("{every}rule_files: [{rules:?}]\n{scrapes}");
    Prometheus::start(&site.path("prometheus"), &text)
}

/// The values of each metric of ours, in order, but those that grow.
fn sorted(series: impl Iterator<Item = (String, f64)>) -> BTreeMap<String, Vec<f64>> {
    let mut all: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (name, value) in series.filter(|(name, _)| name.starts_with("drctl_") && name != GROWS) {
        all.entry(name).or_default().push(value);
    }
    all.values_mut().for_each(|values| values.sort_by(f64::total_cmp));
    all
}

/// What it holds of ours.
fn held(prometheus: &Prometheus) -> BTreeMap<String, Vec<f64>> {
    // Every series that was read somewhere: {instance!=""}.
    let answer = prometheus.tells("query?query=%7Binstance!=%22%22%7D");
    let all = answer["result"].as_array().expect("series").iter();
    sorted(all.map(|one| {
        let name = one["metric"]["__name__"].as_str().unwrap_or_default();
        let value = one["value"][1].as_str().and_then(|value| value.parse().ok());
        (name.to_owned(), value.expect("a number"))
    }))
}

/// What a scrape tells.
fn told(port: u16) -> BTreeMap<String, Vec<f64>> {
    let name = |series: String| series.split('{').next().unwrap_or_default().to_owned();
    sorted(scrape(port).into_iter().map(|(series, value)| (name(series), value)))
}

#[test]
fn prometheus_takes_all_that_is_told_as_what_it_is_and_every_rule() {
    let shop = Shop::open(NEVER);
    let port = told_at(&shop.site);
    let _ = shop.site.backup();
    let agent = Agent::start(&shop.site);
    let _ = looked(port);
    let prometheus = prometheus(&shop.site, port);
    let mut target = Value::Null;
    until("a scrape in time", || {
        target = prometheus.tells("targets")["activeTargets"][0].clone();
        let late = target["lastError"].as_str().is_some_and(|error| error.contains("deadline"));
        target.is_object() && target["health"] != "unknown" && !late
    });
    assert_eq!((&target["health"], &target["lastError"]), (&"up".into(), &"".into()));
    assert_eq!(target["labels"]["job"], "drctl", "by which the rules know it");
    until("it to hold what is told", || held(&prometheus) == told(port));
    let all = held(&prometheus);
    let backup = shop.site.status()["newest_good"].clone();
    let stored = backup["sealed_bytes"].as_f64().expect("a size");
    assert_eq!(all["drctl_backup_stored_bytes"], [stored]);
    assert_eq!(all["drctl_source_unprotected"], [0.0]);
    let kinds = prometheus.tells("metadata");
    for name in all.keys() {
        let (name, kind) = match name.strip_suffix("_total") {
            Some(counter) => (counter, "counter"),
            None => (name.as_str(), "gauge"),
        };
        assert_eq!(kinds[name][0]["type"], kind, "{name}");
        assert!(kinds[name][0]["help"].as_str().is_some_and(|help| !help.is_empty()), "{name}");
    }
    let text = fs::read_to_string(root("packaging/prometheus/drctl.rules.yml")).expect("rules");
    let shipped = text.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let shipped: Vec<&str> = shipped.collect();
    let mut rules = Vec::new();
    until("each rule to be judged", || {
        let groups = prometheus.tells("rules")["groups"].clone();
        rules = groups[0]["rules"].as_array().cloned().unwrap_or_default();
        !rules.is_empty() && rules.iter().all(|rule| rule["health"] != "unknown")
    });
    let names: Vec<&str> = rules.iter().filter_map(|rule| rule["name"].as_str()).collect();
    assert_eq!(names, shipped);
    let bad = rules.iter().find(|rule| rule["health"] != "ok" || !rule["lastError"].is_null());
    assert_eq!(bad, None);
    let _ = agent.stop().ended(0);
}

/// The alerts of a name that are active, those that wait for their time counted.
fn alerts(prometheus: &Prometheus, name: &str) -> Vec<Value> {
    let all = prometheus.tells("alerts")["alerts"].as_array().expect("alerts").clone();
    all.into_iter().filter(|one| one["labels"]["alertname"] == name).collect()
}

/// The names of all alerts that are active, but of the one that looks at other tests' servers.
fn active(prometheus: &Prometheus) -> Vec<Value> {
    let all = prometheus.tells("alerts")["alerts"].as_array().expect("alerts").clone();
    let names = all.iter().map(|one| one["labels"]["alertname"].clone());
    names.filter(|name| name != "DrctlServerUnprotected").collect()
}

#[test]
fn prometheus_alerts_on_what_is_amiss_and_on_nothing_else() {
    let shop = Shop::open(NEVER);
    let port = told_at(&shop.site);
    let agent = Agent::start(&shop.site);
    let _ = looked(port);
    let prometheus = prometheus(&shop.site, port);
    let alerts = |name: &str| alerts(&prometheus, name);
    until("the backup that is missing to be told, and no more", || {
        active(&prometheus) == ["DrctlNeverBackedUp", "DrctlSourceBreached"]
    });
    let mut found = alerts("DrctlNeverBackedUp");
    assert_eq!(found[0]["labels"]["source"], "shop");
    assert_eq!(found[0]["state"], "pending", "for an hour");
    assert_eq!(found[0]["annotations"]["summary"], "shop has no good backup");
    let _ = shop.site.json(0, &["run", "shop"]);
    // What is told no more, such as a finding, is over at once and does not linger.
    // But for a drill, which nobody has run yet.
    let well = || active(&prometheus) == ["DrctlNeverProven"];
    until("all to be well", well);
    let (marker, away) = (shop.site.path("repository/drctl-repo.json"), shop.site.path("away"));
    fs::rename(&marker, &away).expect("take the marker away");
    let _ = shop.site.json(0, &["run", "shop"]);
    until("the alert that waits for nothing", || {
        found = alerts("DrctlTampered");
        found.iter().any(|one| one["state"] == "firing")
    });
    assert!(found.iter().all(|one| one["labels"]["source"] == "shop"), "{found:?}");
    until("the job that failed to be told", || {
        found = alerts("DrctlJobFails");
        !found.is_empty()
    });
    assert_eq!(found[0]["state"], "pending", "for an hour");
    // Prometheus has a label `job` of its own, which must not be taken for ours.
    assert_eq!(found[0]["annotations"]["summary"], "The last backup of shop failed");
    fs::rename(&away, &marker).expect("bring the marker back");
    let _ = shop.site.json(0, &["run", "shop"]);
    until("all to be well again", well);
    let _ = agent.stop().ended(0);
    until("the agent that is gone to be told", || !alerts("DrctlAgentSilent").is_empty());
}
