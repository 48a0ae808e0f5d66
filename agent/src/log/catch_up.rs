//! Log that gives way to the databases while it is young enough.

use std::sync::Arc;
use std::time::Duration;

use drctl_store::Pace;
use jiff::{SignedDuration, Timestamp};
use tokio::time::timeout;

/// For so long one piece gives way at most: a stream that stands still for longer is told of.
const MOST: Duration = Duration::from_secs(30);

/// What a stream of log goes by while no commit waits for it.
#[derive(Debug, Clone)]
pub(crate) struct CatchUp {
    /// What it shares with other work.
    pub(crate) pace: Arc<Pace>,
    /// Log that is older than this gives way to nothing: half of what may be lost.
    pub(crate) age: Duration,
}

impl CatchUp {
    /// Waits until a piece may go, of so many bytes, whose first commit was at that time.
    pub(crate) async fn ready(&self, bytes: usize, first: Option<Timestamp>, now: Timestamp) {
        let patience = self.patience(first, now);
        if !patience.is_zero() {
            // What may wait no longer goes.
            let _ = timeout(patience, self.pace.ready()).await;
        }
        self.pace.moved(bytes as u64);
    }

    fn patience(&self, first: Option<Timestamp>, now: Timestamp) -> Duration {
        let age = first.map_or(SignedDuration::ZERO, |first| now.duration_since(first));
        let age = Duration::try_from(age).unwrap_or_default();
        self.age.saturating_sub(age).min(MOST)
    }
}

#[cfg(test)]
mod tests {
    use drctl_store::Bounds;

    use super::*;

    #[tokio::test]
    async fn log_gives_way_while_it_is_young_and_not_for_long() {
        let pace = Arc::new(Pace::new(Bounds { paused: true, ..Bounds::default() }));
        let catch_up = CatchUp { pace, age: Duration::from_secs(120) };
        let at = |second| Timestamp::from_second(second).unwrap();
        let patience = |first: Option<i64>| catch_up.patience(first.map(at), at(1_000)).as_secs();
        assert_eq!(patience(None), 30, "nobody knows how old it is: written just now");
        assert_eq!(patience(Some(1_000)), 30);
        assert_eq!(patience(Some(890)), 10, "it is 110 seconds old");
        assert_eq!(patience(Some(880)), 0, "half of what may be lost");
        assert_eq!(patience(Some(0)), 0);
        assert_eq!(patience(Some(2_000)), 30, "the server's clock is ahead");
        // It goes, though all else pauses.
        catch_up.ready(1, Some(at(0)), at(1_000)).await;
    }
}
