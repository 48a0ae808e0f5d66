//! The agent is killed again and again, at any moment of what it does for a server under load: what was
//! acknowledged is there, and nothing is left that should have gone with it.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use drctl_catalog::Catalog;
use drctl_tests::agent::Agent;
use drctl_tests::servers::minio::Minio;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::{Site, until};

use crate::common::NEVER;

/// How often it is killed, unless `DRCTL_KILL_ROUNDS` says otherwise.
const ROUNDS: u32 = 3;

/// The longest that it lives, behind its start.
const LIFE: Duration = Duration::from_secs(3);

/// A client that commits without an end, some thousand rows in a second.
const LOAD: &str = "do $$ begin loop \
    insert into ticks select g, md5(random()::text) from generate_series(1, 50) g; commit; \
    perform pg_sleep(0.01); end loop; end $$";

/// A cluster of which base backups, WAL and dumps go to a MinIO.
struct Loaded {
    site: Site,
    server: Postgres,
    _minio: Minio,
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
        minio.make_bucket("shop");
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
        Loaded { site, server, _minio: minio, client }
    }

    fn sql(&self, sql: &str) -> String {
        self.server.psql("postgres", sql)
    }

    /// An agent that has begun all that it can do; whatever of it runs already is not begun again.
    fn agent(&self, prunes: bool) -> Agent<'_> {
        let agent = Agent::start(&self.site);
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
    fn committed(&self) -> BTreeSet<String> {
        let path = self.site.path("state/catalog.db");
        let look = async { Catalog::open_read_only(&path).await?.backups(None).await };
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let all = runtime.block_on(look).expect("a catalog");
        all.into_iter().map(|one| format!("{}/{}", one.source, one.backup)).collect()
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

    /// Asserts that all WAL is there of which the server was told that it is.
    fn wal_is_whole(&self, round: u32) {
        let told = self.sql("select coalesce(max(restart_lsn), '0/0') from pg_replication_slots");
        let view = self.site.drctl(&["--json", "timeline", "shop"]);
        assert!(matches!(view.code, Some(0 | 3)), "{view:?}");
        let view = view.json();
        assert_eq!(view["lost"], serde_json::json!([]), "round {round}: {view}");
        let timeline = &view["timelines"][0];
        // A base backup that is ahead of the stream brings WAL of its own, behind what is confirmed.
        for gap in timeline["gaps"].as_array().expect("gaps") {
            let from = gap["from"].as_str().expect("a position");
            let is_behind = format!("select '{from}'::pg_lsn >= '{told}'::pg_lsn");
            assert_eq!(self.sql(&is_behind), "t", "round {round}: {told}, {timeline}");
        }
        let spans = timeline["spans"].as_array().expect("spans");
        let until = spans.last().expect("WAL")["until"].as_str().expect("a position");
        let reaches = format!("select '{until}'::pg_lsn >= '{told}'::pg_lsn");
        assert_eq!(
            self.sql(&reaches),
            "t",
            "round {round}: {told} was confirmed, {until} is there"
        );
    }

    /// What lies in drctl's own directories, but for the numbers in its names.
    fn files(&self) -> BTreeSet<String> {
        let of = |below: &str| {
            let files = self.site.files(below);
            files.into_iter().map(|path| format!("{below}/{}", path.display())).collect::<Vec<_>>()
        };
        [of("state"), of("run")].concat().into_iter().collect()
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
    let clean = host.files();
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
        host.wal_is_whole(round);
        // What is gone and was not removed on purpose is LOST, which is told here.
        let _ = host.site.json(0, &["verify"]);
    }
    let agent = host.agent(false);
    succeeds(&agent, &host, "shop");
    succeeds(&agent, &host, "dumps");
    let _ = agent.stop().ended(0);
    host.is_alone();
    assert_eq!(host.files(), clean, "what was left was swept");
    // No lock is held, and no job is without an end.
    for source in ["shop", "dumps"] {
        let _ = host.site.json(0, &["backup", source]);
    }
    let unfinished = async {
        Catalog::open_read_only(&host.site.path("state/catalog.db")).await?.unfinished_jobs().await
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    assert_eq!(runtime.block_on(unfinished).expect("the job log").len(), 0);
    // What attempts that died have left is told, and is no fault.
    let checked = host.site.drctl(&["--json", "catalog", "check"]);
    assert!(matches!(checked.code, Some(0 | 3)), "{checked:?}");
    assert_eq!(checked.json()["equal"], true, "{checked:?}");
    let _ = host.site.json(0, &["verify", "--data"]);
    host.wal_is_whole(rounds);
    let text = format!("{rounds} kills, {} backups on record, none lost\n", acknowledged.len());
    std::io::stdout().write_all(text.as_bytes()).expect("written");
}
