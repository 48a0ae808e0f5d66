//! `archive_command` by the running agent: it stores what `wal push` hands over, by the same checks, and
//! `wal push` believes it no further than that.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use drctl_tests::agent::Agent;
use drctl_tests::cluster::{
    Cluster as _, Program, archiving, as_owner, give_away, list, place, ticks,
};
use drctl_tests::hostile::as_nobody;
use drctl_tests::servers::minio::Minio;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::servers::scripted::Scripted;
use drctl_tests::site::{Ran, Site, until};
use serde_json::Value;

use crate::common::{filled, site};
use crate::log::{Archiving, in_s3};
use crate::push::{Queue, replace};

/// The agent of a shop, under the server's account.
fn agent(shop: &Archiving) -> Agent<'_> {
    Agent::start_as(&shop.site, shop.command(&["agent"]))
}

/// What pushes a file by the agent at this socket and by nothing else: it has no configuration.
fn bare(program: &Path, socket: &Path, path: &str) -> Command {
    let mut command = as_owner(program);
    command.args(["--json", "--config", "/nowhere/drctl.toml", "wal", "push", "--socket"]);
    command.arg(socket).args(["shop", path]).env_remove("DRCTL_LOG");
    command
}

/// The file of a queue, by the agent alone.
fn by_agent(queue: &Queue, at: usize) -> Ran {
    let socket = queue.shop.site.path("run/agent.sock");
    let path = queue.file(at).display().to_string();
    Ran::of(&bare(queue.shop.program(), &socket, &path).output().unwrap())
}

/// What a push that failed says, for this reason; the server counts a failure.
#[track_caller]
fn refused(ran: &Ran, code: &str) -> String {
    assert_eq!((ran.code, &ran.json()["code"]), (Some(1), &code.into()), "{ran:?}");
    ran.json()["messages"].to_string()
}

/// The file of a queue, as the server asks for it.
#[track_caller]
fn pushed(queue: &Queue, at: usize) -> Value {
    Ran::of(&queue.command(at).output().unwrap()).ended(0).json()
}

#[test]
fn a_server_archives_by_the_agent_alone_and_comes_back() {
    let shop = Archiving::start(false);
    let _ = shop.back_up();
    let running = agent(&shop);
    let (program, socket) = (shop.program().display(), shop.site.path("run/agent.sock"));
    let push = format!(
        "{program} --config /nowhere/drctl.toml wal push --socket {} shop %p",
        socket.display()
    );
    let set = format!("alter system set archive_command = '{push}'; select pg_reload_conf()");
    shop.sql(&set);
    let _ = shop.segments_of_ten(3);
    // Without the agent the server keeps its log.
    let _ = running.stop().ended(0);
    shop.tick(31..41);
    shop.sql("select pg_switch_wal()");
    let failed = "select failed_count > 0 from pg_stat_archiver";
    until("the archiver to fail", || shop.sql(failed) == "t");
    let running = agent(&shop);
    let _ = shop.archived();
    drop(running);
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..41));
}

#[test]
fn the_agent_stores_what_waits_by_the_same_checks() {
    let queue = Queue::new();
    let running = agent(&queue.shop);
    let (first, behind) = (pushed(&queue, 0), queue.names.len() - 1);
    assert_eq!((&first["agent"], &first["done"]), (&true.into(), &"stored".into()), "{first}");
    assert_eq!(first["ahead"], behind);
    assert_eq!(queue.notes(), queue.names[1..]);
    queue.all_stored();
    let noted = by_agent(&queue, 1).ended(0).json();
    assert_eq!((&noted["done"], &noted["ahead"]), (&"noted".into(), &0.into()), "{noted}");
    let there = by_agent(&queue, 0).ended(0).json();
    assert_eq!(there["done"], "present");
    // What is no log, under another name, and too short.
    let good = fs::read(queue.file(2)).unwrap();
    let (mut bad, next) = (good.clone(), fs::read(queue.file(3)).unwrap());
    bad[300] ^= 1;
    for wrong in [&bad[..], &next, &good[..1000], b""] {
        replace(&queue.file(2), wrong);
        let ran = by_agent(&queue, 2);
        assert!(refused(&ran, "log_damaged").contains(&queue.names[2]), "{ran:?}");
    }
    replace(&queue.file(2), &good);
    assert_eq!(by_agent(&queue, 2).ended(0).json()["done"], "present");
    // What the agent refuses is not tried again by whoever could.
    replace(&queue.file(2), &bad);
    let ran = Ran::of(&queue.command(2).output().unwrap());
    let said = refused(&ran, "log_damaged");
    assert!(said.contains(&queue.names[2]), "{said}");
    assert_eq!(running.said().matches("(log_damaged)").count(), 5, "{}", running.said());
}

#[test]
fn log_of_a_clone_is_refused_by_the_agent_and_noted() {
    let mut queue = Queue::new();
    let (folder, _) = place();
    let data = folder.path().join("clone");
    let copy =
        queue.shop.server.client("pg_basebackup").args(["-c", "fast", "-D"]).arg(&data).status();
    assert!(copy.unwrap().success());
    let clone = Postgres::builder().data(&data).start();
    clone.psql("postgres", "insert into ticks select g, 'other' from generate_series(900, 999) g");
    let name = clone.psql("postgres", "select pg_walfile_name(pg_switch_wal() - 1)");
    queue.write(40);
    let at = queue.names.iter().position(|found| *found == name).expect("both wrote it");
    let running = agent(&queue.shop);
    assert!(pushed(&queue, 0)["ahead"].as_u64().unwrap() >= at as u64);
    replace(&queue.file(at), &fs::read(data.join("pg_wal").join(&name)).unwrap());
    let ran = by_agent(&queue, at);
    let _ = refused(&ran, "log_conflict");
    assert_eq!(queue.shop.told("log_refused").len(), 1);
    drop(running);
}

#[test]
fn an_agent_of_another_account_stores_what_it_may_not_read() {
    let server = filled(archiving(&[]));
    let (site, program) = (site(&server), Program::placed());
    let socket = site.path("place/agent.sock");
    site.append(&format!(
        "\n[agent]\nsocket = \"{}\"\npush_user = \"postgres\"\n",
        socket.display()
    ));
    fs::create_dir(site.path("place")).unwrap();
    let given = Command::new("chown").args(["-R", "65534:65534"]).arg(site.path(".")).status();
    assert!(given.unwrap().success());
    for folder in [site.path("."), site.path("place")] {
        fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = as_nobody(program.path());
    command.env("DRCTL_CONFIG", site.config()).arg("agent");
    let running = Agent::start_as(&site, command);
    let mut names = Vec::new();
    for round in 0..4 {
        server.psql("postgres", &format!("insert into ticks values ({round}, 'x')"));
        names.push(server.psql("postgres", "select pg_walfile_name(pg_switch_wal() - 1)"));
    }
    let file = |name: &str| server.data_dir().join("pg_wal").join(name).display().to_string();
    let may = as_nobody("cat").arg(file(&names[0])).output().unwrap();
    assert!(!may.status.success(), "the agent's account may read it");
    let push = |name: &str| Ran::of(&bare(program.path(), &socket, &file(name)).output().unwrap());
    let done = push(&names[0]).ended(0).json();
    assert_eq!((&done["done"], &done["agent"]), (&"stored".into(), &true.into()), "{done}");
    for name in &names[1..] {
        let done = push(name).ended(0).json();
        assert!(["stored", "noted"].contains(&done["done"].as_str().unwrap()), "{done}");
    }
    // Whoever is named nowhere is not heard, and has no configuration to do it by himself.
    let mut other = Command::new("setpriv");
    other.args(["--reuid=1", "--regid=1", "--clear-groups", "--"]).arg(program.path());
    other.args(["--json", "--config", "/nowhere/drctl.toml", "wal", "push", "--socket"]);
    let ran = Ran::of(&other.arg(&socket).args(["shop", "/etc/passwd"]).output().unwrap());
    let _ = refused(&ran, "no_configuration");
    running.says("refused at the socket");
    // And whoever may hand over log may ask for nothing else.
    let ran = as_owner(program.path()).args(["--json", "jobs", "--socket"]).arg(&socket).output();
    let _ = refused(&Ran::of(&ran.unwrap()), "agent_refused");
}

#[test]
fn an_agent_that_is_killed_in_the_middle_is_done_without() {
    for point in ["push-stored", "push-ahead-stored"] {
        let queue = Queue::new();
        let mut command = queue.shop.command(&["agent"]);
        command.env("DRCTL_CRASH_AT", point);
        let mut running = Agent::start_as(&queue.shop.site, command);
        let done = pushed(&queue, 0);
        assert_eq!((&done["agent"], &done["done"]), (&false.into(), &"present".into()), "{done}");
        assert!(!running.lives(), "{point}");
        assert_eq!(pushed(&queue, 1)["agent"], false, "its socket is left, and nobody listens");
        // Whoever has no configuration either is told why the agent did not.
        let alone = by_agent(&queue, 1);
        let said = alone.json()["messages"].to_string();
        assert_eq!(alone.code, Some(1), "{alone:?}");
        assert!(said.contains("agent.sock did not store it: "), "{said}");
        for at in 2..queue.names.len() {
            let _ = pushed(&queue, at);
        }
        queue.all_stored();
    }
}

#[test]
fn whatever_an_agent_says_that_is_no_promise_the_file_is_stored() {
    let queue = Queue::new();
    let folder = queue.shop.site.path("run");
    fs::create_dir_all(&folder).unwrap();
    give_away(&folder);
    let ready = "{\"version\":1,\"ok\":true,\"answer\":{\"ready\":true}}\n";
    let refused =
        "{\"version\":1,\"ok\":false,\"refused\":{\"code\":\"version\",\"message\":\"x\"}}\n";
    let strange = "{\"version\":1,\"ok\":true,\"answer\":{\"finished\":\"stored\"}}\n";
    let cases: [&[&str]; 7] =
        [&[], &["\n"], &["\u{1}{}\n"], &[refused], &[ready], &[ready, refused], &[ready, strange]];
    for lines in cases {
        let socket = folder.join("agent.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        fs::set_permissions(&socket, Permissions::from_mode(0o666)).unwrap();
        let playing = {
            let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            thread::spawn(move || {
                let (stream, _) = listener.accept().unwrap();
                let mut heard = BufReader::new(stream.try_clone().unwrap());
                for line in lines {
                    heard.read_line(&mut String::new()).unwrap();
                    (&stream).write_all(line.as_bytes()).unwrap();
                }
            })
        };
        let done = pushed(&queue, 0);
        playing.join().unwrap();
        assert_eq!((&done["agent"], &done["done"]), (&false.into(), &"stored".into()), "{lines:?}");
        fs::remove_file(&socket).unwrap();
        fs::remove_dir_all(queue.shop.site.path("state/pushed")).unwrap();
        for piece in queue.shop.pieces() {
            fs::remove_file(piece).unwrap();
        }
    }
}

/// What the agent answers to a line, at once or when its patience ends.
fn answered(stream: &mut BufReader<UnixStream>) -> Value {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"))
}

/// Somebody who has been told that the agent is ready for a file of his.
fn begun(site: &Site) -> BufReader<UnixStream> {
    let stream = UnixStream::connect(site.path("run/agent.sock")).unwrap();
    let line = b"{\"version\":1,\"do\":\"push\",\"source\":\"shop\",\"configuration\":null}\n";
    (&stream).write_all(line).unwrap();
    let mut stream = BufReader::new(stream);
    assert_eq!(answered(&mut stream)["answer"]["ready"], true);
    stream
}

#[test]
fn those_who_dawdle_and_those_who_send_too_much_are_sent_away() {
    let queue = Queue::new();
    let running = agent(&queue.shop);
    // Without end, and without a file.
    let endless = begun(&queue.shop.site);
    let (mut sent, zeros) = (0, vec![b'0'; 1 << 20]);
    while sent < 1 << 30 && endless.get_ref().write_all(&zeros).is_ok() {
        sent += zeros.len();
    }
    assert!(sent < 16 << 20, "{sent} bytes were taken");
    let mut fileless = begun(&queue.shop.site);
    let label = "{\"pg_wal\":\"/\",\"names\":[\"000000010000000000000001\"],\"marked\":[],\
        \"waiting\":null,\"room\":null}\n";
    fileless.get_mut().write_all(label.as_bytes()).unwrap();
    assert_eq!(answered(&mut fileless)["refused"]["code"], "bad_request");
    // All places are taken by those who never hand anything over: the next one waits for theirs.
    let mut dawdling = [begun(&queue.shop.site), begun(&queue.shop.site)];
    assert_eq!(by_agent(&queue, 0).ended(0).json()["done"], "stored");
    for one in &mut dawdling {
        assert_eq!(answered(one)["refused"]["code"], "bad_request");
    }
    let memory = fs::read_to_string(format!("/proc/{}/status", pid(&queue.shop))).unwrap();
    let peak = memory.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 200 << 10, "{peak} kB");
    drop(running);
}

/// The agent's process.
fn pid(shop: &Archiving) -> Value {
    shop.drctl(&["jobs"]).ended(0).json()["pid"].clone()
}

#[test]
fn a_configuration_that_the_agent_has_not_taken_is_not_left_to_it() {
    let queue = Queue::new();
    let running = agent(&queue.shop);
    assert_eq!(pushed(&queue, 0)["agent"], true);
    // A key of its own from now on, which is believed beside the old one.
    let keys = queue.shop.site.path("etc/keys");
    let made =
        queue.shop.drctl(&["keys", "new-signing", &keys.join("new.key").display().to_string()]);
    let key = made.ended(0).json()["verifying_key"].as_str().unwrap().to_owned();
    queue.shop.site.replace("signing.key", "new.key");
    queue.shop.site.replace("verifying_keys = [", &format!("verifying_keys = [\"{key}\", "));
    assert_eq!(pushed(&queue, 1)["agent"], false);
    let _ = queue.shop.drctl(&["reload"]).ended(0);
    fs::remove_file(keys.join("signing.key")).unwrap();
    for piece in queue.shop.pieces() {
        fs::remove_file(piece).unwrap();
    }
    fs::remove_dir_all(queue.shop.site.path("state/pushed")).unwrap();
    let done = pushed(&queue, 2);
    assert_eq!((&done["agent"], &done["done"]), (&true.into(), &"stored".into()), "{done}");
    let keys = queue.shop.drctl(&["keys", "list"]).ended(0).json();
    let known = keys["verifying_keys"].as_array().unwrap();
    let new = known.iter().find(|one| one["key"] == key.as_str()).unwrap()["id"].as_str().unwrap();
    let piece = fs::read(&queue.shop.pieces()[0]).unwrap();
    let signed = String::from_utf8_lossy(&piece).contains(new);
    assert!(signed, "it is signed by another key than {new}");
    drop(running);
}

#[test]
fn an_agent_that_is_stopped_in_the_middle_says_so() {
    let minio = Minio::start();
    minio.make_bucket("shop");
    let queue = Queue::of(Archiving::with(false, in_s3(&minio, minio.endpoint())));
    let silent = Scripted::silent();
    let endpoint = format!("http://127.0.0.1:{}", silent.port());
    queue.shop.site.replace(&minio.endpoint(), &endpoint);
    queue.shop.site.append("\n[agent]\nstop_timeout = \"1s\"\nbeat = \"0s\"\n");
    let running = agent(&queue.shop);
    let (asked, file) = (silent.heads().len(), queue.file(0).display().to_string());
    let socket = queue.shop.site.path("run/agent.sock");
    let mut command = bare(queue.shop.program(), &socket, &file);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("the bucket to be asked", || silent.heads().len() > asked);
    let mut next = begun(&queue.shop.site);
    let _ = running.stop().ended(0);
    let mut rest = String::new();
    next.read_to_string(&mut rest).unwrap();
    let ran = Ran::of(&child.wait_with_output().unwrap());
    // It heard no promise, and has no configuration to do it by itself.
    let _ = refused(&ran, "no_configuration");
}
