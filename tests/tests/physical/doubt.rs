//! Objects that lie under the right name and do not hold what they should: nothing is confirmed
//! because of a name.

use std::fs;
use std::path::{Path, PathBuf};

use drctl_model::{LogPiece, Lsn};
use drctl_store::{
    Identities, Recipients, Trust, decode_signed_head, digest, encode_piece, layout, open_bytes,
    seal_bytes,
};
use drctl_tests::cluster::{Cluster as _, caught_up, give_away, list, own_place, standby, ticks};
use drctl_tests::site::until;
use serde_json::Value;

use crate::log::Archiving;
use crate::stream::{joined, point_at};
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
        let name = shop.sql("select pg_walfile_name(pg_switch_wal() - 1)");
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

/// A cluster of which some segments lie in the bucket in parts and as a whole.
fn twice() -> Archiving {
    let shop = Archiving::start(false);
    let streaming = Streaming::start(&shop, &["--interval", "1"]);
    let _ = shop.drctl(&["backup", "shop"]).ended(0);
    for batch in 0..3 {
        shop.tick(batch * 10 + 1..batch * 10 + 11);
        shipped(&shop.server);
    }
    shop.sql("select pg_switch_wal()");
    shop.tick(31..41);
    shipped(&shop.server);
    until("the parts to be joined", || joined(&shop).1.len() >= 4);
    assert_eq!(streaming.end(), Some(130));
    shop
}

/// The one after the other: damage behind the signature, and somebody else's object.
#[test]
fn a_whole_segment_that_is_damaged_is_put_together_of_its_parts() {
    let shop = twice();
    let (whole, parts) = joined(&shop);
    let has_parts = |whole: &&PathBuf| {
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap()[..11].to_owned();
        parts.iter().any(|part| name(part) == name(whole))
    };
    let twice: Vec<&PathBuf> = whole.iter().filter(has_parts).collect();
    assert!(!twice.is_empty());
    twice.iter().for_each(|piece| damage(piece));
    let recovers = || {
        let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
        let _ = ran.ended(0);
        assert_eq!(ticks(&path), list(1..41));
    };
    recovers();
    // Also where it is known by then that they are damaged.
    let identity = shop.site.identity().display().to_string();
    let _ = shop.drctl(&["verify", "shop", "--data", "--identity", &identity]).ended(4);
    let view = shop.drctl(&["timeline", "shop"]).ended(0).json();
    assert_eq!(view["timelines"][0]["gaps"].as_array().map(Vec::len), Some(0), "{view}");
    recovers();
    let id = shop.sql("select system_identifier from pg_control_system()");
    let folder = own_place().0;
    let (to, name) = (folder.path().join("out"), twice[0].file_name().unwrap().to_str().unwrap());
    let (high, low) = (&name[..8], &name[8..16]);
    let segment = format!("00000001{high}{:08X}", u32::from_str_radix(low, 16).unwrap() >> 20);
    let fetch = || {
        let at = to.display().to_string();
        let of = ["--system-id", &id, "--segment-bytes", "1048576"];
        shop.command(&[&["wal", "fetch", "shop", &segment, &at][..], &of].concat()).output()
    };
    fs::write(twice[0], b"{\"not\":\"ours\"}\nnothing").unwrap();
    assert_eq!(fetch().unwrap().status.code(), Some(0));
    assert!(to.exists());
    // Nothing stands in for a part as well.
    fs::remove_file(&to).unwrap();
    let part = parts.iter().find(|p| p.file_name().unwrap().to_str().unwrap()[..11] == name[..11]);
    damage(part.unwrap());
    assert_eq!(fetch().unwrap().status.code(), Some(255));
    assert!(!to.exists());
}

/// Seals the bytes of a piece anew, with something changed in them, as whoever has the keys can.
fn rewritten(shop: &Archiving, file: &Path, change: impl FnOnce(&mut [u8])) {
    let config = shop.drctl(&["config", "show"]).ended(0).json()["config"].clone();
    let id = config["repository"]["id"].as_str().unwrap().parse().unwrap();
    let recipients = config["keys"]["recipients"].as_array().unwrap().clone();
    let recipients = Recipients::parse(recipients.iter().filter_map(Value::as_str)).unwrap();
    let identity = fs::read_to_string(shop.site.identity()).unwrap();
    let at = file.strip_prefix(shop.site.path("repository")).unwrap().display().to_string();
    let (source, place) = layout::piece_at(&drctl_store::Key::from(at)).unwrap();
    let (bytes, key) = (fs::read(file).unwrap(), shop.site.signing_key());
    let trust = Trust::new(vec![key.verifying_key()]);
    let (piece, head, _) = decode_signed_head(&bytes, &trust, &id, &source, &place).unwrap();
    let identities = Identities::parse(&identity).unwrap();
    let mut plain = open_bytes(&bytes[head..], 1 << 20, &identities).unwrap();
    change(&mut plain);
    let sealed = seal_bytes(&plain, 1, &recipients).unwrap();
    let piece = LogPiece {
        plain_sha256: digest(&plain),
        sealed: sealed.len() as u64,
        sealed_sha256: digest(&sealed),
        ..piece
    };
    fs::write(file, encode_piece(&piece, &sealed, &key)).unwrap();
}

/// The last segment that lies there as a whole and in parts, which tile it; the parts in order.
fn in_parts(shop: &Archiving) -> (PathBuf, Vec<PathBuf>) {
    let (whole, parts) = joined(shop);
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap()[..11].to_owned();
    let of = |whole: &PathBuf| -> Vec<PathBuf> {
        parts.iter().filter(|part| name(part) == name(whole)).cloned().collect()
    };
    let found = whole.iter().rev().map(|whole| (whole.clone(), of(whole)));
    let (whole, mut parts) = found.into_iter().find(|(_, parts)| parts.len() > 2).unwrap();
    parts.sort();
    (whole, parts)
}

fn name(piece: &Path) -> &str {
    piece.file_name().unwrap().to_str().unwrap()
}

#[test]
fn pieces_of_one_segment_that_hold_different_bytes_are_in_doubt_and_no_plan_uses_them() {
    let shop = twice();
    let identity = shop.site.identity().display().to_string();
    let verify = ["verify", "shop", "--data", "--identity", &identity];
    let _ = shop.drctl(&verify).ended(0);
    let (whole, parts) = in_parts(&shop);
    // Its records are checked in the whole segment, which comes first.
    let last = parts.last().unwrap();
    let good = fs::read(last).unwrap();
    rewritten(&shop, last, |plain| *plain.last_mut().unwrap() ^= 1);
    let problems = shop.drctl(&verify).ended(4).json()["logs"][0]["problems"].clone();
    let told = problems.as_array().unwrap().iter().find(|one| one["code"] == "log_damaged");
    let text = told.unwrap().to_string();
    assert!(text.contains(name(&whole)) && text.contains(name(last)), "{problems}");
    // What they have in common leads on, and nothing behind that.
    let view = shop.drctl(&["timeline", "shop"]).ended(3).json();
    let gap = view["timelines"][0]["gaps"][0].clone();
    assert_eq!((gap["why"].as_str(), lsn(&gap["from"])), (Some("damaged"), first(last)), "{view}");
    let (ran, _folder, _) = shop.recover(&["--to-end"]);
    let _ = ran.ended(5);
    fs::write(last, good).unwrap();
    let _ = shop.drctl(&verify).ended(0);
    let view = shop.drctl(&["timeline", "shop"]).ended(0).json();
    assert_eq!(view["timelines"][0]["gaps"], serde_json::json!([]), "{view}");
}

/// The first byte of a piece, by its name.
fn first(piece: &Path) -> u64 {
    u64::from_str_radix(&name(piece)[..16], 16).unwrap()
}

fn lsn(text: &Value) -> u64 {
    text.as_str().unwrap().parse::<Lsn>().unwrap().0
}

#[test]
fn the_beginning_of_a_damaged_segment_leads_as_far_as_its_parts_hold_it() {
    let shop = twice();
    let (whole, parts) = in_parts(&shop);
    let identity = shop.site.identity().display().to_string();
    let end = || {
        let status = shop.drctl(&["status"]).ended(0).json()["sources"][0]["log"].clone();
        lsn(&status["end"])
    };
    damage(&whole);
    damage(parts.last().unwrap());
    let _ = shop.drctl(&["verify", "shop", "--data", "--identity", &identity]).ended(4);
    assert_eq!(end(), first(parts.last().unwrap()));
    let (ran, _folder, path) = shop.recover(&["--to-end", "--accept-loss", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..31));
}

/// A failover to a server whose new log is archived before it is streamed; what the old timeline
/// has behind the last streamed byte is on the new server alone.
fn after_a_failover(streamed_from_the_standby: bool) {
    let mut shop = Archiving::start(false);
    shop.sql("alter system set wal_keep_size = '64MB'; select pg_reload_conf()");
    let (standby, _folder) = standby(&shop.server);
    let mut other = standby;
    if streamed_from_the_standby {
        std::mem::swap(&mut shop.server, &mut other);
        point_at(&shop, &shop.server);
    }
    let streaming = Streaming::start(&shop, &["--interval", "1"]);
    let _ = shop.drctl(&["backup", "shop"]).ended(0);
    shipped(&shop.server);
    assert_eq!(streaming.end(), Some(130));
    if !streamed_from_the_standby {
        std::mem::swap(&mut shop.server, &mut other);
        point_at(&shop, &shop.server);
    }
    for id in 1..5 {
        other.psql("postgres", &format!("insert into ticks values ({id}, 'x')"));
        other.psql("postgres", "select pg_switch_wal()");
    }
    caught_up(&other, &shop.server);
    other.crash();
    shop.sql("select pg_promote()");
    let pg_wal = shop.server.data_dir().join("pg_wal");
    for file in segments(&shop, 5, 2) {
        let _ = push(&shop, &file).ended(0);
    }
    let _ = push(&shop, &pg_wal.join("00000002.history")).ended(0);
    let streaming = Streaming::start(&shop, &["--interval", "1"]);
    shop.tick(15..21);
    shipped(&shop.server);
    assert!(!streaming.said().contains("GAP"), "{}", streaming.said());
    assert_eq!(streaming.end(), Some(130));
    let view = shop.drctl(&["timeline", "shop"]).ended(0).json();
    for timeline in view["timelines"].as_array().unwrap() {
        assert_eq!(timeline["gaps"].as_array().map(Vec::len), Some(0), "{view}");
    }
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..21));
}

#[test]
fn what_the_old_timeline_lacks_is_asked_for_without_a_slot() {
    after_a_failover(false);
}

#[test]
fn what_the_old_timeline_lacks_is_asked_for_with_a_slot() {
    after_a_failover(true);
}

#[test]
fn an_old_gap_makes_no_new_one_when_the_slot_is_made_again() {
    let shop = Archiving::start(false);
    shop.sql("alter system set archive_command = 'true'; select pg_reload_conf()");
    let streaming = Streaming::start(&shop, &["--interval", "1"]);
    let _ = shop.drctl(&["backup", "shop"]).ended(0);
    shipped(&shop.server);
    assert_eq!(streaming.end(), Some(130));
    let drop_slot = || {
        let active = "select bool_or(active) from pg_replication_slots";
        until("the slot to be free", || shop.sql(active) == "f");
        shop.sql("select pg_drop_replication_slot('drctl_shop')");
    };
    drop_slot();
    let kept = shop.sql("select pg_walfile_name(pg_current_wal_lsn())");
    let gone = format!("select count(*) from pg_ls_waldir() where name = '{kept}'");
    until("the server to remove its log", || {
        shop.sql("create table if not exists t(x text); insert into t values (repeat('x', 99)); select pg_switch_wal()");
        shop.sql("checkpoint");
        shop.sql(&gone) == "0"
    });
    let stream = || {
        let streaming = Streaming::start(&shop, &["--interval", "1"]);
        shipped(&shop.server);
        let gap = streaming.said().contains("GAP");
        assert_eq!(streaming.end(), Some(130));
        gap
    };
    assert!(stream());
    // What follows is on the server, and a new slot begins behind it.
    shop.sql("alter system set wal_keep_size = '64MB'; select pg_reload_conf()");
    drop_slot();
    let _ = segments(&shop, 1, 3);
    shop.sql("checkpoint");
    assert!(stream(), "the old gap is asked for");
    let view = shop.drctl(&["timeline", "shop"]).ended(3).json();
    assert_eq!(view["timelines"][0]["gaps"].as_array().map(Vec::len), Some(1), "{view}");
}

#[test]
fn what_is_missing_before_a_slot_is_asked_for_too() {
    let shop = Archiving::start(false);
    shop.sql("alter system set wal_keep_size = '64MB'; select pg_reload_conf()");
    let streaming = Streaming::start(&shop, &["--interval", "1"]);
    let _ = shop.drctl(&["backup", "shop"]).ended(0);
    shop.tick(1..6);
    shipped(&shop.server);
    assert_eq!(streaming.end(), Some(130));
    let active = "select bool_or(active) from pg_replication_slots";
    until("the slot to be free", || shop.sql(active) == "f");
    shop.sql("select pg_drop_replication_slot('drctl_shop')");
    shop.tick(6..11);
    shop.sql("select pg_switch_wal()");
    shop.tick(11..16);
    shop.sql("select pg_switch_wal()");
    shop.sql("checkpoint");
    // As a stream leaves it that made the slot, and was killed before any of this had arrived.
    shop.sql("select pg_create_physical_replication_slot('drctl_shop', true)");
    let streaming = Streaming::start(&shop, &["--interval", "1"]);
    shop.tick(16..21);
    shipped(&shop.server);
    assert_eq!(streaming.end(), Some(130));
    let _ = shop.drctl(&["timeline", "shop"]).ended(0);
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..21));
}

#[test]
fn a_gap_among_the_files_that_wait_is_told() {
    let shop = Archiving::start(false);
    let files = segments(&shop, 1, 5);
    until("the log to have settled", || {
        let age = fs::metadata(&files[4]).unwrap().modified().unwrap().elapsed();
        age.is_ok_and(|age| age > std::time::Duration::from_millis(300))
    });
    // Somebody took a file's mark away: the server will not hand it over.
    let mark = |file: &Path| {
        let name = format!("{}.ready", file.file_name().unwrap().to_str().unwrap());
        file.with_file_name("archive_status").join(name)
    };
    fs::remove_file(mark(&files[2])).unwrap();
    let output = shop
        .command(&["--quiet", "wal", "push", "shop", &files[0].display().to_string()])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert_eq!(shop.pieces().len(), 4, "{said}");
    assert_eq!(said.matches("GAP").count(), 1, "{said}");
}

/// The segment that the server writes, with little in it, and whether nothing was ever behind that.
fn written(shop: &Archiving) -> (PathBuf, bool) {
    let name = shop.sql("select pg_walfile_name(pg_current_wal_insert_lsn())");
    let end = shop.sql("select ((pg_current_wal_insert_lsn() - '0/0') % 1048576)::text");
    let file = shop.server.data_dir().join("pg_wal").join(name);
    let rest = fs::read(&file).unwrap().split_off(end.parse().unwrap());
    (file, rest.iter().all(|byte| *byte == 0))
}

#[test]
fn a_segment_that_the_server_still_writes_is_not_stored() {
    let shop = Archiving::start(false);
    let before = shop.site.files("repository");
    let refused = |file: &Path| {
        let refused = push(&shop, file).ended(1).json();
        assert_eq!(refused["code"], "log_unfinished", "{refused}");
    };
    let new = || {
        until("a new segment", || {
            shop.sql("select txid_current(); select pg_switch_wal()");
            shop.sql("delete from ticks");
            shop.tick(1..3);
            written(&shop).1
        });
        written(&shop).0
    };
    let file = new();
    refused(&file);
    assert_eq!(shop.site.files("repository"), before);
    // The server hands it over with more in it.
    shop.tick(6..11);
    let ended = shop.sql("select pg_walfile_name(pg_switch_wal() - 1)");
    assert!(file.ends_with(&ended), "{ended}");
    assert_eq!(push(&shop, &file).ended(0).json()["done"], "stored");
    // The last one of a timeline, which a standby hands over as it is.
    let file = new();
    refused(&file);
    let name = format!("{}.ready", file.file_name().unwrap().display());
    let mark = file.with_file_name("archive_status").join(name);
    fs::write(&mark, "").unwrap();
    give_away(&mark);
    assert_eq!(push(&shop, &file).ended(0).json()["done"], "stored");
    // One that had other log in it before.
    let file = new();
    let mut bytes = fs::read(&file).unwrap();
    bytes[1 << 19..][..8192].fill(7);
    let (folder, _) = own_place();
    let other = folder.path().join(file.file_name().unwrap());
    fs::write(&other, bytes).unwrap();
    give_away(&other);
    refused(&other);
}
