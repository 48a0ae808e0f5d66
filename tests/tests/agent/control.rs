//! The agent's socket: what may be asked, by whom, and what comes of it.

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;

use drctl_tests::agent::Agent;
use drctl_tests::hostile::as_nobody;
use drctl_tests::site::{Ran, until};
use serde_json::Value;

use crate::common::{NEVER, Shop};

#[test]
fn a_run_by_hand_begins_at_once_and_one_at_a_time() {
    let (shop, tools) = Shop::with_tools(NEVER);
    tools.pause("pg_dump", 10);
    let agent = Agent::start(&shop.site);
    let _ = shop.site.json(0, &["run", "shop"]);
    tools.await_pause();
    assert_eq!(agent.job("backup")["state"], "running");
    let said = shop.site.fails(1, "agent_refused", &["run", "shop"]);
    assert!(said.contains("runs already"), "{said}");
    tools.go_on();
    let _ = agent.job_is("backup", |job| job["last"]["outcome"] == "succeeded");
    assert_eq!(shop.site.manifests().len(), 1);
}

#[test]
fn what_is_cancelled_ends_with_a_true_record() {
    let (shop, tools) = Shop::with_tools(NEVER);
    tools.pause("pg_dump", 10);
    let agent = Agent::start(&shop.site);
    let said = shop.site.fails(1, "agent_refused", &["cancel", "shop"]);
    assert!(said.contains("does not run"), "{said}");
    let _ = shop.site.json(0, &["run", "shop"]);
    tools.await_pause();
    let _ = shop.site.json(0, &["cancel", "shop"]);
    let job = agent.job_is("backup", |job| job["last"]["outcome"] == "stopped");
    assert_eq!(job["state"], "idle", "{job}");
    assert_eq!(shop.site.status()["last_job"]["state"], "cancelled");
    assert!(shop.site.manifests().is_empty());
}

#[test]
fn a_paused_job_does_not_begin_until_it_is_resumed() {
    let shop = Shop::open("* * * * *");
    let agent = Agent::start(&shop.site);
    let _ = shop.site.json(0, &["pause", "shop"]);
    assert_eq!(agent.job("backup")["state"], "paused");
    let _ = shop.site.json(0, &["resume", "shop"]);
    assert_ne!(agent.job("backup")["state"], "paused");
    until("a backup", || !shop.site.manifests().is_empty());
}

#[test]
fn a_configuration_that_is_wrong_is_not_taken_and_the_one_before_goes_on() {
    let shop = Shop::open(NEVER);
    let agent = Agent::start(&shop.site);
    let good = fs::read_to_string(shop.site.config()).unwrap();
    shop.site.append("\n[sources.blog]\nengine = \"pg_dmp\"\npolicy = \"daily\"\n");
    // `reload` reads it itself first, and a hangup does not.
    let said = shop.site.drctl(&["--json", "reload"]);
    assert_eq!(said.code, Some(7), "{said:?}");
    agent.signal(rustix::process::Signal::HUP);
    agent.says("is not taken");
    fs::write(shop.site.config(), &good).unwrap();
    let object = shop.site.drctl(&["--json", "jobs"]).ended(3).json();
    let why = object["refused_configuration"].as_str().unwrap();
    assert!(why.contains("drctl.toml:") && why.contains("pg_dmp"), "{why}");
    assert_eq!(object["jobs"].as_array().unwrap().len(), 1, "{object}");
    let more = "\n[sources.blog]\nengine = \"pg_dump\"\npolicy = \"daily\"\n";
    let host = format!("host = \"{}\"\n", shop.server.socket_dir().display());
    fs::write(shop.site.config(), format!("{good}{more}{host}")).unwrap();
    let object = shop.site.json(0, &["reload"]);
    assert_eq!(object["refused_configuration"], Value::Null);
    assert_eq!(object["jobs"].as_array().unwrap().len(), 2, "{object}");
    drop(agent);
}

/// What the agent answers to a line.
fn asked(shop: &Shop, line: &[u8]) -> Value {
    let mut stream = UnixStream::connect(shop.site.path("run/agent.sock")).unwrap();
    stream.write_all(line).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    serde_json::from_str(&answer).unwrap()
}

#[test]
fn nonsense_is_refused_and_harms_nothing() {
    let shop = Shop::open(NEVER);
    let mut agent = Agent::start(&shop.site);
    for line in [&b"\n"[..], b"{}\n", b"{\"version\":9,\"do\":\"jobs\"}\n", b"\xff\xfe\n"] {
        assert_eq!(asked(&shop, line)["ok"], false);
    }
    let line = b"{\"version\":1,\"do\":\"run\",\"source\":\"../../etc\",\"kind\":\"backup\"}\n";
    assert_eq!(asked(&shop, line)["refused"]["code"], "bad_request");
    let line = b"{\"version\":1,\"do\":\"run\",\"source\":\"blog\",\"kind\":\"backup\"}\n";
    assert_eq!(asked(&shop, line)["refused"]["code"], "unknown_job");
    // Those who say nothing keep nobody else from being heard.
    let silent: Vec<UnixStream> =
        (0..12).map(|_| UnixStream::connect(shop.site.path("run/agent.sock")).unwrap()).collect();
    let _ = agent.job("backup");
    drop(silent);
    assert!(agent.lives());
}

#[test]
fn another_account_is_not_heard() {
    let shop = Shop::open(NEVER);
    // As open as can be: what keeps others out is not the way to the socket alone.
    let agent = Agent::start(&shop.site);
    let socket = shop.site.path("run/agent.sock");
    assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o777, 0o600);
    fs::set_permissions(&socket, Permissions::from_mode(0o666)).unwrap();
    for folder in [shop.site.path("."), shop.site.path("run")] {
        fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    }
    let ask = "my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die $!; \
        print $s qq({\"version\":1,\"do\":\"jobs\"}\\n); print <$s>";
    let mut perl = as_nobody("/usr/bin/perl");
    let ran = Ran::of(&perl.args(["-MIO::Socket::UNIX", "-e", ask]).arg(&socket).output().unwrap());
    let answer: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{ran:?}"));
    assert_eq!(answer["refused"]["code"], "denied", "{answer}");
    assert!(!answer.to_string().contains("shop"), "{answer}");
    agent.says("refused at the socket");
    assert!(agent.said().contains("nobody"), "{}", agent.said());
}

#[test]
fn without_an_agent_it_is_said() {
    let shop = Shop::open(NEVER);
    let said = shop.site.fails(1, "no_agent", &["jobs"]);
    assert!(said.contains("systemctl status drctl"), "{said}");
}
