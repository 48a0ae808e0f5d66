//! Rules of access may include other files from PostgreSQL 16 on.

use std::fs;

use drctl_tests::cluster::give_away;
use drctl_tests::servers::postgres::Postgres;

use super::NEWER;
use crate::common::{filled, site};
use crate::outside::{brought, notes, restored};

#[test]
fn files_that_rules_of_access_include_are_brought_along() {
    let server = filled(Postgres::builder().at_least(NEWER).elsewhere().start());
    let etc = server.configuration().to_path_buf();
    let files = [
        ("rules.conf", "include_if_exists deeper.conf\nlocal all @people peer\n"),
        ("deeper.conf", "local all nobody reject\n"),
        ("rules.d/one.conf", "local two all peer\n"),
        ("people", "some\nothers\n"),
        ("names.conf", "map here there\n"),
    ];
    fs::create_dir(etc.join("rules.d")).expect("make it");
    for (name, text) in files {
        fs::write(etc.join(name), text).expect("write it");
    }
    let add = |name: &str, lines: &str| {
        let text = fs::read_to_string(etc.join(name)).expect("read it");
        fs::write(etc.join(name), format!("{text}\n{lines}")).expect("write it");
    };
    add("pg_hba.conf", "include rules.conf\ninclude_dir rules.d\ninclude_if_exists nothing.conf\n");
    add("pg_ident.conf", "include names.conf\n");
    give_away(&etc);
    server.psql("postgres", "select pg_reload_conf()");
    let site = site(&server);
    let answer = site.json(0, &["backup", "shop"]);
    assert_eq!(notes(&answer), "", "nothing is missing");
    let (_folder, path, _) = restored(&site);
    let at = brought(&server, &path);
    for (name, text) in files {
        assert_eq!(fs::read_to_string(at.join(name)).expect("a file"), text, "{name}");
    }

    // A role that may not look into the rules is told that there may be more, and what it needs.
    server.psql(
        "postgres",
        "create role copier login replication; grant pg_monitor, pg_read_server_files to copier; \
         grant execute on function pg_read_binary_file(text, bigint, bigint, boolean) to copier; \
         grant select on pg_file_settings to copier; \
         grant execute on function pg_show_all_file_settings() to copier",
    );
    site.replace("user = \"postgres\"", "user = \"copier\"");
    let told = notes(&site.json(0, &["backup", "shop"]));
    assert!(told.contains("may not read pg_hba_file_rules"), "{told}");
    // As the page has it.
    server.psql(
        "postgres",
        "grant select on pg_hba_file_rules, pg_ident_file_mappings to copier; \
         grant execute on function pg_hba_file_rules(), pg_ident_file_mappings() to copier",
    );
    assert_eq!(notes(&site.json(0, &["backup", "shop"])), "");
    let (_folder, path, _) = restored(&site);
    assert!(brought(&server, &path).join("rules.d/one.conf").exists());
}
