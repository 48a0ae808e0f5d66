//! Other accounts of the host, and whoever looks: what the agent lets a group ask, that it leaves nothing open
//! whatever mask it is started under, and what `drctl status` tells beside it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use drctl_tests::agent::Agent;
use drctl_tests::cluster::Program;
use drctl_tests::fake::Tools;
use drctl_tests::hostile::{after, as_nobody};
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::{Ran, Site, until};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::clock::backed_up_days_ago;
use crate::common::{NEVER, Shop};

/// Debian's account that has nothing to do with anybody's.
const NOBODY: u32 = 65_534;

/// That account as a member of the group: it is the group of its process.
const MEMBER: &[&str] = &["--reuid=nobody", "--regid=games", "--clear-groups"];

/// The same as a process that has the group beside its own, which the host's list does not tell.
const UNLISTED: &[&str] = &["--reuid=nobody", "--regid=nogroup", "--groups=games"];

/// The same without it.
const STRANGER: &[&str] = &["--reuid=nobody", "--regid=nogroup", "--clear-groups"];

/// The number of a group.
fn gid(group: &str) -> u32 {
    let text = fs::read_to_string("/etc/group").unwrap();
    let mut all = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = all.find(|words| words[0] == group).expect("a group of Debian's");
    found[2].parse().unwrap()
}

/// A group, and an account that the host's list has in it.
fn listed() -> (String, String) {
    let text = fs::read_to_string("/etc/group").unwrap();
    let mut all = text.lines().filter_map(|line| {
        let mut words = line.split(':');
        let (group, members) = (words.next()?, words.nth(2)?);
        let member = members.split(',').find(|name| !name.is_empty() && *name != "root")?;
        Some((group.to_owned(), member.to_owned()))
    });
    all.next().expect("the packages of PostgreSQL make postgres a member of ssl-cert")
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A host whose agent a group may speak with: its members may read the configuration, and enter the directory
/// of the socket.
struct Grouped {
    shop: Shop,
    program: Program,
}

impl Grouped {
    fn open(group: &str) -> Self {
        let shop = Shop::open(NEVER);
        append(&shop.policy_file(), &format!("\n[prune]\nschedule = \"{NEVER}\"\n"));
        let (site, place) = (&shop.site, shop.site.path("talk"));
        fs::create_dir(&place).unwrap();
        set_mode(&place, 0o750);
        let given = Command::new("chgrp").arg(group).arg(&place).status();
        assert!(given.unwrap().success());
        let socket = place.join("agent.sock");
        site.append(&format!(
            "\n[agent]\nsocket = \"{}\"\nsocket_group = \"{group}\"\n",
            socket.display()
        ));
        for folder in [".", "etc", "etc/policies.d"] {
            set_mode(&site.path(folder), 0o755);
        }
        for file in [site.config(), shop.policy_file()] {
            set_mode(&file, 0o644);
        }
        Grouped { shop, program: Program::placed() }
    }

    fn socket(&self) -> PathBuf {
        self.shop.site.path("talk/agent.sock")
    }

    /// Mode, owner and group of the socket.
    fn rights(&self) -> (u32, u32, u32) {
        let found = fs::metadata(self.socket()).unwrap();
        (found.mode() & 0o777, found.uid(), found.gid())
    }

    /// Lets every account come to the socket: what is tried is whether the agent itself refuses.
    fn open_for_all(&self) {
        set_mode(&self.socket(), 0o666);
        set_mode(&self.shop.site.path("talk"), 0o755);
    }

    /// `drctl` under these identities.
    fn ask(&self, ids: &[&str], words: &[&str]) -> Ran {
        let mut command = Command::new("setpriv");
        command.args(ids).arg("--").arg(self.program.path()).arg("--json").args(words);
        command.env_remove("DRCTL_LOG").env("DRCTL_CONFIG", self.shop.site.config());
        let command = command.current_dir("/").stdin(Stdio::null());
        Ran::of(&command.output().expect("start setpriv"))
    }

    /// What the agent is asked by whoever names the socket, without a configuration.
    fn jobs(&self, ids: &[&str]) -> Ran {
        self.ask(ids, &["jobs", "--socket", &self.socket().display().to_string()])
    }
}

fn append(path: &Path, text: &str) {
    let old = fs::read_to_string(path).unwrap();
    fs::write(path, old + text).unwrap();
}

/// What an account asked at the socket, as the audit log has it: what, the outcome, the job, the code.
fn on_record(shown: &Value, uid: u32) -> Vec<String> {
    let all = shown["entries"].as_array().expect("entries").iter();
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let of_it = all.filter(|one| one["actor"]["uid"] == uid && one["actor"]["socket"] == true);
    of_it
        .map(|one| {
            let details = &one["details"];
            [&one["verb"], &one["outcome"], &details["job"], &details["code"]].map(word).join(" ")
        })
        .collect()
}

#[test]
fn members_of_the_group_ask_for_ordinary_work_and_for_nothing_else() {
    let of = Grouped::open("games");
    let (shop, agent) = (&of.shop, Agent::start(&of.shop.site));
    assert_eq!(of.rights(), (0o660, 0, gid("games")));
    let jobs = of.jobs(MEMBER).ended(0).json();
    assert_eq!(jobs["jobs"][0]["source"], "shop", "{jobs}");
    let _ = of.ask(MEMBER, &["run", "shop"]).ended(0);
    let _ = agent.job_is("backup", |job| job["last"]["outcome"] == "succeeded");
    assert_eq!(shop.site.manifests().len(), 1);
    let _ = of.ask(MEMBER, &["pause", "shop"]).ended(0);
    assert_eq!(agent.job("backup")["state"], "paused");
    let _ = of.ask(MEMBER, &["resume", "shop"]).ended(0);
    assert_eq!(agent.job("backup")["state"], "idle");
    let said = of.ask(MEMBER, &["cancel", "shop"]).failed(1, "agent_refused");
    assert!(said.contains("nothing to cancel"), "{said}");
    // What changes the configuration, and what removes.
    append(&shop.policy_file(), "\n[verify]\nschedule = \"45 5 1 * *\"\nwithin = \"90d\"\n");
    let refused = [&["reload"][..], &["run", "shop", "prune"], &["run", "shop", "verify"]];
    for words in refused {
        let said = of.ask(MEMBER, words).failed(1, "agent_refused");
        assert!(said.contains("members of games may not ask for this"), "{words:?}: {said}");
    }
    assert_eq!(agent.job("prune")["last"], Value::Null);
    let many = |jobs: &Value| jobs["jobs"].as_array().expect("a list").len();
    assert_eq!(many(&shop.site.json(0, &["jobs"])), 2, "it has read it all the same");
    let asked = [
        "request run succeeded backup -",
        "request pause succeeded - -",
        "request resume succeeded - -",
        "request cancel refused backup not_running",
        "request reload refused - denied",
        "request run refused prune denied",
        "request run refused verify denied",
    ];
    assert_eq!(on_record(&shop.site.json(0, &["audit", "show"]), NOBODY), asked);
    // Nor is there another way to it: catalog and repository are drctl's alone.
    let _ = of.ask(MEMBER, &["status"]).failed(7, "catalog_denied");
    let _ = of.ask(MEMBER, &["prune", "shop"]).failed(8, "store_denied");
    assert_eq!(many(&shop.site.json(0, &["reload"])), 3, "root may");
    assert_eq!(of.rights(), (0o660, 0, gid("games")));
    let _ = agent.stop().ended(0);
}

#[test]
fn members_of_the_admin_group_may_have_it_remove_and_reload() {
    let of = Grouped::open("games");
    let shop = &of.shop;
    shop.site
        .replace("socket_group = \"games\"", "socket_group = \"games\"\nadmin_group = \"users\"");
    let agent = Agent::start(&shop.site);
    let said = of.ask(MEMBER, &["run", "shop", "prune"]).failed(1, "agent_refused");
    assert!(said.contains("drctl's account and root, and members of users, may"), "{said}");
    let admin = ["--reuid=nobody", "--regid=games", "--groups=users"];
    let _ = of.ask(&admin, &["run", "shop", "prune"]).failed(1, "agent_refused");
    let _ = agent.stop().ended(0);
    // Alone it has the socket, too.
    shop.site
        .replace("socket_group = \"games\"\nadmin_group = \"users\"", "admin_group = \"games\"");
    let agent = Agent::start(&shop.site);
    assert_eq!(of.rights(), (0o660, 0, gid("games")));
    let _ = of.jobs(MEMBER).ended(0);
    let _ = of.ask(MEMBER, &["run", "shop", "prune"]).ended(0);
    let _ = agent.job_is("prune", |job| job["last"]["outcome"] == "succeeded");
    append(&shop.policy_file(), "\n[verify]\nschedule = \"45 5 1 * *\"\nwithin = \"90d\"\n");
    let _ = of.ask(MEMBER, &["reload"]).ended(0);
    assert_eq!(agent.job("verify")["state"], "idle");
    of.open_for_all();
    let _ = of.jobs(STRANGER).failed(1, "agent_refused");
    let _ = agent.stop().ended(0);
}

#[test]
fn those_outside_the_group_are_kept_out_by_the_socket_and_by_the_agent() {
    let of = Grouped::open("games");
    let agent = Agent::start(&of.shop.site);
    let record = || on_record(&of.shop.site.json(0, &["audit", "show"]), NOBODY);
    for ran in [of.jobs(STRANGER), of.ask(STRANGER, &["run", "shop"])] {
        let said = ran.failed(1, "no_agent");
        assert!(said.contains("this account may not ask the agent at"), "{said}");
    }
    assert_eq!(record(), [""; 0], "the kernel did not keep them out");
    // Whoever comes to the socket is asked for by his name.
    let refused = |ids: &[&str]| {
        for ran in [of.jobs(ids), of.ask(ids, &["run", "shop"]), of.ask(ids, &["reload"])] {
            let said = ran.failed(1, "agent_refused");
            assert!(said.contains("nobody (process "), "{said}");
            assert!(said.contains("may not speak with this agent"), "{said}");
            assert!(!said.contains("shop") && !said.contains("games"), "{said}");
        }
    };
    refused(UNLISTED);
    of.open_for_all();
    refused(STRANGER);
    let each = [
        "request jobs refused - denied",
        "request run refused backup denied",
        "request reload refused - denied",
    ];
    assert_eq!(record(), [each, each].concat());
    assert_eq!(agent.said().matches("refused at the socket").count(), 6, "{}", agent.said());
    assert_eq!(agent.job("backup")["last"], Value::Null);
    assert!(of.shop.site.manifests().is_empty());
}

#[test]
fn who_is_a_member_is_told_by_the_hosts_list() {
    let (group, account) = listed();
    let of = Grouped::open(&group);
    let _agent = Agent::start(&of.shop.site);
    assert_eq!(of.rights(), (0o660, 0, gid(&group)));
    let user = format!("--reuid={account}");
    let member = [user.as_str(), "--regid=nogroup", "--init-groups"];
    let _ = of.jobs(&member).ended(0);
    let said = of.ask(&member, &["reload"]).failed(1, "agent_refused");
    assert!(said.contains(&format!("members of {group} may not ask for this")), "{said}");
    // A process without the group does not come to the socket; where it does, its account counts.
    let without = [user.as_str(), "--regid=nogroup", "--clear-groups"];
    let _ = of.jobs(&without).failed(1, "no_agent");
    of.open_for_all();
    let _ = of.jobs(&without).ended(0);
    let _ = of.jobs(STRANGER).failed(1, "agent_refused");
}

#[test]
fn the_group_is_changed_by_a_restart_alone_and_has_to_be_there() {
    let of = Grouped::open("games");
    let (site, agent) = (&of.shop.site, Agent::start(&of.shop.site));
    let group = |from: &str, to: &str| {
        let line = |name: &str| format!("socket_group = \"{name}\"");
        site.replace(&line(from), &line(to));
    };
    group("games", "users");
    let said = site.fails(1, "agent_refused", &["reload"]);
    assert!(said.contains("taken by a restart only"), "{said}");
    assert_eq!(of.rights(), (0o660, 0, gid("games")));
    let _ = agent.stop().ended(0);
    group("users", "no-such-group");
    let ran = site.drctl(&["--json", "agent"]).ended(1).json();
    assert_eq!((&ran["code"], &ran["exit"]), (&"failed".into(), &1.into()), "{ran}");
    assert!(ran["messages"].to_string().contains("there is no group no-such-group"), "{ran}");
    group("no-such-group", "users");
    let _agent = Agent::start(site);
    assert_eq!(of.rights(), (0o660, 0, gid("users")));
    let _ = of.jobs(MEMBER).failed(1, "no_agent");
}

/// What an agent answers to a line, asked under these identities.
fn answered(ids: &[&str], socket: &Path, line: &str) -> Value {
    let ask = "my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die $!; \
        print $s qq($ARGV[1]\\n); print <$s>";
    let mut perl = Command::new("setpriv");
    perl.args(ids).args(["--", "/usr/bin/perl", "-MIO::Socket::UNIX", "-e", ask]);
    let ran = Ran::of(&perl.arg(socket).arg(line).current_dir("/").output().unwrap());
    serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{ran:?}"))
}

#[test]
fn a_group_may_speak_with_an_agent_that_is_not_roots() {
    let of = Grouped::open("games");
    let site = &of.shop.site;
    for (owner, path) in [("nobody:nogroup", site.path(".")), ("nobody:games", site.path("talk"))] {
        let given = Command::new("chown").args(["-R", owner]).arg(path).status();
        assert!(given.unwrap().success());
    }
    let mut command = Command::new("setpriv");
    command.args(UNLISTED).arg("--").arg(of.program.path()).arg("agent");
    command.env("DRCTL_CONFIG", site.config()).current_dir("/");
    let agent = Agent::start_as(site, command);
    assert_eq!(of.rights(), (0o660, NOBODY, gid("games")));
    let games = ["--reuid=games", "--regid=games", "--clear-groups"];
    let job = || of.jobs(&games).ended(0).json()["jobs"][0].clone();
    assert_eq!((&job()["kind"], &job()["state"]), (&"backup".into(), &"idle".into()));
    let run = r#"{"version":1,"do":"run","source":"shop","kind":"backup"}"#;
    let answer = answered(&games, &of.socket(), run);
    assert_eq!(answer["ok"], true, "{answer}");
    agent.says("begun");
    until("the backup to end", || job()["last"].is_object());
    assert_eq!(job()["last"]["outcome"], "succeeded", "{}", agent.said());
    let answer = answered(&games, &of.socket(), r#"{"version":1,"do":"reload"}"#);
    assert_eq!(answer["refused"]["code"], "denied", "{answer}");
    let shown = of.ask(STRANGER, &["audit", "show"]).ended(0).json();
    let asked = ["request run succeeded backup -", "request reload refused - denied"];
    assert_eq!(on_record(&shown, 5), asked, "the account games");
}

/// What the shop's server wants to hear.
const PASSWORD: &str = "canary-pass-word";

/// A shop whose server wants a password, and tools that hold on in the middle.
fn with_password() -> (Shop, Tools) {
    let server = Postgres::builder().password(PASSWORD).start();
    server.psql("postgres", "create table orders as select g from generate_series(1, 1000) g");
    let site = Site::empty();
    fs::write(site.path("password"), format!("{PASSWORD}\n")).unwrap();
    let file = site.path("password").display().to_string();
    let url = format!("file://{}", site.path("repository").display());
    site.init(&server, &url, &["--password-file", &file]);
    let tools = Tools::of(&server);
    site.source(&tools.line());
    tools.pause("pg_dump", 10);
    let shop = Shop { site, server };
    fs::write(shop.policy_file(), format!("schedule = \"{NEVER}\"\n\n[retention]\nlast = 3\n"))
        .unwrap();
    (shop, tools)
}

/// Everything at and below a path, with its mode. What goes meanwhile is open to nobody.
fn modes(at: &Path, found: &mut Vec<(PathBuf, u32)>) {
    let Ok(meta) = at.symlink_metadata() else { return };
    if meta.is_symlink() {
        return;
    }
    found.push((at.to_owned(), meta.mode() & 0o7777));
    for entry in fs::read_dir(at).into_iter().flatten().flatten() {
        modes(&entry.path(), found);
    }
}

/// Asserts that all that the agent has made is its own account's alone, and that these are among it: they are
/// below the site, and a name may go on.
#[track_caller]
fn closed(shop: &Shop, expected: &[&str]) {
    let mut all = Vec::new();
    for place in ["state", "run", "repository"] {
        modes(&shop.site.path(place), &mut all);
    }
    // The directory for what is temporary is the test's; what is in it is the agent's.
    for entry in fs::read_dir(shop.site.path("tmp")).unwrap().flatten() {
        modes(&entry.path(), &mut all);
    }
    let open: Vec<String> = all
        .iter()
        .filter(|(_, mode)| mode & 0o077 != 0)
        .map(|(path, mode)| format!("{mode:o} {}", path.display()))
        .collect();
    assert_eq!(open, [""; 0]);
    for name in expected {
        let begin = shop.site.path(name).display().to_string();
        let is_there = all.iter().any(|(path, _)| path.display().to_string().starts_with(&begin));
        assert!(is_there, "there is no {name}: {all:?}");
    }
}

/// What another account reaches of that, though the way to it is open.
fn reached(shop: &Shop) -> String {
    let places = ["state", "run", "repository", "tmp"].map(|name| shop.site.path(name));
    set_mode(&shop.site.path("."), 0o755);
    places.iter().for_each(|place| set_mode(place, 0o755));
    let mut find = as_nobody("find");
    let ways = ["-readable", "-o", "-writable", "-o", "-executable"];
    let find = find.args(&places).args(["-mindepth", "1", "("]).args(ways).args([")", "-print"]);
    let found = find.output().expect("start find");
    String::from_utf8_lossy(&found.stdout).into_owned()
}

#[test]
fn an_agent_that_is_started_under_an_open_mask_leaves_nothing_open() {
    let (shop, tools) = with_password();
    let (site, temporary) = (&shop.site, shop.site.path("tmp"));
    fs::create_dir(&temporary).unwrap();
    set_mode(&temporary, 0o1777);
    let mut command = after("umask 000", &site.command(&["agent"]));
    command.env("TMPDIR", &temporary);
    let agent = Agent::start_as(site, command);
    let jobs = || site.json(0, &["jobs"]);
    let process = fs::read_to_string(format!("/proc/{}/status", jobs()["pid"])).unwrap();
    assert!(process.lines().any(|line| line == "Umask:\t0077"), "{process}");
    let _ = site.json(0, &["run", "shop"]);
    tools.await_pause();
    until("a look and a beat", || jobs()["looked"].is_string() && jobs()["beaten"].is_string());
    // The tool reads the password now.
    let made = ["run/agent.sock", "run/drctl-pgpass-", "state/catalog.db", "state/audit.log"];
    closed(&shop, &made);
    tools.go_on();
    let _ = agent.job_is("backup", |job| job["last"]["outcome"] == "succeeded");
    let kept = ["repository/beat", "repository/a", "state/audit.shipped"];
    until("what is written beside it", || kept.iter().all(|name| site.path(name).exists()));
    assert_eq!(site.manifests().len(), 1);
    closed(&shop, &["run/agent.sock", "state/audit.shipped", "repository/s/shop/b/"]);
    assert_eq!(reached(&shop), "", "another account reaches these");
    let program = Program::placed();
    let socket = site.path("run/agent.sock");
    let mut asked = as_nobody(program.path());
    asked.args(["--json", "jobs", "--socket"]).arg(&socket);
    let said = Ran::of(&asked.output().unwrap()).failed(1, "no_agent");
    assert!(said.contains("this account may not ask the agent at"), "{said}");
    for name in ["state/catalog.db", "state/audit.log", "repository/drctl-repo.json"] {
        let read = Ran::of(&as_nobody("cat").arg(site.path(name)).output().unwrap()).ended(1);
        assert!(read.out.is_empty() && read.err.contains("Permission denied"), "{read:?}");
    }
    let _ = agent.stop().ended(0);
}

/// What `drctl status` says, for programs and for people.
fn status(shop: &Shop) -> (Value, String) {
    let text = shop.site.drctl(&["status"]).ended(0).out;
    (shop.site.json(0, &["status"]), text)
}

#[test]
fn status_tells_what_runs_and_what_was_missed() {
    let shop = Shop::open("0 2 * * *");
    backed_up_days_ago(&shop, 3);
    let tools = Tools::of(&shop.server);
    shop.site.source(&tools.line());
    tools.pause("pg_dump", 10);
    let agent = Agent::start(&shop.site);
    // It makes up for what was missed.
    tools.await_pause();
    let (told, text) = status(&shop);
    let job = &told["agent"]["jobs"][0];
    assert_eq!((&job["kind"], &job["state"]), (&"backup".into(), &"running".into()), "{told}");
    assert_eq!(told["sources"][0]["running"], true, "{told}");
    let missed = &job["missed"];
    assert_eq!((&missed["count"], &missed["why"]), (&3.into(), &"agent_away".into()), "{job}");
    let of = |value: &Value| value.as_str().expect("a text").to_owned();
    let runs = format!("shop: backup runs since {}", of(&job["since"]));
    assert!(text.lines().any(|line| line == runs), "{text}");
    let (first, last) = (of(&missed["first"]), of(&missed["last"]));
    assert!(first < last && first.ends_with("T02:00:00Z") && last.ends_with("T02:00:00Z"));
    let why = format!(
        "shop: backup missed 3 runs from {first} to {last}: nothing could begin in time: no agent ran, the \
         host slept, or its clock was set"
    );
    assert!(text.lines().any(|line| line == why), "{text}");
    let _ = agent.ends_anew("backup", "succeeded", || tools.go_on());
    let (told, text) = status(&shop);
    let job = &told["agent"]["jobs"][0];
    assert_eq!((&job["state"], &job["missed"]), (&"idle".into(), &Value::Null), "{told}");
    assert!(!text.contains("runs since") && !text.contains("missed"), "{text}");
}

#[test]
fn status_tells_what_a_job_that_is_due_waits_for() {
    let shop = Shop::open("0 2 * * *");
    backed_up_days_ago(&shop, 3);
    // It opens in some hours, whenever this is.
    let hour = Timestamp::now().to_zoned(TimeZone::UTC).hour();
    let (from, to) = ((hour + 6) % 24, (hour + 7) % 24);
    let window = format!("\n[window]\nfrom = \"{from:02}:00\"\nuntil = \"{to:02}:00\"\n");
    append(&shop.policy_file(), &window);
    let _agent = Agent::start(&shop.site);
    let (told, text) = status(&shop);
    let job = &told["agent"]["jobs"][0];
    assert_eq!((&job["kind"], &job["state"]), (&"backup".into(), &"due".into()), "{told}");
    assert_eq!(job["waits_for"], "the window to open", "{job}");
    let next = job["next"].as_str().expect("a time");
    assert!(next.ends_with(&format!("T{from:02}:00:00Z")), "{next}");
    assert!(text.lines().any(|line| line == "shop: backup waits for the window to open"), "{text}");
    // The last one of the three may begin in time yet, when the window opens.
    let missed = &job["missed"];
    assert!([2, 3].map(Value::from).contains(&missed["count"]), "{missed}");
    assert_eq!(missed["why"], "agent_away", "{missed}");
    let said = format!("shop: backup {}", missed["text"].as_str().expect("a text"));
    assert!(text.lines().any(|line| line == said), "{text}");
    assert_eq!(told["agent"]["jobs"], shop.site.json(0, &["jobs"])["jobs"]);
    assert_eq!(shop.site.manifests().len(), 1);
}

#[test]
fn status_tells_when_each_job_is_due_and_that_a_configuration_was_refused() {
    let shop = Shop::open("30 3 29 2 *");
    let more = "\n[prune]\nschedule = \"30 4 29 2 *\"\n\n[verify]\nschedule = \"45 5 1 * *\"\n\
        within = \"90d\"\n";
    append(&shop.policy_file(), more);
    let agent = Agent::start(&shop.site);
    let (told, text) = status(&shop);
    let next = |kind: &str| {
        let jobs = told["agent"]["jobs"].as_array().expect("a list");
        let job = jobs.iter().find(|job| job["source"] == "shop" && job["kind"] == kind);
        job.expect("a job")["next"].as_str().expect("a time").to_owned()
    };
    let due = [
        ("backup", "-02-29T03:30:00Z"),
        ("prune", "-02-29T04:30:00Z"),
        ("verify", "-01T05:45:00Z"),
    ];
    for (kind, end) in due {
        assert!(next(kind).ends_with(end), "{kind}: {told}");
    }
    assert_eq!(told["sources"][0]["next"], next("backup").as_str(), "{told}");
    let row = text.lines().find(|row| row.starts_with("shop ")).expect("a row");
    assert!(row.ends_with(&next("backup")), "{text}");
    assert_eq!(told["agent"]["refused_configuration"], Value::Null);
    let good = fs::read_to_string(shop.site.config()).unwrap();
    shop.site.append("\n[sources.blog]\nengine = \"pg_dmp\"\npolicy = \"daily\"\n");
    agent.signal(rustix::process::Signal::HUP);
    agent.says("is not taken");
    let _ = shop.site.fails(7, "bad_configuration", &["status"]);
    // It stays told where the file has been mended and the agent has not read it.
    fs::write(shop.site.config(), good).unwrap();
    let (told, text) = status(&shop);
    let why = told["agent"]["refused_configuration"].as_str().expect("a reason");
    assert!(why.contains("drctl.toml:") && why.contains("pg_dmp"), "{why}");
    let rejected = text.lines().find(|line| line.contains("rejected it")).expect("a line");
    assert!(rejected.contains("goes on with the one before"), "{rejected}");
    assert!(rejected.ends_with(why), "{rejected}");
    let _ = shop.site.json(0, &["reload"]);
    let (told, text) = status(&shop);
    assert_eq!(told["agent"]["refused_configuration"], Value::Null);
    assert!(!text.contains("rejected it"), "{text}");
}
