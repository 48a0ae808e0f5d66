//! A cluster to back up, and a host that backs it up.

use std::path::Path;
use std::process::Command;

use drctl_engines::pg::PgServer;
use drctl_model::SslMode;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::Site;

/// A row's digest over a whole table.
pub(crate) const ORDERS: &str =
    "select count(*), md5(string_agg(o::text, ';' order by id)) from orders o";

/// A cluster with a shop in it, some MiB.
pub(crate) fn cluster() -> Postgres {
    cluster_from(0)
}

/// The same, of this major version at least.
pub(crate) fn cluster_from(major: u32) -> Postgres {
    let builder = Postgres::builder().at_least(major);
    filled(builder.initdb("--wal-segsize=1").initdb("--data-checksums").start())
}

pub(crate) fn filled(server: Postgres) -> Postgres {
    server.psql(
        "postgres",
        "create table orders (id int primary key, note text not null); \
         insert into orders select g, md5(g::text) from generate_series(1, 20000) g",
    );
    server
}

/// A host whose source `shop` is the cluster of this server, backed up as it runs.
pub(crate) fn site(server: &Postgres) -> Site {
    let site = Site::with(server);
    physical(&site);
    site
}

/// Makes the source of a site one that is backed up as it runs.
pub(crate) fn physical(site: &Site) {
    site.replace("engine = \"pg_dump\"", "engine = \"base_backup\"\ncheckpoint = \"fast\"");
}

/// How drctl's own crates reach a server.
pub(crate) fn reach(server: &Postgres) -> PgServer {
    PgServer {
        host: server.socket_dir().display().to_string(),
        port: server.port(),
        user: "postgres".to_owned(),
        maintenance_database: "postgres".to_owned(),
        password: None,
        sslmode: SslMode::Prefer,
        ssl_root_cert: None,
        require_peer: None,
        bin_dir: None,
        runtime_dir: std::env::temp_dir(),
        options: Vec::new(),
        silence: drctl_engines::pg::SILENCE,
    }
}

/// Asserts that `pg_verifybackup` finds nothing wrong with a data directory.
#[track_caller]
pub(crate) fn verified(server: &Postgres, data: &Path) {
    let output = Command::new(server.bin_dir().join("pg_verifybackup"))
        // It names the places of tablespaces, which are others now.
        .args(["--ignore", "tablespace_map"])
        .arg(data)
        .output();
    let output = output.expect("start pg_verifybackup");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
