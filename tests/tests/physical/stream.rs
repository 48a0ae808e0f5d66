//! The log streamed as it is written, and what piles up where nobody reads it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};

use drctl_catalog::Catalog;
use drctl_model::FindingCode;
use drctl_tests::cluster::{Cluster as _, caught_up, list, since, standby, ticks};
use drctl_tests::envelope::opened;
use drctl_tests::servers::minio::Minio;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::servers::scripted::Scripted;
use drctl_tests::site::until;
use jiff::Timestamp;
use serde_json::Value;

use crate::log::Archiving;
use crate::streaming::{Streaming, shipped, synchronous};

#[test]
fn streamed_log_reaches_what_was_committed_seconds_before_the_host_died() {
    let mut shop = Archiving::start(false);
    let mut streaming = Streaming::start(&shop, &["--interval", "1"]);
    let _ = shop.drctl(&["backup", "shop"]).ended(0);
    shop.tick(1..31);
    shipped(&shop.server);
    shop.server.crash();
    streaming.kill();
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..31));
}

#[test]
fn a_heartbeat_makes_recent_times_reachable_on_an_idle_server() {
    let shop = Archiving::start(false);
    let _ = shop.drctl(&["backup", "shop"]).ended(0);
    shop.tick(1..4);
    let streaming = Streaming::start(&shop, &["--interval", "1", "--heartbeat", "1"]);
    // When a base backup ended is known to the second.
    let ended = shop.sql("select date_trunc('second', clock_timestamp()) + '1 second'");
    let over = format!("select clock_timestamp() > '{ended}'");
    until("that second to be over", || shop.sql(&over) == "t");
    // Nobody commits anything any more, and still this moment can be named soon.
    let now = shop.sql(
        "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
    );
    let plan = ["restore", "shop", "--to-time", &now, "--to-directory", "x", "--plan"];
    until("the moment to be reachable", || shop.drctl(&plan).code == Some(0));
    let (ran, _folder, path) = shop.recover(&["--to-time", &now, "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..4));
    assert_eq!(streaming.end(), Some(130));
}

#[test]
fn a_heartbeat_in_a_table_tells_which_moment_restored_data_show() {
    let shop = Archiving::start(false);
    let more = ["--interval", "1", "--heartbeat", "1", "--heartbeat-table"];
    let streaming = Streaming::start(&shop, &more);
    let _ = shop.drctl(&["backup", "shop"]).ended(0);
    let beats = "select count(*) || ' ' || max(at) from drctl.heartbeat";
    until("a heartbeat", || shop.server.try_psql("postgres", beats).is_ok());
    let first = shop.sql("select max(at) from drctl.heartbeat");
    until("another one", || shop.sql("select max(at) from drctl.heartbeat") > first);
    let (count, then) = (shop.sql("select count(*) from drctl.heartbeat"), shop.sql(beats));
    assert_eq!(count, "1");
    let at = then.split_once(' ').unwrap().1.to_owned();
    shipped(&shop.server);
    assert_eq!(streaming.end(), Some(130));
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    let restored = Postgres::builder().data(&path.join("data")).start();
    let shown = restored.psql("postgres", "select max(at) from drctl.heartbeat");
    assert!(shown >= at, "{shown} before {at}");
}

#[test]
fn the_doctor_sees_log_that_piles_up() {
    let shop = Archiving::start(false);
    let findings = |code: i32| shop.drctl(&["doctor"]).ended(code).json()["findings"].to_string();
    // archive_command is `false`: PostgreSQL tries for ever, and tells nobody.
    shop.sql("select pg_switch_wal()");
    until("a failure to archive", || {
        shop.sql("select failed_count > 0 from pg_stat_archiver") == "t"
    });
    let found = findings(1);
    assert!(found.contains("cannot archive 0000000100000000"), "{found}");
    assert!(found.contains("\"code\":\"archiving_fails\""), "{found}");
    shop.sql("alter system set archive_command = 'true'; select pg_reload_conf()");
    // After failures the archiver sleeps for a minute, unless there is something new.
    until("the archiver to go on", || {
        shop.sql("select txid_current(); select pg_switch_wal()");
        let newer = "select last_archived_time > last_failed_time from pg_stat_archiver";
        shop.sql(newer) == "t"
    });
    shop.sql("select pg_create_physical_replication_slot('forgotten', true)");
    let found = findings(3);
    assert!(found.contains("the slot forgotten is not read from"), "{found}");
    shop.sql("alter system set max_slot_wal_keep_size = '1MB'; select pg_reload_conf()");
    for _ in 0..6 {
        shop.sql(
            "create table if not exists t(x text); insert into t values (repeat('x', 9)); \
                  select pg_switch_wal()",
        );
    }
    shop.sql("checkpoint");
    until("the slot to be given up", || {
        shop.sql(
            "checkpoint; select wal_status in ('lost', 'unreserved') from pg_replication_slots",
        ) == "t"
    });
    assert!(findings(1).contains("the slot forgotten has lost WAL"), "{}", findings(1));
}

/// Start and end of a piece, by its name.
fn range(piece: &std::path::Path) -> (u64, u64) {
    let name = piece.file_stem().unwrap().to_str().unwrap();
    let (start, end) = name.split_once('-').unwrap();
    (u64::from_str_radix(start, 16).unwrap(), u64::from_str_radix(end, 16).unwrap())
}

/// The pieces that are a whole segment of 1 MiB, and those that are a part of one of these.
pub(crate) fn joined(shop: &Archiving) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let pieces = shop.pieces();
    let is_whole = |piece: &PathBuf| range(piece).1 - range(piece).0 == 1 << 20;
    let (whole, mut parts): (Vec<_>, Vec<_>) = pieces.into_iter().partition(is_whole);
    let within = |part: &PathBuf| whole.iter().any(|w| range(w).0 >> 20 == range(part).0 >> 20);
    parts.retain(within);
    (whole, parts)
}

#[test]
fn parts_of_a_segment_are_joined_and_the_whole_is_enough() {
    let shop = Archiving::start(false);
    let _streaming = Streaming::start(&shop, &["--interval", "1"]);
    let _ = shop.drctl(&["backup", "shop"]).ended(0);
    for batch in 0..3 {
        shop.tick(batch * 10 + 1..batch * 10 + 11);
        shipped(&shop.server);
    }
    let named = shop.sql("select pg_create_restore_point('in a part')");
    shipped(&shop.server);
    shop.sql("select pg_switch_wal()");
    shop.tick(31..41);
    shipped(&shop.server);
    until("the parts to be joined", || joined(&shop).1.len() >= 4);
    let (_, parts) = joined(&shop);
    for part in &parts {
        fs::remove_file(part).unwrap();
    }
    let _ = shop
        .drctl(&["verify", "--data", "--identity", &shop.site.identity().display().to_string()])
        .ended(0);
    let view = shop.drctl(&["timeline", "shop"]).ended(0).json();
    assert_eq!(view["timelines"][0]["gaps"].as_array().map(Vec::len), Some(0), "{view}");
    for (target, last) in [(&["--to-end"][..], 41), (&["--to-name", "in a part"], 31)] {
        let (ran, _folder, path) = shop.recover(&[target, &["--promote"]].concat());
        let _ = ran.ended(0);
        assert_eq!(ticks(&path), list(1..last), "{named}");
    }
}

/// What is signed of a piece.
fn head(piece: &PathBuf) -> Value {
    let bytes = fs::read(piece).unwrap();
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap();
    opened(line)
}

#[test]
fn a_stream_that_is_begun_again_within_a_segment_goes_on_with_the_same_log() {
    let shop = Archiving::start(false);
    let mut streaming = Streaming::start(&shop, &["--interval", "1"]);
    shop.back_up();
    // Each time within a segment whose predecessor is in the bucket as a whole.
    for batch in 0..3 {
        shop.tick(batch * 20 + 1..batch * 20 + 11);
        shop.sql("select pg_switch_wal()");
        shop.tick(batch * 20 + 11..batch * 20 + 16);
        shipped(&shop.server);
        let _ = streaming.end();
        streaming = Streaming::start(&shop, &["--interval", "1"]);
        shop.tick(batch * 20 + 16..batch * 20 + 21);
        shipped(&shop.server);
    }
    shop.sql("select pg_switch_wal()");
    shop.tick(61..71);
    shipped(&shop.server);
    until("the parts to be joined", || joined(&shop).1.len() >= 6);
    let view = shop.drctl(&["timeline", "shop"]).ended(0).json();
    assert_eq!(view["timelines"][0]["gaps"].as_array().map(Vec::len), Some(0), "{view}");
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..71));
    // Without the parts nothing but the whole tells what it follows.
    let (whole, _) = joined(&shop);
    let digests: Vec<_> = whole.iter().map(head).collect();
    for pair in digests.windows(2) {
        assert_eq!(pair[1]["holds"]["before"], pair[0]["plain_sha256"], "{pair:?}");
    }
}

#[test]
fn a_stream_that_is_begun_again_at_a_segments_end_is_bound_to_what_lies_before() {
    let shop = Archiving::start(false);
    shop.sql("alter system set wal_keep_size = '64MB'; select pg_reload_conf()");
    let mut streaming = Streaming::start(&shop, &["--interval", "1"]);
    shop.back_up();
    for batch in 0..3 {
        shop.tick(batch * 10 + 1..batch * 10 + 6);
        shop.sql("select pg_switch_wal()");
        shipped(&shop.server);
        let _ = streaming.end();
        if batch == 2 {
            shop.sql("select pg_drop_replication_slot('drctl_shop')");
        }
        streaming = Streaming::start(&shop, &["--interval", "1"]);
        shop.tick(batch * 10 + 6..batch * 10 + 11);
        shipped(&shop.server);
    }
    shop.sql("select pg_switch_wal()");
    shop.tick(31..41);
    shipped(&shop.server);
    until("the parts to be joined", || joined(&shop).0.len() >= 4);
    assert!(!streaming.said().contains("not known"), "{}", streaming.said());
    let _ = streaming.end();
    let start = |piece: &PathBuf| {
        let name = piece.file_stem().unwrap().to_str().unwrap();
        name.split('-').next().unwrap().to_owned()
    };
    let firsts = shop.pieces().into_iter().filter(|piece| start(piece).ends_with("00000"));
    let heads: Vec<(PathBuf, Value)> = firsts.map(|piece| (piece.clone(), head(&piece))).collect();
    let unbound = heads.iter().filter(|(_, head)| head["holds"]["before"].is_null());
    let unbound: Vec<&PathBuf> = unbound.map(|(piece, _)| piece).collect();
    // Nothing lies before the first.
    let first = heads.iter().map(|(piece, _)| start(piece)).min();
    let others: Vec<_> = unbound.iter().filter(|piece| Some(start(piece)) != first).collect();
    assert!(others.is_empty() && heads.len() > 4, "{others:?} of {}", heads.len());
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..41));
}

/// Makes a standby the source of a site.
pub(crate) fn point_at(shop: &Archiving, server: &Postgres) {
    let config = fs::read_to_string(shop.site.config()).unwrap();
    let line = |name: &str| config.lines().find(|l| l.starts_with(name)).unwrap().to_owned();
    shop.site.replace(&line("host = "), &format!("host = \"{}\"", server.socket_dir().display()));
    shop.site.replace(&line("port = "), &format!("port = {}", server.port()));
}

#[test]
fn a_stream_from_a_standby_goes_on_through_its_promotion() {
    let mut shop = Archiving::start(false);
    let (standby, _folder) = standby(&shop.server);
    let primary = std::mem::replace(&mut shop.server, standby);
    point_at(&shop, &shop.server);
    let streaming = Streaming::start(&shop, &["--interval", "1"]);
    let _ = shop.drctl(&["backup", "shop"]).ended(0);
    primary.psql("postgres", "insert into ticks select g, 'x' from generate_series(1, 10) g");
    caught_up(&primary, &shop.server);
    shop.sql("select pg_promote()");
    shop.tick(11..21);
    shipped(&shop.server);
    assert!(streaming.said().contains("timeline 2"), "{}", streaming.said());
    assert_eq!(streaming.end(), Some(130));
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    assert_eq!(ran.ended(0).json()["timeline"], 2);
    assert_eq!(ticks(&path), list(1..21));
}

#[test]
fn a_new_primary_is_streamed_from_where_the_old_ones_log_ends() {
    let mut shop = Archiving::start(false);
    let (standby, _folder) = standby(&shop.server);
    let streaming = Streaming::start(&shop, &["--interval", "1"]);
    let _ = shop.drctl(&["backup", "shop"]).ended(0);
    shop.tick(1..11);
    shipped(&shop.server);
    assert_eq!(streaming.end(), Some(130));
    // Nobody streams these from the old primary any more; the new one has them.
    shop.tick(11..21);
    caught_up(&shop.server, &standby);
    shop.fail_over(standby);
    point_at(&shop, &shop.server);
    shop.tick(21..31);
    let streaming = Streaming::start(&shop, &["--interval", "1"]);
    shipped(&shop.server);
    assert_eq!(streaming.end(), Some(130));
    let view = shop.drctl(&["timeline", "shop"]).ended(0).json();
    assert_eq!(view["timelines"].as_array().map(Vec::len), Some(2), "{view}");
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..31));
}

#[test]
fn a_stream_goes_on_by_itself_when_the_server_is_there_again() {
    let mut shop = Archiving::start(false);
    let streaming = Streaming::start(&shop, &["--interval", "1"]);
    let _ = shop.drctl(&["backup", "shop"]).ended(0);
    shop.tick(1..11);
    shop.server.stop();
    let seen = ["it will be asked again", "reconnecting"];
    until("the end to be seen", || seen.iter().any(|words| streaming.said().contains(words)));
    shop.server.start_again();
    shop.tick(11..21);
    shipped(&shop.server);
    shop.server.crash();
    shop.server.start_again();
    shop.tick(21..31);
    shipped(&shop.server);
    assert_eq!(streaming.end(), Some(130));
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..31));
}

/// A site whose bucket lies in MinIO, behind this port.
fn in_s3(minio: &Minio, port: u16) -> impl Fn(&Postgres) -> drctl_tests::site::Site {
    crate::log::in_s3(minio, format!("http://127.0.0.1:{port}"))
}

#[test]
fn a_stream_outlives_a_bucket_that_is_away_and_says_that_commits_wait() {
    let mut minio = Minio::start();
    minio.make_bucket("shop");
    let shop = Archiving::with(false, in_s3(&minio, minio.port()));
    let streaming = Streaming::start(&shop, &["--synchronous"]);
    let _ = shop.drctl(&["backup", "shop"]).ended(0);
    synchronous(&shop);
    shop.tick(1..6);
    minio.kill();
    let mut waiting = insert(&shop, 6);
    until("an alarm", || streaming.said().contains("COMMITS ARE WAITING"));
    let said = streaming.said();
    assert!(said.contains("ALTER SYSTEM RESET synchronous_standby_names"), "{said}");
    assert!(waiting.try_wait().unwrap().is_none(), "it returned without the bucket");
    minio.start_again();
    until("the commit to return", || waiting.try_wait().unwrap().is_some());
    shop.tick(7..11);
    assert_eq!(streaming.end(), Some(130));
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..11));
}

/// Whether the catalog of this host holds a finding.
fn is_kept(shop: &Archiving, code: FindingCode) -> bool {
    let path = shop.site.path("state/catalog.db");
    let look = async { Catalog::open_read_only(&path).await.ok()?.findings(None).await.ok() };
    let kept = tokio::runtime::Runtime::new().unwrap().block_on(look);
    kept.is_some_and(|all| all.iter().any(|one| one.finding.code == code))
}

#[test]
fn commits_that_wait_are_told_by_status_until_their_log_arrives() {
    let mut minio = Minio::start();
    minio.make_bucket("shop");
    let shop = Archiving::with(false, in_s3(&minio, minio.port()));
    let mut streaming = Streaming::start(&shop, &["--synchronous", "--quiet"]);
    let _ = shop.drctl(&["backup", "shop"]).ended(0);
    synchronous(&shop);
    assert_eq!(shop.told("commits_wait"), [Value::Null; 0]);
    minio.kill();
    let mut waiting = insert(&shop, 1);
    until("it to be kept", || is_kept(&shop, FindingCode::CommitsWait));
    assert!(streaming.said().contains("COMMITS ARE WAITING"), "{}", streaming.said());
    // Whoever looks later hears of it, also when the stream is gone.
    streaming.kill();
    minio.start_again();
    let asked = Timestamp::now();
    let told = shop.told("commits_wait");
    assert!(told.len() == 1 && since(&told[0]) < asked, "{told:?}");
    assert!(told[0]["text"].as_str().unwrap().contains("COMMITS ARE WAITING"), "{told:?}");
    let _ = shop.drctl(&["status", "--check"]).ended(3);
    let _streaming = Streaming::start(&shop, &["--synchronous"]);
    until("the commit to return", || waiting.try_wait().unwrap().is_some());
    until("it to be settled", || shop.told("commits_wait").is_empty());
}

/// A commit of a row, under way.
fn insert(shop: &Archiving, id: u32) -> std::process::Child {
    let mut psql = shop.server.client("psql");
    let sql = format!("insert into ticks values ({id}, 'x')");
    psql.args(["-XAtq", "-d", "postgres", "-c", &sql]).stdin(Stdio::null()).spawn().unwrap()
}

/// What a proxy in front of a store does with the pieces of log that pass it.
#[derive(Default)]
struct Gate {
    state: Mutex<(bool, Vec<String>, Vec<String>)>,
    opened: Condvar,
}

impl Gate {
    /// From now on the next piece is kept back.
    fn close(&self) {
        *self.state.lock().unwrap() = (true, Vec::new(), Vec::new());
    }

    fn open(&self) {
        self.state.lock().unwrap().0 = false;
        self.opened.notify_all();
    }

    /// Pieces that came since it was closed, and those of them that were read back.
    fn seen(&self) -> (usize, usize) {
        let state = self.state.lock().unwrap();
        (state.1.len(), state.2.len())
    }

    /// Lets all pass but the first piece.
    fn pass(&self, head: &str) {
        let first = head.lines().next().unwrap_or_default();
        let Some(key) = first.split(' ').nth(1).filter(|key| key.ends_with(".log")) else { return };
        let mut state = self.state.lock().unwrap();
        if first.starts_with("GET") && state.1.iter().any(|put| put == key) {
            state.2.push(key.to_owned());
        }
        if first.starts_with("PUT") {
            state.1.push(key.to_owned());
            if state.0 && state.1.len() == 1 {
                drop(self.opened.wait_while(state, |state| state.0).unwrap());
            }
        }
    }
}

#[test]
fn a_piece_is_confirmed_only_when_all_before_it_are_in_the_bucket() {
    let minio = Minio::start();
    minio.make_bucket("shop");
    let (gate, port) = (Arc::new(Gate::default()), minio.port());
    let guard = Arc::clone(&gate);
    let proxy = Scripted::start(move |heard| {
        guard.pass(&heard.head);
        heard.forwarded(port)
    });
    let shop = Archiving::with(false, in_s3(&minio, proxy.port()));
    let streaming = Streaming::start(&shop, &["--synchronous"]);
    let _ = shop.drctl(&["backup", "shop"]).ended(0);
    synchronous(&shop);
    shop.tick(1..4);
    gate.close();
    let before = shop.sql("select pg_current_wal_flush_lsn()");
    let mut one = insert(&shop, 4);
    until("the first piece", || gate.seen().0 == 1);
    let mut other = insert(&shop, 5);
    // Several are under way at once: this one arrives while the first is kept back.
    until("a later piece to be read back", || gate.seen() >= (2, 1));
    let now = shop.sql("select clock_timestamp()");
    let heard = format!("select reply_time > '{now}' from pg_stat_replication");
    until("the server to hear from the stream", || shop.sql(&heard) == "t");
    let flushed = format!("select flush_lsn <= '{before}' from pg_stat_replication");
    assert_eq!(shop.sql(&flushed), "t", "a position was confirmed that has a hole before it");
    assert!(one.try_wait().unwrap().is_none() && other.try_wait().unwrap().is_none());
    gate.open();
    until("both commits to return", || {
        one.try_wait().unwrap().is_some() && other.try_wait().unwrap().is_some()
    });
    assert_eq!(streaming.end(), Some(130));
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..6));
}

/// Streams, and has the server remove what it has streamed and more.
pub(crate) fn stream_and_remove(shop: &Archiving) {
    shop.sql("alter system set archive_mode = 'on'; alter system set archive_command = 'true'; select pg_reload_conf()");
    let streaming = Streaming::start(shop, &["--interval", "1"]);
    let _ = shop.drctl(&["backup", "shop"]).ended(0);
    shop.tick(1..11);
    shipped(&shop.server);
    assert_eq!(streaming.end(), Some(130));
    // Somebody dropped the slot, and the server has removed what it kept.
    shop.sql("select pg_drop_replication_slot('drctl_shop')");
    let kept = shop.sql("select pg_walfile_name(pg_current_wal_lsn())");
    let gone = format!("select count(*) from pg_ls_waldir() where name = '{kept}'");
    until("the server to remove its log", || {
        shop.sql("create table if not exists t(x text); insert into t values (repeat('x', 99)); select pg_switch_wal()");
        shop.sql("checkpoint");
        shop.sql(&gone) == "0"
    });
}

#[test]
fn log_that_the_server_has_removed_is_a_gap_that_is_said() {
    let shop = Archiving::start(false);
    stream_and_remove(&shop);
    let streaming = Streaming::start(&shop, &["--interval", "1"]);
    shop.tick(11..21);
    shipped(&shop.server);
    assert!(streaming.said().contains("GAP"), "{}", streaming.said());
    assert_eq!(streaming.end(), Some(130));
    let view = shop.drctl(&["timeline", "shop"]).ended(3).json();
    assert_eq!(view["timelines"][0]["gaps"].as_array().map(Vec::len), Some(1), "{view}");
    // Told later with the time at which the stream came upon it, until a base backup makes up for it.
    let asked = Timestamp::now();
    let gap = shop.told("log_gap");
    assert!(gap.len() == 1 && gap[0]["severity"] == "bad" && since(&gap[0]) < asked, "{gap:?}");
    let streaming = Streaming::start(&shop, &["--interval", "1"]);
    let _ = shop.drctl(&["backup", "shop"]).ended(0);
    shipped(&shop.server);
    assert_eq!(streaming.end(), Some(130));
    assert_eq!(shop.told("log_gap"), [Value::Null; 0], "it is made up for");
}

#[test]
fn another_cluster_in_the_servers_place_ends_the_stream() {
    let mut shop = Archiving::start(false);
    let mut streaming = Streaming::start(&shop, &["--interval", "1"]);
    shop.server.stop();
    let seen = ["it will be asked again", "reconnecting"];
    until("the end to be seen", || seen.iter().any(|words| streaming.said().contains(words)));
    // A cluster of its own at the same place: the stream must not mix their logs.
    let mut other = Postgres::builder().initdb("--wal-segsize=1").start();
    other.stop();
    let data = shop.server.data_dir().to_owned();
    fs::remove_dir_all(&data).unwrap();
    let copied = Command::new("cp").arg("-a").arg(other.data_dir()).arg(&data).status();
    assert!(copied.unwrap().success());
    shop.server.start_again();
    assert_eq!(streaming.ended(), Some(1), "{}", streaming.said());
    assert!(streaming.said().contains("another cluster"), "{}", streaming.said());
}
