//! The log in the bucket, and clusters brought to a point in time with it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use drctl_tests::cluster::{
    Cluster, Program, archiving, caught_up, give_away, list, place, standby, ticks,
};
use drctl_tests::servers::minio::Minio;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::{Site, until};
use drctl_tests::targets;

use crate::common::{filled, site};
use crate::stream::point_at;

/// A cluster that archives into a site's repository, and that site.
pub(crate) struct Archiving {
    pub(crate) server: Postgres,
    pub(crate) site: Site,
    program: Program,
}

impl Archiving {
    /// With `archive_command` where `push`, else without any archive.
    pub(crate) fn start(push: bool) -> Self {
        Archiving::with(push, site)
    }

    /// With a site that is made for the server.
    pub(crate) fn with(push: bool, site: impl Fn(&Postgres) -> Site) -> Self {
        Archiving::of(archiving(&[]), push, site)
    }

    /// A server that [`archiving`] has made.
    pub(crate) fn of(server: Postgres, push: bool, site: impl Fn(&Postgres) -> Site) -> Self {
        let server = filled(server);
        let site = site(&server);
        let shop = Archiving { server, site, program: Program::placed() };
        give_away(&shop.site.path(""));
        if push {
            let (program, config) = (shop.program().display(), shop.site.config());
            let command = format!("{program} --config {} wal push shop %p", config.display());
            shop.sql(&format!(
                "alter system set archive_command = '{command}'; select pg_reload_conf()"
            ));
        }
        shop
    }

    /// The pieces of the log, in order.
    pub(crate) fn pieces(&self) -> Vec<PathBuf> {
        let mut files = self.site.files("repository");
        files.retain(|path| path.extension().is_some_and(|ending| ending == "log"));
        files.iter().map(|path| self.site.path("repository").join(path)).collect()
    }
}

impl Cluster for Archiving {
    fn server(&self) -> &Postgres {
        &self.server
    }

    fn server_mut(&mut self) -> &mut Postgres {
        &mut self.server
    }

    fn site(&self) -> &Site {
        &self.site
    }

    fn program(&self) -> &Path {
        self.program.path()
    }
}

#[test]
fn a_cluster_is_brought_to_any_time_position_transaction_and_name() {
    let shop = Archiving::start(true);
    targets::are_reached(&shop);
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(30..41));
}

#[test]
fn a_target_that_cannot_be_reached_is_refused_before_anything_is_touched() {
    let shop = Archiving::start(true);
    let last = targets::are_refused(&shop);
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

#[test]
fn a_plan_to_the_end_is_run_only_as_far_as_it_was_seen() {
    let shop = Archiving::start(true);
    shop.back_up();
    shop.segments_of_ten(1);
    let plan = || {
        let planned = ["restore", "shop", "--to-end", "--to-directory", "x", "--plan"];
        shop.drctl(&planned).ended(0).json()["digest"].as_str().unwrap().to_owned()
    };
    let seen = plan();
    assert_eq!(seen, plan());
    shop.tick(11..21);
    shop.archived();
    let (ran, _folder, path) = shop.recover(&["--to-end", "--yes", &seen]);
    let said = ran.failed(2, "usage");
    assert!(said.contains("with every piece that arrives") && !path.exists(), "{said}");
    let (ran, _folder, path) = shop.recover(&["--to-end", "--yes", &plan(), "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..21));
}

/// A cluster whose log has several segments behind the base backup, and a time at their end.
pub(crate) fn several() -> (Archiving, String) {
    let shop = Archiving::start(true);
    shop.back_up();
    shop.segments_of_ten(4);
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
    type Damage = (fn(&Path), i32, &'static str);
    let damages: [Damage; 3] = [
        (
            |piece| {
                let mut bytes = fs::read(piece).unwrap();
                let at = bytes.len() - 50;
                bytes[at] ^= 1;
                fs::write(piece, bytes).unwrap();
            },
            4,
            "segment_damaged",
        ),
        (
            |piece| {
                let bytes = fs::read(piece).unwrap();
                fs::write(piece, &bytes[..bytes.len() - 10]).unwrap();
            },
            4,
            "segment_damaged",
        ),
        (
            |piece| fs::set_permissions(piece, fs::Permissions::from_mode(0o000)).unwrap(),
            8,
            "store_denied",
        ),
    ];
    let (shop, last) = several();
    for (damage, exit, code) in damages {
        let piece = shop.pieces().into_iter().rev().nth(1).unwrap();
        let good = fs::read(&piece).unwrap();
        // The plan goes by what is signed, which is whole: the replay must stop.
        if fs::metadata(&piece).is_ok() {
            damage(&piece);
        }
        let (ran, _folder, path) = shop.recover(&["--to-time", &last, "--promote"]);
        let said = ran.failed(exit, code);
        assert!(said.contains("replay the WAL"), "{said}");
        let signals = ["standby.signal", "recovery.signal"];
        let opened = path.join("data").exists()
            && !signals.iter().any(|signal| path.join("data").join(signal).exists());
        assert!(!opened, "the server was opened: {}", ran.out);
        fs::set_permissions(&piece, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&piece, good).unwrap();
        // What was found is remembered until somebody has looked again.
        let _ = shop.drctl(&["verify", "shop", "--data"]).ended(0);
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
    shop.fail_over(standby);
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
    // A base backup taken on the new timeline is as good as one of the old.
    point_at(&shop, &shop.server);
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
    until("a failure to archive in the server's log", || {
        clone.log().contains("archive command failed")
    });
    assert!(clone.log().contains("holds other WAL than this server writes"), "{}", clone.log());
    let failed = "select failed_count > 0 and last_archived_wal is null from pg_stat_archiver";
    until("it to be counted", || clone.psql("postgres", failed) == "t");
}

#[test]
fn neither_a_leftover_nor_a_strange_name_among_the_log_stops_anything() {
    let shop = Archiving::start(true);
    shop.back_up();
    shop.tick(1..11);
    shop.archived();
    let piece = shop.pieces().pop().unwrap();
    let left = piece.with_file_name(format!("{}#1", piece.file_name().unwrap().display()));
    let strange = piece.with_file_name("a\nb.log");
    for path in [&left, &strange] {
        let file = fs::File::create(path).unwrap();
        let day = std::time::Duration::from_secs(25 * 3600);
        file.set_modified(std::time::SystemTime::now() - day).unwrap();
    }
    give_away(piece.parent().unwrap());
    let _ = shop.drctl(&["timeline", "shop"]).ended(0);
    let told = |report: &serde_json::Value| {
        let strays = report["strays"].as_array().unwrap();
        (strays.len(), report.to_string().contains("left since"))
    };
    assert_eq!(told(&shop.drctl(&["catalog", "check"]).ended(3).json()), (2, true));
    assert_eq!(told(&shop.drctl(&["verify", "shop"]).ended(0).json()), (2, true));
    let doctor = shop.drctl(&["doctor"]).ended(3).json();
    let found = doctor["findings"].as_array().unwrap().iter();
    assert!(found.clone().any(|one| one["check"] == "bucket.strays"), "{doctor}");
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..11));
    // What a writer of this account left goes with the next backup, and nothing else does.
    shop.back_up();
    assert!(!left.exists() && strange.exists() && piece.exists());
    assert_eq!(told(&shop.drctl(&["verify", "shop"]).ended(0).json()), (1, false));
}

/// Makes sites whose bucket is in MinIO, or behind what stands at `endpoint` before it.
pub(crate) fn in_s3(minio: &Minio, endpoint: String) -> impl Fn(&Postgres) -> Site + '_ {
    move |server| {
        let site = Site::empty();
        site.init_s3(server, (minio, &endpoint), "s3://shop/below", &[]);
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
