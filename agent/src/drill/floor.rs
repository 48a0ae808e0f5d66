//! The host's other work comes first: a drill ends before it fills a disk that others need.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::host::figures::bytes;

/// How often is looked.
const EVERY: Duration = Duration::from_secs(2);

/// So much of each file system has to stay free: a twentieth of it, and no more than this.
const MOST: u64 = 4 << 30;

/// The bytes that have to stay free in a file system of this size.
fn floor(size: u64) -> u64 {
    (size / 20).min(MOST)
}

/// The bytes that have to stay free in the file system of a place; 0 where that is not known.
pub(crate) fn least_free(place: &Path) -> u64 {
    let there = place.ancestors().find(|folder| folder.exists()).unwrap_or(place);
    let found = rustix::fs::statvfs(there);
    found.map_or(0, |found| floor(found.f_blocks.saturating_mul(found.f_frsize)))
}

/// Waits until one of the file systems in which these places lie is nearly full; tells which one.
pub(crate) async fn reached(places: Vec<PathBuf>) -> String {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Some(full) = places.iter().find_map(|place| nearly_full(place)) {
            return full;
        }
    }
}

/// What is told of a place in whose file system too little is free; nothing where enough is, or where that
/// is not known.
pub(crate) fn nearly_full(place: &Path) -> Option<String> {
    let found = rustix::fs::statvfs(place).ok()?;
    let of = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    let (free, floor) = (of(found.f_bavail), floor(of(found.f_blocks)));
    (free < floor).then(|| {
        format!(
            "only {} are free in the file system of {}, and a drill leaves {} to others",
            bytes(free),
            place.display(),
            bytes(floor)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twentieth_stays_free_and_no_more_than_four_gib() {
        assert_eq!(floor(100 << 20), 5 << 20);
        assert_eq!(floor(10 << 40), 4 << 30);
        assert_eq!(floor(0), 0);
    }
}
