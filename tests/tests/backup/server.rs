//! A source's server that refuses, stops, or is not there.

use drctl_tests::fake::Tools;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::{Site, until};

use crate::cancel::{ended, start};
use crate::common::Shop;

#[test]
fn a_server_that_stops_in_the_middle_of_a_dump_never_yields_a_manifest() {
    let mut server = Postgres::start();
    server.psql(
        "postgres",
        "create table t as select g, md5(g::text) from generate_series(1, 20000) g",
    );
    let (site, tools) = (Site::with(&server), Tools::of(&server));
    site.source(&tools.line());
    let good = site.backup();
    tools.pause("pg_dump", 300_000);
    let backup = start(&site, &["backup", "shop"]);
    tools.await_pause();
    // It was asked for all that is asked beside the dump: only the tool's own session is left.
    let left = "select count(*) from pg_stat_activity where application_name like 'drctl/%'";
    until("its rows to be counted", || server.psql("postgres", left) == "1");
    server.crash();
    tools.go_on();
    let said = ended(backup).failed(10, "tool_failed");
    assert!(said.contains("pg_dump"), "{said}");
    assert_eq!(site.manifests().len(), 1);
    assert_eq!(site.status()["last_job"]["state"], "failed");
    // It is down: another error, and what there is still verifies.
    tools.honest("pg_dump");
    let said = site.fails(10, "connect", &["backup", "shop"]);
    assert!(said.contains(&server.port().to_string()) && said.contains("server runs"), "{said}");
    let _ = site.json(0, &["verify", &good, "--data"]);
    server.start_again();
    let _ = site.backup();
    assert_eq!(site.status()["health"], "good");
}

#[test]
fn a_database_that_is_not_there_is_named() {
    let (shop, url) = Shop::bare();
    shop.site.init(&shop.server, &url, &["--database", &shop.db, "--database", "no such one"]);
    let said = shop.site.fails(10, "no_database", &["backup", "shop"]);
    assert!(said.contains("`no such one`") && said.contains("psql -l"), "{said}");
    assert!(!said.contains(&format!("`{}`", shop.db)), "{said}");
    shop.only(&[], "`no such one`");
    // So it is before a backup fails.
    let doctor = shop.site.drctl(&["--json", "doctor"]).ended(1).json();
    let all = doctor["findings"].as_array().unwrap();
    let check = all.iter().find(|one| one["check"] == "source.shop.databases").unwrap();
    assert_eq!(check["level"], "bad", "{check}");
    assert!(check.to_string().contains("`no such one`"), "{check}");
    shop.site.replace(", \"no such one\"", "");
    let _ = shop.site.backup();
}

#[test]
fn a_role_that_may_not_read_everything_backs_up_nothing() {
    let (shop, url) = Shop::bare();
    let role = format!("{}_reader", shop.db);
    shop.server.psql("postgres", &format!("create role {role} login"));
    shop.site.init(&shop.server, &url, &["--database", &shop.db]);
    shop.site.replace("user = \"postgres\"", &format!("user = \"{role}\""));
    let said = shop.site.fails(10, "permission", &["backup", "shop"]);
    assert!(said.contains("role_passwords = false"), "{said}");
    shop.site.source("role_passwords = false");
    let said = shop.site.fails(10, "permission", &["backup", "shop"]);
    assert!(said.contains("public.orders") && said.contains("pg_read_all_data"), "{said}");
    shop.server.psql("postgres", &format!("grant pg_read_all_data to {role}"));
    // Rows that a policy hides are rows that a backup would lose.
    shop.sql("alter table orders enable row level security");
    let said = shop.site.fails(10, "permission", &["backup", "shop"]);
    assert!(said.contains("BYPASSRLS"), "{said}");
    shop.only(&[], "public.orders");
    shop.server.psql("postgres", &format!("alter role {role} bypassrls"));
    let id = shop.site.backup();
    shop.still_as_it_was(&id);
}

impl Shop {
    /// As [`still_restores`](Self::still_restores), but as superuser.
    fn still_as_it_was(&self, id: &str) {
        let (host, port) =
            (self.server.socket_dir().display().to_string(), self.server.port().to_string());
        let new = crate::common::name();
        let more = ["--to-host", &host, "--to-port", &port];
        let _ = self.site.json(0, &[&self.to_beside(id, &new)[..], &more].concat());
        assert_eq!(self.server.psql(&new, "select count(*) from orders"), "20000");
    }
}

#[test]
fn a_wrong_password_is_told_and_never_shown() {
    let server = Postgres::builder().password("the right one").start();
    let site = Site::empty();
    let (password, url) =
        (site.path("password"), format!("file://{}", site.path("repository").display()));
    std::fs::write(&password, "a wrong one\n").unwrap();
    let file = password.display().to_string();
    site.init(&server, &url, &["--password-file", &file]);
    let said = site.fails(10, "auth", &["backup", "shop"]);
    assert!(said.contains("`postgres`") && said.contains("password of the role"), "{said}");
    assert!(!said.contains("a wrong one"), "{said}");
    std::fs::write(&password, "the right one\n").unwrap();
    let _ = site.json(3, &["backup", "shop"]);
    std::fs::remove_file(&password).unwrap();
    let said = site.fails(9, "secret_unavailable", &["backup", "shop"]);
    assert!(said.contains(&file), "{said}");
}
