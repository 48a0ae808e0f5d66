//! The log in a bucket in which an attacker writes and deletes.

use std::fs;
use std::path::PathBuf;

use aws_sdk_s3::primitives::ByteStream;
use drctl_store::{SigningKey, Trust, decode_signed_head, encode_piece, layout};
use drctl_tests::cluster::{Cluster as _, caught_up, give_away, list, own_place, standby, ticks};
use drctl_tests::servers::hiding::Hiding;
use drctl_tests::servers::minio::Minio;
use drctl_tests::site::{Ran, until};
use serde_json::Value;

use crate::clocks::moved_to;
use crate::log::{Archiving, in_s3, several};
use crate::streaming::{Streaming, shipped};

/// Segments of the clusters here.
const MIB: u64 = 1 << 20;

fn wait<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(work)
}

/// The key of the segment that begins so many segments behind the one that is being written.
fn key(shop: &Archiving, ahead: u64, length: u64) -> String {
    let system_id: u64 =
        shop.sql("select system_identifier from pg_control_system()").parse().unwrap();
    let at = shop.sql("select pg_current_wal_lsn() - '0/0'");
    let at = at.parse::<f64>().unwrap() as u64;
    let start = (at / MIB + ahead) * MIB;
    format!("s/shop/l/{system_id:016x}-00000001/{start:016x}-{:016x}.log", start + length)
}

fn codes(object: &Value) -> Vec<&str> {
    let alarms = object["alarms"].as_array().unwrap();
    let mut codes: Vec<&str> = alarms.iter().filter_map(|one| one["code"].as_str()).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

#[test]
fn delete_markers_over_the_log_lose_no_commit_where_deleted_folders_are_hidden() {
    let minio = Minio::start();
    minio.make_bucket("shop");
    minio.set_versioning("shop");
    let gate = Hiding::before(&minio, "shop");
    let shop = Archiving::with(true, in_s3(&minio, gate.endpoint()));
    shop.back_up();
    // Somebody takes the name of the segment that comes next.
    let client = minio.client();
    let squatted = format!("below/{}", key(&shop, 0, MIB));
    let put = client.put_object().bucket("shop").key(&squatted);
    wait(put.body(ByteStream::from_static(b"mine")).send()).unwrap();
    shop.segments_of_ten(3);
    let before = shop.drctl(&["timeline", "shop"]).ended(0).json();
    let listed = wait(client.list_objects_v2().bucket("shop").send()).unwrap();
    let keys: Vec<String> =
        listed.contents().iter().filter_map(|one| one.key().map(str::to_owned)).collect();
    let log: Vec<&String> = keys.iter().filter(|key| key.contains("/s/shop/l/")).collect();
    assert!(log.len() >= 4, "{keys:?}");
    for key in log {
        wait(client.delete_object().bucket("shop").key(key).send()).unwrap();
    }
    fs::remove_file(shop.site.path("state/catalog.db")).unwrap();
    let after = shop.drctl(&["timeline", "shop"]).ended(3).json();
    assert_eq!(after["timelines"][0]["reachable"], before["timelines"][0]["reachable"], "{after}");
    assert_eq!(codes(&after), ["object_deleted"], "{after}");
    let verified = shop.drctl(&["verify", "shop", "--data"]).ended(4).json();
    assert!(codes(&verified).contains(&"object_deleted"), "{verified}");
    assert_eq!(verified["logs"][0]["good"], true, "{verified}");
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..31));
}

#[test]
fn what_a_stranger_put_among_the_log_and_somebody_removed_is_nothing() {
    let minio = Minio::start();
    minio.make_bucket("shop");
    minio.set_versioning("shop");
    let shop = Archiving::with(true, in_s3(&minio, minio.endpoint()));
    shop.back_up();
    shop.segments_of_ten(3);
    let before = shop.drctl(&["timeline", "shop"]).ended(0).json();
    let client = minio.client();
    let piece = key(&shop, 3, MIB);
    let (folder, _) = piece.rsplit_once('/').unwrap();
    let index = format!("{folder}/{:016x}-{:016x}.index", 0, MIB);
    let note = format!("{folder}/notes/history");
    for key in [&piece, &index, &note].map(|key| format!("below/{key}")) {
        let put = client.put_object().bucket("shop").key(&key);
        wait(put.body(ByteStream::from_static(b"mine")).send()).unwrap();
        wait(client.delete_object().bucket("shop").key(&key).send()).unwrap();
    }
    for _ in 0..2 {
        assert_eq!(shop.drctl(&["timeline", "shop"]).ended(0).json(), before);
        let _ = shop.drctl(&["status", "--check"]).ended(0);
        let checked = shop.drctl(&["catalog", "check"]).ended(0).json();
        assert!(codes(&checked).is_empty(), "{checked}");
        let verified = shop.drctl(&["verify", "shop", "--data"]).ended(0).json();
        assert_eq!(verified["logs"][0]["good"], true, "{verified}");
        fs::remove_file(shop.site.path("state/catalog.db")).unwrap();
        let _ = shop.drctl(&["catalog", "rebuild"]).ended(0);
    }
}

#[test]
fn rubbish_among_the_log_is_a_strangers_where_no_log_can_be_missing() {
    let shop = Archiving::start(true);
    shop.back_up();
    shop.segments_of_ten(3);
    let _ = shop.drctl(&["verify", "shop", "--data"]).ended(0);
    let put = |key: &str| {
        let path = shop.site.path("repository").join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "mine").unwrap();
        give_away(&shop.site.path("repository"));
        path
    };
    let whole = fs::canonicalize(&shop.pieces()[0]).unwrap();
    let name = whole.file_name().unwrap().to_str().unwrap();
    let (start, _) = name.split_once('-').unwrap();
    let start = u64::from_str_radix(start, 16).unwrap();
    let next = key(&shop, 0, MIB);
    let (folder, _) = next.rsplit_once('/').unwrap();
    let within = format!("{folder}/{start:016x}-{:016x}.log", start + MIB / 2);
    let far = key(&shop, 9_000, MIB);
    let other = format!("s/shop/l/000000000000002a-00000001/{:016x}-{MIB:016x}.log", 0);
    let strange = [within, far, other].map(|key| (put(&key), key));
    let verified = shop.drctl(&["verify", "shop", "--data"]).ended(3).json();
    let told = verified["strangers"].to_string();
    assert!(strange.iter().all(|(_, key)| told.contains(key)), "{verified}");
    assert_eq!(verified["logs"][0]["good"], true, "{verified}");
    // What comes next may have been there.
    let ahead = put(&key(&shop, 1, MIB));
    let verified = shop.drctl(&["verify", "shop"]).ended(4).json();
    assert_eq!(verified["logs"][0]["problems"].as_array().unwrap().len(), 1, "{verified}");
    fs::remove_file(ahead).unwrap();
    let _ = shop.drctl(&["verify", "shop"]).ended(3);
    // And what this host knows was there, whatever else holds the same log.
    let good = fs::read(&whole).unwrap();
    fs::write(&whole, "mine").unwrap();
    let _ = shop.drctl(&["verify", "shop"]).ended(4);
    fs::write(&whole, good).unwrap();
    for (path, _) in strange {
        fs::remove_file(path).unwrap();
    }
    let _ = shop.drctl(&["verify", "shop"]).ended(0);
}

/// Runs drctl, which takes little memory.
#[track_caller]
fn frugally(shop: &Archiving, arguments: &[&str]) -> Ran {
    let (_folder, peak) = own_place();
    let mut time = shop.as_owner("/usr/bin/time");
    time.args(["-q", "-f", "%M", "-o"]).arg(&peak).arg(shop.program()).arg("--json");
    time.args(arguments).env("DRCTL_CONFIG", shop.site.config()).env_remove("DRCTL_LOG");
    let ran = Ran::of(&time.output().expect("start time"));
    let kib: u32 = fs::read_to_string(&peak).unwrap().trim().parse().expect("kilobytes");
    assert!(kib < 200 << 10, "{kib} KiB by {arguments:?}");
    ran
}

#[test]
fn rubbish_under_names_of_the_log_stops_nothing() {
    let shop = Archiving::start(true);
    shop.back_up();
    let rubbish = |key: String| -> PathBuf { shop.site.path("repository").join(key) };
    let put = |path: &PathBuf, length: u64| {
        fs::write(path, "mine").unwrap();
        fs::OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
        give_away(path);
    };
    shop.tick(1..11);
    shop.archived();
    // The name of the next segment; names that cross a segment's end, or the largest there is; a
    // pipe.
    let squatted = rubbish(key(&shop, 0, MIB));
    put(&squatted, 1 << 30);
    put(&rubbish(key(&shop, 1, MIB).replace("00000.log", "80000.log")), 4);
    put(&rubbish(key(&shop, 0, MIB / 2 + 2 * MIB)), 4);
    put(&rubbish(key(&shop, 0, 3 << 30)), 4);
    shop.tick(11..21);
    shop.archived();
    shop.tick(21..31);
    shop.archived();
    // Behind all that there is.
    put(&rubbish(key(&shop, 0, MIB)), 4);
    put(&rubbish(key(&shop, 1, MIB)), 4);
    let view = frugally(&shop, &["timeline", "shop"]).ended(3).json();
    let gaps = view["timelines"][0]["gaps"].as_array().unwrap();
    assert_eq!((gaps.len(), &gaps[0]["why"]), (1, &"refused".into()), "{view}");
    assert!(!view["refused"].as_array().unwrap().is_empty(), "{view}");
    let (_folder, path) = own_place();
    let to = path.display().to_string();
    let restore = ["restore", "shop", "--to-end", "--promote", "--to-directory", &to];
    // Nobody can tell that it is none of the log.
    let said = frugally(&shop, &restore).failed(5, "no_plan");
    assert!(said.contains("may be there after the end"), "{said}");
    let _ = frugally(&shop, &[&restore[..], &["--accept-loss"]].concat()).ended(0);
    assert_eq!(ticks(&path), list(1..31));
    let verified = frugally(&shop, &["verify", "shop", "--data"]).ended(4).json();
    let problems = verified["logs"][0]["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 2, "{verified}");
    // The others are none of the log, whoever may have lost what.
    assert_eq!(verified["strangers"].as_array().unwrap().len(), 3, "{verified}");
}

#[test]
fn a_name_that_is_taken_does_not_stop_a_stream() {
    let shop = Archiving::start(false);
    let squatted = shop.site.path("repository").join(key(&shop, 0, MIB));
    fs::create_dir_all(squatted.parent().unwrap()).unwrap();
    fs::write(&squatted, "mine").unwrap();
    give_away(&shop.site.path("repository"));
    // All of the segment is there when the stream begins: one piece, under the name that is taken.
    shop.sql("select pg_create_physical_replication_slot('early', true)");
    shop.tick(1..11);
    shop.sql("select pg_switch_wal()");
    let streaming = Streaming::start(&shop, &["--interval", "1", "--slot", "early"]);
    shop.back_up();
    shop.tick(11..21);
    shipped(&shop.server);
    assert!(streaming.said().contains("stored under other names"), "{}", streaming.said());
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..21));
    assert_eq!(streaming.end(), Some(130));
}

#[test]
fn log_that_vanished_is_remembered_by_every_command_that_reads() {
    let (shop, _) = several();
    let before = shop.drctl(&["timeline", "shop"]).ended(0).json();
    let pieces = shop.pieces();
    let newest = &pieces[pieces.len() - 2..];
    let away = shop.site.path("away");
    fs::create_dir(&away).unwrap();
    for piece in newest {
        fs::rename(piece, away.join(piece.file_name().unwrap())).unwrap();
    }
    // However often it is looked at, and with other keys that are believed.
    for _ in 0..2 {
        let view = shop.drctl(&["timeline", "shop"]).ended(3).json();
        assert_eq!(view["lost"].as_array().map(Vec::len), Some(1), "{view}");
        let status = shop.drctl(&["status", "--check"]).ended(3).json();
        assert_eq!(status["sources"][0]["vanished"], view["lost"], "{status}");
        let listed = shop.drctl(&["list"]).ended(3).json();
        assert_eq!(listed["lost"], view["lost"], "{listed}");
        let checked = shop.drctl(&["catalog", "check"]).ended(4).json();
        assert_eq!(checked["lost"], view["lost"], "{checked}");
        let _ = shop.drctl(&["catalog", "rebuild"]);
    }
    for piece in newest {
        fs::rename(away.join(piece.file_name().unwrap()), piece).unwrap();
    }
    assert_eq!(shop.drctl(&["timeline", "shop"]).ended(0).json(), before);
    let _ = shop.drctl(&["status", "--check"]).ended(0);
    // Whoever asks what could be forgotten first of all is told the same.
    for piece in newest {
        fs::rename(piece, away.join(piece.file_name().unwrap())).unwrap();
    }
    let looked = shop.drctl(&["catalog", "forget", "shop"]).ended(0).json();
    assert_eq!(looked["lost"].as_array().map(Vec::len), Some(1), "{looked}");
    for piece in newest {
        fs::rename(away.join(piece.file_name().unwrap()), piece).unwrap();
    }
    assert_eq!(shop.drctl(&["timeline", "shop"]).ended(0).json(), before);
    // All of it overwritten by seven bytes.
    for piece in newest {
        fs::write(piece, "1234567").unwrap();
    }
    let view = shop.drctl(&["timeline", "shop"]).ended(3).json();
    assert_eq!(view["lost"].as_array().map(Vec::len), Some(1), "{view}");
    let _ = shop.drctl(&["status", "--check"]).ended(3);
    let looked = shop.drctl(&["catalog", "forget", "shop"]).ended(0).json();
    assert_eq!((&looked["lost"], &looked["done"]), (&view["lost"], &false.into()));
    let yes = ["catalog", "forget", "shop", "--yes", looked["digest"].as_str().unwrap()];
    assert_eq!(shop.drctl(&yes).ended(0).json()["done"], true);
    let view = shop.drctl(&["timeline", "shop"]).ended(3).json();
    assert_eq!(view["lost"], serde_json::json!([]), "{view}");
}

/// Signs a piece anew, with this key.
fn forge(shop: &Archiving, file: &PathBuf, key: &SigningKey) {
    let own = shop.site.signing_key();
    let config = shop.drctl(&["config", "show"]).ended(0).json()["config"].clone();
    let id = config["repository"]["id"].as_str().unwrap().parse().unwrap();
    let at = file.strip_prefix(shop.site.path("repository")).unwrap().display().to_string();
    let (source, place) = layout::piece_at(&drctl_store::Key::from(at)).unwrap();
    let bytes = fs::read(file).unwrap();
    let trust = Trust::new(vec![own.verifying_key()]);
    let (piece, head, _) = decode_signed_head(&bytes, &trust, &id, &source, &place).unwrap();
    fs::write(file, encode_piece(&piece, &bytes[head..], key)).unwrap();
}

#[test]
fn log_that_a_key_of_another_source_or_role_has_signed_is_none() {
    let (shop, _) = several();
    let thief = SigningKey::generate();
    let theirs = thief.verifying_key().to_string();
    let pieces = shop.pieces();
    forge(&shop, &pieces[pieces.len() - 2], &thief);
    let config = fs::read_to_string(shop.site.config()).unwrap();
    for bound in [", sources = [\"blog\"]", ", roles = [\"backup\", \"drill\"]", ""] {
        let entry = format!("{{ key = \"{theirs}\", name = \"thief\"{bound} }}");
        let text = format!("verifying_keys = [\n    {entry},\n   ");
        fs::write(shop.site.config(), config.replacen("verifying_keys = [", &text, 1)).unwrap();
        if bound.is_empty() {
            // Who speaks for all that is believed.
            let _ = shop.drctl(&["verify", "shop", "--data"]).ended(0);
            let _ = shop.drctl(&["timeline", "shop"]).ended(0);
            continue;
        }
        let view = shop.drctl(&["timeline", "shop"]).ended(3).json();
        assert!(view["refused"].to_string().contains("thief"), "{view}");
        assert_eq!(view["timelines"][0]["gaps"].as_array().map(Vec::len), Some(1), "{view}");
        let verified = shop.drctl(&["verify", "shop", "--data"]).ended(4).json();
        let problem = &verified["logs"][0]["problems"][0];
        assert_eq!(problem["code"], "wrong_signer", "{verified}");
        let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
        assert!(ran.failed(5, "no_plan").contains("missing from") && !path.exists());
    }
}

#[test]
fn log_that_changed_places_is_never_good() {
    let (shop, _) = several();
    let _ = shop.drctl(&["status", "--check"]).ended(0);
    let pieces = shop.pieces();
    let [.., one, two] = pieces.as_slice() else { panic!("two pieces") };
    let swap = || {
        let bytes = [one, two].map(|path| fs::read(path).unwrap());
        fs::write(one, &bytes[1]).unwrap();
        fs::write(two, &bytes[0]).unwrap();
    };
    swap();
    let told = || {
        let view = shop.drctl(&["timeline", "shop"]).ended(3).json();
        assert_eq!(view["refused"].as_array().map(Vec::len), Some(2), "{view}");
        let status = shop.drctl(&["status", "--check"]).ended(3).json();
        let findings = status["sources"][0]["findings"].to_string();
        assert!(findings.contains("among the WAL is not trusted"), "{status}");
        assert_eq!(status["sources"][0]["log"]["refused"], view["refused"], "{status}");
    };
    told();
    // A host that has never seen how it was.
    fs::remove_file(shop.site.path("state/catalog.db")).unwrap();
    let _ = shop.drctl(&["catalog", "rebuild"]);
    told();
    swap();
    let _ = shop.drctl(&["timeline", "shop"]).ended(0);
    let _ = shop.drctl(&["status", "--check"]).ended(0);
}

#[test]
fn a_history_whose_name_is_taken_stops_no_other_log() {
    let mut shop = Archiving::start(true);
    shop.back_up();
    shop.segments_of_ten(1);
    let (standby, _folder) = standby(&shop.server);
    caught_up(&shop.server, &standby);
    let own = key(&shop, 0, MIB).replace("-00000001/", "-00000002/");
    let folder = shop.site.path("repository").join(own).parent().unwrap().to_owned();
    let squatted = folder.join("notes/history");
    fs::create_dir_all(squatted.parent().unwrap()).unwrap();
    fs::write(&squatted, "mine").unwrap();
    give_away(&folder);
    shop.server.crash();
    standby.psql("postgres", "select pg_promote()");
    moved_to(&mut shop, standby);
    shop.tick(11..21);
    shop.sql("select pg_switch_wal()");
    let stored = || shop.pieces().iter().any(|path| path.parent() == Some(&*folder));
    until("the log of the new timeline to be stored", stored);
    assert!(shop.sql("select failed_count > 0 from pg_stat_archiver") == "t");
    let data = shop.server.data_dir().join("pg_wal/00000002.history").display().to_string();
    let said = shop.drctl(&["wal", "push", "shop", &data]).ended(1).json();
    assert_eq!(said["code"], "name_taken", "{said}");
    assert!(said["hint"].as_str().unwrap().contains("remove it"), "{said}");
    let status = shop.drctl(&["status", "--check"]).ended(3).json();
    let findings = status["sources"][0]["findings"].to_string();
    assert!(findings.contains("among the WAL is not trusted"), "{status}");
    assert!(findings.contains("history"), "{status}");
    let doctor = shop.drctl(&["doctor", "shop"]);
    let found = doctor.json()["findings"].as_array().unwrap().clone();
    let history = found.iter().find(|one| one["check"] == "source.shop.history").unwrap();
    assert_eq!(history["level"], "bad", "{history}");
    // A base backup is made all the same, and leads to the end.
    shop.back_up();
    // When the object is gone everything is as it should be.
    fs::remove_file(&squatted).unwrap();
    let history = || shop.site.files("repository").iter().any(|path| path.ends_with("history"));
    until("the history to be stored", history);
    shop.tick(21..31);
    shop.archived();
    let _ = shop.drctl(&["status", "--check"]).ended(0);
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..31));
}
