//! A server that answers in the place of a source's, and is of another cluster.

use drctl_tests::servers::postgres::Postgres;
use serde_json::Value;

use crate::common::{Shop, id_of};

const CLUSTER: &str = "select system_identifier from pg_control_system()";

/// Another server with the same database, which answers at the source's place from now on.
pub(crate) fn another_answers(shop: &Shop) -> Postgres {
    let other = Postgres::start();
    other.psql("postgres", &format!("create database {}", shop.db));
    other.psql(&shop.db, "create table orders as select g as id, md5(g::text) as note from generate_series(1, 20000) g");
    answers(shop, &shop.server, &other);
    other
}

/// Makes another server the one of the source.
fn answers(shop: &Shop, old: &Postgres, new: &Postgres) {
    let place = |server: &Postgres| server.socket_dir().display().to_string();
    shop.site.replace(&format!("port = {}", old.port()), &format!("port = {}", new.port()));
    shop.site.replace(&place(old), &place(new));
}

fn cluster_check(shop: &Shop) -> Value {
    let doctor = shop.site.drctl(&["--json", "doctor"]).json();
    let all = doctor["findings"].as_array().unwrap().clone();
    let one = all.into_iter().find(|one| one["check"] == "source.shop.cluster");
    one.unwrap_or_else(|| panic!("{doctor}"))
}

#[test]
fn a_dump_of_another_cluster_says_so_until_somebody_takes_it_for_good() {
    let shop = Shop::open();
    let first = shop.site.backup();
    let old = shop.server.psql("postgres", CLUSTER);
    assert_eq!(shop.site.rows()[0]["kind"]["system_id"], old.as_str());
    assert!(shop.site.told("cluster_changed").is_empty());
    assert_eq!(cluster_check(&shop)["level"], "good");

    let other = another_answers(&shop);
    let new = other.psql("postgres", CLUSTER);
    let check = cluster_check(&shop);
    assert_eq!(check["level"], "warning", "{check}");
    let answer = shop.site.json(0, &["backup", "shop"]);
    let notes = answer["notes"].to_string();
    assert!(notes.contains(&old) && notes.contains(&new) && notes.contains(&first), "{notes}");
    assert!(notes.contains("check host and port"), "{notes}");
    let second = id_of(&answer);
    let told = shop.site.told("cluster_changed");
    assert_eq!((told.len(), &told[0]["subject"]), (1, &new.as_str().into()), "{told:?}");
    let _ = shop.site.drctl(&["status", "--check"]).ended(3);
    // Whoever restores the newest one hears of it, also without a catalog.
    let latest = ["restore", "shop", "--latest", "--to-files", "x", "--plan"];
    let says = |of_another: bool| {
        let plan = shop.site.json(0, &latest);
        let notes = plan["notes"].to_string();
        assert_eq!(plan["backup"], second.as_str(), "{plan}");
        assert_eq!(notes.contains("different clusters"), of_another, "{notes}");
    };
    says(true);
    std::fs::remove_file(shop.site.path("state/catalog.db")).unwrap();
    says(true);
    let by_name = ["restore", "shop", "--backup", &first, "--to-files", "x", "--plan"];
    let notes = shop.site.json(0, &by_name)["notes"].to_string();
    assert!(!notes.contains("different clusters"), "it is of the first: {notes}");

    // One of the old cluster is nothing to accept.
    let _ = shop.site.json(0, &["catalog", "rebuild"]);
    let _ = shop.site.fails(2, "usage", &["accept", &first]);
    let _ = shop.site.json(0, &["accept", &format!("shop/{second}")]);
    assert!(shop.site.told("cluster_changed").is_empty());
    let _ = shop.site.json(0, &["catalog", "rebuild"]);
    assert!(shop.site.told("cluster_changed").is_empty(), "the bucket tells it");
    says(false);
    // Back again: that is a change as well.
    answers(&shop, &other, &shop.server);
    let _ = shop.site.backup();
    assert_eq!(shop.site.told("cluster_changed")[0]["subject"], old.as_str());
}

#[test]
fn where_the_cluster_may_not_be_asked_for_it_is_said_and_never_guessed() {
    let shop = Shop::open();
    let other = another_answers(&shop);
    other.psql("postgres", "create role reader login; grant pg_read_all_data to reader");
    let config = std::fs::read_to_string(shop.site.config()).unwrap();
    let user = config.lines().find(|line| line.starts_with("user = ")).unwrap().to_owned();
    shop.site.replace(&user, "user = \"reader\"\nrole_passwords = false");
    let _ = shop.site.backup();
    for database in ["postgres", &shop.db] {
        other.psql(database, "revoke execute on function pg_control_system() from public");
    }
    let answer = shop.site.json(0, &["backup", "shop"]);
    assert!(answer["notes"].to_string().contains("GRANT EXECUTE ON FUNCTION"), "{answer}");
    let kind = &answer["backup"]["kind"];
    assert_eq!(kind, &serde_json::json!({ "type": "logical", "rows": "20000" }), "{answer}");
    assert!(shop.site.told("cluster_changed").is_empty());
    let shown = shop.site.drctl(&["show", &id_of(&answer)]).ended(0).out;
    assert!(shown.contains("not known"), "{shown}");
    assert_eq!(cluster_check(&shop)["level"], "warning");
}
