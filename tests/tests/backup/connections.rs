//! Servers that are reached or built in another way than most: TLS, a standby, ICU.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::{Site, until};

use crate::common::{Shop, name, orders};

const ORDERS: &str = "create database shop; \\c shop\n\
    create table orders as select g as id, md5(g::text) as note from generate_series(1, 20000) g";

/// A server that takes connections over TLS alone, with a certificate of its own for `localhost`.
fn encrypted() -> Postgres {
    let server = Postgres::start();
    let data = server.data_dir().display().to_string();
    // By the server's own account, which the key has to belong to.
    let make = format!(
        "copy (select 1) to program 'cat >/dev/null; cd {data} && openssl req -x509 -newkey rsa:2048 -nodes \
         -keyout server.key -out server.crt -days 2 -subj /CN=localhost \
         -addext subjectAltName=DNS:localhost 2> /dev/null && chmod 600 server.key'"
    );
    server.psql("postgres", &make);
    let hba = "local all all trust\nhostssl all all 127.0.0.1/32 trust\n";
    fs::write(server.data_dir().join("pg_hba.conf"), hba).unwrap();
    server.psql("postgres", "alter system set ssl = on; select pg_reload_conf()");
    until("TLS", || server.psql("postgres", "show ssl") == "on");
    server.psql("postgres", ORDERS);
    server
}

#[test]
fn a_source_is_reached_over_tls_that_is_verified() {
    let (server, site) = (encrypted(), Site::empty());
    let authority = site.path("server.crt");
    fs::copy(server.data_dir().join("server.crt"), &authority).unwrap();
    site.init(&server, &format!("file://{}", site.path("repository").display()), &[]);
    let socket = format!("host = \"{}\"", server.socket_dir().display());
    // The server lets nobody in without TLS, so what works is encrypted.
    site.replace(&socket, "host = \"localhost\"\nsslmode = \"disable\"");
    let _ = site.fails(10, "auth", &["backup", "shop"]);
    site.replace("sslmode = \"disable\"", "sslmode = \"require\"");
    let id = site.backup();
    site.replace("sslmode = \"require\"", "sslmode = \"verify-full\"");
    let _ = site.fails(10, "connect", &["backup", "shop"]);
    let trusted = format!("sslmode = \"verify-full\"\nssl_root_cert = \"{}\"", authority.display());
    site.replace("sslmode = \"verify-full\"", &trusted);
    let _ = site.backup();
    // The certificate is good, and not for this name.
    site.replace("host = \"localhost\"", "host = \"127.0.0.1\"");
    let _ = site.fails(10, "connect", &["backup", "shop"]);
    site.replace("sslmode = \"verify-full\"", "sslmode = \"verify-ca\"");
    let _ = site.backup();
    assert_eq!(site.manifests().len(), 3);
    let rows = orders(&server, "shop");
    let _ =
        site.json(0, &["restore", "shop", "--backup", &id, "--database", "shop", "--as", "again"]);
    assert_eq!(orders(&server, "again"), rows);
}

#[test]
fn a_standby_is_backed_up_as_its_primary_would_be() {
    let primary = Postgres::start();
    primary.psql("postgres", ORDERS);
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let data = folder.path().join("data");
    let copied =
        primary.client("pg_basebackup").args(["-R", "-c", "fast", "-D"]).arg(&data).status();
    assert!(copied.unwrap().success());
    let standby = Postgres::builder().data(&data).start();
    assert_eq!(standby.psql("postgres", "select pg_is_in_recovery()"), "t");
    let site = Site::with(&standby);
    let id = site.backup();
    let target = Postgres::start();
    let (host, port) = (target.socket_dir().display().to_string(), target.port().to_string());
    let start = ["restore", "shop", "--backup", &id, "--to-host", &host, "--to-port", &port];
    let _ = site.json(0, &start);
    assert_eq!(orders(&target, "shop"), orders(&primary, "shop"));
}

#[test]
fn a_database_under_another_name_compares_text_as_it_did() {
    let (mut shop, url) = Shop::bare();
    shop.server.psql("postgres", &format!("drop database {}", shop.db));
    shop.db = name();
    let create = "encoding 'UTF8' locale_provider icu icu_locale 'de-AT' template template0";
    shop.server.psql("postgres", &format!("create database {} {create}", shop.db));
    shop.sql("create table t as select v from unnest(array['z', 'ä', 'a']) v");
    shop.site.init(&shop.server, &url, &["--database", &shop.db]);
    let id = shop.site.backup();
    let new = name();
    let _ = shop.site.json(0, &shop.to_beside(&id, &new));
    let found = shop.server.psql(&new, "select string_agg(v, '' order by v) from t");
    assert_eq!(found, "aäz");
    // Another one, made by hand with the operating system's rules, is told apart.
    let other = name();
    shop.server.psql("postgres", &format!("create database {other} template template0"));
    let planned = shop.site.json(0, &[&shop.to_beside(&id, &other)[..], &["--plan"]].concat());
    let notes = planned["notes"].to_string();
    assert!(notes.contains("by ICU as de-AT"), "{notes}");
}
