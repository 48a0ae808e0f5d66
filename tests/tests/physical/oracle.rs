//! A cluster under load, restored to random points: what comes back is what had been committed.

use std::path::Path;

use drctl_tests::cluster::Cluster;
use drctl_tests::oracle;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::Site;

use crate::log::Archiving;
use crate::streaming::{Streaming, shipped, synchronous};

/// A cluster whose log is streamed, and pushed as well where it archives.
struct Streamed {
    shop: Archiving,
    _streaming: Streaming,
}

impl Streamed {
    fn start(push: bool, more: &[&str]) -> Self {
        let shop = Archiving::start(push);
        let streaming = Streaming::start(&shop, more);
        Streamed { shop, _streaming: streaming }
    }
}

impl Cluster for Streamed {
    fn server(&self) -> &Postgres {
        self.shop.server()
    }

    fn server_mut(&mut self) -> &mut Postgres {
        self.shop.server_mut()
    }

    fn site(&self) -> &Site {
        self.shop.site()
    }

    fn program(&self) -> &Path {
        self.shop.program()
    }

    fn archived(&self) -> String {
        let pushes = self.sql("show archive_command") != "false";
        let end = || self.sql("select pg_walfile_name(pg_switch_wal() - 1)");
        let name = if pushes { self.shop.archived() } else { end() };
        shipped(self.server());
        name
    }
}

#[test]
fn a_random_point_under_load_restores_exactly_what_was_committed() {
    oracle::under_load(Archiving::start(true));
}

#[test]
fn a_random_point_on_either_side_of_a_promotion_restores_what_was_committed() {
    oracle::across_a_promotion(Archiving::start(true));
}

#[test]
fn a_random_point_in_log_that_was_streamed_restores_exactly_what_was_committed() {
    oracle::under_all_kinds_of_load(Streamed::start(false, &["--interval", "1"]));
}

#[test]
fn a_random_point_in_log_that_came_both_ways_restores_exactly_what_was_committed() {
    oracle::under_all_kinds_of_load(Streamed::start(true, &["--interval", "1"]));
}

#[test]
fn a_random_point_in_log_that_commits_waited_for_restores_exactly_what_was_committed() {
    let streamed = Streamed::start(false, &["--synchronous"]);
    synchronous(&streamed.shop);
    oracle::under_all_kinds_of_load(streamed);
}
