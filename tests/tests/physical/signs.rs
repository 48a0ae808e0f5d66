//! Names and paths that hold signs which mean something to a shell, to the server or to its
//! configuration.

use std::os::unix::fs::symlink;

use drctl_tests::cluster::{Cluster as _, give_away, list, open_folder, ticks};
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::Ran;

use crate::log::Archiving;

/// All at once.
const ODD: &str = "5%fee %p%% o'clock \\ $HOME \"x\", y";

#[test]
fn signs_in_names_and_paths_are_nothing_but_signs() {
    let shop = Archiving::start(true);
    shop.back_up();
    shop.tick(1..11);
    let point = "deploy\\v2 'a' \\'%f";
    shop.sql(&format!("select pg_create_restore_point('{}')", point.replace('\'', "''")));
    shop.tick(11..21);
    shop.archived();
    // With its sign a path to a socket in it is short enough, wherever temporary files are.
    let folder = open_folder("");
    for place in ["temporary", "restored"] {
        std::fs::create_dir_all(folder.path().join(ODD).join(place)).unwrap();
    }
    symlink(shop.site.config().parent().unwrap(), folder.path().join(ODD).join("etc")).unwrap();
    give_away(folder.path());
    let at = |name: &str| folder.path().join(ODD).join(name);
    let to = at("restored").display().to_string();
    let restore = |more: &[&str]| {
        let all = ["--json", "restore", "shop", "--to-name", point, "--to-directory", &to];
        let mut command = shop.command(&[&all[..], more].concat());
        command.env("DRCTL_CONFIG", at("etc").join("drctl.toml")).env("TMPDIR", at("temporary"));
        Ran::of(&command.output().unwrap()).ended(0).json()
    };
    let done = restore(&[]);
    assert!(done["stopped"].as_str().unwrap().contains(point), "{done}");
    // Started by hand it fetches its log by the command that was written for it.
    let data = at("restored").join("data");
    let mut by_hand = Postgres::builder().data(&data).start();
    assert_eq!(by_hand.psql("postgres", "select count(*) from ticks"), "10");
    let written = by_hand.psql("postgres", "show recovery_target_name");
    assert_eq!(written, point);
    by_hand.stop();
    restore(&["--resume", "--promote"]);
    assert_eq!(ticks(&at("restored")), list(1..11));
}
