//! What was made outside drctl: found, recorded, and left as it is.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use drctl_tests::cluster::{Cluster as _, give_away};
use serde_json::{Value, json};

use crate::common::{STANZA, Shop, walk};
use crate::record::{backup, id, manifest};

/// Every file below some places with what is in it, and when it was changed.
fn tree(places: &[PathBuf]) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
    let mut files = Vec::new();
    for place in places {
        if place.is_dir() { walk(place, &mut files) } else { files.push(place.clone()) }
    }
    let read = |path: PathBuf| {
        let changed = fs::metadata(&path).unwrap().modified().unwrap();
        (path.clone(), (fs::read(&path).unwrap(), changed))
    };
    files.into_iter().map(read).collect()
}

/// SHA-1, which pgBackRest seals its files with.
pub(crate) fn sha1(bytes: &[u8]) -> String {
    let mut child = Command::new("sha1sum");
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

/// Adds labels to `backup.info`, as if `days` had passed with a full backup each week, a
/// differential one each day, and an incremental one in between. There is nothing in their directories.
fn simulate(shop: &Shop, days: i64) -> usize {
    let path = shop.path("repo").join("backup").join(STANZA).join("backup.info");
    let text = fs::read_to_string(&path).unwrap();
    let line = text.lines().find(|line| line.contains("\"backup-type\":\"full\"")).unwrap();
    let entry: Value = serde_json::from_str(line.split_once('=').unwrap().1).unwrap();
    let mut added = Vec::new();
    let (mut full, mut prior) = (String::new(), String::new());
    for hour in (12..).step_by(12).take(usize::try_from(days * 2).unwrap()) {
        let at = jiff::Timestamp::from_second(1_700_000_000 + hour * 3_600).unwrap();
        let stamp = at.strftime("%Y%m%d-%H%M%S").to_string();
        let (label, kind) = match hour {
            _ if added.len() % 14 == 0 => (format!("{stamp}F"), "full"),
            _ if added.len() % 2 == 0 => (format!("{full}_{stamp}D"), "diff"),
            _ => (format!("{full}_{stamp}I"), "incr"),
        };
        let mut one = entry.clone();
        one["backup-type"] = json!(kind);
        one["backup-timestamp-start"] = json!(at.as_second());
        one["backup-timestamp-stop"] = json!(at.as_second() + 60);
        one.as_object_mut().unwrap().remove("backup-annotation");
        match kind {
            "full" => full.clone_from(&label),
            _ => {
                one["backup-prior"] = json!(if kind == "diff" { &full } else { &prior });
                one["backup-reference"] = json!([full]);
            }
        }
        prior.clone_from(&label);
        fs::create_dir(path.with_file_name(&label)).unwrap();
        added.push(format!("{label}={one}"));
    }
    let with = text.replacen(line, &format!("{}\n{line}", added.join("\n")), 1);
    write_sealed(&path, &with);
    added.len()
}

/// Writes a file of pgBackRest's with the checksum that it wants.
fn write_sealed(path: &Path, text: &str) {
    let mut sections: Vec<(String, Vec<(String, String)>)> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if line.starts_with('[') && line.ends_with(']') {
            let name = line.trim_matches(['[', ']']).to_owned();
            if sections.iter().all(|(known, _)| *known != name) {
                sections.push((name, Vec::new()));
            }
        } else if let Some((key, value)) = line.split_once('=')
            && key != "backrest-checksum"
        {
            let at = sections.len() - 1;
            sections[at].1.push((key.to_owned(), value.to_owned()));
        }
    }
    let mut sealed = Vec::new();
    for (name, lines) in &sections {
        let lines = lines.iter().map(|(key, value)| format!("\"{key}\":{value}"));
        sealed.push(format!("\"{name}\":{{{}}}", lines.collect::<Vec<_>>().join(",")));
    }
    let sum = sha1(format!("{{{}}}", sealed.join(",")).as_bytes());
    let body = text.split("[backrest]\nbackrest-checksum").next().unwrap();
    let mut out = body.to_owned();
    let _ = write!(out, "[backrest]\nbackrest-checksum=\"{sum}\"\n");
    fs::write(path, &out).unwrap();
    fs::write(path.with_extension("info.copy"), &out).unwrap();
}

fn adopt(shop: &Shop) -> Value {
    shop.drctl(&["stanza", "adopt", "shop"]).ended(0).json()
}

#[test]
fn what_was_made_by_hand_is_found_and_recorded_as_such() {
    let shop = Shop::start();
    let ours = id(&backup(&shop, &[]));
    let _ = shop.pgbackrest(&["backup", "--type=incr"]).ended(0);
    let found = adopt(&shop);
    assert_eq!((&found["known"], found["recorded"].as_array().unwrap().len()), (&json!(1), 1));
    let theirs = found["recorded"][0].as_str().unwrap();
    let record = manifest(&shop, theirs);
    assert_eq!((&record["kind"]["origin"], &record["suspect"]), (&json!("elsewhere"), &json!([])));
    assert_eq!(record["kind"]["prior"], manifest(&shop, &ours)["kind"]["label"]);
    assert_eq!(adopt(&shop)["recorded"], json!([]), "once is enough");
    // A host that knows nothing finds the same records, and writes none beside them.
    let before = tree(&[shop.site.path("repository")]);
    fs::remove_file(shop.site.path("state").join("catalog.db")).unwrap();
    let again = adopt(&shop);
    assert_eq!((&again["known"], &again["recorded"]), (&json!(2), &json!([])), "{again}");
    assert!(before == tree(&[shop.site.path("repository")]));
    // The next backup of ours is based on theirs.
    let next = backup(&shop, &[]);
    assert_eq!(next["backup"]["kind"]["prior"], record["kind"]["label"]);
}

#[test]
fn two_hosts_that_find_the_same_write_one_record() {
    let shop = Shop::start();
    let _ = shop.pgbackrest(&["backup", "--type=full"]).ended(0);
    let first = adopt(&shop)["recorded"][0].clone();
    let key = shop.site.path("repository").join("s/shop/b").join(first.as_str().unwrap());
    fs::remove_dir_all(&key).unwrap();
    fs::remove_file(shop.site.path("state").join("catalog.db")).unwrap();
    assert_eq!(adopt(&shop)["recorded"][0], first, "its identifier follows from what it is of");
}

#[test]
fn a_stanza_is_taken_over_as_it_is_and_nothing_of_it_changes() {
    let shop = Shop::start();
    let _ = shop.pgbackrest(&["backup", "--type=full"]).ended(0);
    let simulated = simulate(&shop, 35);
    give_away(&shop.path("repo"));
    let places = ["repo", "pgbackrest.conf", "log", "spool"].map(|name| shop.path(name));
    let before = tree(&places);
    let found = adopt(&shop);
    assert_eq!(found["recorded"].as_array().unwrap().len(), simulated + 1, "{found}");
    assert_eq!((&found["refused"], &found["trouble"]), (&json!([]), &json!("")));
    assert!(before == tree(&places), "nothing of pgBackRest's has changed");
    let list = shop.drctl(&["list"]).ended(0).json();
    let rows = list["backups"].as_array().unwrap();
    assert_eq!(rows.len(), simulated + 1);
    let of = |kind: &str| rows.iter().filter(|row| row["kind"]["backup_type"] == kind).count();
    assert_eq!((of("full"), of("differential"), of("incremental")), (6, 30, 35));
    let check = shop.drctl(&["catalog", "check"]).ended(0).json();
    assert_eq!(check["equal"], true, "{check}");
}

#[test]
fn a_repository_that_cannot_be_read_expires_nothing() {
    let shop = Shop::start();
    let made = id(&backup(&shop, &[]));
    fs::rename(shop.path("repo"), shop.path("elsewhere")).unwrap();
    fs::create_dir(shop.path("repo")).unwrap();
    give_away(&shop.path("repo"));
    let found = shop.drctl(&["stanza", "adopt", "shop"]).ended(3).json();
    assert!(!found["trouble"].as_str().unwrap().is_empty(), "{found}");
    let list = shop.drctl(&["list"]).ended(0).json();
    assert_eq!(list["backups"][0]["expired"], Value::Null, "{list}");
    assert_eq!(list["backups"][0]["backup"], made);
    let ran = shop.drctl(&["backup", "shop"]);
    assert_eq!(ran.code, Some(10), "{}", ran.out);
    assert!(ran.json()["hint"].is_string(), "{}", ran.out);
}

#[test]
fn a_stanza_is_taken_over_while_its_server_is_down() {
    let mut shop = Shop::start();
    let _ = shop.pgbackrest(&["backup", "--type=full"]).ended(0);
    shop.server.stop();
    let found = adopt(&shop);
    let record = manifest(&shop, found["recorded"][0].as_str().expect("it is recorded"));
    assert_eq!(record["kind"]["segment_size"], 1 << 20, "names and positions tell");
}

#[test]
fn a_stanza_is_not_adopted_with_a_key_that_is_not_pinned() {
    let shop = Shop::start();
    let _ = shop.pgbackrest(&["backup", "--type=full"]);
    let key = shop.site.path("etc/keys/signing.key");
    fs::remove_file(&key).unwrap();
    let _ = shop.site.drctl(&["keys", "new-signing", &key.display().to_string()]).ended(0);
    give_away(&key);
    let before = shop.site.files("repository");
    shop.drctl(&["stanza", "adopt", "shop"]).failed(9, "signing_key_unpinned");
    assert_eq!(shop.site.files("repository"), before);
}
