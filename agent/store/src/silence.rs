//! For how long nothing was heard of the store while something was asked of it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _, stream};

/// What is under way in this process, which looks at one store.
static UNDER_WAY: Mutex<UnderWay> = Mutex::new(UnderWay { asked: 0, since: None });

struct UnderWay {
    /// Requests that are not answered yet.
    asked: u64,
    /// The last answer, or the first of these requests.
    since: Option<Instant>,
}

impl UnderWay {
    fn begin(&mut self, now: Instant) {
        self.asked += 1;
        self.since.get_or_insert(now);
    }

    fn heard(&mut self, now: Instant) {
        self.since = Some(now);
    }

    fn end(&mut self) {
        self.asked = self.asked.saturating_sub(1);
        if self.asked == 0 {
            self.since = None;
        }
    }

    fn silent(&self, now: Instant) -> Duration {
        self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

fn under_way() -> MutexGuard<'static, UnderWay> {
    UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// For how long nothing was heard of the store; no time at all while nothing is asked of it.
#[must_use]
pub fn silent_for() -> Duration {
    under_way().silent(Instant::now())
}

/// Something that is asked of the store, with all its repeats.
pub(crate) struct InFlight(());

impl InFlight {
    pub(crate) fn new() -> Self {
        under_way().begin(Instant::now());
        InFlight(())
    }

    /// It was answered, whatever it was.
    pub(crate) fn heard(self) {
        under_way().heard(Instant::now());
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        under_way().end();
    }
}

/// A request of which it is known for how long nothing was heard.
pub(crate) async fn asked<T, E>(request: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let asked = InFlight::new();
    let done = request.await;
    if done.is_ok() {
        asked.heard();
    }
    done
}

/// The same of a listing, each time that more of it is asked for.
pub(crate) fn listing<S>(all: S) -> BoxStream<'static, S::Item>
where
    S: Stream + Send + Unpin + 'static,
    S::Item: Send,
{
    let next = |mut all: S| async move {
        let asked = InFlight::new();
        let next = all.next().await?;
        asked.heard();
        Some((next, all))
    };
    stream::unfold(all, next).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_silent_only_while_something_is_asked_of_it() {
        let begun = Instant::now();
        let at = |second| begun + Duration::from_secs(second);
        let mut all = UnderWay { asked: 0, since: None };
        let silent = |all: &UnderWay, second| all.silent(at(second)).as_secs();
        assert_eq!(silent(&all, 9), 0);
        all.begin(at(10));
        all.begin(at(12));
        assert_eq!(silent(&all, 15), 5, "since the first of them");
        all.heard(at(16));
        all.end();
        assert_eq!(silent(&all, 20), 4, "the other one waits still");
        all.end();
        assert_eq!(silent(&all, 99), 0);
        all.begin(at(100));
        assert_eq!(silent(&all, 101), 1);
    }
}
