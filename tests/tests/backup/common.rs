//! A shop to back up, and what tests ask of it.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use drctl_model::Manifest;
use drctl_store::{SigningKey, encode_manifest};
use drctl_tests::damage::unproven_manifest;
use drctl_tests::fake::Tools;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::{Site, until};
use serde_json::Value;

/// A server that tests share, each with databases of its own; gone with the last of them.
pub(crate) fn server() -> Arc<Postgres> {
    static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let server = Arc::new(Postgres::builder().conf("max_connections", "200").start());
        *shared = Arc::downgrade(&server);
        server
    })
}

/// A name that nobody else has on the shared server.
pub(crate) fn name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("shop{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A database on the shared server, and a host that backs it up.
pub(crate) struct Shop {
    pub(crate) site: Site,
    pub(crate) server: Arc<Postgres>,
    pub(crate) db: String,
}

/// Rows of the shop's table: about a megabyte, so that its dump has a page of segments and more.
pub(crate) const ROWS: u32 = 20_000;

/// The shop's table, filled.
const ORDERS: &str = "create table orders (id int primary key, note text not null);\
    insert into orders select g, md5(g::text) from generate_series(1, 20000) g;";

impl Shop {
    /// A shop whose repository is a directory.
    pub(crate) fn open() -> Self {
        let (shop, url) = Shop::bare();
        shop.site.init(&shop.server, &url, &["--database", &shop.db]);
        shop.site.append(SMALL);
        shop
    }

    /// A shop whose tools misbehave on cue.
    pub(crate) fn with_tools() -> (Self, Tools) {
        let shop = Shop::open();
        let tools = Tools::of(&shop.server);
        shop.site.source(&tools.line());
        (shop, tools)
    }

    /// A shop that was not set up yet, and the URL of a directory for it.
    pub(crate) fn bare() -> (Self, String) {
        let (server, db, site) = (server(), name(), Site::empty());
        server.psql("postgres", &format!("create database {db}"));
        server.psql(&db, ORDERS);
        let url = format!("file://{}", site.path("repository").display());
        (Shop { site, server, db }, url)
    }

    /// SQL in the shop's database.
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.server.psql(&self.db, sql)
    }

    /// Restores a backup (`--latest`, or `--backup ID`) beside the shop and gives the new name.
    #[track_caller]
    pub(crate) fn beside(&self, which: &[&str], more: &[&str]) -> String {
        let new = name();
        let start = ["restore", "shop", "--database", &self.db, "--as", &new];
        let _ = self.site.json(0, &[&start, which, more].concat());
        new
    }

    /// Whether a database is on the server.
    pub(crate) fn has(&self, db: &str) -> bool {
        let sql = format!("select count(*) from pg_database where datname = '{db}'");
        self.server.psql("postgres", &sql) == "1"
    }

    /// The arguments that restore a backup under a new name, and that name.
    pub(crate) fn to_beside<'a>(&'a self, id: &'a str, new: &'a str) -> Vec<&'a str> {
        vec!["restore", "shop", "--backup", id, "--database", &self.db, "--as", new]
    }

    /// Asserts that this backup is whole: every stored and plain byte, and every row.
    #[track_caller]
    pub(crate) fn still_restores(&self, id: &str) {
        let _ = self.site.json(0, &["verify", id, "--data"]);
        let new = self.beside(&["--backup", id], &[]);
        assert_eq!(orders(&self.server, &new), FINGERPRINT.replace("ROWS", &ROWS.to_string()));
        self.server.psql("postgres", &format!("drop database {new}"));
    }

    /// The sessions that drctl and its tools have on the shop's database.
    pub(crate) fn sessions(&self) -> u32 {
        let sql = format!(
            "select count(*) from pg_stat_activity where datname = '{}' \
             and application_name like 'drctl/%'",
            self.db
        );
        self.server.psql("postgres", &sql).parse().expect("a number")
    }

    /// Asserts that nothing counts but `backups`, that the last backup failed with `words`, and that
    /// `status` tells so.
    #[track_caller]
    pub(crate) fn only(&self, backups: &[&str], words: &str) {
        assert_eq!(self.site.manifests().len(), backups.len(), "{:?}", self.site.manifests());
        let rows = self.site.rows();
        let mut known: Vec<&str> = rows.iter().filter_map(|row| row["backup"].as_str()).collect();
        known.sort_unstable();
        assert_eq!(known, backups);
        let status = self.site.status();
        assert_eq!(status["last_job"]["state"], "failed", "{status}");
        let message = status["last_job"]["message"].as_str().expect("a message");
        assert!(message.contains(words), "{message}");
        let health = if backups.is_empty() { "breached" } else { "attention" };
        assert_eq!(status["health"], health, "{status}");
        let advice = status["advice"].as_str().expect("an advice");
        assert!(backups.is_empty() || advice.contains(words), "{advice}");
    }
}

/// Small segments and pages, so that a small database has many.
pub(crate) const SMALL: &str = "\n[limits]\nsegment_bytes = \"64KiB\"\npage_segments = 8\n";

/// What [`orders`] gives for a shop that nobody changed.
const FINGERPRINT: &str = "ROWS|0ca6dbc5f34102437b46888d25a261bb";

/// Number and digest of the rows of a shop's table.
pub(crate) fn orders(server: &Postgres, db: &str) -> String {
    server.psql(db, "select count(*), md5(string_agg(o::text, ';' order by id)) from orders o")
}

/// Everything that lies in a database, as SQL.
pub(crate) fn dump(server: &Postgres, db: &str) -> String {
    let mut pg_dump = server.client("pg_dump");
    let output = pg_dump.args(["--create", "--dbname", &format!("dbname={}", quote(db))]).output();
    text_of(&output.expect("start pg_dump"))
}

/// The roles and tablespaces of a server, as SQL.
pub(crate) fn globals(server: &Postgres) -> String {
    text_of(&server.client("pg_dumpall").arg("--globals-only").output().expect("start pg_dumpall"))
}

fn text_of(output: &std::process::Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    // Later releases frame a dump with a random word.
    let lines = text.lines().filter(|l| !l.starts_with("\\restrict") && !l.starts_with("\\unrest"));
    lines.collect::<Vec<_>>().join("\n")
}

fn quote(db: &str) -> String {
    format!("'{}'", db.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Somebody's session on a server, which keeps what it has locked.
pub(crate) struct Somebody {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Somebody {
    /// Logs in.
    pub(crate) fn on(server: &Postgres, db: &str) -> Self {
        let mut psql = server.client("psql");
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", db]);
        psql.env("PGAPPNAME", "somebody").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = psql.spawn().expect("start psql");
        let input = child.stdin.take().expect("an input");
        let output = BufReader::new(child.stdout.take().expect("an output"));
        Somebody { child, input, output }
    }

    /// Runs SQL and waits until it is done.
    pub(crate) fn run(&mut self, sql: &str) {
        self.start(&format!("{sql};\n\\echo it is done\n"));
        let mut line = String::new();
        while line != "it is done\n" {
            line.clear();
            let read = self.output.read_line(&mut line).expect("read from psql");
            assert!(read > 0, "psql has ended at: {sql}");
        }
    }

    /// Begins to run SQL.
    pub(crate) fn start(&mut self, sql: &str) {
        self.input.write_all(sql.as_bytes()).expect("write to psql");
        self.input.flush().expect("write to psql");
    }
}

impl Drop for Somebody {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The segments of a stream of the newest backup of a site's directory, in order.
pub(crate) fn segments(site: &Site, stream: &str) -> Vec<PathBuf> {
    let mut files = site.files("repository");
    let wanted = |path: &PathBuf| {
        let text = path.display().to_string();
        text.contains(&format!("/{stream}/")) && text.ends_with(".zst.age")
    };
    files.retain(wanted);
    files.iter().map(|file| site.path("repository").join(file)).collect()
}

/// The rows of a table as the manifest's sealed part tells them.
pub(crate) fn counted(site: &Site, id: &str, table: &str) -> Option<u64> {
    let shown = site.json(0, &["show", id]);
    let streams = shown["facts"]["streams"].as_array().expect("streams").clone();
    let tables = streams.iter().filter_map(|stream| stream["content"]["tables"].as_array());
    let found = tables.flatten().find(|one| one["table"] == table);
    found.and_then(|one| one["rows"].as_u64())
}

/// The identifier in the answer of `drctl backup`.
pub(crate) fn id_of(answer: &Value) -> String {
    answer["backup"]["backup"].as_str().expect("an identifier").to_owned()
}

/// Waits until drctl waits for a lock in a database.
pub(crate) fn until_locked_out(server: &Postgres, db: &str) {
    let sql = format!(
        "select count(*) from pg_stat_activity where datname = '{db}' \
         and application_name like 'drctl/%' and wait_event_type = 'Lock'"
    );
    until("drctl to wait for a lock", || server.psql("postgres", &sql) != "0");
}

/// The manifest of a backup in a site's directory.
pub(crate) fn manifest_of(shop: &Shop, id: &str) -> PathBuf {
    shop.site.path("repository").join(format!("s/shop/b/{id}/manifest.json"))
}

/// Changes a backup's manifest and signs it with the site's own key.
pub(crate) fn resign(shop: &Shop, id: &str, change: impl Fn(&mut Manifest)) {
    let key = std::fs::read_to_string(shop.site.path("etc/keys/signing.key")).unwrap();
    sign_with(shop, id, &key.trim().parse().unwrap(), change);
}

pub(crate) fn sign_with(shop: &Shop, id: &str, key: &SigningKey, change: impl Fn(&mut Manifest)) {
    let path = manifest_of(shop, id);
    let mut manifest = unproven_manifest(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut manifest);
    std::fs::write(&path, encode_manifest(&manifest, key)).unwrap();
}
