//! A restored cluster becomes the source's server, whose own is gone: its ordinary tools start it, and
//! its archive goes on.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use drctl_tests::cluster::{
    Cluster as _, as_owner, give_away, list, open_folder, own_place, ticks,
};
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::Ran;

use crate::log::Archiving;
use crate::stream::point_at;

/// A cluster with a tablespace and log behind its base backup, recovered to the end and promoted.
fn restored() -> (Archiving, tempfile::TempDir, std::path::PathBuf, tempfile::TempDir) {
    let shop = Archiving::start(true);
    let space = open_folder("drctl-space-");
    give_away(space.path());
    shop.sql(&format!("create tablespace fast location '{}'", space.path().display()));
    shop.sql("create table apart (id int) tablespace fast; insert into apart values (1), (2)");
    shop.back_up();
    shop.segments_of_ten(2);
    let (ran, folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    (shop, folder, path, space)
}

fn take_over(shop: &Archiving, path: &Path, more: &[&str]) -> Ran {
    shop.drctl(&[&["take-over", "shop", &path.display().to_string()], more].concat())
}

#[test]
fn a_restored_cluster_takes_its_servers_place_and_its_archive_goes_on() {
    let (mut shop, _folder, path, _space) = restored();
    let auto = || fs::read_to_string(path.join("data/postgresql.auto.conf")).unwrap();
    let before = auto();
    // Not while the old one lives.
    let said = take_over(&shop, &path, &["--yes", "x"]).failed(12, "target_unfit");
    let old = shop.server.pid().to_string();
    assert!(said.contains("runs on this host") && said.contains(&old), "{said}");
    shop.server.stop();
    let planned = take_over(&shop, &path, &[]).ended(0).json();
    assert_eq!((&planned["done"], &planned["timeline"]), (&false.into(), &2.into()), "{planned}");
    let told = planned.to_string();
    for word in
        ["restore_command", "archive_command", "wal push shop", "tablespace", "00000002.history"]
    {
        assert!(told.contains(word), "{word}: {told}");
    }
    let _ = take_over(&shop, &path, &["--yes", "0123"]).failed(2, "usage");
    assert_eq!(auto(), before, "nothing was changed");
    let digest = planned["digest"].as_str().unwrap();
    let done = take_over(&shop, &path, &["--yes", digest]).ended(0).json();
    assert_eq!(done["done"], true, "{done}");
    let identity = shop.site.identity().display().to_string();
    assert!(before.contains(&identity) && !auto().contains(&identity), "{}", auto());
    // The directory is no recovery's any more, also while its server stands still.
    let to = path.display().to_string();
    let resume = ["restore", "shop", "--to-end", "--to-directory", &to, "--resume", "--promote"];
    let said = shop.drctl(&resume).failed(12, "target_unfit");
    assert!(said.contains("has replaced the source's server"), "{said}");
    shop.server = Postgres::builder().data(&path.join("data")).start();
    point_at(&shop, &shop.server);
    for again in [&[][..], &["--yes", digest]] {
        let said = take_over(&shop, &path, again).failed(12, "target_unfit");
        assert!(said.contains("a server runs in"), "{said}");
    }
    assert_eq!(shop.sql("select count(*) from apart"), "2");
    shop.tick(21..31);
    shop.archived();
    shop.back_up();
    shop.tick(31..36);
    shop.archived();
    let view = shop.drctl(&["timeline", "shop"]).ended(0).json();
    let new = &view["timelines"][1];
    assert_eq!((&new["timeline"], &new["known"]), (&2.into(), &true.into()), "{view}");
    assert_eq!(new["bases"].as_array().map(Vec::len), Some(1), "{view}");
    let _ = shop.drctl(&["status", "--check"]).ended(0);
    let (ran, _place, again) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&again), list(1..36));
}

#[test]
fn what_is_not_fit_takes_nobodys_place() {
    let (mut shop, _folder, path, _space) = restored();
    shop.server.stop();
    // Another one that was restored to the same place, and comes second.
    let (ran, _second, second) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    let (ran, _third, third) = shop.recover(&["--to-end"]);
    let _ = ran.ended(0);
    let said = take_over(&shop, &third, &[]).failed(12, "target_unfit");
    assert!(said.contains("not one of its own yet") && said.contains("--promote"), "{said}");
    let (ran, _copy, copy) = shop.recover(&["--latest"]);
    let _ = ran.ended(0);
    let said = take_over(&shop, &copy, &[]).failed(12, "target_unfit");
    assert!(said.contains("start it once"), "{said}");
    // A link that the restored server has made.
    let planted = path.join("data/base/planted");
    symlink(shop.site.identity(), &planted).unwrap();
    let said = take_over(&shop, &path, &[]).json().to_string();
    assert!(said.contains("base/planted") && said.contains("drctl.error"), "{said}");
    fs::remove_file(&planted).unwrap();
    // What its own program refuses is told in our words first.
    let settings = path.join("data/postgresql.conf");
    let own = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, format!("{own}work_mem = 'much'\n")).unwrap();
    let said = take_over(&shop, &path, &[]).failed(10, "config");
    assert!(said.contains("\nno server starts with the configuration"), "{said}");
    assert!(said.find("then run this again") < said.find("\"work_mem\""), "{said}");
    assert!(said.contains("\"work_mem\"") && said.lines().count() == 3, "{said}");
    fs::write(&settings, own).unwrap();
    let yes = |place: &Path| {
        let planned = take_over(&shop, place, &["--streamed"]).ended(0).json();
        let digest = planned["digest"].as_str().unwrap().to_owned();
        take_over(&shop, place, &["--streamed", "--yes", &digest]).ended(0)
    };
    let _ = yes(&path);
    let server = Postgres::builder().data(&path.join("data")).start();
    assert_eq!(server.psql("postgres", "show archive_mode"), "off");
    point_at(&shop, &server);
    server.psql("postgres", "insert into ticks select 99, 'new'");
    let file = server.psql("postgres", "select pg_walfile_name(pg_switch_wal() - 1)");
    let segment = path.join("data/pg_wal").join(file);
    let _ = shop.drctl(&["wal", "push", "shop", &segment.display().to_string()]).ended(0);
    drop(server);
    let said = take_over(&shop, &second, &["--streamed"]).failed(12, "target_unfit");
    assert!(said.contains("another restored one"), "{said}");
}

#[test]
fn a_configuration_of_debians_leads_to_the_restored_data() {
    let (mut shop, _folder, path, _space) = restored();
    shop.server.stop();
    let (_place, debian) = own_place();
    let place = debian.parent().unwrap();
    let tool = |name: &str, arguments: &[&str]| {
        let mut tool = as_owner(name);
        tool.env("PG_CLUSTER_CONF_ROOT", place.join("etc")).env("HOME", place);
        Ran::of(&tool.args(arguments).output().expect("postgresql-common is missing"))
    };
    let sub = |name: &str| place.join(name).display().to_string();
    let _ = tool("mkdir", &[&sub("etc"), &sub("socket")]).ended(0);
    let version = shop.server.bin_dir().parent().unwrap().file_name().unwrap().to_owned();
    let version = version.to_str().unwrap();
    let (old, log, socket) = (sub("old"), sub("log"), sub("socket"));
    let port = shop.server.port().to_string();
    let made = ["-d", &old, "-l", &log, "-s", &socket, "-p", &port];
    let _ = tool("pg_createcluster", &[&[version, "main"][..], &made].concat()).ended(0);
    // The disk is gone, and the configuration is not.
    fs::remove_dir_all(&old).unwrap();
    let conf = place.join("etc").join(version).join("main/postgresql.conf");
    let conf = conf.display().to_string();
    let with = ["--configuration", conf.as_str()];
    let planned = take_over(&shop, &path, &with).ended(0).json();
    let digest = planned["digest"].as_str().unwrap();
    let mut command =
        shop.command(&["take-over", "shop", &path.display().to_string(), "--yes", digest]);
    let done = Ran::of(&command.args(with).output().unwrap()).ended(0);
    assert!(done.out.contains(&format!("pg_ctlcluster {version} main start")), "{}", done.out);
    assert!(done.out.contains("drctl backup shop"), "{}", done.out);
    let _ = tool("pg_ctlcluster", &[version, "main", "start"]).ended(0);
    let bin = shop.server.bin_dir().join("psql").display().to_string();
    let ask = ["-XAtq", "-h", &socket, "-p", &port, "postgres", "-c"];
    let rows = tool(&bin, &[&ask[..], &["select count(*) from ticks; show archive_mode"]].concat());
    let stopped = tool("pg_ctlcluster", &[version, "main", "stop"]);
    assert_eq!(rows.ended(0).out, "20\non\n");
    let _ = stopped.ended(0);
}

#[test]
fn what_runs_in_a_heir_is_what_was_shown() {
    let (mut shop, _folder, path, _space) = restored();
    shop.server.stop();
    let (_place, includes) = own_place();
    let write = |file: &Path, text: &str| {
        let before = fs::read_to_string(file).unwrap_or_default();
        fs::write(file, before + text).unwrap();
        give_away(file);
    };
    let made = as_owner("mkdir").arg(&includes).status();
    assert!(made.expect("start mkdir").success());
    let data = path.join("data");
    let conf = data.join("postgresql.conf");
    write(&conf, &format!("\ninclude_dir '{}'\n", includes.display()));
    let look = || {
        let planned = take_over(&shop, &path, &[]).ended(0).json();
        (planned["digest"].as_str().unwrap().to_owned(), planned["notes"].to_string())
    };
    let (mut digest, told) = look();
    assert_eq!(look().0, digest, "it is the same while nothing changes");
    assert!(!told.contains("auto_explain"), "{told}");
    let steps = [
        (
            conf,
            "shared_preload_libraries = 'auto_explain'\n",
            "shared_preload_libraries = 'auto_explain' is in force",
        ),
        (
            includes.join("x.conf"),
            "session_preload_libraries = 'evil'\n",
            "session_preload_libraries = 'evil' is in force",
        ),
        (
            includes.join("x.conf"),
            "archive_cleanup_command = 'touch /x'\n",
            "'touch /x' is in force",
        ),
        (includes.join("y.conf"), "work_mem = '5MB'\n", ""),
        (
            data.join("pg_hba.conf"),
            "host all all 0.0.0.0/0 trust\n",
            "host all all 0.0.0.0/0 trust",
        ),
        (data.join("pg_ident.conf"), "map evil postgres\n", ""),
    ];
    for (file, text, word) in steps {
        write(&file, text);
        let said = take_over(&shop, &path, &["--yes", &digest]).failed(2, "usage");
        assert!(said.contains("Nothing was done"), "{text}: {said}");
        let (new, told) = look();
        assert!(new != digest && told.contains(word), "{text}: {told}");
        digest = new;
    }
    let _ = take_over(&shop, &path, &["--yes", &digest]).ended(0);
}
