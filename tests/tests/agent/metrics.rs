use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use drctl_model::FindingCode;
use drctl_tests::agent::Agent;
use drctl_tests::servers::{free_port, promtool as program};
use drctl_tests::site::{Site, until};

use crate::common::{NEVER, Shop};

/// Has the agent tell metrics at a port.
pub(crate) fn told_at(site: &Site) -> u16 {
    let port = free_port();
    site.append(&format!("\n[agent]\nmetrics = \"127.0.0.1:{port}\"\n"));
    port
}

/// What is answered to a request, head and body.
fn ask(port: u16, request: &str) -> Option<String> {
    let mut peer = TcpStream::connect(("127.0.0.1", port)).ok()?;
    peer.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
    peer.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    // Whoever is refused may find the connection reset.
    let _ = peer.read_to_string(&mut answer);
    Some(answer)
}

/// What is answered at a path, head and body.
pub(crate) fn get(port: u16, path: &str) -> Option<String> {
    ask(port, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
}

/// Every series of a scrape, with its value.
pub(crate) fn scrape(port: u16) -> BTreeMap<String, f64> {
    let answer = get(port, "/metrics").unwrap_or_default();
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let series = body.lines().filter(|line| !line.starts_with('#'));
    series
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a series");
            (name.to_owned(), value.parse().expect("a number"))
        })
        .collect()
}

/// Waits until the agent has looked at its sources.
pub(crate) fn looked(port: u16) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    until("a look", || {
        found = scrape(port);
        found.contains_key("drctl_agent_look_timestamp_seconds")
    });
    found
}

/// A path below the root of the sources.
pub(crate) fn root(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Runs promtool, and takes what it says.
fn promtool(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(program())
        .args(arguments)
        .current_dir(root("packaging/prometheus"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool");
    child.stdin.take().expect("an input").write_all(input.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("its end");
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told).into_owned();
    assert!(output.status.success(), "{told}");
    told
}

#[test]
fn a_scrape_tells_what_is_known_and_nothing_else() {
    let shop = Shop::open(NEVER);
    let port = told_at(&shop.site);
    let agent = Agent::start(&shop.site);
    let before = looked(port);
    assert_eq!(before["drctl_source_unprotected{source=\"shop\"}"], 1.0);
    assert_eq!(before["drctl_source_health{source=\"shop\"}"], 2.0);
    let no_good = "drctl_findings{source=\"shop\",code=\"no_good_backup\",severity=\"bad\"}";
    assert_eq!(before[no_good], 1.0);
    let runs = "drctl_job_runs_total{source=\"shop\",kind=\"backup\",outcome=\"succeeded\"}";
    assert_eq!(before[runs], 0.0);
    // What never was is absent, and not the year 1970.
    let unproven = "drctl_source_unproven{source=\"shop\"}";
    let good = "drctl_backup_last_success_timestamp_seconds{source=\"shop\"}";
    for absent in [
        good,
        "drctl_rpo_seconds{source=\"shop\"}",
        "drctl_recoverable_gaps{source=\"shop\"}",
        unproven,
    ] {
        assert!(!before.contains_key(absent), "{absent}");
    }
    let _ = shop.site.json(0, &["run", "shop"]);
    let mut after = BTreeMap::new();
    until("the backup to be told", || {
        after = scrape(port);
        after.contains_key(good)
    });
    let backup = &shop.site.status()["newest_good"];
    let ended: jiff::Timestamp = backup["finished"].as_str().unwrap().parse().unwrap();
    assert!((after[good] - ended.as_duration().as_secs_f64()).abs() < 0.01);
    assert_eq!(
        after["drctl_backup_stored_bytes{source=\"shop\"}"],
        backup["sealed_bytes"].as_f64().unwrap()
    );
    assert_eq!(after["drctl_source_unprotected{source=\"shop\"}"], 0.0);
    assert_eq!(after[runs], 1.0);
    let took = after["drctl_backup_duration_seconds{source=\"shop\"}"];
    let began: jiff::Timestamp = backup["started"].as_str().unwrap().parse().unwrap();
    assert!((took - ended.duration_since(began).as_secs_f64()).abs() < 0.01, "{took}");
    // One backup is all that there is, and the first and the last moment; an age is counted a little later.
    assert_eq!(
        after["drctl_source_stored_bytes{source=\"shop\"}"],
        backup["sealed_bytes"].as_f64().unwrap()
    );
    let first = after["drctl_recoverable_from_timestamp_seconds{source=\"shop\"}"];
    let last = after["drctl_recoverable_to_timestamp_seconds{source=\"shop\"}"];
    assert!((first - last).abs() < 5.0, "{first} {last}");
    assert_eq!(after["drctl_audit_broken"], 0.0);
    assert!(after["drctl_rpo_seconds{source=\"shop\"}"] < 60.0);
    assert!(!after.contains_key(no_good));
    assert_eq!(after[unproven], 1.0);
    let text = get(port, "/metrics").expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("head and body");
    assert!(head.contains("application/openmetrics-text"), "{head}");
    // It reads the older form of the text, in which a counter's help has the counter's whole name.
    let body = body.replace("drctl_job_runs counter", "drctl_job_runs_total counter");
    let body = body.replace("HELP drctl_job_runs ", "HELP drctl_job_runs_total ");
    let told = promtool(&["check", "metrics"], &body);
    assert_eq!(told.trim(), "", "{told}");
    let _ = agent.stop().ended(0);
    assert!(get(port, "/metrics").is_none(), "it listens no more");
}

#[test]
fn only_what_is_there_is_answered_and_peers_hold_nothing_up() {
    let shop = Shop::open(NEVER);
    let port = told_at(&shop.site);
    let agent = Agent::start(&shop.site);
    let _ = looked(port);
    let status =
        |request: &str| ask(port, request).unwrap_or_default().lines().next().map(str::to_owned);
    let first = |text: &str| Some(format!("HTTP/1.1 {text}"));
    assert_eq!(status("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"), first("200 OK"));
    assert_eq!(status("GET /etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n"), first("404 Not Found"));
    assert_eq!(
        status("POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n"),
        first("405 Method Not Allowed")
    );
    assert_eq!(status("nonsense\r\n\r\n"), first("400 Bad Request"));
    let long = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    assert_ne!(status(&long), first("200 OK"));
    // Peers who say nothing take all places, for a while: jobs go on, and then scrapes do.
    let idle: Vec<_> = (0..40).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    let _ = shop.site.json(0, &["run", "shop"]);
    until("the backup", || shop.site.manifests().len() == 1);
    assert_eq!(status("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"), first("200 OK"));
    drop(idle);
    let _ = agent.stop().ended(0);
}

#[test]
fn whoever_dawdles_keeps_no_other_from_an_answer_for_long() {
    let shop = Shop::open(NEVER);
    let port = told_at(&shop.site);
    let _agent = Agent::start(&shop.site);
    let _ = looked(port);
    let dawdles = |_| {
        let mut peer = TcpStream::connect(("127.0.0.1", port)).expect("a place in the queue");
        peer.write_all(b"G").expect("a byte");
        peer
    };
    let slow: Vec<TcpStream> = (0..120).map(dawdles).collect();
    let begun = std::time::Instant::now();
    let answer = get(port, "/healthz").expect("an answer");
    assert!(answer.contains("the agent works"), "{answer}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    drop(slow);
}

#[test]
fn an_address_that_is_taken_keeps_no_agent_from_its_backups() {
    let shop = Shop::open(NEVER);
    let port = told_at(&shop.site);
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).expect("the port");
    let agent = Agent::start(&shop.site);
    agent.says("metrics are not told at 127.0.0.1:");
    let _ = shop.site.json(0, &["run", "shop"]);
    until("the backup", || shop.site.manifests().len() == 1);
    drop(taken);
    // Another address is taken at once, by a reload.
    let other = free_port();
    shop.site.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{other}"));
    let _ = shop.site.json(0, &["reload"]);
    let _ = looked(other);
    let _ = agent.stop().ended(0);
}

#[test]
fn every_rule_fires_in_its_case_and_is_silent_otherwise() {
    let told = promtool(&["check", "rules", "drctl.rules.yml"], "");
    assert!(told.contains("SUCCESS"), "{told}");
    let _ = promtool(&["test", "rules", "drctl.rules.test.yml"], "");
    // Each rule has its case.
    let read =
        |name: &str| std::fs::read_to_string(root("packaging/prometheus").join(name)).unwrap();
    let names = |text: &str, key: &str| -> BTreeSet<String> {
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix(key));
        lines.map(|name| name.trim().to_owned()).collect()
    };
    let rules = names(&read("drctl.rules.yml"), "- alert:");
    let tests = read("drctl.rules.test.yml");
    let mut fired = BTreeSet::new();
    let mut silent = BTreeSet::new();
    let mut alert = String::new();
    for line in tests.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("alertname:") {
            alert = name.trim().to_owned();
        }
        if line == "exp_alerts: []" {
            silent.insert(alert.clone());
        } else if line == "exp_alerts:" {
            fired.insert(alert.clone());
        }
    }
    assert_eq!((&fired, &silent), (&rules, &rules));
    // Each code of a finding is one that there is, and has a case of its own.
    let codes = |text: &str| -> BTreeSet<String> {
        let values =
            text.split("code=").skip(1).map(|rest| rest.trim_start_matches(['~', '\\', '"']));
        let values = values.filter_map(|rest| rest.split(['"', '\\']).next());
        values.flat_map(|value| value.split('|').map(str::to_owned)).collect()
    };
    let of_rules = codes(&read("drctl.rules.yml"));
    let known = |code: &String| FindingCode::ALL.iter().any(|one| one.as_str() == code);
    assert!(of_rules.len() > 10 && of_rules.iter().all(known), "{of_rules:?}");
    assert!(of_rules.is_subset(&codes(&tests)), "{of_rules:?}");
}

/// The names of metrics in a text.
fn metrics_of(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("drctl_")).map(str::to_owned).collect()
}

#[test]
fn rules_dashboard_and_page_name_the_metrics_that_there_are() {
    let shop = Shop::open("0 2 * * *");
    let policy = std::fs::read_to_string(shop.policy_file()).unwrap();
    std::fs::write(shop.policy_file(), format!("{policy}\n[objectives]\nrpo = \"26h\"\n")).unwrap();
    let port = told_at(&shop.site);
    let agent = Agent::start(&shop.site);
    let before = looked(port);
    let _ = shop.site.json(0, &["run", "shop"]);
    until("the backup to be told", || {
        scrape(port).contains_key("drctl_rpo_seconds{source=\"shop\"}")
    });
    let mut there: BTreeSet<String> = scrape(port)
        .into_keys()
        .chain(before.into_keys())
        .map(|series| series.split('{').next().unwrap().to_owned())
        .collect();
    let _ = agent.stop().ended(0);
    // A dump has neither log nor drill (figures::tests, stream.rs), no channel is told (told.rs), and all of
    // the audit log is in the bucket (host::tests).
    let of_others = [
        "drctl_recoverable_gaps",
        "drctl_drill_last_pass_timestamp_seconds",
        "drctl_drill_last_verdict",
        "drctl_rto_seconds",
        "drctl_rto_objective_seconds",
        "drctl_backup_duration_objective_seconds",
        "drctl_log_held_bytes",
        "drctl_log_disk_free_bytes",
        "drctl_alert_path_last_ack_timestamp_seconds",
        "drctl_audit_unshipped_since_timestamp_seconds",
    ];
    there.extend(of_others.map(str::to_owned));
    let page = metrics_of(&std::fs::read_to_string(root("docs/metrics.md")).unwrap());
    assert_eq!(page, there, "docs/metrics.md, and what a scrape has");
    for name in ["prometheus/drctl.rules.yml", "grafana/drctl.json"] {
        let text = std::fs::read_to_string(root("packaging").join(name)).unwrap();
        let unknown: Vec<_> = metrics_of(&text).difference(&there).cloned().collect();
        assert!(unknown.is_empty(), "{name} names {unknown:?}");
    }
    let dashboard = std::fs::read_to_string(root("packaging/grafana/drctl.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    assert!(panels.iter().all(|one| one["type"] == "row" || one["targets"][0]["expr"].is_string()));
}
