//! Log that only a newer drctl understands.

use std::fs;
use std::path::Path;

use drctl_tests::cluster::{Cluster as _, give_away, list, ticks};
use drctl_tests::envelope::{DRILL, LOG, opened, sealed};
use serde_json::{Value, json};

use crate::log::{Archiving, several};

/// A piece as a newer drctl writes it, with these fields instead of its own.
fn rewritten(shop: &Archiving, piece: &Path, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let bytes = fs::read(piece).unwrap();
    let at = bytes.iter().position(|byte| *byte == b'\n').unwrap();
    let mut head = opened(&bytes[..at]);
    change(&mut head);
    let key = shop.site.signing_key();
    let head = sealed(LOG, head.to_string().as_bytes(), &key);
    [&head[..], &bytes[at..]].concat()
}

#[test]
fn log_of_an_engine_that_is_not_known_names_what_to_install_and_stops_nothing_else() {
    let (shop, last) = several();
    let piece = shop.pieces().pop().unwrap();
    let folder = piece.parent().unwrap().parent().unwrap().join("tape-3");
    let range = "0000000000000005-0000010000000000";
    let tape = rewritten(&shop, &piece, |head| {
        head["features"] = json!(["tape"]);
        head["reader"] = json!("7.2.0");
        head["lineage"] = json!("tape-3");
        head["start"] = json!(&range[..16]);
        head["end"] = json!(&range[17..]);
        head["holds"] = json!({ "records": 3, "tape": { "reels": ["a"] } });
    });
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(format!("{range}.log")), tape).unwrap();
    give_away(&folder);
    let install = "install drctl 7.2.0 or newer";
    let view = shop.drctl(&["timeline", "shop"]).ended(3).json();
    let why = view["refused"][0].as_str().unwrap();
    assert!(why.contains("log of tape-3") && why.contains(install), "{view}");
    let verified = shop.drctl(&["verify", "shop", "--data"]).ended(3).json();
    let problems = verified["logs"][0]["problems"].as_array().unwrap();
    assert_eq!((problems.len(), &problems[0]["code"]), (1, &json!("format_newer")), "{verified}");
    assert!(problems[0]["message"].as_str().unwrap().contains(install), "{verified}");
    let check = shop.drctl(&["catalog", "check"]).ended(3).json();
    assert_eq!(check["bad"], json!([]), "{check}");
    assert!(check["log_refused"][0].as_str().unwrap().contains(install), "{check}");
    let rebuilt = shop.drctl(&["catalog", "rebuild"]).ended(3).json();
    assert!(rebuilt["log_refused"][0].as_str().unwrap().contains(install), "{rebuilt}");
    // The WAL beside it is read as ever.
    let (ran, _folder, path) = shop.recover(&["--to-time", &last, "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..41));
}

#[test]
fn log_that_a_newer_drctl_wrote_names_what_to_install_and_stops_nothing_else() {
    let (shop, last) = several();
    let early = shop.committed(25);
    let pieces = shop.pieces();
    let piece = pieces.last().unwrap();
    let newer = rewritten(&shop, piece, |head| {
        head["features"] = json!(["beads"]);
        head["reader"] = json!("7.2.0");
        head["holds"] = json!("beads");
    });
    fs::write(piece, newer).unwrap();
    give_away(piece);
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(shop.site.path(&format!("state/catalog.db{suffix}")));
    }
    let install = "install drctl 7.2.0 or newer";
    let view = shop.drctl(&["timeline", "shop"]).ended(3).json();
    assert!(view["refused"][0].as_str().unwrap().contains(install), "{view}");
    let verified = shop.drctl(&["verify", "shop"]).ended(3).json();
    let problem = &verified["logs"][0]["problems"][0];
    assert_eq!(problem["code"], "format_newer", "{verified}");
    assert!(problem["message"].as_str().unwrap().contains(install), "{verified}");
    // It is no damage, and is not remembered as any.
    let check = shop.drctl(&["catalog", "check"]).ended(3).json();
    assert_eq!((&check["bad"], &check["gaps"]), (&json!([]), &json!([])), "{check}");
    assert!(check["log_refused"][0].as_str().unwrap().contains(install), "{check}");
    let status = shop.drctl(&["status", "--check"]).ended(3).json();
    let findings = status["sources"][0]["findings"].as_array().unwrap();
    assert!(findings.iter().any(|one| one["code"] == "log_newer"), "{status}");
    assert!(!status.to_string().contains("find out who may write"), "{status}");
    is_left_out(&shop);
    let (ran, _folder, path) = shop.recover(&["--to-time", &early, "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..26));
    let (ran, _folder, path) = shop.recover(&["--to-time", &last, "--plan"]);
    let said = ran.failed(5, "no_plan");
    assert!(said.contains("cannot be reached") && !path.exists(), "{said}");
}

#[test]
fn a_drill_that_a_newer_drctl_left_is_no_damage() {
    let (shop, _) = several();
    let drill = json!({ "v": 2, "min_reader": 2, "reader": "7.2.0", "rods": 13 });
    let key = shop.site.signing_key();
    let folder = shop.site.path("repository/s/shop/d");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("20260302T000000Z-0000000000000007.json");
    fs::write(&path, sealed(DRILL, drill.to_string().as_bytes(), &key)).unwrap();
    give_away(&folder);
    give_away(&path);
    let verified = shop.drctl(&["verify", "shop"]).ended(3).json();
    let problem = &verified["logs"][0]["problems"][0];
    assert_eq!(problem["code"], "format_newer", "{verified}");
    assert!(problem["message"].as_str().unwrap().contains("drctl 7.2.0 or newer"), "{verified}");
    let view = shop.drctl(&["timeline", "shop"]).ended(3).out;
    assert!(view.contains("install drctl 7.2.0 or newer"), "{view}");
    // It is not remembered as damage.
    let check = shop.drctl(&["catalog", "check"]).ended(3).json();
    assert_eq!(check["bad"], json!([]), "{check}");
    assert!(check["doubtful_newer"].to_string().contains("drctl 7.2.0 or newer"), "{check}");
    let status = shop.drctl(&["status"]).ended(0).out;
    assert!(!status.contains("BAD"), "{status}");
}

/// All that there is would have to hold what a newer drctl wrote.
fn is_left_out(shop: &Archiving) {
    let (ran, _folder, path) = shop.recover(&["--to-end"]);
    let said = ran.failed(5, "no_plan");
    assert!(said.contains("newer format") && !path.exists(), "{said}");
    let (ran, _folder, _) = shop.recover(&["--to-end", "--accept-loss", "--drill"]);
    let done = ran.ended(0).json();
    assert!(done["left_out"][0].as_str().unwrap().contains("newer format"), "{done}");
    assert!(done["loses"]["bytes"].as_u64() > Some(0), "{done}");
    let view = shop.drctl(&["timeline", "shop"]).ended(3).json();
    assert_eq!(view["drills"][0]["left_out"], done["left_out"], "{view}");
}

#[test]
fn a_recovery_that_meets_what_a_newer_drctl_wrote_says_so_and_the_next_one_leads_around_it() {
    let (shop, _) = several();
    // The catalog knows the piece as it was; as long as that, it is not looked at again.
    let _ = shop.drctl(&["timeline", "shop"]).ended(0);
    let piece = shop.pieces().pop().unwrap();
    let newer = rewritten(&shop, &piece, |head| {
        head["min_reader"] = json!(2);
        head["reader"] = json!("7.2.0");
        head["pad"] = json!("x".repeat(39));
    });
    assert_eq!(newer.len(), fs::read(&piece).unwrap().len());
    fs::write(&piece, newer).unwrap();
    give_away(&piece);
    let (ran, _folder, _) = shop.recover(&["--to-end"]);
    let said = ran.failed(8, "format_newer");
    assert!(said.contains("install drctl 7.2.0 or newer"), "{said}");
    assert!(said.contains("--to-end --accept-loss") && !said.contains("--resume"), "{said}");
    is_left_out(&shop);
}

#[test]
fn what_is_not_believed_behind_the_end_is_no_end_of_all_that_there_is() {
    let (shop, _) = several();
    let piece = shop.pieces().pop().unwrap();
    let good = fs::read(&piece).unwrap();
    let mut flipped = good.clone();
    flipped[40] ^= 1;
    let further = piece.with_file_name("00000000fff00000-0000000100000000.log");
    let to_end = |more: &[&str]| {
        // A host that knows nothing but the bucket.
        for file in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
            let _ = fs::remove_file(shop.site.path("state").join(file));
        }
        shop.recover(&[&["--to-end", "--drill"], more].concat())
    };
    let is_told = || {
        let (ran, _folder, path) = to_end(&[]);
        let said = ran.failed(5, "no_plan");
        assert!(said.contains("may be there after the end") && !path.exists(), "{said}");
    };
    for bytes in [&flipped[..], b"", &good[..300]] {
        fs::write(&piece, bytes).unwrap();
        is_told();
    }
    let longer = fs::OpenOptions::new().write(true).open(&piece).unwrap();
    longer.set_len(3 << 30).unwrap();
    is_told();
    let (ran, _folder, _) = to_end(&["--accept-loss"]);
    let done = ran.ended(0).json();
    assert!(done["left_out"][0].as_str().unwrap().contains("no trusted key"), "{done}");
    fs::write(&piece, &good).unwrap();
    // Nobody knows of somebody else's object that it is none of the log.
    fs::write(&further, "x").unwrap();
    is_told();
    fs::remove_file(&further).unwrap();
    let (ran, _folder, _) = to_end(&[]);
    let _ = ran.ended(0);
}

#[test]
fn log_that_this_host_knew_and_that_is_gone_is_no_end_of_all_that_there_is() {
    for emptied in [false, true] {
        let (shop, _) = several();
        let _ = shop.drctl(&["timeline", "shop"]).ended(0);
        let piece = shop.pieces().pop().unwrap();
        match emptied {
            true => fs::write(&piece, "").unwrap(),
            false => fs::remove_file(&piece).unwrap(),
        }
        let (ran, _folder, path) = shop.recover(&["--to-end", "--drill"]);
        let said = ran.failed(5, "no_plan");
        assert!(said.contains("was there after the end") && !path.exists(), "{said}");
        let (ran, _folder, _) = shop.recover(&["--to-end", "--accept-loss", "--drill"]);
        let done = ran.ended(0).json();
        assert!(done["left_out"][0].as_str().unwrap().contains("is missing from"), "{done}");
        let view = shop.drctl(&["timeline", "shop"]).ended(3).json();
        assert_eq!(view["drills"][0]["left_out"], done["left_out"], "{view}");
    }
}
