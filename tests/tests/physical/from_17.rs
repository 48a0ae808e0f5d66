//! What older servers do not have. These tests are of [`NEWER`], beside the PostgreSQL that all else is
//! tested with; `tests/run` counts them by the name of this module.

mod chain;
mod incremental;
mod outside;

use drctl_tests::cluster::{Cluster as _, archiving_from};
use drctl_tests::{hostile, unfit};

use crate::common::site;
use crate::log::Archiving;
use crate::recover_ends::nothing_of_ours_ends;

/// The first major version whose servers make incremental backups.
const NEWER: u32 = 17;

#[test]
fn a_limit_of_transactions_ends_nothing_of_ours() {
    let shop = Archiving::of(archiving_from(NEWER), true, site);
    nothing_of_ours_ends(&shop, &["transaction_timeout"]);
}

/// Each login lasts longer than any transaction may.
#[test]
fn a_limit_of_transactions_that_ends_logins_ends_none_of_ours() {
    let shop = Archiving::of(archiving_from(NEWER), true, site);
    shop.sql("alter system set transaction_timeout = '500ms'");
    shop.sql("alter system set post_auth_delay = 1");
    shop.sql("select pg_reload_conf()");
    let _ = shop.back_up();
}

#[test]
fn what_a_cluster_runs_at_each_login_is_not_run() {
    let shop = Archiving::of(archiving_from(NEWER), true, site);
    hostile::nothing_is_run_or_reached(&shop, &[]);
    let triggers = "select string_agg(evtname, ',') from pg_event_trigger";
    assert_eq!(shop.sql(triggers), "at_login");
}

#[test]
fn settings_that_a_newer_server_cannot_take_here_stop_no_recovery() {
    unfit::stop_no_recovery(&Archiving::of(archiving_from(NEWER), true, site));
}
