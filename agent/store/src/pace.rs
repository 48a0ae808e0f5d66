//! No more bytes a second than somebody allows.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::Bucket;

/// How fast bytes may go to a store or come from it, for all who share it: whoever moves some waits
/// until those before it have had their time.
#[derive(Debug)]
pub struct Pace(Mutex<Queue>);

impl Pace {
    /// So many bytes a second, at least one.
    #[must_use]
    pub fn new(bytes_per_second: u64) -> Self {
        let (per_second, waited) = (bytes_per_second.max(1), Duration::ZERO);
        Pace(Mutex::new(Queue { per_second, free: None, waited }))
    }

    /// Waits until what was moved before has had its time.
    pub(crate) async fn ready(&self) {
        let wait = self.queue(|queue| queue.wait(Instant::now()));
        if !wait.is_zero() {
            sleep(wait).await;
        }
    }

    /// Takes note of bytes that were moved, or are now.
    pub(crate) fn moved(&self, bytes: u64) {
        self.queue(|queue| queue.moved(Instant::now(), bytes));
    }

    /// For how long all who share it were told to wait, taken together.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.queue(|queue| queue.waited)
    }

    fn queue<T>(&self, work: impl FnOnce(&mut Queue) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Debug)]
struct Queue {
    per_second: u64,
    /// From when on more may be moved.
    free: Option<Instant>,
    waited: Duration,
}

impl Queue {
    fn wait(&mut self, now: Instant) -> Duration {
        let free = self.free.unwrap_or(now);
        let wait = free.saturating_duration_since(now);
        self.waited = self.waited.saturating_add(wait);
        wait
    }

    fn moved(&mut self, now: Instant, bytes: u64) {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.per_second);
        let took = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        // Time in which nothing was moved is not made up for.
        let begun = self.free.map_or(now, |free| free.max(now));
        self.free = begun.checked_add(took).or(Some(begun));
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
    fn bytes_take_their_time_and_idle_time_is_not_saved_up() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut queue = Queue { per_second: 100, free: None, waited: Duration::ZERO };
        let wait = |queue: &mut Queue, seconds| queue.wait(at(seconds)).as_secs();
        assert_eq!(wait(&mut queue, 0), 0, "nothing was moved before");
        queue.moved(at(0), 300);
        queue.moved(at(0), 200);
        assert_eq!(wait(&mut queue, 1), 4, "five seconds for all of it");
        assert_eq!(wait(&mut queue, 9), 0);
        queue.moved(at(9), 100);
        assert_eq!(wait(&mut queue, 9), 1, "the idle time before is gone");
        assert_eq!(queue.waited, Duration::from_secs(5));
        queue.moved(at(9), u64::MAX);
        assert!(wait(&mut queue, 9) > 1_000_000, "no bound is passed over");
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_to_a_bucket_and_comes_from_it_takes_its_time() {
        let pace = Arc::new(Pace::new(1 << 10));
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
    }
}
