//! The agent is killed again and again, at any moment of what it does for a server under load: what was
//! acknowledged is there, and nothing is left that should have gone with it.
//!
//! `tests/kill-agent` does it 200 times.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use drctl_catalog::Catalog;
use drctl_model::{BackupId, BackupSummary, LogPart};
use drctl_store::Key;
use drctl_store::layout::{Kind, classify, piece_at};
use drctl_tests::agent::Agent;
use drctl_tests::cluster::{Program, as_owner, give_away, own_place};
use drctl_tests::servers::minio::Minio;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::{Ran, Site, until};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::common::NEVER;

/// How often it is killed, unless `DRCTL_KILL_ROUNDS` says otherwise.
const ROUNDS: u32 = 3;

/// The longest that it lives, behind its start.
const LIFE: Duration = Duration::from_secs(3);

/// The bucket, and what is put before each key in it.
const BUCKET: &str = "shop";
const PREFIX: &str = "below/";

/// A client that commits without an end, some thousand rows in a second.
const LOAD: &str = "do $$ begin loop \
    insert into ticks select g, md5(random()::text) from generate_series(1, 50) g; commit; \
    perform pg_sleep(0.01); end loop; end $$";

/// A cluster of which base backups, WAL and dumps go to a MinIO.
struct Loaded {
    site: Site,
    server: Postgres,
    minio: Minio,
    client: Child,
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let _ = (self.client.kill(), self.client.wait());
    }
}

impl Loaded {
    fn open() -> Loaded {
        let server = Postgres::builder().initdb("--wal-segsize=1").start();
        server.psql("postgres", "create table ticks (id int, note text)");
        server.psql("postgres", "insert into ticks select g, 'x' from generate_series(1, 20000) g");
        let (minio, site) = (Minio::start(), Site::empty());
        minio.make_bucket(BUCKET);
        site.init_s3(&server, (&minio, &minio.endpoint()), "s3://shop/below", &[]);
        // The same server once more, as dumps.
        let text = fs::read_to_string(site.config()).expect("a configuration");
        let (_, source) = text.split_once("[sources.shop]").expect("a source");
        let source = source.split("\n[").next().expect("its lines").to_owned();
        let physical = "engine = \"base_backup\"\ncheckpoint = \"fast\"\nlog = \"stream\"";
        site.replace("engine = \"pg_dump\"", physical);
        site.append(&format!("\n[sources.dumps]{source}\n"));
        let policy = format!(
            "schedule = \"{NEVER}\"\n\n[retention]\nlast = 3\n\n[prune]\nschedule = \"{NEVER}\"\n"
        );
        fs::write(site.path("etc/policies.d/daily.toml"), policy).expect("a policy");
        let mut client = server.client("psql");
        client.args(["-XAtq", "-d", "postgres", "-c", LOAD]);
        let client = client.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a client");
        Loaded { site, server, minio, client }
    }

    fn sql(&self, sql: &str) -> String {
        self.server.psql("postgres", sql)
    }

    /// An agent that has begun all that it can do; whatever of it runs already is not begun again.
    fn agent(&self, prunes: bool) -> Agent<'_> {
        let temporary = self.site.path("tmp");
        fs::create_dir_all(&temporary).expect("a directory");
        let mut command = self.site.command(&["agent"]);
        command.env("TMPDIR", temporary);
        let agent = Agent::start_as(&self.site, command);
        for job in [&["run", "shop"][..], &["run", "dumps"]] {
            let _ = self.site.drctl(job);
        }
        if prunes {
            let _ = self.site.drctl(&["run", "shop", "prune"]);
            let _ = self.site.drctl(&["run", "dumps", "prune"]);
        }
        agent
    }

    /// What is on record as committed, whoever looks.
    fn backups(&self) -> Vec<BackupSummary> {
        let path = self.site.path("state/catalog.db");
        let look = async { Catalog::open_read_only(&path).await?.backups(None).await };
        Runtime::new().expect("a runtime").block_on(look).expect("a catalog")
    }

    /// The names of these.
    fn committed(&self) -> BTreeSet<String> {
        let all = self.backups();
        all.iter().map(|one| format!("{}/{}", one.source, one.backup)).collect()
    }

    /// All keys in the bucket, as its server lists them.
    fn keys(&self) -> Vec<Key> {
        let client = self.minio.client();
        let list = async {
            let pages = client.list_objects_v2().bucket(BUCKET).prefix(PREFIX).into_paginator();
            let (mut pages, mut keys) = (pages.send(), Vec::new());
            while let Some(page) = pages.next().await {
                let page = page.expect("a page of the listing");
                let of = |key: &str| Key::from(key.strip_prefix(PREFIX).expect("below the prefix"));
                keys.extend(page.contents().iter().filter_map(|one| one.key()).map(of));
            }
            keys
        };
        Runtime::new().expect("a runtime").block_on(list)
    }

    /// Removes one object behind drctl's back.
    fn delete(&self, key: &Key) {
        let client = self.minio.client();
        let request = client.delete_object().bucket(BUCKET).key(format!("{PREFIX}{key}"));
        let deleted = Runtime::new().expect("a runtime").block_on(request.send());
        let _ = deleted.expect("delete an object");
    }

    /// The base backup in the bucket that begins first, and where its WAL begins.
    fn oldest_base(&self, keys: &[Key]) -> (BackupId, u64) {
        let kinds = keys.iter().map(classify);
        let there = kinds.filter_map(|kind| match kind {
            Kind::Manifest(source, id) if source.as_str() == "shop" => Some(id),
            _ => None,
        });
        let there: BTreeSet<BackupId> = there.collect();
        let backups = self.backups().into_iter().filter(|one| there.contains(&one.backup));
        let begins = backups.filter_map(|one| Some((one.kind.coordinates()?.start.0, one.backup)));
        let (start, id) = begins.min().expect("a base backup");
        (id, start)
    }

    /// Up to where the server was told that its WAL is safe.
    fn told(&self) -> u64 {
        let sql = "select max(restart_lsn) - '0/0'::pg_lsn from pg_replication_slots";
        self.sql(sql).parse().expect("a position")
    }

    /// Asserts that nothing of an agent that was killed lives on, here or on the server.
    fn is_alone(&self) {
        until("its children to end", || self.processes().is_empty());
        let of_drctl = "select count(*) from pg_stat_activity where application_name like 'drctl%'";
        until("its sessions to end", || self.sql(of_drctl) == "0");
        let slots = "select count(*) filter (where temporary or active), count(*) <= 1 \
            from pg_replication_slots";
        until("its slots to go", || self.sql(slots) == "0|t");
    }

    /// Processes that know of this host by their arguments or their environment.
    fn processes(&self) -> Vec<String> {
        let place = self.site.path("").display().to_string();
        let own = std::process::id().to_string();
        let entries = fs::read_dir("/proc").expect("/proc is there").filter_map(Result::ok);
        let of = |entry: fs::DirEntry| {
            let pid = entry.file_name().into_string().ok()?;
            let _ = pid.parse::<u32>().ok().filter(|_| pid != own)?;
            let read = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
            let (words, environment) = (read("cmdline"), read("environ"));
            let knows = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(&*place);
            let words_text = String::from_utf8_lossy(&words).replace('\0', " ");
            (knows(&words) || knows(&environment)).then(|| format!("{pid}: {words_text}"))
        };
        entries.filter_map(of).collect()
    }

    /// Asserts that all WAL is in the bucket of which the server was told that it is safe: piece behind piece,
    /// from the oldest base backup on, or from the first piece (which begins at `first`) if that is younger.
    /// What base backups bring along themselves does not count.
    fn wal_is_whole(&self, first: u64, round: u32) {
        let (told, keys) = (self.told(), self.keys());
        let (_, oldest) = self.oldest_base(&keys);
        let lacks = hole(&pieces(&keys), (first.max(oldest), told));
        assert_eq!(lacks, None, "round {round}: {told} was confirmed");
        let view = self.site.drctl(&["--json", "timeline", "shop"]);
        assert!(matches!(view.code, Some(0 | 3)), "{view:?}");
        let view = view.json();
        assert_eq!(view["lost"], serde_json::json!([]), "round {round}: {view}");
    }

    /// Ends the load, and waits until the server was told that all of it is safe. How many rows were committed.
    fn ends(&self) -> String {
        let of_it = "from pg_stat_activity where query like 'do $$ begin loop%' and pid <> pg_backend_pid()";
        let _ = self.sql(&format!("select pg_terminate_backend(pid) {of_it}"));
        until("the load to end", || self.sql(&format!("select count(*) {of_it}")) == "0");
        let rows = self.sql("select count(*) from ticks");
        let written = self.sql("select pg_current_wal_flush_lsn() - '0/0'::pg_lsn");
        let written: u64 = written.parse().expect("a position");
        until("all of it to be confirmed", || self.told() >= written);
        rows
    }

    /// Recovers to the end of the WAL, from that base backup on, with nothing of this host but its configuration
    /// and keys.
    fn recovered(&self, program: &Program, base: &BackupId) -> (Ran, TempDir) {
        for gone in ["state", "run"] {
            let _ = fs::remove_dir_all(self.site.path(gone));
        }
        // A server does not run as root.
        give_away(&self.site.path(""));
        let (folder, path) = own_place();
        let mut command = as_owner(program.path());
        command.env("DRCTL_CONFIG", self.site.config()).env_remove("DRCTL_LOG");
        command.args(["--json", "restore", "shop", "--to-end", "--promote"]);
        command.args(["--backup", base.as_str(), "--to-directory"]).arg(path);
        (Ran::of(&command.output().expect("start drctl")), folder)
    }

    /// What lies in drctl's own directories, but for the numbers in its names.
    fn files(&self) -> BTreeSet<String> {
        let of = |below: &str| {
            let files = self.site.files(below);
            files.into_iter().map(|path| format!("{below}/{}", path.display())).collect::<Vec<_>>()
        };
        [of("state"), of("run"), of("tmp")].concat().into_iter().collect()
    }
}

/// A run that is wished for comes to a good end.
fn succeeds(agent: &Agent, host: &Loaded, source: &str) {
    until("a good end", || {
        let jobs = host.site.json(0, &["jobs"]);
        let jobs = jobs["jobs"].as_array().expect("a list");
        jobs.iter().any(|job| {
            let is_it = job["source"] == source && job["kind"] == "backup";
            is_it && job["last"]["outcome"] == "succeeded" && job["state"] != "running"
        }) || {
            assert!(!agent.said().contains("failed: "), "{}", agent.said());
            false
        }
    });
}

/// The pieces of WAL of `shop` among these keys: from and until, in order.
fn pieces(keys: &[Key]) -> Vec<(u64, u64)> {
    let places = keys.iter().filter_map(piece_at).filter(|(source, _)| source.as_str() == "shop");
    let ranges = places.filter_map(|(_, place)| match place.part {
        LogPart::Range { start, end } => Some((start.0, end.0)),
        LogPart::Note { .. } => None,
    });
    let mut ranges: Vec<(u64, u64)> = ranges.collect();
    ranges.sort_unstable();
    ranges
}

/// The first hole between two positions that these pieces, in order, leave.
fn hole(pieces: &[(u64, u64)], (from, until): (u64, u64)) -> Option<(u64, u64)> {
    let mut at = from;
    for (start, end) in pieces {
        if at >= until {
            break;
        }
        if *start > at {
            return Some((at, *start));
        }
        at = at.max(*end);
    }
    (at < until).then_some((at, until))
}

/// Kills an agent again and again; how many backups were on record meanwhile.
fn killed(host: &Loaded, rounds: u32, first: u64) -> usize {
    // Seeded, so that a failure can be tried again; the machine's own timing does the rest.
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut acknowledged = host.committed();
    for round in 0..rounds {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let part = f64::from((random >> 32) as u32) / f64::from(u32::MAX);
        let agent = host.agent(round % 3 == 1);
        let (began, moment) = (Instant::now(), LIFE.mul_f64(part));
        until("a moment to come", || began.elapsed() >= moment);
        agent.kill();
        host.is_alone();
        acknowledged.extend(host.committed());
        host.wal_is_whole(first, round);
        // What is gone and was not removed on purpose is LOST, which is told here.
        let _ = host.site.json(0, &["verify"]);
    }
    acknowledged.len()
}

/// Asserts that no lock is held and no job is without an end, and that all that is stored is what was signed.
fn nothing_is_left(host: &Loaded) {
    for source in ["shop", "dumps"] {
        let _ = host.site.json(0, &["backup", source]);
    }
    let unfinished = async {
        Catalog::open_read_only(&host.site.path("state/catalog.db")).await?.unfinished_jobs().await
    };
    let runtime = Runtime::new().expect("a runtime");
    assert_eq!(runtime.block_on(unfinished).expect("the job log").len(), 0);
    // What attempts that died have left is told, and is no fault.
    let checked = host.site.drctl(&["--json", "catalog", "check"]);
    assert!(matches!(checked.code, Some(0 | 3)), "{checked:?}");
    assert_eq!(checked.json()["equal"], true, "{checked:?}");
    let _ = host.site.json(0, &["verify", "--data"]);
}

/// Asserts that every row comes back from the bucket alone, from the oldest base backup on; and that a piece
/// that is missed there would have been noticed.
fn all_comes_back(host: &Loaded, rows: &str) {
    let keys = host.keys();
    let (base, start) = host.oldest_base(&keys);
    let program = Program::placed();
    let (ran, folder) = host.recovered(&program, &base);
    let _ = ran.ended(0);
    let restored = Postgres::builder().data(&folder.path().join("restored/data")).start();
    assert_eq!(restored.psql("postgres", "select count(*) from ticks"), rows);
    let all = pieces(&keys);
    let of_it = (start.max(all[0].0), host.told());
    assert_eq!(hole(&all, of_it), None);
    let without = |gone: usize| {
        let rest: Vec<_> = all[..gone].iter().chain(&all[gone + 1..]).copied().collect();
        hole(&rest, of_it).is_some()
    };
    let needed: Vec<usize> = (0..all.len()).filter(|gone| without(*gone)).collect();
    let gone = all[needed[needed.len() / 2]];
    let key = keys.iter().find(|key| pieces(std::slice::from_ref(key)) == [gone]);
    host.delete(key.expect("its key"));
    assert_eq!(hole(&pieces(&host.keys()), of_it), Some(gone));
    let (ran, _folder) = host.recovered(&program, &base);
    let _ = ran.failed(5, "no_plan");
}

#[test]
fn an_agent_that_is_killed_at_any_moment_loses_nothing_and_leaves_nothing() {
    let host = Loaded::open();
    let rounds = std::env::var("DRCTL_KILL_ROUNDS").ok().and_then(|n| n.parse().ok());
    let rounds = rounds.unwrap_or(ROUNDS);
    let agent = host.agent(false);
    succeeds(&agent, &host, "shop");
    succeeds(&agent, &host, "dumps");
    let _ = agent.stop().ended(0);
    host.is_alone();
    let (clean, first) = (host.files(), pieces(&host.keys())[0].0);
    let acknowledged = killed(&host, rounds, first);
    let agent = host.agent(false);
    succeeds(&agent, &host, "shop");
    succeeds(&agent, &host, "dumps");
    let _ = agent.stop().ended(0);
    host.is_alone();
    assert_eq!(host.files(), clean, "what was left was swept");
    nothing_is_left(&host);
    let agent = host.agent(false);
    let rows = host.ends();
    agent.kill();
    host.is_alone();
    host.wal_is_whole(first, rounds);
    all_comes_back(&host, &rows);
    let text = format!(
        "{rounds} kills, {acknowledged} backups on record, {rows} rows committed, none lost\n"
    );
    std::io::stdout().write_all(text.as_bytes()).expect("written");
}
