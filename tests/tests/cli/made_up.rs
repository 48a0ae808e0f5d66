//! An engine that nobody has, a folder more in each room (`tests/made-up`), goes through the program
//! as PostgreSQL's do.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use drctl_tests::site::{Site, until};
use rustix::process::{Pid, Signal, kill_process};

use crate::init_arguments;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("made-up")
}

/// The program with the made-up engine.
fn program() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let ran = Command::new(folder().join("build")).output().expect("start the build");
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "tests/made-up/build: {said}");
        PathBuf::from(String::from_utf8(ran.stdout).expect("a path").trim())
    };
    BUILT.get_or_init(build).clone()
}

/// A host whose source `shop` is a ledger with these accounts.
fn ledger(sums: &str) -> Site {
    let site = Site::of(program());
    let _ = site.drctl(&init_arguments(&site)).ended(0);
    let books = site.path("books");
    fs::create_dir(&books).expect("make the ledger");
    for (file, text) in [("name", "main-1\n"), ("sums", sums), ("log", "")] {
        fs::write(books.join(file), text).expect("write the ledger");
    }
    let old = fs::read_to_string(site.config()).expect("a configuration");
    let (before, rest) = old.split_once("[sources.shop]\n").expect("a source");
    let after = rest.find("\n[").map_or("", |end| &rest[end..]);
    let policy = rest.lines().find(|line| line.starts_with("policy = ")).expect("a policy");
    let source =
        format!("[sources.shop]\nengine = \"ledger\"\n{policy}\nbooks = \"{}\"\n", books.display());
    fs::write(site.config(), format!("{before}{source}{after}")).expect("configure the ledger");
    site
}

#[test]
fn a_made_up_engine_backs_up_through_the_same_rooms() {
    let sums = "cash 70\nrent -30\nend 4\n";
    let site = ledger(sums);
    let _ = site.drctl(&["config", "check"]).ended(0);
    let _ = site.json(3, &["doctor"]);
    let id = site.backup();
    let row = &site.rows()[0];
    assert_eq!((&row["engine"], &row["good"]), (&"ledger".into(), &true.into()), "{row}");
    assert_eq!(row["kind"]["type"], "snapshot", "{row}");
    assert_eq!((&row["kind"]["lineage"], &row["kind"]["stop"]), (&"main-1".into(), &"4".into()));
    assert_eq!(site.status()["health"], "good");
    let _ = site.drctl(&["verify", "--data"]).ended(0);
    let to = site.path("restored");
    let arguments = ["restore", "shop", "--latest", "--to-files", &to.display().to_string()];
    let _ = site.drctl(&arguments).ended(0);
    assert_eq!(fs::read_to_string(to.join("archive")).expect("restored"), sums);
    let _ = site.drctl(&["show", &id]).ended(0);

    // A ledger that is cut is no backup, and no other reason is told.
    fs::write(site.path("books/sums"), "cash 70\nrent -30\n").expect("cut it");
    let told = site.fails(10, "ledger_damaged", &["backup", "shop"]);
    assert!(told.contains("does not end with its position"), "{told}");
    assert_eq!(site.rows().len(), 1);
}

/// Entries of the log, a second apart, each of which adds 1 to the account `cash`.
fn entries(from: u64, until: u64) -> String {
    let line = |at: u64| format!("{at} {} cash 1\n", 1_700_000_000 + at);
    (from..until).map(line).collect()
}

/// Streams the log until so many pieces are in the bucket.
fn stream(site: &Site, pieces: usize) {
    let mut streaming = site.command(&["wal", "stream", "shop", "--interval", "1"]);
    let mut streaming = streaming.stderr(Stdio::null()).spawn().expect("start drctl");
    until("the log", || logs(site).len() == pieces);
    let pid = Pid::from_child(&streaming);
    kill_process(pid, Signal::TERM).expect("end it");
    assert_eq!(streaming.wait().expect("its end").code(), Some(0));
}

/// The pieces of log in the bucket, in order.
fn logs(site: &Site) -> Vec<PathBuf> {
    let mut files = site.files("repository");
    files.retain(|path| path.extension().is_some_and(|ending| ending == "log"));
    files
}

#[test]
fn a_made_up_engines_log_is_streamed_and_leads_to_a_position() {
    let site = ledger("cash 70\nrent -30\nend 4\n");
    let log = site.path("books/log");
    fs::write(&log, entries(1, 10)).expect("write the log");
    let _ = site.backup();
    stream(&site, 3);
    // It goes on where it ended, and what is under way is no entry yet.
    fs::write(&log, entries(1, 14) + "14 17").expect("write the log");
    stream(&site, 4);
    let _ = site.drctl(&["verify", "--data"]).ended(0);
    for verb in ["check", "rebuild"] {
        let _ = site.drctl(&["catalog", verb]).ended(0);
    }
    let to = |name: &str, target: &[&str]| {
        let directory = site.path(name).display().to_string();
        let arguments = [&["--json", "restore", "shop", "--to-directory", &directory], target];
        site.drctl(&arguments.concat())
    };
    let sums = |name: &str| fs::read_to_string(site.path(name).join("archive")).expect("sums");
    let done = to("before", &["--to-lsn", "0/B"]).ended(0).json();
    assert_eq!(done["replayed"], "000000000000000b", "{done}");
    assert_eq!(sums("before"), "cash 76\nrent -30\nend 10\n");
    let _ = to("with", &["--to-lsn", "0/B", "--inclusive"]).ended(0);
    assert_eq!(sums("with"), "cash 77\nrent -30\nend 11\n");
    let _ = to("end", &["--to-end"]).ended(0);
    assert_eq!(sums("end"), "cash 79\nrent -30\nend 13\n");
    let _ = to("planned", &["--to-end", "--plan"]).ended(0);
    assert!(!site.path("planned").exists());
    let _ = to("behind", &["--to-lsn", "0/F"]).failed(5, "no_plan");
    // What only a cluster's recovery has is refused, and never left undone in silence.
    let said = to("drilled", &["--to-end", "--drill"]).failed(2, "usage");
    assert!(said.contains("--drill") && !site.path("drilled").exists(), "{said}");

    // A piece that is gone is a gap, and one that is damaged is never replayed.
    let pieces = logs(&site);
    let gone = site.path("repository").join(&pieces[2]);
    let bytes = fs::read(&gone).expect("a piece");
    fs::remove_file(&gone).expect("lose it");
    let _ = to("gap", &["--to-lsn", "0/B"]).failed(5, "no_plan");
    let told = to("less", &["--to-end"]).failed(5, "no_plan");
    assert!(told.contains("entry 14, behind a gap at entry 9"), "{told}");
    let _ = to("less", &["--to-end", "--accept-loss"]).ended(0);
    assert_eq!(sums("less"), "cash 74\nrent -30\nend 8\n");
    let mut damaged = bytes;
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    fs::write(&gone, damaged).expect("damage it");
    let _ = to("damaged", &["--to-end"]).ended(4);
}

/// Every file of the product that says the engine's name, as it was built.
fn named() -> BTreeSet<String> {
    let tree = program().ancestors().nth(2).expect("target/made-up").join("tree");
    let found = Command::new("grep")
        .args(["-rliw", "ledger", "agent", "catalog", "policies"])
        .current_dir(&tree)
        .output()
        .expect("start grep");
    String::from_utf8(found.stdout).expect("paths").lines().map(str::to_owned).collect()
}

#[expect(clippy::print_stdout, reason = "how much a new engine touches is to be seen")]
#[test]
fn outside_its_folders_only_registrations_name_a_made_up_engine() {
    let rooms = ["agent/engines/src", "agent/src/engine", "policies/src/engine"];
    let folders = rooms.map(|room| format!("{room}/ledger/"));
    let own = |file: &String| folders.iter().any(|folder| file.starts_with(folder.as_str()));
    let outside: BTreeSet<String> = named().into_iter().filter(|file| !own(file)).collect();
    let lines = fs::read_to_string(folder().join("registrations")).expect("registrations");
    let registered = lines.lines().filter_map(|line| Some(line.split_once('|')?.0.to_owned()));
    let known: BTreeSet<String> = registered.collect();
    println!("{} files outside its folders name it, to register it: {known:?}", known.len());
    assert_eq!(known.len(), 4);
    assert_eq!(outside, known);
}
