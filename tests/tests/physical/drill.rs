//! Recoveries that are drills: the evidence that they leave in the bucket.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use drctl_tests::cluster::{Cluster as _, give_away, list, ticks};

use crate::log::{Archiving, several};

fn evidence(shop: &Archiving) -> Vec<PathBuf> {
    let mut files = shop.site.files("repository");
    files.retain(|path| path.starts_with("s/shop/d"));
    files.iter().map(|path| shop.site.path("repository").join(path)).collect()
}

/// What `timeline` tells people.
fn shown(shop: &Archiving) -> String {
    let text = shop.command(&["timeline", "shop"]).output().unwrap().stdout;
    String::from_utf8(text).unwrap()
}

#[test]
fn a_drill_leaves_evidence_that_the_timeline_shows() {
    let (shop, _) = several();
    let middle = shop.committed(15);
    let (ran, _folder, _) = shop.recover(&["--to-end"]);
    let plain = ran.ended(0).json();
    assert!(plain["drill"].is_null() && evidence(&shop).is_empty(), "{plain}");
    assert!(!shown(&shop).contains("drill"));

    let drill = ["--to-time", &middle, "--drill", "--extract", "postgres:public.ticks"];
    let (ran, _folder, _) = shop.recover(&drill);
    let done = ran.ended(0).json();
    let id = done["drill"].as_str().unwrap();
    assert_eq!(evidence(&shop).len(), 1);
    let view = shop.drctl(&["timeline", "shop"]).ended(0).json();
    let found = &view["drills"][0];
    assert_eq!(found["drill"], id, "{view}");
    assert_eq!((&found["outcome"], &found["shows"]), (&"proven".into(), &done["shows"]), "{view}");
    assert_eq!((&found["replayed"], &found["base"]), (&done["replayed"], &done["base"]), "{view}");
    assert_eq!(found["counted"], serde_json::json!([15]), "{view}");
    assert!(found["took_ms"].as_u64().unwrap() > 0, "{view}");
    let text = shown(&shop);
    let bar = text.lines().find(|line| line.starts_with("timeline 1  ")).unwrap();
    assert!(bar.contains("=D="), "{text}");
    assert!(text.contains("D drill, at its last commit"), "{text}");
    let row = text.lines().find(|line| line.starts_with("drill ")).unwrap();
    assert!(row.contains(id) && row.contains(&format!("shows {middle}")), "{text}");
    let (ran, _folder, _) = shop.recover(&["--to-end", "--drill", "--promote"]);
    let end = ran.ended(0).json();
    let view = shop.drctl(&["timeline", "shop"]).ended(0).json();
    assert_eq!(view["drills"][0]["drill"], id, "oldest first: {view}");
    assert_eq!(view["drills"][1]["drill"], end["drill"], "{view}");
    fs::remove_file(&evidence(&shop)[1]).unwrap();
    let checked = shop.drctl(&["catalog", "check"]).ended(4).json();
    assert!(checked["lost"].to_string().contains(end["drill"].as_str().unwrap()), "{checked}");
    assert_eq!(checked["foreign"], serde_json::json!([]), "{checked}");
    // What somebody wrote there who has no key of ours is told of, and believed nowhere.
    let file = &evidence(&shop)[0];
    let good = fs::read(file).unwrap();
    for damage in [&b"{}"[..], &good[..good.len() - 9], &[0; 70_000]] {
        fs::write(file, damage).unwrap();
        let view = shop.drctl(&["timeline", "shop"]).ended(3).json();
        assert_eq!(view["drills"], serde_json::json!([]), "{view}");
        let told = view["refused"][0].as_str().unwrap();
        assert!(told.contains("the evidence of the drill") && told.contains(id), "{view}");
    }
}

#[test]
fn a_drill_that_failed_leaves_evidence_too() {
    let (shop, last) = several();
    let piece = shop.pieces().into_iter().rev().nth(1).unwrap();
    let mut bytes = fs::read(&piece).unwrap();
    let at = bytes.len() - 50;
    bytes[at] ^= 1;
    fs::write(&piece, bytes).unwrap();
    let (ran, _folder, path) = shop.recover(&["--to-time", &last, "--drill"]);
    let _ = ran.failed(4, "segment_damaged");
    // What the drill found to be damaged is remembered.
    let view = shop.drctl(&["timeline", "shop"]).ended(3).json();
    let found = &view["drills"][0];
    assert_eq!(found["outcome"], "failed", "{view}");
    assert_eq!(found["error"], ran.json()["code"], "{view}");
    let text = shown(&shop);
    let row = text.lines().find(|line| line.starts_with("DRILL FAILED")).unwrap();
    assert!(row.contains(found["drill"].as_str().unwrap()), "{text}");
    // What goes on from there is a recovery and no drill: it did not begin at the beginning.
    assert!(!ran.json().to_string().contains("--drill"), "{}", ran.out);
    let to = path.display().to_string();
    let again = ["restore", "shop", "--to-time", &last, "--to-directory", &to, "--resume"];
    let _ = shop.drctl(&[&again[..], &["--drill"]].concat()).failed(2, "usage");
}

#[test]
fn a_drill_that_nobody_could_believe_does_not_begin() {
    let (shop, last) = several();
    let config = fs::read_to_string(shop.site.config()).unwrap();
    let line = config.lines().find(|line| line.starts_with("signing_key")).unwrap();
    shop.site.replace(line, "");
    let (ran, _folder, path) = shop.recover(&["--to-time", &last, "--drill"]);
    let _ = ran.failed(9, "no_signing_key");
    assert!(!path.exists());
    // To recover needs none.
    let (ran, _folder, _) = shop.recover(&["--to-time", &last]);
    let _ = ran.ended(0);
}

#[test]
fn a_recovery_stands_whatever_becomes_of_its_evidence() {
    let (shop, last) = several();
    // Nothing can be written below it.
    let place = shop.site.path("repository").join("s/shop/d");
    fs::write(&place, "").unwrap();
    give_away(&place);
    let (ran, _folder, path) = shop.recover(&["--to-time", &last, "--drill", "--promote"]);
    let said = ran.failed(8, "store_failed");
    assert!(said.contains("the recovery is proven") && said.contains("evidence"), "{said}");
    let journal = fs::read_to_string(path.join("drctl.log")).unwrap();
    assert!(journal.contains("the last commit in") && journal.contains("evidence"), "{journal}");
    assert_eq!(ticks(&path), list(1..41));
}

#[test]
fn damage_that_a_cluster_hides_from_itself_is_never_proven() {
    let mut shop = Archiving::start(true);
    shop.sql(
        "create table big as select g as id, repeat(md5(g::text), 8) as v \
         from generate_series(1, 3000) g; checkpoint",
    );
    let path = shop.sql("select pg_relation_filepath('big')");
    for set in ["role postgres", "database postgres", "system"] {
        for setting in ["zero_damaged_pages", "ignore_checksum_failure"] {
            shop.sql(&format!("alter {set} set {setting} = on"));
        }
    }
    shop.server.stop();
    let file = fs::File::options().write(true).open(shop.server.data_dir().join(path)).unwrap();
    file.write_all_at(&[0xA5; 5 * 8192], 3 * 8192).unwrap();
    drop(file);
    shop.server.start_again();
    shop.back_up();
    shop.tick(1..5);
    shop.archived();
    assert_eq!(shop.sql("select count(*) < 3000 from big"), "t", "it is hidden");
    let drill = ["--to-end", "--drill", "--extract", "postgres:public.big"];
    let (ran, _folder, _) = shop.recover(&drill);
    let said = ran.failed(10, "tool_failed");
    assert!(said.contains("invalid page"), "{said}");
    let view = shop.drctl(&["timeline", "shop"]).json();
    assert_eq!(view["drills"][0]["outcome"], "failed", "{view}");
}
