//! What was done is on record, and whoever changes the record is found out.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;

use drctl_store::digest;
use drctl_tests::site::Site;
use serde_json::{Value, json};

use crate::common::Shop;
use crate::prune;

fn path(site: &Site) -> PathBuf {
    site.path("state/audit.log")
}

fn lines(site: &Site) -> Vec<String> {
    let text = fs::read_to_string(path(site)).expect("a log");
    text.lines().map(str::to_owned).collect()
}

fn put(site: &Site, lines: &[String]) {
    fs::write(path(site), lines.join("\n") + "\n").expect("write the log");
}

/// The objects of the log in the bucket.
fn parts(site: &Site) -> Vec<PathBuf> {
    let mut files = site.files("repository");
    files.retain(|path| path.starts_with("a"));
    files.into_iter().map(|file| site.path("repository").join(file)).collect()
}

/// What the log of a site says, oldest first: verb and outcome.
fn told(site: &Site) -> Vec<(String, String)> {
    let shown = site.json(0, &["audit", "show"]);
    let all = shown["entries"].as_array().expect("entries").iter();
    let word = |value: &Value| value.as_str().expect("a word").to_owned();
    all.map(|entry| (word(&entry["verb"]), word(&entry["outcome"]))).collect()
}

/// The first break that is told.
fn first_break(site: &Site, more: &[&str]) -> (u64, String) {
    let found = site.json(4, &[&["audit", "verify"], more].concat());
    let first = &found["logs"][0]["breaks"][0];
    (first["seq"].as_u64().expect("an entry"), first["kind"].as_str().expect("a kind").to_owned())
}

/// Everything from an entry on written anew, so that the chain is whole.
fn forged(lines: &[String], from: usize) -> Vec<String> {
    let mut forged = lines[..from].to_vec();
    for line in &lines[from..] {
        let mut entry: Value = serde_json::from_str(line).expect("an entry");
        entry["actor"]["account"] = json!("nobody");
        entry["prev"] = json!(digest(forged[forged.len() - 1].as_bytes()));
        forged.push(entry.to_string());
    }
    forged
}

#[test]
fn a_log_that_was_changed_is_named_with_the_first_entry() {
    let shop = Shop::open();
    let site = &shop.site;
    let id = site.backup();
    let _ = site.json(0, &["pin", &id, "--reason", "audit"]);
    let _ = site.json(0, &["audit", "ship"]);
    let good = lines(site);
    let known: Vec<(String, String)> = told(site);
    let is_there = |verb: &str, outcome: &str| {
        known.iter().any(|(one, other)| one == verb && other == outcome)
    };
    assert!(is_there("backup", "begun") && is_there("backup", "succeeded"), "{known:?}");
    assert!(is_there("pin", "succeeded"), "{known:?}");
    let found = site.json(0, &["audit", "verify", "--bucket"]);
    assert_eq!(found["logs"][0]["signed"], good.len(), "{found}");
    assert_eq!(site.json(0, &["status"])["audit"]["shipped"], good.len());

    let mut changed = good.clone();
    changed[2] = changed[2].replace("\"outcome\":\"", "\"outcome\":\"not_");
    put(site, &changed);
    assert_eq!(first_break(site, &[]), (3, "altered".to_owned()));
    let mut changed = good.clone();
    changed.remove(2);
    put(site, &changed);
    assert_eq!(first_break(site, &[]), (3, "removed".to_owned()));
    let mut changed = good.clone();
    changed.swap(1, 2);
    put(site, &changed);
    assert_eq!(first_break(site, &[]), (2, "reordered".to_owned()));
    // What is a whole chain by itself the bucket belies, and the mark of what was shipped.
    let last = good.len();
    put(site, &good[..last - 1]);
    assert_eq!(first_break(site, &[]), (last as u64, "cut".to_owned()));
    assert_eq!(first_break(site, &["--bucket"]), (last as u64, "cut".to_owned()));
    put(site, &forged(&good, 2));
    assert_eq!(first_break(site, &[]), (last as u64, "fork".to_owned()));
    assert_eq!(first_break(site, &["--bucket"]), (3, "fork".to_owned()));
    // It is not shipped over what is there, and status says so.
    let said = site.fails(4, "audit_broken", &["audit", "ship"]);
    assert!(said.contains("not what was written"), "{said}");
    assert!(site.json(3, &["status", "--check"])["audit"]["problem"].is_string());
    fs::remove_file(path(site)).unwrap();
    assert_eq!(first_break(site, &["--bucket"]), (1, "cut".to_owned()));
    put(site, &good);
    let _ = site.json(0, &["audit", "ship"]);
    let _ = site.json(0, &["status", "--check"]);

    in_the_bucket(site, &good);
}

/// What somebody does to the objects in the bucket.
fn in_the_bucket(site: &Site, good: &[String]) {
    let objects = parts(site);
    assert!(objects.len() >= 2, "{objects:?}");
    let texts: Vec<&str> = objects.iter().map(|path| path.to_str().unwrap()).collect();
    let log = path(site).display().to_string();
    // The same in files, without the bucket.
    let all = [&["audit", "verify"], &texts[..], &[&log]].concat();
    let found = site.json(0, &all);
    assert_eq!(found["logs"][0]["signed"], good.len(), "{found}");
    let bytes = fs::read(&objects[0]).unwrap();
    fs::remove_file(&objects[0]).unwrap();
    assert_eq!(first_break(site, &["--bucket"]), (1, "removed".to_owned()));
    let text = String::from_utf8(bytes.clone()).unwrap();
    fs::write(&objects[0], text.replace("\"sig\":\"", "\"sig\":\"AAAA")).unwrap();
    let kind = first_break(site, &["--bucket"]).1;
    assert_eq!(kind, "signature");
    let envelope: Value = serde_json::from_slice(&bytes).unwrap();
    let payload = drctl_tests::envelope::opened(&bytes).to_string();
    let stranger = drctl_store::SigningKey::generate();
    let of_type = envelope["payloadType"].as_str().unwrap();
    let signed = drctl_tests::envelope::sealed(of_type, payload.as_bytes(), &stranger);
    fs::write(&objects[0], signed).unwrap();
    assert_eq!(first_break(site, &["--bucket"]), (1, "signature".to_owned()));
    assert_eq!(first_break(site, &[texts[0]]).1, "signature");
    fs::write(&objects[0], "{}").unwrap();
    assert_eq!(first_break(site, &[texts[0]]).1, "altered");
    fs::write(&objects[0], bytes).unwrap();
    let _ = site.json(0, &["audit", "verify", "--bucket"]);
    // Nothing that is left in the bucket tells of its end: this host's note does.
    let last = objects.last().unwrap();
    let first: u64 = last.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    fs::remove_file(last).unwrap();
    assert_eq!(first_break(site, &["--bucket"]), (first, "removed".to_owned()));
    fs::remove_file(site.path("state/audit.shipped")).unwrap();
    let _ = site.json(0, &["audit", "ship"]);
    let _ = site.json(0, &["audit", "verify", "--bucket"]);
}

#[test]
fn what_a_stranger_puts_where_the_next_part_belongs_stops_nothing_and_is_told() {
    let shop = Shop::open();
    let site = &shop.site;
    let _ = site.backup();
    let _ = site.json(0, &["audit", "ship"]);
    let shipped = lines(site).len();
    let folder = parts(site)[0].parent().unwrap().to_owned();
    for number in [shipped as u64 + 1, 999_999_999_999] {
        fs::write(folder.join(format!("{number:012}.json")), "{}").unwrap();
    }
    // Nothing was shipped yet that proves that it is none.
    let next = (shipped as u64 + 1, "signature".to_owned());
    assert_eq!(first_break(site, &["--bucket"]), next);
    let ran = site.drctl(&["backup", "shop"]).ended(0);
    assert!(ran.err.contains("is not from this host's audit log"), "{}", ran.err);
    let all = lines(site).len();
    assert_eq!(site.json(0, &["status"])["audit"]["shipped"], all);
    let found = site.json(0, &["audit", "verify", "--bucket"]);
    assert_eq!(found["logs"][0]["signed"], all, "{found}");
    assert_eq!(found["logs"][0]["notes"].as_array().map(Vec::len), Some(2), "{found}");
    // Also where this host has no note of what it shipped.
    fs::remove_file(site.path("state/audit.shipped")).unwrap();
    let _ = site.json(0, &["pin", &site.backup(), "--reason", "audit"]);
    let _ = site.json(0, &["audit", "ship"]);
    let found = site.json(0, &["audit", "verify", "--bucket"]);
    assert_eq!(found["logs"][0]["signed"], lines(site).len(), "{found}");
}

#[test]
fn what_cannot_be_put_on_record_is_not_removed_and_restored_all_the_same() {
    let shop = prune::shop(1);
    let site = &shop.site;
    let ids = prune::backups(&shop, 2);
    let plan = prune::plan(&shop);
    let yes = format!("--yes={}", plan["digest"].as_str().unwrap());
    let kept = site.path("kept.log");
    fs::rename(path(site), &kept).unwrap();
    fs::create_dir(path(site)).unwrap();
    let said = site.fails(1, "not_logged", &["prune", "shop", &yes, "--backups", "1"]);
    assert!(said.contains("nothing was removed"), "{said}");
    assert_eq!(site.manifests().len(), 2, "{ids:?}");
    let files = site.path("files").display().to_string();
    let ran = site.drctl(&["restore", "shop", "--latest", "--to-files", &files]).ended(0);
    assert!(ran.err.contains("the audit log cannot be written"), "{}", ran.err);
    fs::remove_dir(path(site)).unwrap();
    fs::rename(&kept, path(site)).unwrap();
    let _ = site.json(0, &["prune", "shop", &yes, "--backups", "1"]);
    assert_eq!(site.manifests().len(), 1);
    let shown = site.json(0, &["audit", "show", "--source", "shop"]);
    let all = shown["entries"].as_array().unwrap();
    let of = |outcome: &str| {
        let found = all.iter().find(|one| one["verb"] == "prune" && one["outcome"] == outcome);
        found.unwrap_or_else(|| panic!("no prune is {outcome}: {shown}")).clone()
    };
    assert_eq!(of("begun")["details"]["going"], ids[0].as_str());
    assert_eq!(
        (&of("succeeded")["details"]["gone"], &of("succeeded")["act"]),
        (&json!("1"), &of("begun")["act"])
    );
}

#[test]
fn a_writer_that_is_killed_in_the_middle_is_told_by_the_next_one() {
    let shop = Shop::open();
    let site = &shop.site;
    let _ = site.backup();
    let before = lines(site);
    let mut killed = site.command(&["backup", "shop"]);
    let output = killed.env("DRCTL_CRASH_AT", "audit-half-written").output().unwrap();
    assert_eq!(output.status.signal(), Some(9));
    let cut = fs::read_to_string(path(site)).unwrap();
    assert!(!cut.ends_with('\n') && cut.len() > before.join("\n").len() + 1, "{cut}");
    let _ = site.json(0, &["audit", "verify"]);
    let _ = site.backup();
    assert!(fs::read_to_string(path(site)).unwrap().starts_with(&cut), "nothing is taken away");
    let found = site.json(0, &["audit", "verify", "--bucket"]);
    assert!(found["logs"][0]["notes"].to_string().contains("was cut"), "{found}");
    let shown = site.json(0, &["audit", "show"]);
    let all = shown["entries"].as_array().unwrap();
    assert!(all.iter().any(|one| one["details"]["cut_sha256"].is_string()), "{shown}");
}

#[test]
fn who_restores_and_what_he_overrides_is_on_record_and_no_name_of_a_database() {
    let shop = Shop::open();
    let site = &shop.site;
    let _ = site.backup();
    let files = site.path("files").display().to_string();
    let trusted = ["restore", "shop", "--latest", "--to-files", &files, "--database", &shop.db];
    let _ = site.json(0, &trusted);
    let shown = site.json(0, &["audit", "show"]);
    let all = shown["entries"].as_array().unwrap();
    let done = all.iter().find(|one| one["verb"] == "restore" && one["outcome"] == "succeeded");
    let done = done.unwrap_or_else(|| panic!("{shown}"));
    assert_eq!(done["details"]["options"], "--database");
    assert_eq!(done["details"]["key"], "identity", "{done}");
    assert_eq!(done["details"]["to"], format!("files {files}"));
    assert!(!shown.to_string().contains(&format!("\"{}\"", shop.db)), "{shown}");
    // Whoever only looks with a key at hand is told too.
    let _ = site.json(0, &["verify", "--data"]);
    let last = lines(site).pop().unwrap();
    assert!(last.contains("\"verb\":\"verify\"") && last.contains("identity"), "{last}");
    let before = lines(site).len();
    let _ = site.json(0, &["list"]);
    assert_eq!(lines(site).len(), before, "what changes nothing is not on record");
    // Another configuration.
    site.append("\n# A word.\n");
    let _ = site.backup();
    assert!(told(site).contains(&("configuration".to_owned(), "succeeded".to_owned())));
}

#[test]
fn a_mark_that_cannot_be_read_is_told_and_not_written_anew() {
    let shop = Shop::open();
    let site = &shop.site;
    let mark = site.path("state/audit.shipped");
    let id = site.backup();
    let _ = site.json(0, &["audit", "ship"]);
    let kept = fs::read(&mark).unwrap();
    let unread = || {
        assert_eq!(first_break(site, &[]), (0, "altered".to_owned()));
        let problem = site.json(3, &["status", "--check"])["audit"]["problem"].to_string();
        assert!(problem.contains("cannot be read"), "{problem}");
        let _ = site.json(0, &["pin", &id, "--reason", "audit"]);
        let _ = site.fails(4, "audit_broken", &["audit", "ship"]);
    };
    fs::write(&mark, &kept[..kept.len() / 2]).unwrap();
    unread();
    assert_eq!(fs::read(&mark).unwrap(), kept[..kept.len() / 2]);
    fs::remove_file(&mark).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&mark).status().unwrap().success());
    unread();
    fs::remove_file(&mark).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &mark).unwrap();
    unread();
    fs::remove_file(&mark).unwrap();
    let _ = site.json(0, &["audit", "ship"]);
    let _ = site.json(0, &["audit", "verify", "--bucket"]);
}

#[test]
fn a_log_that_is_gone_is_told_until_somebody_has_seen_it() {
    let shop = Shop::open();
    let site = &shop.site;
    let mark = site.path("state/audit.shipped");
    let id = site.backup();
    let _ = site.json(0, &["audit", "ship"]);
    let count = lines(site).len();
    // What the mark says is found again in the bucket.
    fs::remove_file(&mark).unwrap();
    let _ = site.json(0, &["audit", "ship"]);
    assert_eq!(site.json(0, &["status"])["audit"]["shipped"], count);
    // A log that ends before what was shipped, or with another entry: the mark alone tells.
    let good = lines(site);
    put(site, &good[..good.len() - 1]);
    assert_eq!(first_break(site, &[]), (good.len() as u64, "cut".to_owned()));
    assert_eq!(site.json(4, &["audit", "show"])["break"]["kind"], "cut");
    put(site, &forged(&good, good.len() - 1));
    assert_eq!(first_break(site, &[]), (good.len() as u64, "fork".to_owned()));
    put(site, &good);
    let _ = site.json(0, &["audit", "verify"]);
    // An entry that was shipped, of another length.
    let good = lines(site);
    let mut longer = good.clone();
    longer[1] = longer[1].replace("\"outcome\":\"", "\"outcome\":\"xx");
    put(site, &longer);
    let _ = site.fails(4, "audit_broken", &["audit", "ship"]);
    longer[1] = longer[1].replace("\"outcome\":\"xx", "\"outcome\":\"");
    let shorter = longer[1].len() - 9;
    longer[1].truncate(shorter);
    put(site, &longer);
    let _ = site.fails(4, "audit_broken", &["audit", "ship"]);
    put(site, &good);
    let _ = site.json(0, &["audit", "ship"]);

    fs::remove_file(path(site)).unwrap();
    let gone = || {
        assert_eq!(first_break(site, &[]), (1, "cut".to_owned()));
        assert_eq!(first_break(site, &["--bucket"]), (1, "cut".to_owned()));
        let problem = site.json(3, &["status", "--check"])["audit"]["problem"].to_string();
        assert!(problem.contains("who or what removed it"), "{problem}");
    };
    gone();
    let _ = site.fails(4, "audit_broken", &["audit", "ship"]);
    // A new log changes nothing of that, and is shipped.
    let _ = site.json(0, &["pin", &id, "--reason", "audit"]);
    gone();
    let shipped = || site.json(4, &["audit", "ship"])["shipped"].as_u64().expect("a count");
    assert!(shipped() > 0);
    gone();
    assert_eq!(shipped(), 0);
    assert_eq!(site.json(4, &["audit", "show"])["break"]["kind"], "cut");
    // Nor does the loss of the new one hide that of the old.
    fs::remove_file(path(site)).unwrap();
    let problem = site.json(3, &["status", "--check"])["audit"]["problem"].to_string();
    assert!(problem.contains("another log before it"), "{problem}");
    let _ = site.json(0, &["pin", &id, "--reason", "again"]);
    fs::remove_file(&mark).unwrap();
    let _ = site.json(0, &["audit", "verify"]);
    let notes = site.json(0, &["audit", "verify", "--bucket"])["logs"][0]["notes"].to_string();
    assert!(notes.contains("another log"), "{notes}");
    let _ = site.json(0, &["status", "--check"]);
    // With the mark gone too this host cannot know.
    fs::remove_file(path(site)).unwrap();
    let notes = site.json(0, &["audit", "verify"])["logs"][0]["notes"].to_string();
    assert!(notes.contains("no note that it shipped one"), "{notes}");
    // Who can change it could have.
    let _ = site.json(0, &["unpin", &id, "--reason", "audit"]);
    let open = |mode| fs::set_permissions(path(site), fs::Permissions::from_mode(mode)).unwrap();
    open(0o666);
    let said = site.drctl(&["audit", "verify"]).ended(1);
    assert!(said.err.contains("may be changed by other accounts"), "{}", said.err);
    open(0o600);
    let _ = site.json(0, &["audit", "verify"]);
}

/// Cuts the end of the last line, as a full disk or a power cut may.
fn cut_the_end(site: &Site) {
    let file = fs::OpenOptions::new().write(true).open(path(site)).unwrap();
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
}

#[test]
fn a_line_whose_end_is_cut_is_no_break() {
    let shop = Shop::open();
    let site = &shop.site;
    let id = site.backup();
    let well = || {
        let _ = site.json(0, &["audit", "ship"]);
        let audit = site.json(0, &["status"])["audit"].clone();
        assert_eq!(
            (&audit["problem"], &audit["shipped"]),
            (&Value::Null, &audit["last"]),
            "{audit}"
        );
        let _ = site.json(0, &["audit", "verify", "--bucket"]);
    };
    // Before it is shipped, and afterwards; then somebody writes behind it.
    let _ = site.json(0, &["pin", &id, "--reason", "audit"]);
    cut_the_end(site);
    well();
    let _ = site.json(0, &["unpin", &id, "--reason", "audit"]);
    well();
    cut_the_end(site);
    let _ = site.json(0, &["audit", "verify"]);
    well();
    let _ = site.json(0, &["pin", &id, "--reason", "audit"]);
    well();
}

/// Says that something is over, however it ended.
struct Over<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

#[test]
fn who_ships_or_looks_while_others_write_finds_nothing_amiss() {
    let shop = Shop::open();
    let site = &shop.site;
    let id = site.backup();
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writes = scope.spawn(|| {
            // Also when a write fails.
            let _over = Over(&over);
            for _ in 0..15 {
                let _ = site.json(0, &["pin", &id, "--reason", "audit"]);
                let _ = site.json(0, &["unpin", &id, "--reason", "audit"]);
            }
        });
        // Another one ships too, so that the mark is ahead of what was read of the log.
        let others = scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::SeqCst) {
                let _ = site.json(0, &["audit", "ship"]);
            }
        });
        let fails = || writes.is_finished() || others.is_finished();
        while !over.load(std::sync::atomic::Ordering::SeqCst) && !fails() {
            let _ = site.json(0, &["audit", "ship"]);
            let _ = site.json(0, &["audit", "verify", "--bucket"]);
            let audit = site.json(0, &["status"])["audit"].clone();
            assert_eq!(audit["problem"], Value::Null, "{audit}");
        }
    });
    let _ = site.json(0, &["audit", "ship"]);
    let _ = site.json(0, &["audit", "verify", "--bucket"]);
}
