//! Every kind of object of backups by `pg_dump`, and all that can happen to one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use drctl_model::{Acceptance, Header, Marker, RepositoryId, Stated};
use drctl_store::{
    SigningKey, decode_marker, digest, encode_acceptance, encode_manifest, encode_marker,
    encode_statement, encode_tombstone,
};
use drctl_tests::damage::{
    Cell, Commands, Subject, documented, is_missed, matrix, replace, unproven_manifest,
};
use jiff::Timestamp;

use crate::common::{Shop, id_of, segments};
use crate::holds::{object, statement};
use crate::prune::{backups, going, plan, remove, tombstone};

/// The files in a directory, by their names.
fn content(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let entries = entries.filter(|path| path.is_file());
    let mut all: Vec<_> = entries.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    all.sort();
    all
}

/// One object of each kind, with what is put in its place.
fn subjects(shop: &Shop, backups: &[String; 4], gone: &[String], restored: &Path) -> Vec<Subject> {
    let [older, main, first, second] = backups;
    let at = |key: String| shop.site.path("repository").join(key);
    let of = |id: &str, file: &str| at(format!("s/shop/b/{id}/{file}"));
    let stranger = SigningKey::generate();
    let manifest_of = |id: &str| fs::read(of(id, "manifest.json")).unwrap();
    let manifest = unproven_manifest(&manifest_of(main)).unwrap();
    let acceptance = Acceptance {
        header: Header::new([]),
        repository: manifest.repository.clone(),
        source: manifest.source.clone(),
        backup: second.parse().unwrap(),
        manifest_sha256: digest(&manifest_of(second)),
        host: "db1".to_owned(),
        accepted: Timestamp::UNIX_EPOCH,
    };
    let marker = encode_marker(&Marker::new(RepositoryId::new(7), Timestamp::UNIX_EPOCH));
    let subject = |kind, path: PathBuf, sibling: PathBuf, strange, id: &str| {
        let to = restored.display().to_string();
        let words = ["restore", "shop", "--backup", id, "--to-files", &to];
        let restore = words.iter().map(|word| (*word).to_owned()).collect();
        Subject { kind, path, older: sibling.clone(), sibling, strange, restore }
    };
    // The last segment is shorter than all others.
    let (page, segment) = (of(main, "d0/p000000.json"), of(main, "d0/000000.zst.age"));
    let mut all = segments(&shop.site, "d0").into_iter();
    let last = all.rfind(|path| path.parent() == segment.parent()).unwrap();
    let reversed = |path: &Path| -> Vec<u8> { fs::read(path).unwrap().into_iter().rev().collect() };
    let accepted = |id: &str| at(format!("s/shop/a/{id}.json"));
    let (mark, old) = (at("drctl-repo.json".to_owned()), of(older, "manifest.json"));
    let forged = encode_manifest(&manifest, &stranger);
    let believed = encode_acceptance(&acceptance, &stranger).unwrap();
    let stone = |id: &str| at(format!("s/shop/x/{id}.json"));
    let buried = encode_tombstone(&tombstone(shop, &gone[1], digest(b"another")), &stranger);
    // The last one: no other number tells that it is missing.
    let said = encode_statement(&statement(shop, 2, Stated::Unfreeze, None), &stranger);
    vec![
        subject("tombstone", stone(&gone[1]), stone(&gone[0]), buried.unwrap(), main),
        subject("statement", object(shop, 2), object(shop, 1), said.unwrap(), main),
        subject("marker", mark, old.clone(), marker, main),
        subject("manifest", of(main, "manifest.json"), old, forged, main),
        subject("page", page.clone(), last.clone(), reversed(&page), main),
        subject("segment of a dump", segment.clone(), last, reversed(&segment), main),
        subject("acceptance", accepted(second), accepted(first), believed, second),
    ]
}

/// Writes the marker again with a time of full length: which byte is flipped depends on it.
fn write_marker_of_known_length(shop: &Shop) {
    let path = shop.site.path("repository/drctl-repo.json");
    let written = decode_marker(&fs::read(&path).unwrap()).unwrap();
    let at = Timestamp::new(1_767_225_600, 123_456_789).unwrap();
    fs::write(path, encode_marker(&Marker::new(written.repository, at))).unwrap();
}

/// Two backups that were removed, one on legal hold, and four more.
fn filled() -> (Shop, Vec<String>, [String; 4]) {
    let shop = Shop::open();
    write_marker_of_known_length(&shop);
    shop.site.retention("last = 2");
    let mut ids = backups(&shop, 5);
    let last = ids.split_off(2);
    let [held, older, main] = last.try_into().unwrap();
    let _ = shop.site.json(0, &["pin", &held, "--reason", "audit"]);
    let _ = shop.site.json(0, &["hold", &held, "--reason", "audit"]);
    let _ = remove(&shop);
    shop.sql("truncate orders");
    let suspect = || id_of(&shop.site.json(3, &["backup", "shop"]));
    let (first, second) = (suspect(), suspect());
    for id in [&first, &second] {
        let _ = shop.site.json(0, &["accept", id]);
    }
    // Only these keep what the policy does not.
    let goes = going(&plan(&shop));
    assert!(!goes.contains(&held), "{goes:?}");
    (shop, ids, [older, main, first, second])
}

#[test]
fn every_damage_of_every_object_of_a_dump_is_found() {
    let (shop, gone, kept) = filled();
    let restored = shop.site.path("restored");
    let subjects = subjects(&shop, &kept, &gone, &restored);
    let (state, saved) = (shop.site.path("state"), shop.site.path("saved"));
    replace(&saved, &state);
    let cell = Cell::default();
    let run = |words: &[&str]| cell.run(shop.site.command(words));
    let restore = |arguments: &[String]| {
        let _ = fs::remove_dir_all(&restored);
        let ran = cell.run(shop.site.command(arguments));
        match ran.code {
            Some(0) => Ok(content(&restored)),
            _ => Err(ran.err),
        }
    };
    let status = || {
        let ran = run(&["--json", "status", "--check"]);
        format!("{:?} {}", ran.code, ran.json()["sources"][0]["findings"])
    };
    let prune = || match run(&["--json", "prune", "shop"]) {
        ran if ran.code == Some(0) => going(&ran.json()["sources"][0]).into_iter().collect(),
        refused => {
            let _ = refused.ended(8);
            BTreeSet::new()
        }
    };
    let commands = Commands {
        cell: &cell,
        status: &status,
        prune: &prune,
        check: &|| !run(&["catalog", "check"]).ended_well_or(&[3, 4, 8]),
        verify: &|| !run(&["verify", "shop", "--data"]).ended_well_or(&[4, 8]),
        restore: &restore,
        forget: &|| replace(&state, &saved),
    };
    assert!(status().starts_with("Some(0)"), "{}", status());
    let table = matrix(&subjects, &commands);
    assert_eq!(table, documented(&subjects), "seen, and documented in docs/stores.md");
}

#[test]
fn what_is_signed_beside_backups_is_missed_by_whoever_has_read_it() {
    let (shop, gone, [.., second]) = filled();
    let _ = shop.site.status();
    let run = |words: &[&str]| shop.site.drctl(&[&["--json"], words].concat());
    for key in [format!("s/shop/x/{}.json", gone[1]), format!("s/shop/a/{second}.json")] {
        is_missed(&shop.site.path("repository").join(&key), &key, &run);
    }
    // One that went with its backup is missed by nobody.
    shop.site.retention("last = 1");
    let newest = id_of(&shop.site.json(3, &["backup", "shop"]));
    let _ = shop.site.json(0, &["accept", &newest]);
    let _ = remove(&shop);
    assert!(!shop.site.path("repository/s/shop/a").join(format!("{second}.json")).exists());
    let _ = shop.site.drctl(&["status", "--check"]).ended(0);
    let _ = shop.site.json(0, &["verify", "shop"]);
    let _ = shop.site.json(0, &["catalog", "check"]);
}
