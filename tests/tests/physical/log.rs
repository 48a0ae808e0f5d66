//! The log in the bucket, and clusters brought to a point in time with it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use drctl_tests::servers::minio::Minio;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::{Ran, Site, until};

use crate::common::{filled, give_away, place, site};
use crate::stream::{caught_up, standby};

/// A cluster that archives into a site's repository, and that site.
pub(crate) struct Archiving {
    pub(crate) server: Postgres,
    pub(crate) site: Site,
    /// The program, where every account can run it.
    _bin: tempfile::TempDir,
    program: PathBuf,
}

impl Archiving {
    /// With `archive_command` where `push`, else without any archive.
    pub(crate) fn start(push: bool) -> Self {
        Archiving::with(push, site)
    }

    /// With a site that is made for the server.
    pub(crate) fn with(push: bool, site: impl Fn(&Postgres) -> Site) -> Self {
        let server = Postgres::builder()
            .initdb("--wal-segsize=1")
            .conf("archive_mode", "on")
            .conf("archive_command", "false")
            .conf("track_commit_timestamp", "on")
            .conf("max_prepared_transactions", "10")
            .start();
        let server = filled(server);
        server.psql("postgres", "create table ticks (id int primary key, note text)");
        let site = site(&server);
        let bin = tempfile::Builder::new().prefix("drctl-bin-").tempdir().unwrap();
        fs::set_permissions(bin.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let program = bin.path().join("drctl");
        if fs::hard_link(drctl_tests::site::drctl(), &program).is_err() {
            fs::copy(drctl_tests::site::drctl(), &program).unwrap();
        }
        let archiving = Archiving { server, site, _bin: bin, program };
        give_away(&archiving.site.path(""));
        if push {
            let command = format!(
                "{} --config {} wal push shop %p",
                archiving.program.display(),
                archiving.site.config().display()
            );
            archiving.server.psql(
                "postgres",
                &format!("alter system set archive_command = '{command}'; select pg_reload_conf()"),
            );
        }
        archiving
    }

    /// The program, as the server's account can run it.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// `drctl` as the server's account.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match rustix::process::geteuid().is_root() {
            true => {
                let mut command = Command::new("setpriv");
                let account = ["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"];
                command.args(account).arg(&self.program);
                command
            }
            false => Command::new(&self.program),
        };
        command.env("DRCTL_CONFIG", self.site.config()).env("TZ", "UTC").current_dir("/");
        command.args(arguments).stdin(Stdio::null());
        command
    }

    #[track_caller]
    pub(crate) fn drctl(&self, arguments: &[&str]) -> Ran {
        Ran::of(&self.command(&[&["--json"], arguments].concat()).output().unwrap())
    }

    pub(crate) fn sql(&self, sql: &str) -> String {
        self.server.psql("postgres", sql)
    }

    /// Commits rows, each by itself.
    pub(crate) fn tick(&self, ids: std::ops::Range<u32>) {
        let rows: Vec<String> =
            ids.map(|id| format!("insert into ticks values ({id}, md5('{id}'));")).collect();
        self.sql(&rows.join("\n"));
    }

    /// When a row was committed, to the microsecond, in UTC.
    pub(crate) fn committed(&self, id: u32) -> String {
        let text = self.sql(&format!(
            "select to_char(pg_xact_commit_timestamp(xmin) at time zone 'UTC', \
             'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') from ticks where id = {id}"
        ));
        // As drctl writes it: without zeros at its end.
        text.parse::<jiff::Timestamp>().expect("a time").to_string()
    }

    /// Ends the segment and waits until all before it is archived.
    pub(crate) fn archived(&self) {
        let name = self.sql("select pg_walfile_name(pg_switch_wal())");
        until("the log to be archived", || {
            self.sql("select coalesce(last_archived_wal, '') from pg_stat_archiver") >= name
        });
    }

    /// The pieces of the log, in order.
    pub(crate) fn pieces(&self) -> Vec<PathBuf> {
        let mut files = self.site.files("repository");
        files.retain(|path| path.extension().is_some_and(|ending| ending == "wal"));
        files.iter().map(|path| self.site.path("repository").join(path)).collect()
    }

    /// Recovers into a new directory and gives the rows of the result.
    #[track_caller]
    pub(crate) fn recover(&self, arguments: &[&str]) -> (Ran, tempfile::TempDir, PathBuf) {
        let (folder, path) = place();
        give_away(folder.path());
        let to = path.display().to_string();
        let ran = self.drctl(&[&["restore", "shop"], arguments, &["--to-directory", &to]].concat());
        (ran, folder, path)
    }
}

/// The ticks in a recovered cluster.
#[track_caller]
pub(crate) fn ticks(path: &Path) -> String {
    let mode = fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode & 0o700, 0o700);
    let restored = Postgres::builder().data(&path.join("data")).start();
    restored.psql("postgres", "select string_agg(id::text, ',' order by id) from ticks")
}

pub(crate) fn list(ids: std::ops::Range<u32>) -> String {
    ids.map(|id| id.to_string()).collect::<Vec<_>>().join(",")
}

#[test]
fn a_cluster_is_brought_to_any_time_position_transaction_and_name() {
    let shop = Archiving::start(true);
    shop.tick(1..11);
    let _ = shop.drctl(&["backup", "shop"]).ended(0);
    shop.tick(11..31);
    let (time, later) = (shop.committed(20), shop.committed(21));
    let xid = shop.sql("select xmin from ticks where id = 25");
    let lsn = shop.sql("select pg_current_wal_insert_lsn()");
    shop.tick(31..41);
    shop.sql("select pg_create_restore_point('before the mistake')");
    shop.sql("delete from ticks where id < 30");
    shop.archived();
    let view = shop.drctl(&["timeline", "shop"]).ended(0).json();
    assert_eq!(view["timelines"][0]["gaps"].as_array().map(Vec::len), Some(0), "{view}");
    for (target, expected) in [
        (["--to-time", time.as_str()], list(1..21)),
        (["--to-time", later.as_str()], list(1..22)),
        (["--to-xid", xid.as_str()], list(1..26)),
        (["--before-xid", xid.as_str()], list(1..25)),
        (["--to-lsn", lsn.as_str()], list(1..31)),
        (["--to-name", "before the mistake"], list(1..41)),
    ] {
        let (ran, _folder, path) = shop.recover(&[&target[..], &["--promote"]].concat());
        let done = ran.ended(0).json();
        assert_eq!(done["promoted"], true, "{done}");
        if target[0] == "--to-time" {
            assert_eq!(done["shows"], target[1], "{done}");
        }
        assert_eq!(ticks(&path), expected, "{target:?}: {done}");
    }
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(30..41));
}

#[test]
fn a_target_that_cannot_be_reached_is_refused_before_anything_is_touched() {
    let shop = Archiving::start(true);
    let early =
        shop.sql("select to_char(now() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')");
    let _ = shop.drctl(&["backup", "shop"]).ended(0);
    shop.tick(1..11);
    shop.archived();
    let last = shop.committed(10);
    for (target, word) in [
        (["--to-time", "2199-01-01T00:00:00Z"], last.as_str()),
        (["--to-time", early.as_str()], "consistent at"),
        (["--to-lsn", "FF/0"], "ends at"),
        (["--to-name", "nobody"], "no restore point"),
    ] {
        let (ran, _folder, path) = shop.recover(&target);
        let said = ran.failed(5, "no_plan");
        assert!(said.contains(word), "{target:?}: {said}");
        assert!(!path.exists());
    }
    // A plan is run only as it was seen.
    let planned =
        shop.drctl(&["restore", "shop", "--to-time", &last, "--to-directory", "x", "--plan"]);
    let digest = planned.ended(0).json()["digest"].as_str().unwrap().to_owned();
    let (ran, _folder, path) = shop.recover(&["--to-time", &shop.committed(5), "--yes", &digest]);
    let said = ran.failed(2, "usage");
    assert!(said.contains("the plan has changed") && !path.exists(), "{said}");
    let (ran, _folder, path) = shop.recover(&["--to-time", &last, "--yes", &digest, "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..11));
}

/// A cluster whose log has several segments behind the copy, and a time at their end.
pub(crate) fn several() -> (Archiving, String) {
    let shop = Archiving::start(true);
    let _ = shop.drctl(&["backup", "shop"]).ended(0);
    for round in 0..4 {
        shop.tick(round * 10 + 1..round * 10 + 11);
        shop.archived();
    }
    let last = shop.committed(40);
    (shop, last)
}

#[test]
fn a_missing_piece_refuses_every_plan_that_would_cross_it() {
    let (shop, last) = several();
    let early = shop.committed(5);
    let pieces = shop.pieces();
    fs::remove_file(&pieces[pieces.len() - 2]).unwrap();
    let view = shop.drctl(&["timeline", "shop"]).ended(3).json();
    assert_eq!(view["timelines"][0]["gaps"].as_array().map(Vec::len), Some(1), "{view}");
    let (ran, _folder, path) = shop.recover(&["--to-time", &last]);
    let said = ran.failed(5, "no_plan");
    assert!(said.contains("missing from") && !path.exists(), "{said}");
    let (ran, _folder, path) = shop.recover(&["--to-time", &early, "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..6));
}

#[test]
fn a_damaged_piece_never_opens_a_server_that_has_lost_rows() {
    type Damage = fn(&Path);
    let damages: [Damage; 3] = [
        |piece| {
            let mut bytes = fs::read(piece).unwrap();
            let at = bytes.len() - 50;
            bytes[at] ^= 1;
            fs::write(piece, bytes).unwrap();
        },
        |piece| {
            let bytes = fs::read(piece).unwrap();
            fs::write(piece, &bytes[..bytes.len() - 10]).unwrap();
        },
        |piece| fs::set_permissions(piece, fs::Permissions::from_mode(0o000)).unwrap(),
    ];
    let (shop, last) = several();
    for damage in damages {
        let piece = shop.pieces().into_iter().rev().nth(1).unwrap();
        let good = fs::read(&piece).unwrap();
        // The plan goes by what is signed, which is whole: the replay must stop.
        if fs::metadata(&piece).is_ok() {
            damage(&piece);
        }
        let (ran, _folder, path) = shop.recover(&["--to-time", &last, "--promote"]);
        assert_ne!(ran.code, Some(0), "{}", ran.out);
        let signals = ["standby.signal", "recovery.signal"];
        let opened = path.join("data").exists()
            && !signals.iter().any(|signal| path.join("data").join(signal).exists());
        assert!(!opened, "the server was opened: {}", ran.out);
        fs::set_permissions(&piece, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&piece, good).unwrap();
    }
    let (ran, _folder, path) = shop.recover(&["--to-time", &last, "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..41));
}

#[test]
fn the_same_segment_again_is_success_and_another_one_is_refused() {
    let (shop, _) = several();
    let name = shop.sql("select last_archived_wal from pg_stat_archiver");
    let kept = shop.server.data_dir().join("pg_wal").join(&name);
    let (folder, _) = place();
    let copy = folder.path().join(&name);
    fs::copy(&kept, &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o644)).unwrap();
    let text = copy.display().to_string();
    let again = shop.drctl(&["wal", "push", "shop", &text]).ended(0).json();
    assert_eq!(again["done"], "present", "{again}");
    // A byte of a record: the log itself is damaged, and nothing is stored.
    let mut bytes = fs::read(&copy).unwrap();
    bytes[300] ^= 1;
    fs::write(&copy, &bytes).unwrap();
    let ran = shop.drctl(&["wal", "push", "shop", &text]);
    assert_eq!(ran.code, Some(1), "{}", ran.out);
    assert_eq!(ran.json()["code"], "log_damaged", "{}", ran.out);
    give_away(folder.path());
    let nobody = folder.path().join("out").display().to_string();
    let fetch = |name: &str| {
        let id = shop.sql("select system_identifier from pg_control_system()");
        let arguments = [
            "wal",
            "fetch",
            "shop",
            name,
            &nobody,
            "--system-id",
            &id,
            "--segment-bytes",
            "1048576",
        ];
        shop.drctl(&arguments).code
    };
    assert_eq!(fetch(&name), Some(0));
    assert_eq!(fs::read(folder.path().join("out")).unwrap().len(), 1 << 20);
    assert_eq!(fetch("0000000100000FFF000000FF"), Some(1));
    assert_eq!(fetch("00000009.history"), Some(1));
    // A gap is no end, and neither is a mistake.
    let pieces = shop.pieces();
    fs::remove_file(&pieces[pieces.len() - 2]).unwrap();
    let missing = pieces[pieces.len() - 2].file_stem().unwrap().to_string_lossy()[..16].to_owned();
    let lsn = u64::from_str_radix(&missing, 16).unwrap();
    let size = drctl_model::WalSegmentSize::new(1 << 20).unwrap();
    let missing = size.file_name(drctl_model::Timeline::FIRST, drctl_model::Lsn(lsn));
    assert_eq!(fetch(&missing), Some(255));
    assert_eq!(fetch("nonsense"), Some(255));
    assert_eq!(shop.drctl(&["wal", "fetch", "shop"]).code, Some(255));
}

/// The members of an object, and of those within that the documentation opens.
#[test]
fn a_recovery_follows_the_log_across_a_promotion() {
    let mut shop = Archiving::start(true);
    let _ = shop.drctl(&["backup", "shop"]).ended(0);
    shop.tick(1..11);
    let before = shop.committed(10);
    // A standby takes over, and goes on archiving into the same place.
    let (standby, _folder) = standby(&shop.server);
    shop.tick(11..21);
    caught_up(&shop.server, &standby);
    shop.server.crash();
    standby.psql("postgres", "select pg_promote()");
    shop.server = standby;
    let at_the_switch = shop.committed(20);
    shop.tick(21..31);
    let after = shop.committed(25);
    shop.archived();
    for (target, last) in [(&before, 11), (&at_the_switch, 21), (&after, 26)] {
        let (ran, _folder, path) = shop.recover(&["--to-time", target, "--promote"]);
        let _ = ran.ended(0);
        assert_eq!(ticks(&path), list(1..last), "{target}");
    }
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    assert_eq!(ran.ended(0).json()["timeline"], 2);
    assert_eq!(ticks(&path), list(1..31));
    // A copy taken on the new timeline is as good as one of the old.
    let config = fs::read_to_string(shop.site.config()).unwrap();
    let line = |name: &str| config.lines().find(|l| l.starts_with(name)).unwrap().to_owned();
    let host = format!("host = \"{}\"", shop.server.socket_dir().display());
    shop.site.replace(&line("host = "), &host);
    shop.site.replace(&line("port = "), &format!("port = {}", shop.server.port()));
    let _ = shop.drctl(&["backup", "shop"]).ended(0);
    shop.tick(31..33);
    shop.archived();
    let (ran, _folder, path) = shop.recover(&["--to-time", &shop.committed(31), "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..32));
}

#[test]
fn a_second_writer_under_one_source_is_a_conflict() {
    let mut shop = Archiving::start(true);
    shop.tick(1..5);
    shop.archived();
    // A clone of the cluster that thinks it is the primary too.
    let (folder, _) = place();
    let data = folder.path().join("clone");
    let copied = shop.server.client("pg_basebackup").args(["-c", "fast", "-D"]).arg(&data).status();
    assert!(copied.unwrap().success());
    shop.tick(5..9);
    shop.archived();
    shop.server.crash();
    let clone = Postgres::builder().data(&data).start();
    clone.psql("postgres", "insert into ticks values (100, 'other'); select pg_switch_wal()");
    until("a failure to archive", || {
        clone.psql("postgres", "select failed_count > 0 from pg_stat_archiver") == "t"
    });
    assert!(clone.log().contains("holds other log than this server writes"), "{}", clone.log());
}

/// Makes sites whose bucket is in MinIO, or behind what stands at `endpoint` before it.
pub(crate) fn in_s3(minio: &Minio, endpoint: String) -> impl Fn(&Postgres) -> Site {
    let (id, secret) = (minio.access_key().to_owned(), minio.secret_key().to_owned());
    move |server| {
        let site = Site::empty();
        let keys = [("s3.id", &id), ("s3.secret", &secret)].map(|(name, key)| {
            fs::write(site.path(name), key).unwrap();
            site.path(name).display().to_string()
        });
        let keys = ["--access-key-id-file", &keys[0], "--secret-access-key-file", &keys[1]];
        let more = [&["--endpoint", &endpoint, "--allow-http"][..], &keys].concat();
        site.init(server, "s3://shop/below", &more);
        crate::common::physical(&site);
        site
    }
}

#[test]
fn a_bucket_of_s3_brings_a_cluster_to_a_time_and_fails_closed_when_it_is_away() {
    let minio = Minio::start();
    minio.make_bucket("shop");
    let shop = Archiving::with(true, in_s3(&minio, minio.endpoint()));
    let _ = shop.drctl(&["backup", "shop"]).ended(0);
    shop.tick(1..11);
    shop.archived();
    let time = shop.committed(7);
    let (ran, _folder, path) = shop.recover(&["--to-time", &time, "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..8));
    let (name, id) = (
        shop.sql("select last_archived_wal from pg_stat_archiver"),
        shop.sql("select system_identifier from pg_control_system()"),
    );
    drop(minio);
    let size = ["--system-id", &id, "--segment-bytes", "1048576"];
    let fetch = [&["wal", "fetch", "shop", &name, "/nowhere/x"][..], &size].concat();
    assert_eq!(shop.drctl(&fetch).code, Some(255));
}
