//! Backups that drctl has pgBackRest make: of which kind, and what is recorded of them.

use std::fs;

use drctl_tests::cluster::{Cluster as _, archiving_elsewhere, list, ticks};
use drctl_tests::site::Ran;
use serde_json::{Value, json};

use crate::common::{STANZA, Shop};

/// What pgBackRest says of all backups, the oldest first.
fn info(shop: &Shop) -> Vec<Value> {
    let info = shop.pgbackrest(&["info", "--output=json"]).ended(0).json();
    info[0]["backup"].as_array().expect("a list").clone()
}

/// `drctl backup`, and its answer.
#[track_caller]
pub(crate) fn backup(shop: &Shop, arguments: &[&str]) -> Value {
    shop.drctl(&[&["backup", "shop"], arguments].concat()).ended(0).json()
}

/// The identifier in an answer.
fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

pub(crate) fn id(answer: &Value) -> String {
    answer["backup"]["backup"].as_str().expect("an identifier").to_owned()
}

/// The manifest of a backup.
#[track_caller]
pub(crate) fn manifest(shop: &Shop, id: &str) -> Value {
    shop.drctl(&["show", id]).ended(0).json()["manifest"].clone()
}

#[test]
fn the_record_is_what_pgbackrest_says_of_that_very_backup() {
    let shop = Shop::start();
    shop.tick(1..11);
    // The second one asks for nothing and is based on the first.
    let answers = [backup(&shop, &[]), backup(&shop, &[]), backup(&shop, &["--full"])];
    let said = info(&shop);
    assert_eq!(said.len(), 3, "{said:?}");
    let types = said.iter().map(|one| one["type"].as_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(types, ["full", "incr", "full"]);
    for (answer, said) in answers.iter().zip(&said) {
        let manifest = manifest(&shop, &id(answer));
        let kind = &manifest["kind"];
        let ours = json!({
            "label": kind["label"], "archive": { "start": kind["wal"][0], "stop": kind["wal"][1] },
            "lsn": { "start": kind["start"], "stop": kind["stop"] },
            "database": { "id": kind["database_id"], "repo-key": kind["repo"] },
            "size": kind["bytes"], "delta": kind["delta_bytes"],
            "stored": kind["repository_bytes"], "error": kind["page_errors"],
            "prior": kind["prior"], "reference": kind["references"],
            "backrest": { "format": kind["format"], "version": kind["version"] },
            "annotation": { "drctl": manifest["backup"] },
        });
        let or = |value: &Value, other: Value| if value.is_null() { other } else { value.clone() };
        let theirs = json!({
            "label": said["label"], "archive": said["archive"], "lsn": said["lsn"],
            "database": said["database"], "size": said["info"]["size"],
            "delta": said["info"]["delta"], "stored": said["info"]["repository"]["delta"],
            "error": or(&said["error"], json!(false)), "prior": said["prior"],
            "reference": or(&said["reference"], json!([])), "backrest": said["backrest"],
            "annotation": said["annotation"],
        });
        assert_eq!(ours, theirs);
        assert_eq!(kind["stanza"], STANZA);
        assert_eq!((&kind["cipher"], &kind["origin"]), (&json!("none"), &json!("drctl")));
        assert_eq!(kind["segment_size"], 1 << 20);
        assert_eq!(manifest["features"], json!(["pgbackrest"]));
        assert_eq!((&manifest["engine"], &manifest["streams"]), (&json!("pgbackrest"), &json!([])));
        let system_id = shop.sql("select system_identifier from pg_control_system()");
        assert_eq!(kind["system_id"], system_id);
        let time =
            |text: &Value| text.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second();
        assert_eq!(json!(time(&manifest["started"])), said["timestamp"]["start"]);
        assert_eq!(json!(time(&manifest["finished"])), said["timestamp"]["stop"]);
        assert_eq!(answer["backup"]["plain_bytes"], said["info"]["size"]);
    }
    let last = &answers[2];
    assert_eq!(last["notes"], json!([]), "{last}");
    let status = shop.drctl(&["status"]).ended(0).json();
    assert_eq!(status["sources"][0]["newest_good"]["backup"], last["backup"]["backup"]);
    let check = shop.drctl(&["catalog", "check"]).ended(0).json();
    assert_eq!(check["equal"], true, "{check}");
}

#[test]
fn people_are_told_what_it_is_and_whom_to_trust() {
    let shop = Shop::start();
    // Nobody is made believe that drctl keeps what pgBackRest expires.
    for words in [&["hold", "shop", "--reason", "case"][..], &["policy", "simulate", "shop"]] {
        let said = shop.drctl(words).failed(2, "usage");
        assert!(said.contains("repo1-retention-full"), "{said}");
    }
    let made = id(&backup(&shop, &[]));
    let text = |arguments: &[&str]| {
        let output = shop.command(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let list = text(&["list"]);
    assert!(list.contains("pgbackrest full") && list.contains("good"), "{list}");
    let show = text(&["show", &made]);
    let nowhere = "outside     nothing that the server reads";
    for word in ["stanza", STANZA, "not encrypted", "needs WAL", "made by     drctl", nowhere] {
        assert!(show.contains(word), "{word}: {show}");
    }
    assert!(!show.contains("opens with"), "no age identity opens it: {show}");
    // Nothing can be restored from the bucket alone: it says so instead of giving a script.
    let said = shop.drctl(&["show", &made, "--emergency"]).failed(2, "usage");
    assert!(said.contains("pgBackRest"), "{said}");
}

#[test]
fn a_configuration_that_lies_elsewhere_is_in_the_record_and_comes_back() {
    let shop = Shop::bare_of(archiving_elsewhere(), &[]);
    let _ = shop.pgbackrest(&["stanza-create"]).ended(0);
    shop.archive();
    let made = shop.back_up();
    assert_eq!(made["notes"].to_string().matches("no backup holds").count(), 0, "{made}");
    shop.tick(1..11);
    shop.archived();
    let etc = shop.server.configuration();
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let done = ran.ended(0).json();
    let top = path.join("configuration");
    assert!(done["outside"].to_string().contains(&top.display().to_string()), "{done}");
    for name in ["postgresql.conf", "pg_hba.conf", "pg_ident.conf", "conf.d/own.conf"] {
        let brought = top.join(etc.strip_prefix("/").unwrap()).join(name);
        let (brought, own) = (fs::read(brought).unwrap(), fs::read(etc.join(name)).unwrap());
        assert_eq!(brought, own, "{name}");
    }
}

#[test]
fn what_pgbackrest_expires_is_marked_and_its_record_stays() {
    let shop = Shop::with(&["repo1-retention-full=1"]);
    let first = id(&backup(&shop, &["--full"]));
    let middle = id(&backup(&shop, &["--incremental"]));
    let last = id(&backup(&shop, &["--full"]));
    assert_eq!(info(&shop).len(), 1, "pgBackRest has expired the others");
    let list = shop.drctl(&["list"]).ended(0).json();
    let rows = list["backups"].as_array().unwrap();
    let of = |id: &str| rows.iter().find(|row| row["backup"] == id).expect("it is listed");
    for gone in [&first, &middle] {
        assert_eq!((&of(gone)["good"], of(gone)["expired"].is_string()), (&json!(false), true));
        assert_eq!(manifest(&shop, gone)["backup"], **gone, "its record stays");
    }
    assert_eq!((&of(&last)["good"], &of(&last)["expired"]), (&json!(true), &Value::Null));
    let check = shop.drctl(&["catalog", "check"]).ended(0).json();
    assert_eq!(check["equal"], true, "{check}");
    // A catalog that is made anew asks again.
    let _ = shop.drctl(&["catalog", "rebuild"]).ended(0);
    let status = shop.drctl(&["status"]).ended(0).json();
    assert_eq!(status["sources"][0]["newest_good"]["backup"], last);
    let list = shop.drctl(&["list"]).ended(0).json();
    let gone = list["backups"].as_array().unwrap().iter().filter(|row| row["expired"].is_string());
    assert_eq!(gone.count(), 2, "{list}");
}

#[test]
fn what_somebody_else_has_expired_is_told_by_whoever_looks() {
    let shop = Shop::start();
    let old = id(&backup(&shop, &["--full"]));
    let first = id(&backup(&shop, &["--full"]));
    let last = id(&backup(&shop, &["--full"]));
    let label = |id: &str| manifest(&shop, id)["kind"]["label"].as_str().unwrap().to_owned();
    let expire = |label: String| {
        let _ = shop.pgbackrest(&["expire", &format!("--set={label}")]).ended(0);
    };
    expire(label(&old));
    let status = shop.drctl(&["status", "--check"]).ended(0).json();
    assert_eq!(status["sources"][0]["vanished"], json!([]), "an older one may expire: {status}");
    // No retention takes the newest one away.
    let gone = label(&last);
    expire(gone.clone());
    let place = format!("pgbackrest: {STANZA}/1/{gone}");
    let view = shop.drctl(&["timeline", "shop"]).ended(3).json();
    assert_eq!(view["lost"][0]["key"], place, "{view}");
    let status = shop.drctl(&["status", "--check"]).ended(3).json();
    let said = &status["sources"][0];
    assert_eq!(said["newest_good"]["backup"], first, "{status}");
    assert_eq!(said["vanished"][0]["key"], place, "{status}");
    let advice = text(&said["advice"]);
    assert!(advice.contains("who removed it") && !advice.contains("bucket"), "{advice}");
    let verified = shop.drctl(&["verify", "shop"]).ended(4).json();
    assert_eq!(verified["lost"][0]["key"], place, "{verified}");
    let listed = Ran::of(&shop.command(&["list"]).output().unwrap()).ended(3).out;
    let row = listed.lines().find(|line| line.starts_with(&last)).unwrap();
    assert!(row.ends_with("LOST"), "{listed}");
    // It stays so when there is a newer one, and with another catalog, until somebody has seen it.
    let next = id(&backup(&shop, &["--full"]));
    let _ = shop.drctl(&["catalog", "rebuild"]).ended(0);
    let _ = shop.drctl(&["status", "--check"]).ended(3);
    let asked = shop.drctl(&["catalog", "forget", "shop"]).ended(0).json();
    let yes = format!("--yes={}", text(&asked["digest"]));
    let _ = shop.drctl(&["catalog", "forget", "shop", &yes]).ended(0);
    let _ = shop.drctl(&["catalog", "rebuild"]).ended(0);
    let status = shop.drctl(&["status", "--check"]).ended(0).json();
    assert_eq!(status["sources"][0]["newest_good"]["backup"], next, "{status}");
    let check = shop.drctl(&["catalog", "check"]).ended(0).json();
    assert_eq!(check["expired"][1]["backup"], last, "{check}");
    let verified = shop.drctl(&["verify", "shop"]).ended(0).json();
    let rows = verified["backups"].as_array().unwrap();
    let of = |id: &str| rows.iter().find(|row| row["backup"] == id).unwrap();
    assert_eq!((&of(&last)["good"], &of(&last)["expired"]), (&json!(false), &json!(true)));
    assert_eq!((&of(&first)["good"], &of(&first)["expired"]), (&json!(true), &json!(false)));
    let list = shop.drctl(&["list"]).ended(0).json();
    let gone = list["backups"].as_array().unwrap().iter().filter(|row| row["expired"].is_string());
    assert_eq!(gone.count(), 2, "{list}");
}

#[test]
fn an_expiry_that_fails_does_not_spoil_a_good_backup() {
    use std::os::unix::fs::PermissionsExt as _;
    let shop = Shop::with(&["repo1-retention-full=1"]);
    let first = manifest(&shop, &id(&backup(&shop, &["--full"])));
    let label = first["kind"]["label"].as_str().unwrap();
    let old = shop.path("repo").join("backup").join(STANZA).join(label);
    let mode =
        |mode| std::fs::set_permissions(&old, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o500);
    let second = backup(&shop, &["--full"]);
    mode(0o700);
    let notes = second["notes"].to_string();
    assert!(notes.contains("did not expire") && notes.contains("this one is good"), "{notes}");
    assert_eq!(second["backup"]["good"], true);
    assert_eq!(manifest(&shop, &id(&second))["suspect"], json!([]));
}

#[test]
fn a_backup_that_outlived_its_drctl_is_recorded_by_the_next_one() {
    let shop = Shop::start();
    let _ = backup(&shop, &[]);
    for (point, recorded) in [("backup-stream-stored", 1), ("backup-before-manifest", 1)] {
        let mut command = shop.command(&["backup", "shop"]);
        let killed = command.env("DRCTL_CRASH_AT", point).output().unwrap();
        assert_eq!(killed.status.code(), None, "{point}: killed");
        let label = info(&shop).last().expect("it was made")["label"].clone();
        let annotation = info(&shop).last().unwrap()["annotation"]["drctl"].clone();
        let next = backup(&shop, &[]);
        assert!(next["notes"].to_string().contains(&format!("{recorded} backup(s)")), "{next}");
        let found = manifest(&shop, annotation.as_str().expect("its id"));
        assert_eq!((&found["kind"]["label"], &found["kind"]["origin"]), (&label, &json!("drctl")));
        let check = shop.drctl(&["catalog", "check"]).ended(0).json();
        assert_eq!(check["equal"], true, "{check}");
    }
    let status = shop.drctl(&["status"]).ended(0).json();
    assert_eq!(status["sources"][0]["health"], "good", "{status}");
}

#[test]
fn pages_with_wrong_checksums_are_stored_marked_and_followed_by_a_full_one() {
    use std::os::unix::fs::FileExt as _;
    let shop = Shop::start();
    shop.tick(1..200);
    shop.sql("checkpoint");
    let path = shop.sql("select pg_relation_filepath('ticks')");
    let file = std::fs::OpenOptions::new().write(true).open(shop.server.data_dir().join(path));
    file.unwrap().write_all_at(b"not what it was", 4_000).unwrap();
    let ran = shop.drctl(&["backup", "shop"]).ended(3).json();
    let why = ran["backup"]["suspect"].to_string();
    assert!(why.contains("wrong checksums"), "{ran}");
    assert_eq!(manifest(&shop, &id(&ran))["kind"]["page_errors"], true);
    let next = shop.drctl(&["backup", "shop"]).ended(3).json();
    assert_eq!(next["backup"]["kind"]["backup_type"], "full", "{next}");
    assert!(next["notes"].to_string().contains("is suspect"), "{next}");
}

#[test]
fn log_that_was_lost_asks_for_a_full_backup() {
    let shop = Shop::start();
    let _ = backup(&shop, &[]);
    shop.tick(1..11);
    let _ = shop.archived();
    let lost = shop.archived();
    let _ = shop.archived();
    std::fs::remove_file(shop.segment(&lost)).unwrap();
    let next = backup(&shop, &[]);
    assert_eq!(next["backup"]["kind"]["backup_type"], "full", "{next}");
    assert!(next["notes"].to_string().contains(&lost), "{next}");
    // That one covers it.
    let after = backup(&shop, &[]);
    assert_eq!(after["backup"]["kind"]["backup_type"], "incremental", "{after}");
}

#[test]
fn of_a_record_no_byte_is_claimed() {
    let shop = Shop::start();
    let _ = backup(&shop, &[]);
    for data in [&["verify", "shop"][..], &["verify", "shop", "--data"]] {
        let output = shop.command(data).output().unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        assert!(told.contains("only its record: the data is in pgBackRest's repository"), "{told}");
        assert!(told.contains("what pgBackRest lists"), "{told}");
        assert!(!told.contains("every stored") && !told.contains("decrypted byte"), "{told}");
    }
}

#[test]
fn a_backup_whose_directory_is_gone_is_good_no_more_and_the_older_one_is_used() {
    let shop = Shop::start();
    let first = id(&backup(&shop, &["--full"]));
    let middle = id(&backup(&shop, &["--full"]));
    let last = id(&backup(&shop, &["--incremental"]));
    shop.tick(1..5);
    shop.archived();
    let place = |id: &str| {
        let label = manifest(&shop, id)["kind"]["label"].as_str().unwrap().to_owned();
        shop.path("repo/backup").join(STANZA).join(label)
    };
    // Its manifest is there, its data not: what looks at each backup finds it, and so does a plan.
    let data = place(&last).join("pg_data");
    fs::rename(&data, shop.path("aside")).unwrap();
    let plan = ["restore", "shop", "--to-end", "--to-directory", "x", "--plan"];
    let planned = shop.drctl(&plan).ended(0).json();
    assert_eq!(planned["plan"]["base"], middle, "{planned}");
    assert_eq!(planned["passed_over"][0]["backup"], last, "{planned}");
    let verified = shop.drctl(&["verify", "shop"]).ended(4).json();
    assert!(verified.to_string().contains("are gone (pg_data)"), "{verified}");
    fs::rename(shop.path("aside"), &data).unwrap();
    let _ = shop.drctl(&["verify", "shop", "--data"]).ended(0);

    // The full one's directory: what is based on it is gone too, and pgBackRest's list says neither.
    let label = place(&middle).file_name().unwrap().to_str().unwrap().to_owned();
    fs::remove_dir_all(place(&middle)).unwrap();
    assert_eq!(info(&shop).len(), 3, "pgBackRest lists all of them");
    let verified = shop.drctl(&["verify", "shop"]).ended(4).json();
    let said = format!("the files of the backup {label} are gone");
    assert!(verified.to_string().contains(&said), "{verified}");
    let listed = shop.drctl(&["list"]).ended(0).json();
    let good = listed["backups"].as_array().unwrap().iter().filter(|row| row["good"] == true);
    assert_eq!(good.map(|row| row["backup"].clone()).collect::<Vec<_>>(), [first.as_str()]);
    let status = shop.drctl(&["status"]).ended(0).json()["sources"][0].clone();
    assert_eq!(
        (&status["health"], &status["newest_good"]["backup"]),
        (&json!("breached"), &json!(first))
    );
    assert!(status["advice"].as_str().unwrap().contains("are gone"), "{status}");
    let doctor = shop.drctl(&["doctor", "shop"]).ended(1).json();
    assert!(doctor.to_string().contains(&said), "{doctor}");
    let view = shop.drctl(&["timeline", "shop"]).ended(3).json();
    assert!(view.to_string().contains(&said), "{view}");
    let planned = shop.drctl(&plan).ended(0).json();
    let passed: Vec<_> = planned["passed_over"].as_array().unwrap().iter().collect();
    assert_eq!(passed.iter().map(|one| &one["backup"]).collect::<Vec<_>>(), [&last, &middle]);
    let told = Ran::of(&shop.command(&plan).output().unwrap()).ended(0).out;
    let line = format!("NEWER, and passed over: {middle}: its files ({label}) are gone");
    assert!(told.contains(&line), "{told}");
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..5));
}

#[test]
fn what_is_based_on_a_bad_backup_is_bad_itself_and_an_older_one_is_used() {
    let shop = Shop::start();
    let first = id(&backup(&shop, &["--full"]));
    let full = id(&backup(&shop, &["--full"]));
    let last = id(&backup(&shop, &["--incremental"]));
    shop.tick(1..5);
    shop.archived();
    let label = manifest(&shop, &full)["kind"]["label"].as_str().unwrap().to_owned();
    let data = shop.path("repo/backup").join(STANZA).join(label).join("pg_data");
    fs::rename(&data, shop.path("aside")).unwrap();
    let _ = shop.drctl(&["verify", "shop"]).ended(4);
    let listed = || shop.drctl(&["list"]).ended(0).json()["backups"].clone();
    let good = |rows: Value| -> Vec<String> {
        let rows = rows.as_array().unwrap().clone().into_iter();
        rows.filter(|row| row["good"] == true).map(|row| text(&row["backup"])).collect()
    };
    let rows = listed();
    assert_eq!(good(rows.clone()), [first.as_str()], "{rows}");
    let why = format!("it is based on {full}: ");
    assert!(text(&rows[0]["bad"][0]).starts_with(&why), "{rows}");
    let shown = shop.drctl(&["show", &last]).ended(0).json();
    assert!(shown.to_string().contains(&why), "{shown}");
    let status = shop.drctl(&["status"]).ended(0).json()["sources"][0].clone();
    assert_eq!(status["newest_good"]["backup"], first, "{status}");
    let plan = ["restore", "shop", "--to-end", "--to-directory", "/x", "--plan"];
    assert_eq!(shop.drctl(&plan).ended(0).json()["plan"]["base"], first);
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..5));
    // The next one is not based on it either.
    let next = backup(&shop, &[]);
    assert_eq!(next["backup"]["kind"]["backup_type"], "full", "{next}");
    // A look at the incremental one alone clears nothing, and calls it no good; one at what it is based
    // on does.
    let _ = shop.drctl(&["verify", &last]).ended(4);
    assert_eq!(good(listed()), [id(&next), first.clone()]);
    fs::rename(shop.path("aside"), &data).unwrap();
    let _ = shop.drctl(&["verify", "shop", "--data"]).ended(0);
    assert_eq!(good(listed()), [id(&next), last, full, first]);
}

#[test]
fn what_no_expiry_leaves_behind_is_told_as_a_loss() {
    let shop = Shop::start();
    let first = id(&backup(&shop, &["--full"]));
    let lists = || {
        let folder = shop.path("repo/backup").join(STANZA);
        ["backup.info", "backup.info.copy"].map(|name| folder.join(name))
    };
    let before = lists().map(|path| fs::read(path).unwrap());
    let last = id(&backup(&shop, &["--full"]));
    let label = manifest(&shop, &last)["kind"]["label"].as_str().unwrap().to_owned();
    let _ = shop.drctl(&["status", "--check"]).ended(0);
    // An older list: the newest backup is there, and pgBackRest does not know it.
    let newer = lists().map(|path| fs::read(path).unwrap());
    let write = |texts: &[Vec<u8>; 2]| {
        lists().iter().zip(texts).for_each(|(path, text)| fs::write(path, text).unwrap());
    };
    write(&before);
    let said = format!("pgBackRest does not list the backup {label}, whose directory is there");
    let verified = shop.drctl(&["verify", "shop"]).ended(4).json();
    assert!(verified.to_string().contains(&said), "{verified}");
    let status = shop.drctl(&["status", "--check"]).ended(11);
    assert!(status.out.contains(&said), "{}", status.out);
    assert_eq!(status.json()["sources"][0]["newest_good"]["backup"], first);
    let view = shop.drctl(&["timeline", "shop"]).ended(3).json();
    assert!(view["refused"].to_string().contains(&said), "{view}");
    write(&newer);
    let _ = shop.drctl(&["timeline", "shop"]).ended(0);
    let _ = shop.drctl(&["verify", "shop"]).ended(0);
    let _ = shop.drctl(&["status", "--check"]).ended(0);
    // A manifest of no bytes, as after a power failure, is none.
    let path = shop.path("repo/backup").join(STANZA).join(&label).join("backup.manifest");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, "").unwrap();
    let verified = shop.drctl(&["verify", "shop"]).ended(4).json();
    assert!(verified.to_string().contains("is empty"), "{verified}");
    let rows = shop.drctl(&["list"]).ended(0).json()["backups"].clone();
    assert_eq!((&rows[0]["good"], &rows[1]["good"]), (&json!(false), &json!(true)), "{rows}");
    fs::write(&path, whole).unwrap();
    let _ = shop.drctl(&["verify", "shop", "--data"]).ended(0);
}

#[test]
fn log_that_the_newest_backup_lacks_is_a_gap_of_its_timeline() {
    let shop = Shop::start();
    let made = backup(&shop, &["--full"]);
    let needed = manifest(&shop, &id(&made))["kind"]["wal"].clone();
    let _ = shop.drctl(&["timeline", "shop"]).ended(0);
    let last = text(&needed[1]);
    let behind = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name[..24] >= last[..]
    };
    for path in shop.segments().iter().filter(|path| behind(path)) {
        fs::remove_file(path).unwrap();
    }
    let view = shop.drctl(&["timeline", "shop"]).ended(3).json();
    assert_eq!(view["timelines"][0]["gaps"][0]["until"], Value::Null, "{view}");
    assert_eq!(view["timelines"][0]["reachable"], json!([]), "{view}");
}
