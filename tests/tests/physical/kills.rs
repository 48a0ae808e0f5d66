//! A host that dies, again and again: what was acknowledged is in the bucket.

use std::io::Write as _;
use std::path::PathBuf;

use drctl_tests::cluster::Cluster as _;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::until;
use tempfile::TempDir;

use crate::log::Archiving;
use crate::streaming::{Streaming, Writer, synchronous};

/// How often the host dies, unless `DRCTL_KILL_ROUNDS` says otherwise.
const ROUNDS: u32 = 3;

/// Clients that commit at once.
const WRITERS: u32 = 4;

/// Rows that one client may write.
const RANGE: u32 = 1_000_000;

/// Recovers to the end of the log. Pieces that were on their way together when the host died need not have
/// arrived in order: what lies behind one that is missing was confirmed to nobody, and is left out only by
/// whoever accepts that. Whether that was so is told with it.
fn to_end(shop: &Archiving) -> (TempDir, PathBuf, bool) {
    let (ran, folder, path) = shop.recover(&["--to-end", "--promote"]);
    if ran.ended_well_or(&[5]) {
        return (folder, path, false);
    }
    let said = ran.failed(5, "no_plan");
    assert!(said.contains("the WAL after a gap is left out"), "{said}");
    let (ran, folder, path) = shop.recover(&["--to-end", "--promote", "--accept-loss"]);
    let _ = ran.ended(0);
    (folder, path, true)
}

#[test]
fn no_acknowledged_commit_is_lost_in_synchronous_mode() {
    let rounds = std::env::var("DRCTL_KILL_ROUNDS").ok().and_then(|n| n.parse().ok());
    let mut shop = Archiving::start(false);
    let (mut first, mut gaps) = (1, 0);
    let mut acknowledged: Vec<(u32, u32)> = Vec::new();
    for round in 0..rounds.unwrap_or(ROUNDS) {
        let mut streaming = Streaming::start(&shop, &["--synchronous"]);
        if round % 10 == 0 {
            let _ = shop.drctl(&["backup", "shop"]).ended(0);
        }
        synchronous(&shop);
        let writers: Vec<Writer> =
            (0..WRITERS).map(|n| Writer::start(&shop.server, n * RANGE + first)).collect();
        // Somewhere else in the traffic each time.
        let enough = 50 + round * 37 % 101;
        until("commits to be acknowledged", || {
            (0..).zip(&writers).all(|(n, w)| w.acknowledged() >= n * RANGE + first + enough)
        });
        // The whole host dies: the server and the agent, in either order.
        match round % 2 {
            0 => {
                streaming.kill();
                shop.server.crash();
            }
            _ => {
                shop.server.crash();
                streaming.kill();
            }
        }
        let told = (0..).zip(writers).map(|(n, writer)| (n * RANGE + first, writer.end()));
        acknowledged.extend(told);
        let (_folder, path, gap) = to_end(&shop);
        gaps += u32::from(gap);
        let restored = Postgres::builder().data(&path.join("data")).start();
        for (from, last) in &acknowledged {
            let sql = format!("select count(*) from ticks where id between {from} and {last}");
            let found = restored.psql("postgres", &sql);
            assert_eq!(found, (last - from + 1).to_string(), "round {round}: {from} to {last}");
        }
        shop.server.start_again();
        first = 1 + shop
            .sql(&format!("select coalesce(max(id % {RANGE}), 0) from ticks"))
            .parse::<u32>()
            .unwrap();
    }
    let lost_none: u32 = acknowledged.iter().map(|(from, last)| last + 1 - from).sum();
    let kills = rounds.unwrap_or(ROUNDS);
    let text = format!(
        "{kills} kills, {lost_none} acknowledged commits, none lost; {gaps} with a gap behind them\n"
    );
    std::io::stdout().write_all(text.as_bytes()).unwrap();
}
