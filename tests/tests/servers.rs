//! The servers for tests: each starts, serves, and is gone with its owner.

use std::env;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, abort};
use std::time::Duration;

use drctl_tests::servers::azurite::Azurite;
use drctl_tests::servers::free_port;
use drctl_tests::servers::gcs::FakeGcs;
use drctl_tests::servers::minio::Minio;
use drctl_tests::servers::mongodb::MongoDb;
use drctl_tests::servers::mysql::MySql;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::servers::process::wait_gone;
use drctl_tests::servers::prometheus::Prometheus;

/// Where the test that is aborted tells which server it leaves behind.
const TELL: &str = "DRCTL_TESTS_TELL";

fn assert_gone(pid: u32, port: u16) {
    assert!(wait_gone(pid, Duration::ZERO), "process {pid} is still there");
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "port {port} still answers");
}

#[test]
fn postgres_answers_and_goes() {
    let postgres = Postgres::builder().conf("cluster_name", "it's a test").start();
    assert_eq!(postgres.psql("postgres", "select 1; select 2"), "1\n2");
    assert_eq!(postgres.psql("postgres", "show cluster_name"), "it's a test");
    let said = postgres.try_psql("postgres", "select 1/0; create table t ()").unwrap_err();
    assert!(said.contains("division by zero"), "{said}");
    assert_eq!(postgres.psql("postgres", "select to_regclass('t')"), "");

    let (pid, port, folder) = (postgres.pid(), postgres.port(), postgres.socket_dir().to_owned());
    drop(postgres);
    assert_gone(pid, port);
    assert!(!folder.exists());
}

#[test]
fn postgres_wants_its_password() {
    let postgres = Postgres::builder().password("p@ss w:rd").start();
    let url = postgres.url("postgres");
    let ask = |url: &str| {
        let mut psql = Command::new(postgres.bin_dir().join("psql"));
        psql.env_remove("PGPASSWORD").args(["-XAtqw", "-c", "select 1", url]).output().unwrap()
    };
    assert_eq!(ask(&url).stdout, b"1\n");
    assert!(!ask(&url.replace("%40", "")).status.success());
    assert!(
        !ask(&format!("host={} user=postgres", postgres.socket_dir().display())).status.success()
    );
}

#[test]
fn postgres_keeps_its_data_over_a_crash_and_a_stop() {
    let mut postgres = Postgres::start();
    postgres.psql("postgres", "create table kept as select 7 as seven");
    let (pid, port) = (postgres.pid(), postgres.port());
    postgres.crash();
    assert_gone(pid, port);
    postgres.start_again();
    assert!(postgres.log().contains("redo"), "{}", postgres.log());
    postgres.stop();
    postgres.start_again();
    assert!(!postgres.log().contains("redo"), "{}", postgres.log());
    assert_eq!((postgres.psql("postgres", "table kept"), postgres.port()), ("7".to_owned(), port));
}

#[test]
fn postgres_runs_on_a_copy_of_another() {
    let source = Postgres::builder().password("secret").start();
    source.psql("postgres", "create table copied as select 7 as seven");
    let folder = reachable_folder();
    let copy = folder.path().join("copy");
    let status = source.client("pg_basebackup").arg("-D").arg(&copy).status().unwrap();
    assert!(status.success());
    let restored = Postgres::builder().password("secret").data(&copy).start();
    assert_eq!(restored.psql("postgres", "table copied"), "7");
}

#[test]
fn mariadb_and_mysql_keep_their_data_over_a_crash_and_a_stop_and_go() {
    for (wanted, version) in [(MySql::mariadb(), "-MariaDB"), (MySql::mysql().by_file(), "8.0.")] {
        let mut server = wanted.start();
        assert!(server.version().contains(version), "{}", server.version());
        server.sql("create database shop; create table shop.kept as select 7 as seven");
        let (pid, port) = (server.pid(), server.port());
        server.kill();
        assert_gone(pid, port);
        server.start_again();
        server.stop();
        server.start_again();
        assert_eq!((server.sql("select seven from shop.kept"), server.port()), ("7".into(), port));
        let dumped = server.client("mariadb-dump").arg("shop").output().unwrap();
        assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
        assert!(String::from_utf8_lossy(&dumped.stdout).contains("INSERT INTO `kept` VALUES"));
        let (pid, folder) = (server.pid(), server.data_dir());
        drop(server);
        assert_gone(pid, port);
        assert!(!folder.exists());
    }
}

#[test]
fn mariadb_is_copied_by_its_own_tool() {
    let server = MySql::mariadb().option("log-bin=bin").start();
    let folder = reachable_folder();
    let mut tool = server.client("mariadb-backup");
    tool.args(["--backup", "--stream=mbstream"]);
    tool.arg(format!("--datadir={}", server.data_dir().display()));
    tool.arg(format!("--target-dir={}", folder.path().join("unused").display()));
    let output = tool.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim_end().ends_with("completed OK!"), "{said}");
    assert!(output.stdout.starts_with(b"XBSTCK01"));
}

#[test]
fn the_stand_in_for_mongodb_is_there_and_goes() {
    let server = MongoDb::start();
    assert!(TcpStream::connect(("127.0.0.1", server.port())).is_ok());
    let (pid, port) = (server.pid(), server.port());
    drop(server);
    assert_gone(pid, port);
}

#[tokio::test]
async fn minio_serves_goes_and_comes_back() {
    let mut minio = Minio::start();
    minio.make_bucket("plain");
    let client = minio.client();
    client.put_object().bucket("plain").key("a/b").body(vec![7; 9].into()).send().await.unwrap();
    let again = client.put_object().bucket("plain").key("a/b").if_none_match("*").send().await;
    assert_eq!(again.unwrap_err().raw_response().unwrap().status().as_u16(), 412);

    let (pid, port) = (minio.pid(), minio.port());
    minio.kill();
    assert_gone(pid, port);
    minio.start_again();
    assert_eq!(minio.port(), port);
    let object = client.get_object().bucket("plain").key("a/b").send().await.unwrap();
    assert_eq!(object.body.collect().await.unwrap().into_bytes(), vec![7; 9]);

    let pid = minio.pid();
    minio.stop();
    assert_gone(pid, port);
}

#[tokio::test]
async fn minio_locks_and_keeps_versions() {
    let minio = Minio::start();
    minio.make_bucket("versioned");
    minio.set_versioning("versioned");
    minio.make_bucket_with_lock("locked");
    let client = minio.client();
    for bucket in ["versioned", "locked"] {
        let put = client.put_object().bucket(bucket).key("a").send().await.unwrap();
        assert!(put.version_id().is_some(), "{bucket} keeps versions");
    }
    let lock = client.get_object_lock_configuration();
    assert!(lock.clone().bucket("locked").send().await.is_ok());
    assert!(lock.bucket("versioned").send().await.is_err());
}

#[test]
fn azurite_serves_and_goes() {
    let azurite = Azurite::start();
    azurite.make_container("container");
    azurite.put("container", "a/b", b"seven");
    assert_eq!(azurite.get("container", "a/b").body, b"seven");
    assert_eq!(azurite.get("container", "absent").status, 404);

    let (pid, port) = (azurite.pid(), azurite.port());
    drop(azurite);
    assert_gone(pid, port);
}

#[test]
fn fake_gcs_serves_and_goes() {
    let gcs = FakeGcs::start();
    gcs.make_bucket("bucket");
    gcs.put("bucket", "a/b", b"seven");
    assert_eq!(gcs.get("bucket", "a/b").body, b"seven");
    assert_eq!(gcs.get("bucket", "absent").status, 404);

    let (pid, port) = (gcs.pid(), gcs.port());
    drop(gcs);
    assert_gone(pid, port);
}

#[test]
fn prometheus_answers_and_goes() {
    let folder = tempfile::tempdir().unwrap();
    let prometheus = Prometheus::start(&folder.path().join("prometheus"), "scrape_configs: []\n");
    assert_eq!(prometheus.tells("query?query=7")["result"][1], "7");

    let (pid, port) = (prometheus.pid(), prometheus.port());
    drop(prometheus);
    assert_gone(pid, port);
}

#[test]
fn a_free_port_is_free_and_given_once() {
    let (one, other) = (free_port(), free_port());
    assert_ne!(one, other);
    assert!(TcpStream::connect(("127.0.0.1", one)).is_err());
}

/// A server outlives the thread that started it, but not the process.
#[test]
fn servers_die_with_the_test_process() {
    let folder = reachable_folder();
    let tell = folder.path().join("tell");
    let output = Command::new(env::current_exe().unwrap())
        .args(["--ignored", "--exact", "aborts_with_servers_running"])
        .env(TELL, &tell)
        .env("TMPDIR", folder.path())
        .output()
        .unwrap();
    assert!(!output.status.success(), "it was to abort");
    let told = fs::read_to_string(&tell).expect("it got that far");
    let pids: Vec<u32> = told.lines().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 3);
    for pid in pids {
        assert!(wait_gone(pid, Duration::from_secs(10)), "process {pid} outlived its test");
    }
}

#[test]
#[ignore = "run by servers_die_with_the_test_process"]
fn aborts_with_servers_running() {
    let Some(tell) = env::var_os(TELL) else { return };
    let start = || (Postgres::start(), FakeGcs::start());
    let (postgres, gcs) = std::thread::spawn(start).join().unwrap();
    // Both still serve, though the thread that started them is gone.
    let backend = postgres.psql("postgres", "select pg_backend_pid()");
    assert!(wait_gone(backend.parse().unwrap(), Duration::from_secs(10)));
    gcs.make_bucket("bucket");
    let writer = "select pid from pg_stat_activity where backend_type = 'walwriter'";
    let writer = postgres.psql("postgres", writer);
    fs::write(Path::new(&tell), format!("{}\n{}\n{writer}\n", postgres.pid(), gcs.pid())).unwrap();
    abort();
}

/// A folder that every account may enter.
fn reachable_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}
