//! What an operator can do with a cluster that stands at its target.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use drctl_tests::cluster::{Cluster as _, give_away, list, own_place, recovery, ticks};
use serde_json::{Value, json};

use crate::log::{Archiving, several};
use crate::recover_ends::Ends;

#[test]
fn a_recovered_cluster_stays_open_gives_tables_and_becomes_one_of_its_own() {
    let (shop, last) = several();
    let (_folder, path) = own_place();
    let _ends = Ends(path.clone());
    let target = ["--to-time", last.as_str()];
    let restore = recovery(&shop, &target, &path);
    for both in [["--open", "--promote"], ["--extract=a:b.c", "--promote"]] {
        let _ = restore(&both).failed(2, "usage");
    }
    let open = restore(&["--open"]).ended(0).json();
    let socket = open["socket"].as_str().expect("a socket").to_owned();
    let psql = |sql: &str| {
        let mut psql = shop.as_owner(shop.server.bin_dir().join("psql"));
        psql.args(["-XAtq", "-h", &socket, "-U", "postgres", "-c", sql, "postgres"]);
        let output = psql.output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    // It outlives drctl, shows the target's rows, and takes none.
    assert_eq!(psql("select pg_is_in_recovery(), count(*) from ticks"), (true, "t|40".to_owned()));
    assert!(!psql("insert into ticks values (1000, '')").0);
    // Nobody else reaches it: no address, nothing that reaches out.
    for (setting, value) in [
        ("listen_addresses", ""),
        ("primary_conninfo", ""),
        ("archive_mode", "off"),
        ("max_logical_replication_workers", "0"),
    ] {
        assert_eq!(psql(&format!("show {setting}")).1, value, "{setting}");
    }
    let table = "postgres:public.ticks";
    let done = restore(&["--resume", "--extract", table, "--extract", "postgres:public.orders"]);
    let done = done.ended(0).json();
    assert!(!psql("select 1").0 && !Path::new(&socket).exists(), "it was stopped: {done}");
    let rows: Vec<_> = (0..2).map(|n| done["extracted"][n]["rows"].as_u64()).collect();
    assert_eq!(rows, [Some(40), Some(20_000)], "{done}");
    let dump = done["extracted"][0]["file"].as_str().unwrap();
    shop.sql("create database other");
    let loaded = shop.server.client("pg_restore").args(["-d", "other", dump]).status().unwrap();
    assert!(loaded.success());
    let all = "select string_agg(id::text, ',' order by id) from ticks";
    assert_eq!(shop.server.psql("other", all), list(1..41));
    let done = restore(&["--resume", "--promote"]).ended(0).json();
    assert_eq!((&done["promoted"], &done["shows"]), (&true.into(), &last.as_str().into()));
    // Once more is the same; and from now on it stands at no target.
    let _ = restore(&["--resume", "--promote"]).ended(0);
    let said = restore(&["--resume", "--extract", table]).failed(12, "target_unfit");
    assert!(said.contains("cluster of its own"), "{said}");
    assert_eq!(ticks(&path), list(1..41));
}

#[test]
fn the_end_of_the_log_is_held_while_it_is_open() {
    let (shop, _) = several();
    let (_folder, path) = own_place();
    let _ends = Ends(path.clone());
    let recover = recovery(&shop, &["--to-end"], &path);
    let restore = |more: &[&str]| recover(more).ended(0).json();
    let open = restore(&["--open"]);
    let mut psql = shop.as_owner(shop.server.bin_dir().join("psql"));
    psql.args(["-XAtq", "-h", open["socket"].as_str().unwrap(), "-U", "postgres"]);
    let state = "select count(*), pg_get_wal_replay_pause_state() <> 'not paused' from ticks";
    let output = psql.args(["-c", state, "postgres"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "40|t");
    // Log that comes later is no part of what was proven.
    shop.tick(41..46);
    shop.archived();
    let done = restore(&["--resume", "--promote"]);
    assert_eq!(done["promoted"], true, "{done}");
}

#[test]
fn a_base_that_verify_found_bad_is_not_chosen() {
    let shop = Archiving::start(true);
    let id = |answer: &serde_json::Value| answer["backup"]["backup"].as_str().unwrap().to_owned();
    let old = id(&shop.back_up());
    shop.segments_of_ten(1);
    let new = id(&shop.back_up());
    shop.tick(11..21);
    shop.archived();
    let base = || {
        let plan = ["restore", "shop", "--to-end", "--to-directory", "x", "--plan"];
        shop.drctl(&plan).ended(0).json()["plan"]["base"].as_str().unwrap().to_owned()
    };
    assert_eq!(base(), new);
    let told = shop.command(&["verify", "shop"]).output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("the signature of every piece; its data was not read"), "{told}");
    let flip = |id: &str| {
        let path = shop.site.path("repository/s/shop/b").join(id).join("base/000000.zst.age");
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    };
    flip(&new);
    let _ = shop.drctl(&["verify", &new, "--data"]).ended(4);
    assert_eq!(base(), old);
    let view = shop.drctl(&["timeline", "shop"]).ended(3).json();
    assert!(view["refused"].to_string().contains("found it BAD"), "{view}");
    // Where there is no other, none is used: it is told what was found, and how one is used all the same.
    flip(&old);
    let _ = shop.drctl(&["verify", &old, "--data"]).ended(4);
    let plan = ["restore", "shop", "--to-end", "--to-directory", "x", "--plan"];
    let said = shop.drctl(&plan).failed(5, "no_plan");
    assert!(said.contains(&format!("is not used: {new}: a check at")), "{said}");
    let view = shop.drctl(&["timeline", "shop"]).ended(3).json();
    let timeline = &view["timelines"][0];
    assert_eq!(timeline["reachable"], json!([]), "{view}");
    let bad = |n: usize| (&timeline["bases"][n]["backup"], &timeline["bases"][n]["bad"]);
    assert_eq!((bad(0), bad(1)), ((&json!(old), &json!(true)), (&json!(new), &json!(true))));
    let told = shop.command(&["timeline", "shop"]).output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("BASE BACKUP, BAD") && !told.contains("REACHABLE"), "{told}");
    let status = shop.drctl(&["status"]).ended(0).json()["sources"][0].clone();
    assert_eq!((&status["newest_good"], &status["log"]), (&Value::Null, &Value::Null), "{status}");
    let named = [&plan[..], &["--backup", &old]].concat();
    assert_eq!(shop.drctl(&named).ended(0).json()["plan"]["base"], old.as_str());
    let told = shop.command(&named).output().unwrap();
    let told = String::from_utf8(told.stderr).unwrap();
    assert!(told.contains(&format!("used because it was named: {old}: a check at")), "{told}");
    // What is good again leads there again.
    flip(&old);
    let _ = shop.drctl(&["verify", &old, "--data"]).ended(0);
    assert_eq!(base(), old);
}

#[test]
fn no_link_in_the_directory_of_a_recovery_is_followed() {
    let (shop, last) = several();
    let (_folder, path) = own_place();
    let to = path.display().to_string();
    let restore = |more: &[&str]| {
        let all = ["restore", "shop", "--to-time", &last, "--to-directory", &to];
        shop.drctl(&[&all[..], more].concat())
    };
    let extract = ["--resume", "--extract", "postgres:public.ticks"];
    let _ = restore(&[]).ended(0);
    let outside = own_place().0;
    let victim = outside.path().join("postgresql.auto.conf");
    fs::write(&victim, "theirs").unwrap();
    give_away(outside.path());
    for (name, target, exit, code) in
        [("recovery.log", victim.as_path(), 10, "io"), ("extracted", outside.path(), 1, "failed")]
    {
        let (place, aside) = (path.join(name), path.join("aside"));
        let was = fs::rename(&place, &aside).is_ok();
        symlink(target, &place).unwrap();
        let ran = restore(&extract);
        let ran = ran.ended(exit);
        assert_eq!(ran.json()["code"], code, "{}", ran.out);
        assert!(ran.out.contains(name), "{name}: {}", ran.out);
        assert_eq!(fs::read_to_string(&victim).unwrap(), "theirs", "{name}");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "{name}");
        fs::remove_file(&place).unwrap();
        if was {
            fs::rename(&aside, &place).unwrap();
        }
    }
    // Others may put links there from now on.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let said = restore(&extract).failed(12, "target_unfit");
    assert!(said.contains("may be changed by other accounts"), "{said}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    let done = restore(&extract).ended(0).json();
    assert_eq!(done["extracted"][0]["rows"], 40, "{done}");
}

#[test]
fn what_inherits_from_a_table_comes_along_and_what_is_no_table_is_called_what_it_is() {
    let shop = Archiving::start(true);
    shop.sql(
        "create table parent (i int); create table child () inherits (parent); \
         create table grandchild () inherits (child); create unlogged table fast () inherits (parent); \
         insert into parent values (1); insert into child select generate_series(1, 500); \
         insert into grandchild select generate_series(1, 30); insert into fast values (7); \
         create view seen as select 1 i; create materialized view made as select 1 i",
    );
    shop.back_up();
    shop.tick(1..3);
    let last = shop.committed(2);
    shop.archived();
    let (ran, _folder, path) = shop.recover(&["--to-time", &last]);
    let _ = ran.ended(0);
    let to = path.display().to_string();
    let extract = |name: &str| {
        let table = format!("postgres:public.{name}");
        let all = ["restore", "shop", "--to-time", &last, "--to-directory", &to, "--resume"];
        shop.drctl(&[&all[..], &["--extract", &table]].concat())
    };
    let ran = extract("parent");
    assert!(ran.err.contains("fast, a partition or child of it, is an unlogged"), "{}", ran.err);
    let done = ran.ended(0).json();
    assert_eq!(done["extracted"][0]["rows"], 531, "{done}");
    let dump = done["extracted"][0]["file"].as_str().unwrap();
    shop.sql("create database other");
    let loaded = shop.server.client("pg_restore").args(["-d", "other", dump]).status().unwrap();
    assert!(loaded.success());
    assert_eq!(shop.server.psql("other", "select count(*) from parent"), "531");
    // A child alone cannot be loaded without what it inherits from.
    let ran = extract("child");
    assert!(
        ran.err.contains("inherits from public.parent, which is not in this dump"),
        "{}",
        ran.err
    );
    assert_eq!(ran.ended(0).json()["extracted"][0]["rows"], 530);
    for (name, word) in [
        ("fast", "is an unlogged table"),
        ("seen", "is a view"),
        ("made", "is a materialized view"),
        ("gone", "does not exist"),
    ] {
        let said = extract(name).failed(5, "no_table");
        assert!(said.contains(word) && said.contains("--resume --open"), "{name}: {said}");
        assert!(!said.contains("--extract"), "the same again would fail: {said}");
    }
}

#[test]
fn log_that_is_damaged_is_planned_around() {
    let (shop, last) = several();
    let piece = shop.pieces().pop().unwrap();
    let whole = fs::read(&piece).unwrap();
    fs::write(&piece, &whole[..whole.len() - 100]).unwrap();
    let to_last = ["--to-time", last.as_str()];
    for target in [&["--to-end"][..], &to_last] {
        // As on a host that knows nothing of it yet.
        fs::remove_dir_all(shop.site.path("state")).unwrap();
        let (ran, _folder, _) = shop.recover(&[target, &["--promote"]].concat());
        let _ = ran.failed(4, "segment_damaged");
        let said = ran.json().to_string();
        let command = said.split("command: drctl ").nth(1).expect("a command");
        let command = command.split(['\\', '"']).next().unwrap();
        assert!(said.contains("all WAL before what is damaged, the last commit at"), "{said}");
        let (_folder, path) = own_place();
        let command = command.replace("NEW", &path.display().to_string());
        let _ = shop.drctl(&command.split(' ').collect::<Vec<_>>()).ended(0);
        assert_eq!(ticks(&path), list(1..31), "{command}");
    }
    fs::remove_dir_all(shop.site.path("state")).unwrap();
    let _ = shop.drctl(&["verify", "shop", "--data"]).ended(4);
    let (ran, _folder, path) = shop.recover(&["--to-end"]);
    let said = ran.failed(5, "no_plan");
    assert!(said.contains("is damaged") && said.contains("--accept-loss"), "{said}");
    let (ran, ..) = shop.recover(&to_last);
    let _ = ran.failed(5, "no_plan");
    assert!(!path.exists());
    let view = shop.drctl(&["timeline", "shop"]).ended(3).json();
    assert_eq!(view["timelines"][0]["gaps"][0]["why"], "damaged", "{view}");
    fs::write(&piece, whole).unwrap();
    let _ = shop.drctl(&["verify", "shop", "--data"]).ended(0);
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..41));
}

#[test]
fn a_restore_point_of_the_same_name_elsewhere_never_passes_as_the_one_that_was_planned() {
    let shop = Archiving::start(true);
    shop.back_up();
    shop.tick(1..6);
    // Of a piece no more than a thousand are signed: the plan knows nothing of the next one.
    shop.sql(
        "select count(pg_create_restore_point('number ' || n)) from generate_series(1, 1000) n",
    );
    shop.sql("select pg_create_restore_point('safe')");
    shop.archived();
    shop.tick(6..11);
    let planned = shop.sql("select pg_create_restore_point('safe')");
    shop.tick(11..16);
    shop.archived();
    let (ran, _folder, _) = shop.recover(&["--to-name", "safe"]);
    let said = ran.failed(4, "mismatch");
    assert!(said.contains("stopped elsewhere") && said.contains("restore point"), "{said}");
    // Its position leads there all the same.
    let (ran, _folder, path) = shop.recover(&["--to-lsn", &planned, "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..11));
}

#[test]
fn a_wrong_key_and_a_wrong_configuration_say_nothing_against_the_log() {
    let (shop, _) = several();
    let key = shop.site.path("stranger.txt").display().to_string();
    let made = shop.as_owner("age-keygen").args(["-o", &key]).status().unwrap();
    assert!(made.success());
    let stays_good = |verified: &Value, code: &str| {
        let found = verified.to_string();
        assert!(found.contains(code) && !found.contains("segment_damaged"), "{verified}");
        let view = shop.drctl(&["timeline", "shop"]).ended(0).json();
        assert_eq!(view["timelines"][0]["gaps"], json!([]), "{view}");
        let told = shop.drctl(&["status", "--check"]).ended(0).json();
        assert_eq!(told["sources"][0]["health"], "good", "{told}");
    };
    let verify = ["verify", "shop", "--data", "--identity", &key];
    stays_good(&shop.drctl(&verify).ended(4).json(), "wrong_key");
    // The source leaves the configuration, and its own key speaks for it no more.
    let config = fs::read_to_string(shop.site.config()).unwrap();
    let other = config.replace("[sources.shop]", "[sources.blog]");
    let other = other.replace("sources = [\"shop\"]", "sources = [\"blog\"]");
    fs::write(shop.site.config(), other).unwrap();
    let verified = shop.drctl(&["verify", "shop", "--data"]).ended(4).json();
    fs::write(shop.site.config(), config).unwrap();
    stays_good(&verified, "wrong_signer");
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..41));
}
