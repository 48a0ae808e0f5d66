//! No more bytes and requests a second than somebody allows, and none while work pauses.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::Bucket;

/// What may go to a store and come from it; `None`: as much as there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes in a second.
    pub bytes_per_second: Option<u64>,
    /// Objects that are written or read, in a second.
    pub requests_per_second: Option<u64>,
    /// Whether nothing is to be moved for now.
    pub paused: bool,
}

/// How fast bytes may go to a store or come from it, for all who share it: whoever moves some waits
/// until those before it have had their time.
#[derive(Debug)]
pub struct Pace {
    queue: Mutex<Queue>,
    bounds: watch::Sender<Bounds>,
}

impl Pace {
    /// Within these bounds.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Pace { queue: Mutex::default(), bounds: watch::Sender::new(bounds) }
    }

    /// So many bytes a second, at least one.
    #[must_use]
    pub fn bytes(per_second: u64) -> Self {
        Pace::new(Bounds { bytes_per_second: Some(per_second), ..Bounds::default() })
    }

    /// From now on within these bounds; whoever waits goes by them too.
    pub fn set(&self, bounds: Bounds) {
        self.bounds.send_if_modified(|now| std::mem::replace(now, bounds) != bounds);
    }

    /// The bounds that hold.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        *self.bounds.borrow()
    }

    /// Waits until what was moved before has had its time.
    pub async fn ready(&self) {
        let (mut waited, mut bounds) = (Duration::ZERO, self.bounds.subscribe());
        loop {
            let begun = Instant::now();
            let now = *bounds.borrow_and_update();
            let wait = self.queue(|queue| queue.wait(begun, &now));
            if wait.is_zero() && !now.paused {
                break;
            }
            // We have the sender: what ends early is that the bounds are others.
            let changed = async { drop(bounds.changed().await) };
            if now.paused {
                changed.await;
            } else {
                let _ = timeout(wait, changed).await;
            }
            waited = waited.saturating_add(begun.elapsed());
        }
        self.queue(|queue| {
            queue.waited = queue.waited.saturating_add(waited);
            queue.requests.owe(1);
        });
    }

    /// Takes note that somebody waited for so long, and then went on without having been let.
    pub fn has_waited(&self, waited: Duration) {
        self.queue(|queue| queue.waited = queue.waited.saturating_add(waited));
    }

    /// Takes note of bytes that were moved, or are now.
    pub fn moved(&self, bytes: u64) {
        self.queue(|queue| queue.bytes.owe(bytes));
    }

    /// For how long all who share it have waited, taken together.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.queue(|queue| queue.waited)
    }

    fn queue<T>(&self, work: impl FnOnce(&mut Queue) -> T) -> T {
        work(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What was moved and has not had its time.
#[derive(Debug, Default)]
struct Queue {
    bytes: Debt,
    requests: Debt,
    /// When that was last reckoned.
    at: Option<Instant>,
    waited: Duration,
}

impl Queue {
    /// How long until all of it has had its time.
    fn wait(&mut self, now: Instant, bounds: &Bounds) -> Duration {
        let passed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.at = Some(now);
        let bytes = self.bytes.wait(passed, bounds.bytes_per_second);
        bytes.max(self.requests.wait(passed, bounds.requests_per_second))
    }
}

/// Units that were moved, times 10^9. Time in which nothing was moved is not made up for.
#[derive(Debug, Default)]
struct Debt(u128);

impl Debt {
    fn owe(&mut self, units: u64) {
        self.0 = self.0.saturating_add(u128::from(units) * 1_000_000_000);
    }

    fn wait(&mut self, passed: Duration, per_second: Option<u64>) -> Duration {
        let Some(per_second) = per_second.map(|units| u128::from(units.max(1))) else {
            self.0 = 0;
            return Duration::ZERO;
        };
        self.0 = self.0.saturating_sub(passed.as_nanos().saturating_mul(per_second));
        Duration::from_nanos(u64::try_from(self.0.div_ceil(per_second)).unwrap_or(u64::MAX))
    }
}

impl Bucket {
    /// The same bucket, no faster than all of these.
    #[must_use]
    pub fn with_pace(mut self, paces: Vec<Arc<Pace>>) -> Self {
        self.paces = paces.into();
        self
    }

    /// Waits until bytes may be moved.
    pub(crate) async fn ready(&self) {
        for pace in self.paces.iter() {
            pace.ready().await;
        }
    }

    /// Takes note of bytes that are moved.
    pub(crate) fn moved(&self, bytes: usize) {
        self.paces.iter().for_each(|pace| pace.moved(bytes as u64));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::Key;

    #[test]
    fn what_was_moved_takes_its_time_and_idle_time_is_not_saved_up() {
        let begun = Instant::now();
        let bounds = |bytes, requests| Bounds {
            bytes_per_second: bytes,
            requests_per_second: requests,
            paused: false,
        };
        let mut queue = Queue::default();
        let wait = |queue: &mut Queue, seconds, bounds: &Bounds| {
            queue.wait(begun + Duration::from_secs(seconds), bounds).as_secs()
        };
        let hundred = bounds(Some(100), None);
        assert_eq!(wait(&mut queue, 0, &hundred), 0, "nothing was moved before");
        queue.bytes.owe(300);
        queue.bytes.owe(200);
        assert_eq!(wait(&mut queue, 1, &hundred), 4, "five seconds for all of it");
        assert_eq!(wait(&mut queue, 2, &bounds(Some(10), None)), 39, "390 are left");
        assert_eq!(wait(&mut queue, 9, &hundred), 0);
        queue.bytes.owe(100);
        assert_eq!(wait(&mut queue, 9, &hundred), 1, "the idle time before is gone");
        (0..6).for_each(|_| queue.requests.owe(1));
        assert_eq!(wait(&mut queue, 9, &bounds(Some(100), Some(2))), 3, "the longer of both");
        queue.bytes.owe(u64::MAX);
        assert!(wait(&mut queue, 9, &hundred) > 1_000_000, "no bound is passed over");
        assert_eq!(wait(&mut queue, 9, &bounds(None, None)), 0, "nothing is owed without a bound");
        assert_eq!(wait(&mut queue, 9, &hundred), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_to_a_bucket_and_comes_from_it_takes_its_time() {
        let pace = Arc::new(Pace::bytes(1 << 10));
        let store = Arc::new(object_store::memory::InMemory::new());
        let bucket = Bucket::new(store, "memory:").with_pace(vec![Arc::clone(&pace)]);
        let (key, kilobyte) = (Key::from("a"), Bytes::from(vec![0; 1 << 10]));
        let waited = || pace.waited().as_secs();
        bucket.put(&key, kilobyte.clone()).await.unwrap();
        assert_eq!(waited(), 0, "nothing went before");
        bucket.put_once(&Key::from("b"), kilobyte).await.unwrap();
        assert_eq!(waited(), 1);
        for seconds in 2..=3 {
            drop(bucket.get(&key, 1 << 20).await.unwrap());
            assert_eq!(waited(), seconds, "what was read counts");
        }
        pace.set(Bounds { requests_per_second: Some(1), ..Bounds::default() });
        drop(bucket.get(&key, 1 << 20).await.unwrap());
        assert_eq!(waited(), 4, "a second for the request before, and none for its bytes");
        drop(bucket.get(&key, 1 << 20).await.unwrap());
        assert_eq!(waited(), 5, "a request a second");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_goes_on_when_the_bounds_change() {
        let pace = Arc::new(Pace::bytes(1));
        for (held, free) in [
            (Bounds { paused: true, ..Bounds::default() }, Bounds::default()),
            (Bounds { bytes_per_second: Some(1), ..Bounds::default() }, Bounds::default()),
        ] {
            let before = pace.waited();
            pace.set(held);
            pace.moved(1 << 40);
            let other = Arc::clone(&pace);
            let mut waits = tokio::spawn(async move { other.ready().await });
            assert!(timeout(Duration::from_secs(10), &mut waits).await.is_err());
            pace.set(free);
            waits.await.unwrap();
            assert_eq!((pace.waited() - before).as_secs(), 10);
        }
    }
}
