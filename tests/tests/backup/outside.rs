//! What belongs to a server and is in none of its dumps.

use std::fs;

use drctl_tests::servers::postgres::Postgres;
use serde_json::Value;

use crate::common::Shop;

fn notes(answer: &Value) -> String {
    let all = answer["notes"].as_array().expect("notes");
    all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_dump_brings_the_servers_configuration_along() {
    let shop = Shop::open();
    let answer = shop.site.json(0, &["backup", "shop"]);
    assert_eq!(notes(&answer), "", "{answer}");
    let _ = shop.site.json(0, &["restore", "shop", "--latest", "--to-files", "f"]);
    let data = shop.server.data_dir();
    let at = shop.site.path("f/configuration").join(data.strip_prefix("/").expect("absolute"));
    for name in ["postgresql.conf", "pg_hba.conf", "pg_ident.conf"] {
        let (ours, own) = (fs::read(at.join(name)), fs::read(data.join(name)));
        assert_eq!(ours.expect("a file"), own.expect("a file"), "{name}");
    }
    // A single database is restored without it.
    let one = ["restore", "shop", "--latest", "--to-files", "g", "--database", &shop.db];
    let _ = shop.site.json(0, &one);
    assert!(!shop.site.path("g/configuration").exists());
    let target = Postgres::start();
    let (host, port) = (target.socket_dir().display().to_string(), target.port().to_string());
    let to = ["restore", "shop", "--latest", "--to-host", &host, "--to-port", &port];
    let plan = notes(&shop.site.json(0, &[&to[..], &["--to-user", "postgres", "--plan"]].concat()));
    assert!(
        plan.contains("stays there: --to-files DIR writes it into DIR/configuration"),
        "{plan}"
    );
}

#[test]
fn what_a_dump_leaves_out_is_named() {
    let shop = Shop::open();
    let by_role = |lines: &str| {
        shop.site.source(lines);
        let answer = shop.site.json(0, &["backup", "shop"]);
        let id = answer["backup"]["backup"].as_str().expect("an identifier").to_owned();
        (notes(&answer), shop.site.drctl(&["show", &id]).ended(0).out)
    };
    let (told, shown) = by_role("role_passwords = false");
    assert!(
        told.contains("no backup holds these") && told.contains("passwords of roles"),
        "{told}"
    );
    assert!(shown.contains("NOT in this backup: passwords of roles: role_passwords"), "{shown}");
    let (told, shown) = by_role("globals = false");
    assert!(told.contains("roles, tablespaces: globals = false"), "{told}");
    assert!(shown.contains("NOT in this backup: roles, tablespaces: globals = false"), "{shown}");
}
