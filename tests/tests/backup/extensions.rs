//! Tables of extensions, which `pg_dump` leaves to them.

use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::Site;

#[test]
fn a_table_that_was_added_to_an_extension_is_not_lost_in_silence() {
    let server = Postgres::start();
    server.psql(
        "postgres",
        "create database app; \\c app\ncreate extension hstore;\
         create table orders as select g from generate_series(1, 1000) g;\
         create table empty (v int); create table other as select 1 as v",
    );
    let site = Site::with(&server);
    let _ = site.backup();
    server.psql("app", "alter extension hstore add table empty");
    let answer = site.json(0, &["backup", "shop"]);
    assert!(!answer.to_string().contains("hstore"), "{answer}");
    server.psql("app", "alter extension hstore add table orders");
    let answer = site.json(3, &["backup", "shop"]);
    let named = "public.orders of app belongs to the extension hstore: pg_dump leaves its 1000 \
                 rows out; it was added to the extension and is not restored at all";
    assert!(answer["notes"].to_string().contains(named), "{answer}");
    assert!(answer["backup"].to_string().contains("suspect"), "{answer}");
    let found = site.drctl(&["doctor"]);
    assert!(found.out.contains("public.orders of app belongs"), "{}", found.out);
    assert!(found.out.contains("ALTER EXTENSION"), "{}", found.out);
    // Taken out of it, it is dumped.
    server.psql("app", "alter extension hstore drop table orders");
    let _ = site.backup();
}
