//! Reading that may wait for somebody: a configuration, a key or a kit may be a pipe. It is done before
//! work begins, by a thread that hears of no signal.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::interval;

/// How many such reads are under way.
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Reads, and lets [`waits_for_long`] know.
pub(crate) fn waited<T>(read: impl FnOnce() -> T) -> T {
    UNDER_WAY.fetch_add(1, Ordering::Relaxed);
    let done = read();
    UNDER_WAY.fetch_sub(1, Ordering::Relaxed);
    done
}

/// Whether something is being read that was to be there already.
fn is_waiting() -> bool {
    UNDER_WAY.load(Ordering::Relaxed) > 0
}

/// Comes back when a read does not come to its end.
pub(crate) async fn waits_for_long() {
    let (mut looks, mut before) = (interval(LOOK_EVERY), false);
    loop {
        looks.tick().await;
        let waits = is_waiting();
        if waits && before {
            return;
        }
        before = waits;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_is_known_of_while_it_waits() {
        assert!(waited(is_waiting));
    }
}
