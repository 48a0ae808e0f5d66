//! An engine that nobody has, a folder more in each room (`tests/made-up`), goes through the program
//! as PostgreSQL's do.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use drctl_tests::site::Site;

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
    let folders = ["agent/engines/src/ledger/", "agent/src/engine/ledger/"];
    let own = |file: &String| folders.iter().any(|folder| file.starts_with(folder));
    let outside: BTreeSet<String> = named().into_iter().filter(|file| !own(file)).collect();
    let lines = fs::read_to_string(folder().join("registrations")).expect("registrations");
    let registered = lines.lines().filter_map(|line| Some(line.split_once('|')?.0.to_owned()));
    let mut known: BTreeSet<String> = registered.collect();
    println!("{} files outside its folders name it, to register it: {known:?}", known.len());
    assert_eq!(known.len(), 4);
    known.insert("policies/src/engine/ledger.rs".to_owned());
    assert_eq!(outside, known);
}
