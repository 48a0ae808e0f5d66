//! Log that only a newer drctl understands.

use std::fs;

use drctl_tests::cluster::{Cluster as _, give_away, list, ticks};
use drctl_tests::envelope::{LOG, opened, sealed};
use serde_json::json;

use crate::log::several;

#[test]
fn log_that_a_newer_drctl_wrote_names_what_to_install_and_stops_nothing_else() {
    let (shop, last) = several();
    let early = shop.committed(25);
    let pieces = shop.pieces();
    let piece = pieces.last().unwrap();
    let bytes = fs::read(piece).unwrap();
    let at = bytes.iter().position(|byte| *byte == b'\n').unwrap();
    let mut head = opened(&bytes[..at]);
    head["features"] = json!(["beads"]);
    head["reader"] = json!("7.2.0");
    head["holds"] = json!("beads");
    let key = fs::read_to_string(shop.site.path("etc/keys/signing.key")).unwrap();
    let head = sealed(LOG, head.to_string().as_bytes(), &key.trim().parse().unwrap());
    fs::write(piece, [&head[..], &bytes[at..]].concat()).unwrap();
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
    let check = shop.drctl(&["catalog", "check"]).ended(0).json();
    assert_eq!(check["bad"], json!([]), "{check}");
    let (ran, _folder, path) = shop.recover(&["--to-time", &early, "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..26));
    let (ran, _folder, path) = shop.recover(&["--to-time", &last, "--plan"]);
    let said = ran.failed(5, "no_plan");
    assert!(said.contains("cannot be reached") && !path.exists(), "{said}");
}
