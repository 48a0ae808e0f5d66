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
    /// Waits until a piece may go, of so many bytes, whose first commit was at that time; since `waiting`
    /// some log was on its way.
    pub(crate) async fn ready(
        &self,
        bytes: usize,
        (first, now): (Option<Timestamp>, Timestamp),
        waiting: Duration,
    ) {
        let patience = self.patience((first, now), waiting);
        if !patience.is_zero() {
            // What may wait no longer goes.
            if timeout(patience, self.pace.ready()).await.is_err() {
                self.pace.has_waited(patience);
            }
        }
        self.pace.moved(bytes as u64);
    }

    /// A piece without a commit tells no time: then it is as old as what has been on its way all along. While
    /// that was never nothing, the server has log that is older still.
    fn patience(
        &self,
        (first, now): (Option<Timestamp>, Timestamp),
        waiting: Duration,
    ) -> Duration {
        let age = first.map_or(SignedDuration::ZERO, |first| now.duration_since(first));
        let age = Duration::try_from(age).unwrap_or_default().max(waiting);
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
        let after = |first: Option<i64>, waiting| {
            catch_up.patience((first.map(at), at(1_000)), Duration::from_secs(waiting)).as_secs()
        };
        let patience = |first| after(first, 0);
        assert_eq!(patience(None), 30, "nothing else was on its way");
        assert_eq!(after(None, 100), 20, "it tells no time, and some log is on its way for 100 s");
        assert_eq!((after(None, 120), after(Some(1_000), 120)), (0, 0));
        assert_eq!(patience(Some(1_000)), 30);
        assert_eq!(patience(Some(890)), 10, "it is 110 seconds old");
        assert_eq!(patience(Some(880)), 0, "half of what may be lost");
        assert_eq!(patience(Some(0)), 0);
        assert_eq!(patience(Some(2_000)), 30, "the server's clock is ahead");
        // It goes, though all else pauses, and is known to have waited.
        catch_up.ready(1, (Some(at(0)), at(1_000)), Duration::ZERO).await;
        let (pace, age) = (Arc::clone(&catch_up.pace), Duration::from_millis(50));
        CatchUp { pace, age }.ready(1, (Some(at(1_000)), at(1_000)), Duration::ZERO).await;
        assert_eq!(catch_up.pace.waited(), age);
    }
}
