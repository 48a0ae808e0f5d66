//! Every object that the program prints has exactly the fields that the documentation lists.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use drctl_tests::agent::Agent;
use drctl_tests::envelope::resign;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::{Site, until};
use serde_json::Value;

use crate::markdown::{codes, rows, sections};
use crate::{read, root};

/// Fields that only a bucket with versions shows, those of incremental backups, and those of code
/// that has to be trusted.
const ELSEWHERE: &[&str] = &[
    "deleted[].source",
    "deleted[].backup",
    "lacking[].source",
    "lacking[].backup",
    "lacking[].why",
    "broken[].source",
    "broken[].backup",
    "broken[].why",
    "newer[].source",
    "newer[].backup",
    "newer[].why",
    "expired[].source",
    "expired[].backup",
    "expired[].since",
    "chain[]",
    "code.user",
    "code.runs[]",
    "code.digest",
    "code.trusted",
];

/// For each object its fields; behind a link to another page or site anything may stand.
#[derive(Debug, Default, Clone)]
struct Shape {
    fields: BTreeSet<String>,
    open: BTreeSet<String>,
}

impl Shape {
    fn add(&mut self, prefix: &str, other: &Shape) {
        let below = |field: &String| format!("{prefix}{field}");
        self.fields.extend(other.fields.iter().map(below));
        self.open.extend(other.open.iter().map(below));
    }
}

/// The shapes and objects of the page, by title; a row that links to a shape holds all of it.
fn documented() -> BTreeMap<String, Shape> {
    let mut found: BTreeMap<String, Shape> = BTreeMap::new();
    for (title, text) in sections(&read("docs/json.md")) {
        let mut shape = Shape::default();
        let intro = text.split("\n|").next().unwrap_or_default();
        if intro.contains("[inventory](#inventory)") {
            shape.add("", &found["inventory"].clone());
        }
        for row in rows(&text) {
            for field in codes(&row[0]) {
                let inner = ["backup", "job"]
                    .into_iter()
                    .find(|name| row[1].contains(&format!("](#{name})")));
                if let Some(inner) = inner {
                    let mut inner = found[inner].clone();
                    if row[1].contains("without `good`") {
                        inner.fields.remove("good");
                        inner.fields.remove("broken");
                        inner.fields.remove("expired");
                        inner.fields.remove("verified");
                        inner.fields.remove("verified_as");
                        inner.fields.remove("bad[]");
                        inner.fields.remove("pinned");
                        inner.fields.remove("held");
                    }
                    shape.add(&format!("{field}."), &inner);
                } else if row[1].contains("](../")
                    || row[1].contains("](configure")
                    || row[1].contains("](https")
                {
                    shape.open.insert(field.clone());
                }
                if inner.is_none() || row[1].contains("or null") {
                    shape.fields.insert(field);
                }
            }
        }
        found.insert(title, shape);
    }
    found
}

/// `{"a": [{"b": 1}]}` has `a[].b`; an empty list has `a[]`.
fn paths(value: &Value, at: &str, open: &BTreeSet<String>, found: &mut BTreeSet<String>) {
    match value {
        _ if open.contains(at) => drop(found.insert(at.to_owned())),
        Value::Object(members) => {
            for (key, value) in members {
                let below = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                paths(value, &below, open, found);
            }
        }
        Value::Array(entries) => {
            for entry in entries {
                paths(entry, &format!("{at}[]"), open, found);
            }
            if entries.is_empty() {
                found.insert(format!("{at}[]"));
            }
        }
        _ => drop(found.insert(at.to_owned())),
    }
}

/// Objects of whole clusters, their log and drills: held by the test binaries `physical`, `backrest`, `drill`.
const OF_CLUSTERS: [&str; 19] = [
    "drctl.clone-destroyed/1",
    "drctl.clone-list/1",
    "drctl.clone/1",
    "drctl.drill-export/1",
    "drctl.drill-together/1",
    "drctl.drill-verify/1",
    "drctl.drill/1",
    "drctl.drills/1",
    "drctl.prune/1",
    "drctl.recovery-plan/1",
    "drctl.recovery/1",
    "drctl.stanza-adopt/1",
    "drctl.stanza-config/1",
    "drctl.stanza/1",
    "drctl.take-over/1",
    "drctl.timeline/1",
    "drctl.wal-index/1",
    "drctl.wal-push/1",
    "drctl.when/1",
];

/// What was seen of each object.
struct Seen {
    documented: BTreeMap<String, Shape>,
    fields: BTreeMap<String, BTreeSet<String>>,
}

impl Seen {
    fn see(&mut self, object: &Value) {
        let schema = object["schema"].as_str().expect("a schema").to_owned();
        let shape =
            self.documented.get(&schema).unwrap_or_else(|| panic!("{schema} has no section"));
        let mut found = BTreeSet::new();
        paths(object, "", &shape.open, &mut found);
        found.remove("schema");
        self.fields.entry(schema).or_default().extend(found);
    }
}

/// A table whose fields are seen in part is one that has rows: `a[]` says that `a` was empty once.
fn is_shadow(field: &str, all: &BTreeSet<String>) -> bool {
    let longer = |other: &&String| other.starts_with(field) && other.len() > field.len();
    (field.ends_with("[]") || !field.contains('.')) && all.iter().any(|other| longer(&other))
}

#[test]
fn every_object_has_the_fields_that_are_documented() {
    let mut seen = Seen { documented: documented(), fields: BTreeMap::new() };
    run_everything(&mut seen);
    let here =
        |title: &&String| title.starts_with("drctl.") && !OF_CLUSTERS.contains(&title.as_str());
    let objects: BTreeSet<&String> = seen.documented.keys().filter(here).collect();
    assert_eq!(objects, seen.fields.keys().collect(), "documented, and seen");
    for (schema, fields) in &seen.fields {
        let shape = &seen.documented[schema];
        let solid = |all: &BTreeSet<String>| {
            let keep =
                |field: &&String| !is_shadow(field, all) && !ELSEWHERE.contains(&field.as_str());
            all.iter().filter(keep).cloned().collect::<BTreeSet<_>>()
        };
        let mut found = fields.clone();
        found.remove("deleted[]");
        found.remove("broken[]");
        found.remove("lacking[]");
        found.remove("newer[]");
        found.remove("expired[]");
        // Null here; and in other schemas a field by itself.
        if schema == "drctl.restore-plan/1" {
            found.remove("code");
        }
        assert_eq!(solid(&found), solid(&shape.fields), "{schema}: seen, and documented");
    }
}

#[test]
fn every_schema_of_the_program_is_documented() {
    let documented: BTreeSet<String> =
        documented().into_keys().filter(|title| title.starts_with("drctl.")).collect();
    let mut named = BTreeSet::new();
    for entry in fs::read_dir(root().join("agent/src/cli")).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            continue;
        }
        let text = fs::read_to_string(path).expect("a source");
        let words = text.split('"').skip(1).step_by(2);
        named.extend(
            words.filter(|w| w.starts_with("drctl.") && w.contains('/')).map(str::to_owned),
        );
    }
    assert_eq!(documented, named);
}

/// Runs every verb, well and badly, until every field was seen.
fn run_everything(seen: &mut Seen) {
    let server = Postgres::start();
    server.psql("postgres", "CREATE DATABASE shop");
    server.psql("shop", "CREATE TABLE orders AS SELECT generate_series(1, 20000) AS id");
    let site = Site::with(&server);
    let mut see = |code: i32, arguments: &[&str]| {
        let object = site.json(code, arguments);
        seen.see(&object);
        object
    };
    see(1, &["list"]);
    see(2, &["bakcup"]);
    see(0, &["--version"]);
    see(0, &["catalog", "rebuild"]);
    see(0, &["status"]);
    see(3, &["--config", "/nowhere/drctl.toml", "discover"]);
    see(0, &["list"]);
    let made = see(0, &["backup", "shop"]);
    let id = made["backup"]["backup"].as_str().expect("an identifier").to_owned();
    see(0, &["list"]);
    see(0, &["show", &id]);
    see(0, &["show", &id, "--emergency"]);
    see(0, &["status"]);
    see(0, &["pin", &id, "--reason", "audit"]);
    see(0, &["freeze", "shop", "--reason", "audit"]);
    see(0, &["holds"]);
    see(0, &["policy", "simulate", "shop", "--for", "3mo", "--price", "0.02"]);
    see(0, &["report"]);
    see(3, &["watch"]);
    let agent = Agent::start(&site);
    see(0, &["jobs"]);
    drop(agent);
    site.append("\n[notify.true]\nkind = \"command\"\ncommand = [\"/usr/bin/true\"]\n");
    see(0, &["notify", "test"]);
    acknowledged(&site, &mut see);
    see(0, &["unfreeze", "shop", "--reason", "audit is over"]);
    see(3, &["doctor"]);
    see(0, &["verify"]);
    see(0, &["config", "check"]);
    see(0, &["config", "show"]);
    see(0, &["config", "schema"]);
    see(0, &["keys", "list"]);
    see(0, &["keys", "test"]);
    see(3, &["keys", "custody"]);
    see(0, &["keys", "new-identity", "i.txt"]);
    see(0, &["keys", "new-signing", "s.txt"]);
    see(9, &["keys", "test", "--identity", "i.txt"]);
    see(0, &["completions", "fish"]);
    see(0, &["man"]);
    see(0, &["man", "pages"]);
    let into = ["restore", "shop", "--latest", "--database", "shop", "--as", "shop2"];
    see(0, &[&into[..], &["--plan"]].concat());
    see(0, &["restore", "shop", "--latest", "--to-files", "f", "--plan"]);
    see(0, &[&into[..], &["--prove"]].concat());
    server.psql("postgres", "DROP DATABASE shop2");
    let second = format!("file://{}", site.path("second").display());
    let init = ["init", "--url", &second, "--source", "shop"];
    see(0, &[&["--config", "c2/drctl.toml"], &init[..]].concat());
    see(0, &[&["--config", "c3/drctl.toml"], &init[..], &["--join", "--kit", "k3"]].concat());
    damage(&site, &server, &mut see);
    logged(&site, &mut see);
}

/// The log of all that was done, and one that somebody has changed.
fn logged(site: &Site, see: &mut impl FnMut(i32, &[&str]) -> Value) {
    see(0, &["audit", "show"]);
    see(0, &["audit", "ship"]);
    see(0, &["audit", "verify", "--bucket"]);
    let path = site.path("state/audit.log");
    let text = fs::read_to_string(&path).expect("a log");
    fs::write(&path, text.replacen("\"seq\":2,", "\"seq\":7,", 1)).expect("change it");
    see(4, &["audit", "show"]);
    see(4, &["audit", "verify"]);
}

/// The test message that an agent sends by each channel, and nobody acknowledges for long, until somebody
/// does.
fn acknowledged(site: &Site, see: &mut impl FnMut(i32, &[&str]) -> Value) {
    let sql = |sql: &str| {
        let mut command = std::process::Command::new("sqlite3");
        let ran = command.arg(site.path("state/catalog.db")).arg(sql).output().expect("sqlite3");
        assert!(ran.status.success(), "{sql}: {}", String::from_utf8_lossy(&ran.stderr));
    };
    sql(
        "INSERT INTO alert_tests VALUES ('true', 'ABCDEF', '2026-01-01T00:00:00.000000000Z', NULL)",
    );
    see(0, &["status"]);
    see(0, &["notify", "ack", "ABCDEF"]);
}

/// What is wrong in a bucket, one thing after the other.
fn damage(site: &Site, server: &Postgres, see: &mut impl FnMut(i32, &[&str]) -> Value) {
    server.psql("shop", "TRUNCATE orders");
    let suspect = see(3, &["backup", "shop"]);
    see(0, &["status"]);
    see(0, &["report"]);
    let agent = Agent::start(site);
    let told = |of: &str| site.json(0, &["jobs"])[of].clone();
    until("a look and a beat", || !told("looked").is_null() && !told("beaten").is_null());
    let before = told("beaten");
    let _ = site.json(0, &["reload"]);
    until("a beat with what it found", || told("beaten") != before);
    see(3, &["watch"]);
    drop(agent);
    let id = suspect["backup"]["backup"].as_str().expect("an identifier").to_owned();
    see(0, &["restore", "shop", "--latest", "--to-files", "g", "--plan"]);
    see(0, &["restore", "shop", "--latest", "--to-files", "g"]);
    see(0, &["accept", &id]);
    let folder = |id: &str| site.path("repository/s/shop/b").join(id);
    fs::create_dir_all(site.path("repository/else")).expect("make a folder");
    fs::write(site.path("repository/else/where"), "?").expect("write");
    let other = "20260101T000000Z-0000000000000000";
    fs::create_dir_all(folder(other)).expect("make a folder");
    fs::copy(folder(&id).join("manifest.json"), folder(other).join("manifest.json")).expect("copy");
    let orphan = "20260102T000000Z-0000000000000000/d0";
    fs::create_dir_all(folder(orphan)).expect("make a folder");
    fs::write(folder(orphan).join("000000.zst.age"), "?").expect("write");
    see(4, &["verify"]);
    see(0, &["init", "--restore-marker"]);
    fs::remove_file(site.path("repository/drctl-repo.json")).expect("remove");
    see(4, &["verify"]);
    see(0, &["init", "--restore-marker"]);
    fs::remove_file(folder(&id).join("manifest.json")).expect("remove");
    see(4, &["catalog", "check"]);
    fs::write(site.path("state/catalog.db"), vec![0x55; 8192]).expect("damage the catalog");
    see(3, &["catalog", "rebuild"]);
    forget(site);
    see(3, &["catalog", "check"]);
    replace(site, server, see);
}

/// The catalog of another time: it knows less than the bucket.
fn forget(site: &Site) {
    let hidden = site.path("hidden");
    fs::rename(site.path("repository/s"), &hidden).expect("hide the backups");
    let _ = site.drctl(&["catalog", "rebuild"]);
    fs::rename(&hidden, site.path("repository/s")).expect("bring them back");
}

/// A manifest in another's place: signed, and not the one that the catalog knows.
fn replace(site: &Site, server: &Postgres, see: &mut impl FnMut(i32, &[&str]) -> Value) {
    server.psql("shop", "INSERT INTO orders SELECT generate_series(1, 20000)");
    let _ = site.drctl(&["catalog", "rebuild"]);
    let id = site.backup();
    resign(site, &id, |manifest| manifest.host = "elsewhere".to_owned());
    see(4, &["catalog", "check"]);
    see(0, &["catalog", "forget", "shop"]);
}
