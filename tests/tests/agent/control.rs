//! The agent's socket: what may be asked, by whom, and what comes of it.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;

use drctl_tests::agent::Agent;
use drctl_tests::hostile::as_nobody;
use drctl_tests::site::{Ran, until};
use rustix::process::Signal;
use serde_json::Value;

use crate::common::{NEVER, Shop};

#[test]
fn an_agent_that_does_not_answer_is_told() {
    let shop = Shop::open(NEVER);
    let _ = shop.site.backup();
    let agent = Agent::start(&shop.site);
    assert_eq!(shop.site.json(0, &["status", "--check"])["agent_silent"], false);
    agent.signal(Signal::STOP);
    let said = shop.site.drctl(&["status", "--check"]).ended(3).out;
    assert!(
        said.contains(
            "the agent did not answer within 15 s, and may do nothing at all: see its log"
        ),
        "{said}"
    );
    agent.signal(Signal::CONT);
    assert_eq!(shop.site.json(0, &["status", "--check"])["agent_silent"], false);
    let _ = agent.stop().ended(0);
}

#[test]
fn a_run_by_hand_begins_at_once_and_one_at_a_time() {
    let (shop, tools) = Shop::with_tools(NEVER);
    let agent = shop.in_the_middle(&tools);
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
    assert!(said.contains("nothing to cancel: no backup of shop is running"), "{said}");
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
    let status = shop.site.drctl(&["status"]);
    let row = status.out.lines().find(|row| row.starts_with("shop ")).unwrap();
    assert!(row.ends_with("paused"), "{row}");
    let _ = shop.site.json(0, &["resume", "shop"]);
    assert_ne!(agent.job("backup")["state"], "paused");
    agent.is_due("backup");
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
    // Whoever names the socket can ask while the file is wrong.
    let socket = shop.site.path("run/agent.sock").display().to_string();
    let asked = shop.site.json(3, &["jobs", "--socket", &socket]);
    assert!(asked["refused_configuration"].is_string(), "{asked}");
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
    let socket = shop.socket_for_all();
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
fn those_who_say_nothing_keep_root_from_nothing() {
    let shop = Shop::open(NEVER);
    let agent = Agent::start(&shop.site);
    let socket = shop.socket_for_all();
    let open = "for (1..900) { push @all, IO::Socket::UNIX->new(Peer => $ARGV[0]) } \
        $| = 1; print qq(open\\n); <STDIN>";
    let mut perl = as_nobody("/usr/bin/perl");
    let perl = perl.args(["-MIO::Socket::UNIX", "-e", open]).arg(&socket);
    let mut child = perl.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(said.find_map(Result::ok).as_deref(), Some("open"));
    let _ = agent.job("backup");
    child.kill().unwrap();
    let _ = child.wait().unwrap();
}

/// An agent that must not start, and what it says.
fn refused(shop: &Shop, exit: i32, code: &str) -> String {
    shop.site.fails(exit, code, &["agent"])
}

#[test]
fn what_lies_at_the_socket_and_is_nobodys_agent_stays() {
    let shop = Shop::open(NEVER);
    let place = shop.site.path("place");
    shop.site.append(&format!("\n[agent]\nsocket = \"{}\"\n", place.display()));
    fs::write(&place, "precious").unwrap();
    assert!(refused(&shop, 2, "usage").contains("no socket"));
    assert_eq!(fs::read_to_string(&place).unwrap(), "precious");
    fs::rename(&place, shop.site.path("precious")).unwrap();
    symlink(shop.site.path("precious"), &place).unwrap();
    assert!(refused(&shop, 2, "usage").contains("no socket"));
    assert!(fs::symlink_metadata(&place).unwrap().is_symlink());
    fs::remove_file(&place).unwrap();
    // Such as the server's own.
    let living = UnixListener::bind(&place).unwrap();
    assert!(refused(&shop, 6, "agent_running").contains("somebody listens"));
    assert!(UnixStream::connect(&place).is_ok());
    drop(living);
    // What a killed one has left makes room.
    let agent = Agent::start(&shop.site);
    fs::remove_file(&place).unwrap();
    let other = UnixListener::bind(&place).unwrap();
    let _ = agent.stop().ended(0);
    assert!(UnixStream::connect(&place).is_ok(), "the socket of another one went with the agent");
    drop(other);
    // A folder that others can change is no place for it.
    fs::remove_file(&place).unwrap();
    fs::create_dir(shop.site.path("open")).unwrap();
    fs::set_permissions(shop.site.path("open"), Permissions::from_mode(0o1777)).unwrap();
    shop.site.replace(
        &format!("{}\"", place.display()),
        &format!("{}\"", shop.site.path("open/sock").display()),
    );
    let _ = refused(&shop, 7, "not_private");
}

#[test]
fn an_agent_of_another_state_directory_takes_nobodys_socket() {
    let shop = Shop::open(NEVER);
    let agent = Agent::start(&shop.site);
    let text = fs::read_to_string(shop.site.config()).unwrap();
    let state = |name: &str| format!("state_dir = \"{}\"", shop.site.path(name).display());
    let other = shop.site.path("etc/other.toml");
    fs::write(&other, text.replace(&state("state"), &state("state2"))).unwrap();
    let ran = shop.site.drctl(&["--json", "--config", other.to_str().unwrap(), "agent"]);
    assert!(ran.failed(6, "agent_running").contains("somebody listens"), "{ran:?}");
    let _ = agent.job("backup");
}

#[test]
fn without_an_agent_it_is_said() {
    let shop = Shop::open(NEVER);
    let said = shop.site.fails(1, "no_agent", &["jobs"]);
    assert!(said.contains("no agent runs on this host"), "{said}");
    assert!(said.contains("systemctl status drctl"), "{said}");
}

#[test]
fn a_job_that_is_not_there_is_told_from_a_source_that_is_not() {
    let shop = Shop::open(NEVER);
    fs::write(shop.policy_file(), "[retention]\nlast = 3\n").unwrap();
    let _agent = Agent::start(&shop.site);
    for verb in ["run", "cancel", "pause", "resume"] {
        let said = shop.site.fails(2, "unknown_source", &[verb, "nope"]);
        assert!(said.contains("configured are: shop"), "{verb}: {said}");
    }
    let said = shop.site.fails(1, "agent_refused", &["run", "shop"]);
    assert!(said.contains("its policy has no schedule"), "{said}");
    assert!(said.contains("by hand: `drctl backup shop`"), "{said}");
    for name in ["log_stream", "stream"] {
        let said = shop.site.fails(1, "agent_refused", &["run", "shop", name]);
        assert!(said.contains("its `log` is no stream"), "{said}");
    }
}

#[test]
fn wal_that_no_agent_streams_is_told() {
    let shop = Shop::open("0 3 1 1 *");
    let _ = shop.site.json(0, &["backup", "shop"]);
    shop.site.replace("engine = \"pg_dump\"", "engine = \"base_backup\"\nlog = \"synchronous\"");
    let told = shop.site.drctl(&["status", "--check"]).ended(3).out;
    assert!(told.contains("nor is WAL streamed"), "{told}");
    assert_eq!(shop.site.json(0, &["status"])["agent_missing"], true);
}

#[test]
fn a_schedule_that_no_agent_keeps_is_told() {
    let shop = Shop::open("0 3 * * *");
    let _ = shop.site.json(0, &["backup", "shop"]);
    let told = "no agent runs on this host: scheduled backups are not taken";
    let status = || shop.site.drctl(&["status"]).out;
    assert!(status().contains(told), "{}", status());
    assert_eq!(shop.site.json(0, &["status"])["agent_missing"], true);
    let agent = Agent::start(&shop.site);
    assert!(!status().contains(told), "{}", status());
    assert_eq!(shop.site.json(0, &["status"])["agent_missing"], false);
    drop(agent);
}
