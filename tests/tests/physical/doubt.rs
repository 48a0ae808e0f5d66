//! Objects that lie under the right name and do not hold what they should: nothing is confirmed
//! because of a name.

use std::fs;
use std::path::{Path, PathBuf};

use crate::log::Archiving;
use crate::streaming::{Streaming, shipped};

/// Changes a byte of an object's body.
fn damage(piece: &Path) {
    let mut bytes = fs::read(piece).unwrap();
    let at = bytes.len() - 50;
    bytes[at] ^= 1;
    fs::write(piece, bytes).unwrap();
}

/// Ends some segments with something in each; gives their files, in order.
fn segments(shop: &Archiving, from: u32, count: u32) -> Vec<PathBuf> {
    let one = |round| {
        shop.tick(from + round * 5..from + round * 5 + 5);
        let name = shop.sql("select pg_walfile_name(pg_switch_wal())");
        shop.server.data_dir().join("pg_wal").join(name)
    };
    (0..count).map(one).collect()
}

fn push(shop: &Archiving, file: &Path) -> drctl_tests::site::Ran {
    shop.drctl(&["wal", "push", "shop", &file.display().to_string()])
}

#[test]
fn a_stored_segment_that_is_damaged_is_not_present() {
    let shop = Archiving::start(false);
    let file = &segments(&shop, 1, 1)[0];
    assert_eq!(push(&shop, file).ended(0).json()["done"], "stored");
    assert_eq!(push(&shop, file).ended(0).json()["done"], "present");
    damage(&shop.pieces()[0]);
    let ran = push(&shop, file);
    assert_eq!(
        (ran.code, &ran.json()["code"]),
        (Some(1), &"segment_damaged".into()),
        "{}",
        ran.out
    );
}

#[test]
fn a_stream_confirms_no_piece_that_it_finds_damaged() {
    let shop = Archiving::start(false);
    let streaming = Streaming::start(&shop, &["--interval", "1"]);
    let _ = shop.drctl(&["backup", "shop"]).ended(0);
    shipped(&shop.server);
    assert_eq!(streaming.end(), Some(130));
    shop.sql("select pg_switch_wal()");
    let before = shop.pieces();
    for file in segments(&shop, 1, 4) {
        let _ = push(&shop, &file).ended(0);
    }
    let mut pushed = shop.pieces();
    pushed.retain(|piece| !before.contains(piece));
    let bad = &pushed[1];
    damage(bad);
    let start = &bad.file_stem().unwrap().to_str().unwrap()[..16];
    let start = format!("{}/{}", &start[..8], &start[8..]);
    // The same piece is cut again, so that it ends; it never goes on behind it.
    let mut streaming = Streaming::launch(&shop, &["--interval", "300"]);
    assert_eq!(streaming.ended(), Some(4), "{}", streaming.said());
    assert!(streaming.said().contains("does not count"), "{}", streaming.said());
    let confirmed = format!("select restart_lsn <= '{start}' from pg_replication_slots");
    assert_eq!(shop.sql(&confirmed), "t");
    fs::remove_file(bad).unwrap();
    let streaming = Streaming::start(&shop, &["--interval", "1"]);
    shipped(&shop.server);
    assert_eq!(streaming.end(), Some(130));
    let view = shop.drctl(&["timeline", "shop"]).ended(0).json();
    assert_eq!(view["timelines"][0]["gaps"].as_array().map(Vec::len), Some(0), "{view}");
}
