//! Stopped by a signal: nothing half done, no process, no session.

use std::io::Read as _;
use std::process::{Child, Stdio};
use std::time::Duration;

use drctl_tests::servers::process::wait_gone;
use drctl_tests::servers::scripted::Scripted;
use drctl_tests::site::{Ran, Site, until};
use rustix::process::{Pid, Signal, kill_process};

use crate::common::{Shop, Somebody, until_locked_out};

/// Starts `drctl` in JSON mode and leaves it to run.
pub(crate) fn start(site: &Site, arguments: &[&str]) -> Child {
    let mut command = site.command(&[&["--json"], arguments].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start drctl")
}

/// Waits for its end.
pub(crate) fn ended(child: Child) -> Ran {
    Ran::of(&child.wait_with_output().expect("wait for drctl"))
}

pub(crate) fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("send a signal");
}

#[track_caller]
fn nothing_is_left(shop: &Shop, ran: &Ran) {
    let said = ran.failed(130, "interrupted");
    assert!(said.contains("stopped by a signal") && said.contains("run the command again"));
    assert_eq!(shop.sessions(), 0, "sessions are left");
    assert!(shop.site.manifests().is_empty());
    assert!(shop.site.rows().is_empty());
    assert_eq!(shop.site.status()["last_job"]["state"], "cancelled");
    assert!(shop.site.files("run").is_empty(), "{:?}", shop.site.files("run"));
}

#[test]
fn a_signal_in_the_middle_of_a_dump_leaves_no_session_and_no_process() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let (shop, tools) = Shop::with_tools();
        tools.pause("pg_dump", 300_000);
        let child = start(&shop.site, &["backup", "shop"]);
        tools.await_pause();
        assert!(shop.sessions() >= 1);
        send(&child, signal);
        nothing_is_left(&shop, &ended(child));
        tools.honest("pg_dump");
        let next = shop.site.backup();
        shop.still_restores(&next);
    }
}

#[test]
fn a_signal_ends_a_restore_that_nobody_reads() {
    let shop = Shop::open();
    let id = shop.site.backup();
    let start = ["restore", "shop", "--backup", &id, "--database", &shop.db, "--to-stdout"];
    let mut command = shop.site.command(&start);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The pipe is full once the first byte was read and the rest is not: the writer waits.
    let mut output = child.stdout.take().unwrap();
    let mut first = [0; 5];
    output.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"PGDMP");
    send(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    drop(output);
}

#[test]
fn a_signal_ends_a_command_whose_bucket_does_not_answer() {
    let (shop, silent) = (Shop::open(), Scripted::silent());
    let secret = shop.site.path("secret");
    std::fs::write(&secret, "x").unwrap();
    let old = format!("url = \"file://{}\"", shop.site.path("repository").display());
    let secret = secret.display();
    shop.site.replace(
        &old,
        &format!(
            "url = \"s3://bucket/x\"\nendpoint = \"http://127.0.0.1:{}\"\nallow_http = true\n\
             access_key_id = {{ file = \"{secret}\" }}\nsecret_access_key = {{ file = \"{secret}\" }}",
            silent.port()
        ),
    );
    for arguments in [&["doctor"][..], &["verify"], &["catalog", "rebuild"], &["backup", "shop"]] {
        let before = silent.heads().len();
        let child = start(&shop.site, arguments);
        until("a request", || silent.heads().len() > before);
        send(&child, Signal::TERM);
        let said = ended(child).failed(130, "interrupted");
        assert!(said.contains("stopped by a signal"), "{said}");
    }
}

#[test]
fn a_tool_that_ignores_the_signal_is_gone_all_the_same() {
    let stubborn = "trap '' TERM INT HUP\n(trap '' TERM; tell child $BASHPID; exec sleep 600) &\n";
    // Before its first byte, and after many.
    for before in ["", "\"$REAL\" \"$@\" | head -c 300000\n"] {
        let (shop, tools) = Shop::with_tools();
        let script = format!("{stubborn}{before}tell parent $$\nwhile :; do sleep 600; done");
        tools.set("pg_dump", &script);
        let child = start(&shop.site, &["backup", "shop"]);
        let pids = ["parent", "child"].map(|one| tools.await_file(one));
        send(&child, Signal::TERM);
        nothing_is_left(&shop, &ended(child));
        for pid in pids {
            let pid = pid.trim().parse().unwrap();
            assert!(wait_gone(pid, Duration::from_secs(5)), "{pid} is still there");
        }
    }
}

#[test]
fn a_signal_while_locks_are_waited_for_leaves_no_session() {
    let shop = Shop::open();
    let mut somebody = Somebody::on(&shop.server, &shop.db);
    somebody.run("begin; lock table orders");
    let child = start(&shop.site, &["backup", "shop"]);
    until_locked_out(&shop.server, &shop.db);
    send(&child, Signal::TERM);
    nothing_is_left(&shop, &ended(child));
}

#[test]
fn a_signal_while_the_globals_are_dumped_leaves_nothing() {
    let (shop, tools) = Shop::with_tools();
    tools.set("pg_dumpall", "tell mid; exec sleep 600");
    let child = start(&shop.site, &["backup", "shop"]);
    tools.await_pause();
    send(&child, Signal::INT);
    nothing_is_left(&shop, &ended(child));
}

#[test]
fn a_restore_that_is_stopped_leaves_no_database_behind() {
    let (shop, tools) = Shop::with_tools();
    let good = shop.site.backup();
    for jobs in ["1", "2"] {
        let _ = std::fs::remove_file(tools.path().join("mid"));
        tools.set("pg_restore", "tell mid; trap '' TERM; sleep 600; exec \"$REAL\" \"$@\"");
        let new = crate::common::name();
        let arguments = [&shop.to_beside(&good, &new)[..], &["--jobs", jobs]].concat();
        let child = start(&shop.site, &arguments);
        tools.await_pause();
        assert!(shop.has(&new));
        send(&child, Signal::TERM);
        ended(child).failed(130, "interrupted");
        assert!(!shop.has(&new), "jobs {jobs}");
        let spool = shop.site.path("state/spool");
        assert!(!spool.exists() || shop.site.files("state/spool").is_empty());
    }
    tools.honest("pg_restore");
    shop.still_restores(&good);
}

#[test]
fn a_restore_into_files_that_is_stopped_leaves_no_file_that_looks_whole() {
    let shop = Shop::open();
    shop.site.replace("64KiB", "1KiB");
    let good = shop.site.backup();
    let target = shop.site.path("files");
    let target_text = target.display().to_string();
    let child =
        start(&shop.site, &["restore", "shop", "--backup", &good, "--to-files", &target_text]);
    until("the dump to be begun", || {
        target.join(format!("{}.dump.part", shop.db)).exists()
            || target.join(format!("{}.dump", shop.db)).exists()
    });
    send(&child, Signal::TERM);
    let ran = ended(child);
    let stopped = ran.code == Some(130);
    assert!(stopped || ran.code == Some(0), "{ran:?}");
    // It may have been faster than the signal: then the file is whole.
    assert_eq!(target.join(format!("{}.dump", shop.db)).exists(), !stopped);
}

#[test]
fn a_second_backup_of_the_same_source_is_refused_and_harms_nothing() {
    let (shop, tools) = Shop::with_tools();
    tools.pause("pg_dump", 300_000);
    let first = start(&shop.site, &["backup", "shop"]);
    tools.await_pause();
    // For the second one; the first runs on as it is.
    tools.honest("pg_dump");
    let said = shop.site.fails(6, "busy", &["backup", "shop"]);
    assert!(said.contains(&format!("process {}", first.id())), "{said}");
    tools.go_on();
    let answer = ended(first).ended(0).json();
    let id = crate::common::id_of(&answer);
    assert_eq!(shop.site.rows().len(), 1);
    assert_eq!(shop.site.status()["last_job"]["state"], "committed");
    shop.still_restores(&id);
}
