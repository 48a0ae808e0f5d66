//! The replication client against a real server, with PostgreSQL's own tools as oracles.

use std::fs;
use std::path::Path;
use std::time::Duration;

use drctl_engines::Secret;
use drctl_engines::pg::replication::{Replication, WalEvent};
use drctl_engines::pg::{Heartbeat, beat};
use drctl_model::{Lsn, SslMode, Timeline};
use drctl_tests::cluster::{caught_up, give_away, place, standby};
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::until;

use crate::common::{cluster, reach};

fn lsn(server: &Postgres, sql: &str) -> Lsn {
    server.psql("postgres", sql).parse().expect("an LSN")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_tells_who_it_is() {
    let server = cluster();
    let mut connection = Replication::open(&reach(&server), "drctl/test").await.expect("log in");
    let identity = connection.identify().await.expect("an identity");
    let sql = "select system_identifier from pg_control_system()";
    assert_eq!(identity.system_id.to_string(), server.psql("postgres", sql));
    assert_eq!(identity.timeline, Timeline::FIRST);
    assert!(identity.flushed <= lsn(&server, "select pg_current_wal_flush_lsn()"));
    assert_eq!(connection.segment_size().await.expect("a size").bytes(), 1 << 20);
    assert_eq!(connection.slot("nobody").await.expect("an answer"), None);
    connection.create_slot("kept").await.expect("a slot");
    let slot = connection.slot("kept").await.expect("an answer").expect("a slot");
    let restart = lsn(&server, "select restart_lsn from pg_replication_slots");
    assert_eq!(slot.restart, Some(restart));
    // An error of a command leaves the connection usable.
    let error = connection.create_slot("kept").await.expect_err("it is there");
    assert!(error.to_string().contains("the replication slot kept"), "{error}");
    assert!(connection.identify().await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_are_proven_and_refusals_told() {
    for method in ["scram-sha-256", "md5", "password"] {
        let server = Postgres::builder().password("right: word").start();
        server.psql(
            "postgres",
            &format!(
                "set password_encryption = '{}'; create role copier replication login password \
                 'right: word'; create role plain login password 'right: word'",
                if method == "md5" { "md5" } else { "scram-sha-256" }
            ),
        );
        let hba = format!(
            "local replication copier {method}\nhost replication copier 127.0.0.1/32 {method}\n\
             local replication plain {method}\nlocal all postgres scram-sha-256\n"
        );
        fs::write(server.data_dir().join("pg_hba.conf"), hba).expect("write pg_hba.conf");
        server.psql("postgres", "select pg_reload_conf()");
        let mut wanted = reach(&server);
        wanted.user = "copier".to_owned();
        // The reload is only asked for: it has come when the role is let in.
        wanted.password = Some(Secret::new("right: word"));
        let here = tokio::runtime::Handle::current();
        let let_in = || here.block_on(Replication::open(&wanted, "drctl/test")).is_ok();
        tokio::task::block_in_place(|| until("the role to be let in", let_in));
        let mut over_tcp = wanted.clone();
        over_tcp.host = "127.0.0.1".to_owned();
        over_tcp.sslmode = SslMode::Disable;
        // Only what gives nothing away is done where nobody is proven.
        let tried = Replication::open(&over_tcp, "drctl/test").await;
        assert_eq!(tried.is_ok(), method == "scram-sha-256", "{method} over TCP");
        wanted.password = Some(Secret::new("wrong"));
        let error = Replication::open(&wanted, "drctl/test").await.err().expect("a refusal");
        assert_eq!(error.code(), "auth", "{method}: {error}");
        wanted.password = None;
        let error = Replication::open(&wanted, "drctl/test").await.err().expect("a refusal");
        assert_eq!(error.code(), "auth", "{method}: {error}");
        let mut plain = reach(&server);
        plain.user = "plain".to_owned();
        plain.password = Some(Secret::new("right: word"));
        let error = Replication::open(&plain, "drctl/test").await.err().expect("a refusal");
        assert_eq!(error.code(), "permission", "{error}");
    }
}

/// Reads the log up to a position, as it is on the server's disk.
async fn read(server: &Postgres, from: Lsn, to: Lsn) -> Vec<u8> {
    let connection = Replication::open(&reach(server), "drctl/test").await.expect("log in");
    let mut stream = connection.start(None, from, Timeline::FIRST).await.expect("a stream");
    let mut bytes = Vec::new();
    while stream.at() < to {
        match stream.next().await.expect("an event") {
            WalEvent::Data { bytes: more, .. } => bytes.extend_from_slice(&more),
            WalEvent::Keepalive { reply: true, .. } => {
                stream.confirm(stream.at(), jiff::Timestamp::now()).await.expect("confirm");
            }
            WalEvent::Keepalive { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    let more = to.since(from);
    bytes.truncate(usize::try_from(more).expect("short"));
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream_is_the_log_that_the_server_writes() {
    let server = cluster();
    let from = lsn(
        &server,
        "select pg_switch_wal(); select pg_walfile_name(pg_current_wal_lsn()), \
        ''; select pg_current_wal_lsn()"
            .split("; ")
            .last()
            .expect("one"),
    );
    let from = drctl_model::WalSegmentSize::new(1 << 20).expect("a size").start_of(from);
    server.psql("postgres", "select pg_create_physical_replication_slot('oracle', true)");
    server.psql(
        "postgres",
        "insert into orders select g, repeat(md5(g::text), 4) \
        from generate_series(30000, 60000) g",
    );
    let to = lsn(&server, "select pg_current_wal_flush_lsn()");
    let streamed = read(&server, from, to).await;
    assert!(streamed.len() > 3 << 20, "{} bytes", streamed.len());
    let written = joined(&server.data_dir().join("pg_wal"), from, to, streamed.len());
    assert!(streamed == written, "the stream differs from the server's files");
    let (_folder, path) = place();
    fs::create_dir(&path).expect("a directory");
    give_away(&path);
    let mut oracle = server.client("pg_receivewal");
    let ended = oracle.args(["-S", "oracle", "--no-loop", "--endpos", &to.to_string(), "-D"]);
    assert!(ended.arg(&path).status().expect("start pg_receivewal").success());
    let received = joined(&path, from, to, streamed.len());
    assert!(streamed == received, "the stream differs from what pg_receivewal receives");
}

/// The first bytes of the log from `from`, out of files named as a server names them.
fn joined(folder: &Path, from: Lsn, to: Lsn, bytes: usize) -> Vec<u8> {
    let size = drctl_model::WalSegmentSize::new(1 << 20).expect("a size");
    let (mut at, mut files) = (from, Vec::new());
    while at < to {
        let name = folder.join(size.file_name(Timeline::FIRST, at));
        let under_way = name.with_extension("partial");
        files.extend(fs::read(&name).or_else(|_| fs::read(under_way)).expect("a segment"));
        at = at.plus(size.bytes());
    }
    files.truncate(bytes);
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_confirmed_position_lets_a_waiting_commit_return() {
    let server = cluster();
    server.psql(
        "postgres",
        "alter system set synchronous_standby_names = 'drctl_sync'; select pg_reload_conf()",
    );
    let from = lsn(&server, "select pg_current_wal_flush_lsn()");
    let connection = Replication::open(&reach(&server), "drctl_sync").await.expect("log in");
    let page = Lsn(from.0 & !8191);
    let mut stream = connection.start(None, page, Timeline::FIRST).await.expect("a stream");
    let begin = || {
        let insert = ["-XAtq", "-d", "postgres", "-c", "insert into orders values (0, 'waits')"];
        server.client("psql").args(insert).spawn().expect("start psql")
    };
    let mut commit = begin();
    let waits = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'";
    while server.psql("postgres", waits) != "1" {
        // The server's checkpointer has not read the setting yet: no commit waits before.
        if commit.try_wait().expect("a status").is_some() {
            commit = begin();
        }
        // Read, and say that nothing of it is safe.
        if let Ok(event) =
            tokio::time::timeout(std::time::Duration::from_millis(20), stream.next()).await
        {
            event.expect("an event");
            stream.confirm(page, jiff::Timestamp::now()).await.expect("confirm");
        }
    }
    assert!(commit.try_wait().expect("a status").is_none(), "it returned too early");
    let done = lsn(&server, "select pg_current_wal_flush_lsn()");
    while stream.at() < done {
        stream.next().await.expect("an event");
    }
    stream.confirm(stream.at(), jiff::Timestamp::now()).await.expect("confirm");
    until("the commit to return", || commit.try_wait().expect("a status").is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_timeline_is_heard_by_one_who_is_called_away_all_the_time() {
    let primary = cluster();
    let (standby, _folder) = standby(&primary);
    caught_up(&primary, &standby);
    let from = lsn(&standby, "select pg_last_wal_replay_lsn()");
    let connection = Replication::open(&reach(&standby), "drctl/test").await.expect("log in");
    let page = Lsn(from.0 & !8191);
    let mut stream = connection.start(None, page, Timeline::FIRST).await.expect("a stream");
    standby.psql("postgres", "select pg_promote()");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        assert!(std::time::Instant::now() < deadline, "waited in vain for the timeline's end");
        // As whoever waits for something else at the same time drops it.
        let waited = std::time::Duration::from_micros(100);
        if let Ok(event) = tokio::time::timeout(waited, stream.next()).await
            && let WalEvent::TimelineEnd { next, .. } = event.expect("an event")
        {
            assert_eq!(next.id(), 2);
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_outlives_the_idle_limit() {
    let server = Postgres::builder().conf("idle_session_timeout", "200ms").start();
    let mut connection = Replication::open(&reach(&server), "drctl/test").await.expect("log in");
    connection.keep_log().await.expect("a slot");
    // Another session without its own setting is ended meanwhile: so long it was.
    let mut idle = server.client("psql");
    idle.args(["-c", "select 1", "-c", "\\! sleep 1", "-c", "select 1"]);
    assert!(!idle.arg("postgres").status().expect("start psql").success());
    assert!(connection.identify().await.is_ok());
    assert_eq!(server.psql("postgres", "select count(*) from pg_replication_slots"), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_table_of_somebody_else_is_not_written() {
    let server = Postgres::start();
    let (at, rows) = (reach(&server), "select count(*) from drctl.heartbeat");
    let (every, while_) = (Duration::from_millis(50), Duration::from_secs(3));
    let beating = beat(&at, every, Heartbeat::Table);
    let _ = tokio::time::timeout(while_, beating).await;
    assert_eq!(server.psql("postgres", rows), "1");
    for made in ["create schema drctl authorization clerk", "create schema drctl"] {
        server.psql("postgres", "drop schema drctl cascade; drop role if exists clerk");
        let trap = "create role clerk; SCHEMA; \
            create table drctl.heartbeat (one boolean primary key default true, at timestamptz);\
            alter table drctl.heartbeat owner to clerk;\
            create function drctl.up() returns trigger language plpgsql as \
            $$ begin alter role clerk superuser; return new; end $$;\
            create trigger up before insert on drctl.heartbeat for each row \
            execute function drctl.up()";
        server.psql("postgres", &trap.replace("SCHEMA", made));
        let beating = beat(&at, every, Heartbeat::Table);
        let _ = tokio::time::timeout(while_, beating).await;
        let risen = "select rolsuper from pg_roles where rolname = 'clerk'";
        assert_eq!(server.psql("postgres", risen), "f");
        assert_eq!(server.psql("postgres", rows), "0");
    }
}
