//! Settings that the source's host could take and this one cannot.

use std::fs;

use drctl_tests::cluster::{Cluster as _, own_place, postmaster};
use drctl_tests::site::until;
use drctl_tests::unfit;

use crate::log::Archiving;
use crate::recover_resume::killed;

#[test]
fn settings_that_this_host_cannot_take_stop_no_recovery() {
    unfit::stop_no_recovery(&Archiving::start(true));
}

#[test]
fn a_cluster_that_is_restored_without_wal_is_told_what_it_cannot_start_with_here() {
    let shop = Archiving::start(true);
    let (names, auto) = unfit::written(&shop);
    shop.back_up();
    let (_folder, path) = own_place();
    let to = path.display().to_string();
    let done = shop.drctl(&["restore", "shop", "--latest", "--to-directory", &to]).ended(0).json();
    let told = done["restored"].to_string();
    let missing: Vec<_> =
        names.iter().filter(|name| !told.contains(&format!("{name} in "))).collect();
    assert!(missing.is_empty(), "{missing:?}: {told}");
    assert_eq!(told.matches("does not start on this host").count(), names.len(), "{told}");
    unfit::are_its_own(&shop, &path, &auto);
}

/// At whatever moment drctl dies, with a sandbox or without one.
#[test]
fn a_recovery_that_was_killed_gives_the_cluster_its_own_configuration_back() {
    let shop = Archiving::start(true);
    let (_, auto) = unfit::written(&shop);
    shop.back_up();
    shop.segments_of_ten(2);
    let last = shop.committed(20);
    for (step, more) in [
        ("recovery-replaying", &[][..]),
        ("recovery-proven", &["--without-sandbox"]),
        ("recovery-promoting", &[]),
    ] {
        let (_folder, path) = own_place();
        let to = path.display().to_string();
        let into = ["restore", "shop", "--to-time", &last, "--to-directory", &to, "--promote"];
        let into = [&into[..], more].concat();
        killed(&shop, &into, step);
        let away = fs::read_to_string(path.join("postgresql.auto.conf.source")).unwrap();
        assert!(away.contains("lc_time = 'xx_XX.UTF-8'"), "{step}: {away}");
        let there = fs::read_to_string(path.join("data/postgresql.auto.conf")).unwrap();
        assert!(!there.contains("lc_time"), "{step}: {there}");
        let mut by_hand = shop.as_owner(shop.server.bin_dir().join("postgres"));
        let said = by_hand.arg("-D").arg(path.join("data")).output().unwrap();
        let said = String::from_utf8_lossy(&said.stderr);
        assert!(said.contains("drctl_recovers_this_cluster_go_on_with_resume"), "{step}: {said}");
        if more.is_empty() {
            until("its server to end with it", || postmaster(&path.join("data")).is_none());
            let said = shop.drctl(&["take-over", "shop", &to]).failed(12, "target_unfit");
            assert!(said.contains("own configuration back"), "{step}: {said}");
        }
        let _ = shop.drctl(&[&into[..], &["--resume"]].concat()).ended(0);
        unfit::are_its_own(&shop, &path, &auto);
    }
}
