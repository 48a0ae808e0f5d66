//! The command line as people and scripts meet it.

mod configuration;
mod discover;
mod discover_others;
mod exits;
mod golden;
mod init;
mod keys;
mod locked;
mod made_up;
mod output;
mod private;
mod secrets;
mod shell;
mod status;
mod terminal;

use std::path::PathBuf;

use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::Site;

/// A server with a database `shop`, whose table `orders` has this many rows.
fn server_with(rows: u32) -> Postgres {
    let server = Postgres::start();
    seed(&server, rows);
    server
}

fn seed(server: &Postgres, rows: u32) {
    server.psql("postgres", "CREATE DATABASE shop");
    let table = "CREATE TABLE orders AS SELECT g AS id, md5(g::text) AS text";
    server.psql("shop", &format!("{table} FROM generate_series(1, {rows}) g"));
}

/// A configured host without a server behind it: most words need none.
fn lone_site() -> Site {
    let site = Site::empty();
    let arguments = init_arguments(&site);
    let _ = site.drctl(&arguments).ended(0);
    site
}

/// What `init` is told for a repository in the site.
fn init_arguments(site: &Site) -> Vec<String> {
    let text = |path: PathBuf| path.display().to_string();
    let words = [
        "init".to_owned(),
        "--url".to_owned(),
        format!("file://{}", site.path("repository").display()),
        "--source".to_owned(),
        "shop".to_owned(),
        "--host".to_owned(),
        text(site.path("nowhere")),
        "--state-dir".to_owned(),
        text(site.path("state")),
        "--runtime-dir".to_owned(),
        text(site.path("run")),
        "--kit".to_owned(),
        text(site.path("kit.txt")),
    ];
    words.into()
}
