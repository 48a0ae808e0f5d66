//! Backups that are complete and yet not to be trusted.

use drctl_tests::site::{Ran, faketime};

use crate::common::{Shop, id_of};

#[test]
fn a_backup_that_is_empty_is_stored_and_marked_and_never_counts_as_good() {
    let shop = Shop::open();
    let good = shop.site.backup();
    shop.sql("truncate orders");
    let answer = shop.site.json(3, &["backup", "shop"]);
    let empty = id_of(&answer);
    assert_eq!(answer["backup"]["good"], false, "{answer}");
    assert!(answer["backup"]["suspect"].to_string().contains("no table in it holds a row"));

    assert!(shop.site.finds("backup_suspect", &empty), "kept as soon as it is there");
    let status = shop.site.status();
    assert_eq!(status["newest_good"]["backup"], good.as_str(), "{status}");
    assert_eq!(status["health"], "attention");
    let told = shop.site.told("backup_suspect");
    assert_eq!((told.len(), &told[0]["subject"]), (1, &empty.as_str().into()), "{status}");
    let advice = status["advice"].as_str().unwrap();
    assert!(advice.contains(&empty) && advice.contains("suspect"), "{advice}");
    let _ = shop.site.drctl(&["status", "--check"]).ended(3);

    // The one that is chosen when nothing is said is the older one, which is whole.
    let new = shop.beside(&["--latest"], &[]);
    assert_eq!(shop.server.psql(&new, "select count(*) from orders"), "20000");
    // Asked for by name it can be had.
    let new = shop.beside(&["--backup", &empty], &[]);
    assert_eq!(shop.server.psql(&new, "select count(*) from orders"), "0");
    // Two of them in a row: the second is measured against the last good one, not the first.
    let _ = shop.site.json(3, &["backup", "shop"]);
    assert_eq!(shop.site.status()["newest_good"]["backup"], good.as_str());
}

#[test]
fn a_backup_that_is_implausibly_small_against_the_last_good_one_is_suspect() {
    let shop = Shop::open();
    shop.sql("insert into orders select g, repeat('x', 90) from generate_series(20001, 40000) g");
    let good = shop.site.backup();
    shop.sql("delete from orders where id > 5000");
    let answer = shop.site.json(3, &["backup", "shop"]);
    let why = answer["backup"]["suspect"].to_string();
    assert!(why.contains("% of the bytes of") && why.contains(&good), "{why}");
    assert_eq!(shop.site.status()["newest_good"]["backup"], good.as_str());
}

#[test]
fn rows_that_are_gone_and_data_that_were_encrypted_where_they_lie_are_suspect() {
    let shop = Shop::open();
    shop.sql("create table notes as select g as id, repeat('a note ', 15) as text from generate_series(1, 30000) g");
    let good = shop.site.backup();
    // As many rows, which hardly compress.
    let noise =
        "(select string_agg(md5(random()::text || n.id || s), '') from generate_series(1, 4) s)";
    shop.sql(&format!("update notes n set text = left({noise}, 105)"));
    let why = shop.site.json(3, &["backup", "shop"])["backup"]["suspect"].to_string();
    assert!(why.contains("encrypted or overwritten") && why.contains(&good), "{why}");
    // Fewer rows, in as many bytes.
    shop.sql("delete from notes where id > 4000");
    shop.sql("update notes set text = repeat('a longer note ', 70)");
    shop.sql("delete from orders where id > 4000");
    let why = shop.site.json(3, &["backup", "shop"])["backup"]["suspect"].to_string();
    assert!(why.contains("% of the rows of") && why.contains(&good), "{why}");
    assert_eq!(shop.site.status()["newest_good"]["backup"], good.as_str());
}

#[test]
fn a_large_table_that_is_empty_or_gone_is_suspect_until_somebody_accepts_it() {
    let shop = Shop::open();
    let site = &shop.site;
    for (table, rows) in [("queue", 1_500), ("carts", 1_200), ("few", 900)] {
        shop.sql(&format!("create table {table} as select generate_series(1, {rows}) id"));
    }
    for day in 1..=2 {
        shop.sql(&format!("create table log_0{day} as select generate_series(1, 2000) id"));
    }
    let good = site.backup();
    // Nothing but single tables tells it: few of all rows and bytes are gone.
    shop.sql("truncate queue; drop table carts, log_01; truncate few");
    let answer = site.json(3, &["backup", "shop"]);
    let why = answer["backup"]["suspect"].as_array().unwrap();
    assert_eq!(why.len(), 1, "{answer}");
    let text = why[0].as_str().unwrap();
    assert!(text.contains("1 empty, 1 gone") && text.contains(&good), "{text}");
    // In the bucket no table is named in clear text; to who made the backup it is.
    let notes = answer["notes"].to_string();
    assert!(notes.contains("public.queue") && !text.contains("queue"), "{answer}");
    assert!(notes.contains(&format!("drctl show {good} --identity")), "{notes}");
    let shown =
        site.json(0, &["show", &good, "--identity", &site.identity().display().to_string()]);
    let tables = shown["facts"]["streams"].to_string();
    assert!(tables.contains("carts"), "{tables}");
    let text = std::fs::read(site.path("state/catalog.db")).unwrap();
    let log = std::fs::read(site.path("state/catalog.db-wal")).unwrap_or_default();
    for name in [&b"carts"[..], b"queue"] {
        assert!(![&text, &log].iter().any(|of| of.windows(5).any(|at| at == name)), "a name");
    }

    // The next one is compared with the good one, not with this one.
    let two = site.json(3, &["backup", "shop"]);
    let _ = site.json(0, &["accept", &id_of(&two)]);
    assert_eq!(site.json(0, &["backup", "shop"])["notes"], serde_json::json!([]));
    // From then on it is usual of this table, and of no other.
    shop.sql("insert into queue select generate_series(1, 1500)");
    let _ = site.backup();
    shop.sql("truncate queue");
    let _ = site.backup();
    shop.sql("truncate log_02");
    let text = site.json(3, &["backup", "shop"])["backup"]["suspect"].to_string();
    assert!(text.contains("1 empty, 0 gone"), "{text}");

    // A catalog that is gone knows them no more, and that is said.
    for file in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
        let _ = std::fs::remove_file(site.path("state").join(file));
    }
    let _ = site.json(0, &["catalog", "rebuild"]);
    let answer = site.json(0, &["backup", "shop"]);
    assert!(answer["notes"].to_string().contains("were not compared"), "{answer}");
    shop.sql("create table please_read_me_vvv (id int)");
    let text = site.json(3, &["backup", "shop"])["backup"]["suspect"].to_string();
    assert!(text.contains("ransom note"), "{text}");
}

#[test]
fn what_is_accepted_of_a_table_holds_although_a_good_backup_came_first() {
    let shop = Shop::open();
    let site = &shop.site;
    let fill = "insert into queue select generate_series(1, 1500)";
    shop.sql(&format!("create table queue (id int); {fill}"));
    let _ = site.backup();
    shop.sql("truncate queue");
    let suspect = id_of(&site.json(3, &["backup", "shop"]));
    shop.sql(fill);
    let _ = site.backup();
    let _ = site.json(0, &["accept", &suspect]);
    shop.sql("truncate queue");
    assert_eq!(site.json(0, &["backup", "shop"])["notes"], serde_json::json!([]));
}

#[test]
fn nothing_but_suspect_backups_is_no_backup_at_all() {
    let shop = Shop::open();
    shop.sql("truncate orders");
    let _ = shop.site.json(3, &["backup", "shop"]);
    let said = shop.site.fails(5, "no_backup", &["restore", "shop", "--latest", "--to-files", "x"]);
    assert!(said.contains("suspect") && said.contains("drctl list"), "{said}");
    assert_eq!(shop.site.status()["health"], "breached");
    let _ = shop.site.drctl(&["status", "--check"]).ended(11);
}

#[test]
fn an_accepted_backup_counts_and_later_ones_are_compared_with_it() {
    let shop = Shop::open();
    shop.sql("insert into orders select g, repeat('x', 90) from generate_series(20001, 40000) g");
    let large = shop.site.backup();
    shop.sql("delete from orders where id > 5000");
    let (one, two) =
        (shop.site.json(3, &["backup", "shop"]), shop.site.json(3, &["backup", "shop"]));
    let (one, two) = (id_of(&one), id_of(&two));
    let latest =
        || shop.site.json(0, &["restore", "shop", "--latest", "--to-files", "x", "--plan"]);
    let plan = latest();
    assert_eq!(plan["backup"], large.as_str());
    let passed: Vec<_> = plan["passed_over"].as_array().unwrap().iter().collect();
    assert_eq!([&passed[0]["backup"], &passed[1]["backup"]], [two.as_str(), one.as_str()]);
    assert!(passed[0]["why"].as_str().unwrap().contains("% of the bytes"), "{plan}");
    let plan = ["restore", "shop", "--latest", "--to-files", "x", "--plan"];
    let told = shop.site.drctl(&plan).ended(0).out;
    assert!(told.contains(&format!("NEWER, and passed over: {two}: it is suspect")), "{told}");

    // Not with a key that nobody believes here.
    let (key, kept) = (shop.site.path("etc/keys/signing.key"), shop.site.path("kept.key"));
    std::fs::rename(&key, &kept).unwrap();
    let _ = shop.site.drctl(&["keys", "new-signing", &key.display().to_string()]).ended(0);
    let said = shop.site.fails(9, "signing_key_unpinned", &["accept", &two]);
    assert!(said.contains("verifying_keys"), "{said}");
    assert!(!shop.site.path("repository/s/shop/a").exists());
    std::fs::rename(&kept, &key).unwrap();
    // Junk in its place is told, and written over by nobody.
    let object = shop.site.path("repository/s/shop/a").join(format!("{two}.json"));
    std::fs::create_dir_all(object.parent().unwrap()).unwrap();
    std::fs::write(&object, "junk").unwrap();
    let said = shop.site.fails(2, "usage", &["accept", &two]);
    assert!(said.contains("remove this one object") && said.contains("s/shop/a/"), "{said}");
    assert_eq!(std::fs::read(&object).unwrap(), b"junk");
    std::fs::remove_file(&object).unwrap();
    let answer = shop.site.json(0, &["accept", &format!("shop/{two}")]);
    assert_eq!(answer["backup"]["good"], true, "{answer}");
    assert_eq!(
        (latest()["backup"].clone(), latest()["passed_over"].clone()),
        (two.as_str().into(), serde_json::json!([]))
    );
    let _ = shop.site.drctl(&["status", "--check"]).ended(0);
    let told = shop.site.drctl(&["list"]).ended(0).out;
    assert!(told.contains("accepted") && told.contains("SUSPECT"), "{told}");
    // Again it says the same; of one that is good, and of nothing, there is nothing to accept.
    let _ = shop.site.json(0, &["accept", &two]);
    let said = shop.site.fails(2, "usage", &["accept", &large]);
    assert!(said.contains("is not suspect"), "{said}");
    shop.site.fails(5, "no_backup", &["accept", "2020"]);
    // The bucket tells it to every catalog.
    let rows = shop.site.rows();
    for file in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
        let _ = std::fs::remove_file(shop.site.path("state").join(file));
    }
    let _ = shop.site.json(0, &["catalog", "rebuild"]);
    assert_eq!(shop.site.rows(), rows);
    assert_eq!(shop.site.json(0, &["catalog", "check"])["equal"], true);
    let _ = shop.site.backup();
    let shown = shop.site.json(0, &["show", &two]);
    assert_eq!(shown["accepted_by"], shown["signed_by"], "{shown}");
    assert!(shown["accepted_by"].is_string(), "{shown}");
    let told = shop.site.drctl(&["show", &two]).out;
    assert!(told.lines().any(|l| l.starts_with("accepted") && l.contains("signed by")), "{told}");
    // What nobody whom we trust has signed accepts nothing.
    let text = std::fs::read_to_string(&object).unwrap();
    std::fs::write(&object, text.replace(&text[60..64], "AAAA")).unwrap();
    assert_eq!(shop.site.json(0, &["show", &two])["accepted"], serde_json::Value::Null);
}

#[test]
fn what_verify_found_bad_is_not_accepted() {
    let shop = Shop::open();
    let _ = shop.site.backup();
    shop.sql("truncate orders");
    let id = id_of(&shop.site.json(3, &["backup", "shop"]));
    std::fs::remove_file(shop.site.path("repository/s/shop/b").join(&id).join("d0/000000.zst.age"))
        .unwrap();
    let _ = shop.site.json(4, &["verify", &id]);
    let said = shop.site.fails(4, "mismatch", &["accept", &id]);
    assert!(said.contains("found it BAD"), "{said}");
}

/// Runs a command with a clock that is wrong by so much.
fn wrong(shop: &Shop, by: &str, arguments: &[&str]) -> Ran {
    let mut command = shop.site.command(&[&["--json"], arguments].concat());
    command.env("LD_PRELOAD", faketime()).env("FAKETIME", by);
    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("NO_FAKE_STAT", "1");
    Ran::of(&command.output().expect("start drctl"))
}

#[test]
fn a_backup_that_is_dated_in_the_future_hides_neither_a_loss_nor_a_job() {
    let shop = Shop::open();
    let site = &shop.site;
    shop.sql("delete from orders where id > 3000");
    let _ = wrong(&shop, "+200d", &["backup", "shop"]).ended(0);
    shop.sql("insert into orders select g, 'x' from generate_series(3001, 20000) g");
    let good = site.backup();
    site.retention("last = 1");
    let before = site.json(0, &["prune", "shop"]);
    assert_eq!(before["sources"][0]["blocked"].as_array().map(Vec::len), Some(0), "{before}");
    // It has nearly as many as the one of the future.
    shop.sql("delete from orders where id > 2500");
    let answer = site.json(3, &["backup", "shop"]);
    let why = answer["backup"]["suspect"].to_string();
    assert!(why.contains("% of the rows of") && why.contains(&good), "{why}");
    let plan = site.json(0, &["prune", "shop"]);
    let blocked = plan["sources"][0]["blocked"].to_string();
    assert!(
        blocked.contains("the newest backup, ") && blocked.contains("does not count"),
        "{plan}"
    );
    assert_eq!(site.status()["last_job"]["backup"], id_of(&answer).as_str());

    // One that failed with such a clock is the last one, until another one is.
    let port = format!("port = {}\n", shop.server.port());
    site.replace(&port, "port = 1\n");
    let _ = wrong(&shop, "+4000d", &["backup", "shop"]).ended(10);
    assert_eq!(site.status()["last_job"]["state"], "failed");
    site.replace("port = 1\n", &port);
    let _ = site.drctl(&["backup", "shop"]);
    assert_eq!(site.status()["last_job"]["state"], "committed");
}

#[test]
fn a_suspect_backup_is_told_and_blocks_removal_whatever_its_date() {
    let (future, last) = (
        "the backup that is dated in the future",
        "the backup that came last, and is dated before",
    );
    for (by, what) in [("+200d", future), ("-1h", last), ("-400d", last)] {
        let shop = Shop::open();
        let site = &shop.site;
        let _ = site.backup();
        let _ = site.backup();
        shop.sql("delete from orders where id > 300");
        let _ = wrong(&shop, by, &["backup", "shop"]).ended(3);
        site.retention("last = 1");
        let plan = site.json(0, &["prune", "shop"]);
        let blocked = plan["sources"][0]["blocked"].to_string();
        assert!(blocked.contains("does not count") && blocked.contains(what), "{by}: {plan}");
        let status = site.json(3, &["status", "--check"]);
        let advice = status["sources"][0]["advice"].to_string();
        assert!(advice.contains("% of the rows of"), "{by}: {status}");
        // The next good one ends it.
        shop.sql("insert into orders select g, 'x' from generate_series(301, 20000) g");
        let _ = site.backup();
        assert_eq!(site.status()["suspect"], serde_json::Value::Null, "{by}");
        let plan = site.json(0, &["prune", "shop"]);
        assert_eq!(plan["sources"][0]["blocked"], serde_json::json!([]), "{by}: {plan}");
    }
}

#[test]
fn a_job_that_failed_with_a_clock_that_was_set_back_is_told() {
    let shop = Shop::open();
    let site = &shop.site;
    let _ = site.backup();
    site.replace(&format!("port = {}\n", shop.server.port()), "port = 1\n");
    let _ = wrong(&shop, "-1h", &["backup", "shop"]).ended(10);
    assert_eq!(site.status()["last_job"]["state"], "failed");
    let _ = site.json(3, &["status", "--check"]);
}

#[test]
fn where_all_that_is_good_is_dated_in_the_future_it_is_compared_all_the_same() {
    let shop = Shop::open();
    let future = wrong(&shop, "+200d", &["backup", "shop"]).ended(0).json();
    shop.sql("delete from orders where id > 3000");
    for _ in 0..2 {
        let why = shop.site.json(3, &["backup", "shop"])["backup"]["suspect"].to_string();
        assert!(why.contains("% of the rows of") && why.contains(&id_of(&future)), "{why}");
    }
}
