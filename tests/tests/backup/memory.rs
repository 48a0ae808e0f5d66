//! Memory is bounded by the configuration, not by the database.

use std::fs;
use std::process::Command;

use drctl_tests::site::{Site, drctl};

use crate::common::{name, server};

/// The most that drctl may take on the way in at the default segment size, and on the way back.
const IN_KIB: u64 = 110 << 10;
const BACK_KIB: u64 = 140 << 10;

/// How much more the larger database may take.
const FLAT_KIB: u64 = 25 << 10;

/// Runs drctl to its good end and gives the most memory that it had resident at once, in KiB.
/// (Of its children, too, the largest counts: PostgreSQL's tools stay far below.)
fn peak(site: &Site, arguments: &[&str]) -> u64 {
    let report = site.path("peak");
    let mut time = Command::new("/usr/bin/time");
    time.args(["-f", "%M", "-o"]).arg(&report).arg(drctl()).arg("--quiet").args(arguments);
    let output = time.env("DRCTL_CONFIG", site.config()).output().expect("start time");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read_to_string(report).unwrap().trim().parse().expect("kilobytes")
}

#[test]
fn peak_memory_is_bounded_and_flat_as_the_database_grows() {
    let server = server();
    let measure = |megabytes: u32| {
        let db = name();
        server.psql("postgres", &format!("create database {db}"));
        // Half of it compresses: a row has 32 random letters and 64 others.
        let rows = megabytes * 10_000;
        server.psql(
            &db,
            &format!(
                "create unlogged table t as select g as id, md5(g::text) || repeat('-', 64) as x \
                 from generate_series(1, {rows}) g"
            ),
        );
        let site = Site::empty();
        let url = format!("file://{}", site.path("repository").display());
        site.init(&server, &url, &["--database", &db]);
        let inwards = peak(&site, &["backup", "shop"]);
        let target = site.path("files").display().to_string();
        let back = peak(&site, &["restore", "shop", "--latest", "--to-files", &target]);
        server.psql("postgres", &format!("drop database {db}"));
        (inwards, back)
    };
    let (small, large) = (measure(100), measure(300));
    for ((kind, limit), (small, large)) in [("in", IN_KIB), ("back", BACK_KIB)]
        .into_iter()
        .zip([(small.0, large.0), (small.1, large.1)])
    {
        assert!(large < limit, "{kind}: {large} KiB");
        assert!(large < small + FLAT_KIB, "{kind}: {small} KiB became {large} KiB");
    }
}

/// A row may have a gigabyte; what a message of a server has otherwise is bounded far below.
#[test]
fn a_row_of_any_length_is_counted() {
    let server = server();
    let (db, owner) = (name(), name());
    // An index that calls a function of its owner's: a count that is planned would run it.
    server.psql("postgres", &format!("create role {owner}; create database {db} owner {owner}"));
    let sql = format!(
        "set role {owner}; create function odd(bytea) returns bool immutable language plpgsql as \
         $$ begin return length($1) % 2 = 1; end $$; create table t(x bytea); \
         create index on t (odd(x)); \
         insert into t select convert_to(repeat('x', g << 20), 'SQL_ASCII') \
         from generate_series(1, 41, 40) g"
    );
    server.psql(&db, &sql);
    let site = Site::empty();
    let url = format!("file://{}", site.path("repository").display());
    site.init(&server, &url, &["--database", &db]);
    let id = site.backup();
    let identity = site.identity().display().to_string();
    let shown = site.json(0, &["show", &id, "--identity", &identity]).to_string();
    assert!(shown.contains("\"rows\":2,") || shown.contains("\"rows\":2}"), "{shown}");
    server.psql("postgres", &format!("drop database {db}; drop role {owner}"));
}
