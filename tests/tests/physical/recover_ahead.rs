//! Log that is fetched ahead: a help that is believed only when it is whole.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use drctl::{Ahead, Expected, LogStore, Setup, fetch_ahead};
use drctl_model::{Lsn, Timeline, WalSegmentSize};
use drctl_tests::cluster::{Cluster as _, give_away, list, place, ticks};
use drctl_tests::servers::postgres::Postgres;
use xxhash_rust::xxh3::xxh3_128;

use crate::log::{Archiving, several};
use crate::sandbox::contents;

const NAME: &str = "000000010000000000000003";
const NEXT: &str = "000000010000000000000004";

fn empty() -> (tempfile::TempDir, Ahead) {
    let folder = tempfile::tempdir().unwrap();
    let ahead = Ahead::new(&folder.path().join("ahead"));
    ahead.begin().unwrap();
    (folder, ahead)
}

/// A file that waits, as its own name tells it.
fn put(at: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let file = at.join(format!("{name}.{:032x}", xxh3_128(bytes)));
    fs::write(&file, bytes).unwrap();
    file
}

#[test]
fn a_segment_that_waits_is_taken_once_and_only_whole() {
    let (folder, ahead) = empty();
    let to = folder.path().join("to");
    assert!(ahead.take(NAME, 4, &to).is_none());
    put(ahead.path(), NAME, b"good");
    assert!(ahead.take(NEXT, 4, &to).is_none() && !to.exists());
    // What is asked for beside segments tells nothing of how far the server is.
    assert!(ahead.take("00000002.history", 4, &to).is_none());
    assert_eq!(fs::read(ahead.path().join("asked")).unwrap(), NEXT.as_bytes());
    assert_eq!(ahead.take(NAME, 4, &to).map(|taken| taken.quiet), Some(false));
    assert_eq!(fs::read(&to).unwrap(), b"good");
    assert!(ahead.take(NAME, 4, &to).is_none());
    let file = put(ahead.path(), NAME, b"good");
    fs::rename(&file, file.with_extension(format!("{:032x}.quiet", xxh3_128(b"good")))).unwrap();
    assert_eq!(ahead.take(NAME, 4, &to).map(|taken| taken.quiet), Some(true));
    ahead.end();
    assert!(!ahead.path().exists() && ahead.take(NAME, 4, &to).is_none());
}

#[test]
fn a_file_that_is_not_what_its_name_says_is_not_believed() {
    for damage in [&b"evil"[..], b"goo", b""] {
        let (folder, ahead) = empty();
        let to = folder.path().join("to");
        let file = put(ahead.path(), NAME, b"good");
        fs::write(&file, damage).unwrap();
        assert!(ahead.take(NAME, 4, &to).is_none() && !to.exists() && !file.exists(), "{damage:?}");
    }
    // Whole, but of another size than the cluster's segments; and one that was never ended.
    let (folder, ahead) = empty();
    let to = folder.path().join("to");
    put(ahead.path(), NAME, b"longer");
    fs::write(ahead.path().join(format!("{NAME}.part")), b"good").unwrap();
    assert!(ahead.take(NAME, 4, &to).is_none() && !to.exists());
}

/// `wal fetch` of a segment, with a directory where log waits.
fn fetch(shop: &Archiving, config: &Path, name: &str, to: &Path, ahead: &Path) -> Option<i32> {
    let id = shop.sql("select system_identifier from pg_control_system()");
    let (to, ahead) = (to.display().to_string(), ahead.display().to_string());
    let of = ["--system-id", &id, "--segment-bytes", "1048576", "--ahead", &ahead];
    let all = [&["wal", "fetch", "shop", name, &to][..], &of].concat();
    shop.command(&all).env("DRCTL_CONFIG", config).output().unwrap().status.code()
}

#[test]
fn what_waits_is_delivered_without_a_bucket_and_what_is_damaged_comes_out_of_it() {
    let (shop, _) = several();
    let name = shop.sql("select last_archived_wal from pg_stat_archiver");
    let right = fs::read(shop.server.data_dir().join("pg_wal").join(&name)).unwrap();
    let folder = place().0;
    let (to, ahead) = (folder.path().join("out"), folder.path().join("ahead"));
    let (config, nowhere) = (shop.site.config(), folder.path().join("nowhere"));
    fs::create_dir(&ahead).unwrap();
    put(&ahead, &name, &right);
    give_away(folder.path());
    assert_eq!(fetch(&shop, &nowhere, &name, &to, &ahead), Some(0));
    assert!(fs::read(&to).unwrap() == right);
    // It was consumed: the same again needs the bucket.
    assert_eq!(fetch(&shop, &nowhere, &name, &to, &ahead), Some(255));
    fs::remove_file(&to).unwrap();
    let file = put(&ahead, &name, &right);
    let mut damaged = right.clone();
    damaged[5000] ^= 1;
    fs::write(&file, &damaged).unwrap();
    give_away(folder.path());
    assert_eq!(fetch(&shop, &nowhere, &name, &to, &ahead), Some(255));
    assert!(!to.exists());
    fs::write(&file, &damaged).unwrap();
    assert_eq!(fetch(&shop, &config, &name, &to, &ahead), Some(0));
    assert!(fs::read(&to).unwrap() == right, "it came out of the bucket");
    // What is absent, missing or wrong is told apart as without.
    assert_eq!(fetch(&shop, &config, "0000000100000FFF000000FF", &to, &ahead), Some(1));
    assert_eq!(fetch(&shop, &config, "nonsense", &to, &ahead), Some(255));
    let pieces = shop.pieces();
    let gap = &pieces[pieces.len() - 2];
    let lsn = u64::from_str_radix(&gap.file_stem().unwrap().to_string_lossy()[..16], 16).unwrap();
    fs::remove_file(gap).unwrap();
    let size = WalSegmentSize::new(1 << 20).unwrap();
    let missing = size.file_name(Timeline::FIRST, Lsn(lsn));
    assert_eq!(fetch(&shop, &config, &missing, &to, &ahead), Some(255));
}

#[tokio::test]
async fn a_plans_log_is_fetched_ahead_byte_for_byte_and_bounded() {
    let shop = Archiving::start(true);
    let _ = shop.drctl(&["backup", "shop"]).ended(0);
    let from: Lsn = shop.sql("select pg_current_wal_insert_lsn()").parse().unwrap();
    // More segments than may wait.
    shop.sql(
        "do $$ begin for n in 1..40 loop \
           perform pg_logical_emit_message(false, 'x', repeat('y', 1000000)); \
         end loop; end $$",
    );
    shop.archived();
    let until: Lsn = shop.sql("select pg_current_wal_insert_lsn()").parse().unwrap();
    let size = WalSegmentSize::new(1 << 20).unwrap();
    let (_folder, ahead) = empty();
    let id = shop.sql("select system_identifier from pg_control_system()").parse().unwrap();
    let setup = Setup::load(&shop.site.config()).unwrap();
    let repository = setup.repository().await.unwrap();
    let identities = setup.identities(None).unwrap().unwrap();
    let log_store = LogStore::reader(&repository, &"shop".parse().unwrap());
    let legs =
        [Expected { timeline: Timeline::FIRST, from, until: size.start_of(until), last: false }];
    let work = fetch_ahead(&ahead, &log_store, (id, size), &legs, 4, &identities);
    // It waits for room, for nobody asks.
    let ended = tokio::time::timeout(Duration::from_secs(8), work).await;
    assert!(ended.is_err(), "it has no bound");
    let waiting: Vec<String> = fs::read_dir(ahead.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|file| {
            let file = file.strip_suffix(".quiet").unwrap_or(file);
            file.len() == "000000010000000000000003.".len() + 32
        })
        .collect();
    assert!((32..=36).contains(&waiting.len()), "{}", waiting.len());
    let folder = tempfile::tempdir().unwrap();
    let mut start = size.start_of(from).plus(size.bytes());
    for _ in 0..10 {
        let (name, to) = (size.file_name(Timeline::FIRST, start), folder.path().join("to"));
        assert!(ahead.take(&name, size.bytes(), &to).is_some(), "{name}");
        let right = fs::read(shop.server.data_dir().join("pg_wal").join(&name));
        // The server has used the file for other log since, or not.
        if let Ok(right) = right {
            assert!(fs::read(&to).unwrap() == right, "{name}");
        }
        start = start.plus(size.bytes());
    }
}

#[test]
fn nothing_that_was_fetched_ahead_stays_behind() {
    let (shop, last) = several();
    let (ran, _folder, path) = shop.recover(&["--to-time", &last, "--promote"]);
    let _ = ran.ended(0);
    assert!(!path.join("ahead").exists());
    // To be watched costs the server nothing that it would tell of.
    let said = fs::read_to_string(path.join("recovery.log")).unwrap();
    // A session that the server ends may be gone before it hears of it.
    let (running, _) = said.split_once("received fast shutdown request").expect("its end");
    assert!(!running.contains("could not"), "{said}");
    assert_eq!(ticks(&path), list(1..41));
}

#[test]
fn a_tablespace_whose_record_goes_on_in_the_next_segment_is_made_in_the_restore() {
    let shop = Archiving::start(true);
    let (_folder, outside) = place();
    fs::create_dir(&outside).unwrap();
    fs::set_permissions(&outside, Permissions::from_mode(0o755)).unwrap();
    shop.back_up();
    // Each record begins a few bytes nearer to the end of its segment.
    let room = |left: u32| {
        let sql = format!(
            "select 1048576 - {left} - mod(pg_current_wal_insert_lsn() - '0/0', 1048576)::int"
        );
        shop.sql(&sql).parse::<i64>().unwrap()
    };
    for n in 0..16_u32 {
        let dir = outside.join(n.to_string());
        fs::create_dir(&dir).unwrap();
        give_away(&dir);
        let left = 236 - n * 8;
        while room(left) < 0 {
            shop.sql("select pg_logical_emit_message(false, 'x', repeat('y', 2000))");
        }
        while let rest @ 200.. = room(left) {
            let bytes = (rest * 99 / 100 - 100).max(40);
            let emit = format!("select pg_logical_emit_message(false, 'x', repeat('y', {bytes}))");
            shop.sql(&emit);
        }
        shop.sql(&format!("create tablespace t{n} location '{}'", dir.display()));
    }
    shop.sql("create table far tablespace t15 as select generate_series(1, 100)");
    shop.archived();
    let crossing = crossing(&shop);
    assert!(crossing >= 2, "{crossing} records of tablespaces go on in the next segment");
    let before = contents(&outside);
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    let restored = Postgres::builder().data(&path.join("data")).start();
    assert_eq!(restored.psql("postgres", "select count(*) from far"), "100");
    assert_eq!(restored.psql("postgres", "select count(*) from pg_tablespace"), "18");
    assert!(contents(&outside) == before, "files of the source were changed");
}

/// How many records that make tablespaces lie in two segments.
fn crossing(shop: &Archiving) -> usize {
    let log = shop.server.data_dir().join("pg_wal");
    let first = shop.sql("select pg_walfile_name(redo_lsn) from pg_control_checkpoint()");
    let last = shop.sql("select last_archived_wal from pg_stat_archiver");
    let output = Command::new(shop.server.bin_dir().join("pg_waldump"))
        .args(["--rmgr=Tablespace", first.as_str(), last.as_str()])
        .arg("--path")
        .arg(&log)
        .output();
    let output = String::from_utf8(output.expect("start pg_waldump").stdout).unwrap();
    let crosses = |line: &&str| {
        let after = |word: &str| Some(line.split_once(word)?.1.trim_start());
        let length = after("len (rec/tot):")?.split('/').nth(1)?.split(',').next()?.trim();
        let lsn: Lsn = after("lsn: ")?.split(',').next()?.parse().ok()?;
        Some(lsn.0 % (1 << 20) + length.parse::<u64>().ok()? > 1 << 20)
    };
    assert_eq!(output.lines().filter(|line| line.contains("CREATE")).count(), 16, "{output}");
    output.lines().filter(|line| crosses(line) == Some(true)).count()
}
