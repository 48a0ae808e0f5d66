//! How long a server is waited for.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::guard::Seen;

/// An alarm that is later than this tells of ourselves: the process or the host stood still.
const STOOD_STILL: Duration = Duration::from_secs(5);

/// How many times the patience an answer may take that goes on and on, but for copied data.
const ENDLESS: u32 = 2;

const ENDLESSLY: &str = "answered without an end";

/// How long an answer may take, for whoever asks to change; 0 is as long as it takes.
#[derive(Debug, Clone)]
pub(in crate::pg) struct Patience(Arc<AtomicU64>);

impl Patience {
    pub(super) fn new(silence: Duration) -> Self {
        let patience = Patience(Arc::default());
        patience.set(silence);
        patience
    }

    /// From the next answer on.
    pub(in crate::pg) fn set(&self, silence: Duration) {
        let millis = u64::try_from(silence.as_millis()).unwrap_or(u64::MAX);
        self.0.store(millis, Ordering::Relaxed);
    }

    fn get(&self) -> Option<Duration> {
        Some(self.0.load(Ordering::Relaxed)).filter(|millis| *millis > 0).map(Duration::from_millis)
    }
}

/// Something that is waited for, and the alarm at the end of the time for it.
#[derive(Default)]
struct Wait {
    since: Option<Instant>,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Wait {
    fn begin(&mut self) -> Instant {
        *self.since.get_or_insert_with(Instant::now)
    }

    fn over(&mut self) {
        self.since = None;
    }

    fn lasts(&self) -> bool {
        self.since.is_some()
    }

    /// Whether it has lasted too long, now that something has come. Who stood still waits once more; while
    /// nothing comes the alarm tells.
    fn has_lasted(&mut self, patience: Duration) -> bool {
        match self.begin().elapsed().checked_sub(patience) {
            None => false,
            Some(over) if over < STOOD_STILL => true,
            Some(_) => {
                self.over();
                false
            }
        }
    }

    /// Whether it has lasted too long. A process that stood still could not hear what came meanwhile, and
    /// waits once more.
    fn poll(&mut self, cx: &mut Context<'_>, patience: Duration) -> Poll<()> {
        loop {
            let since = self.begin();
            let due = since.checked_add(patience).unwrap_or(since);
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if alarm.deadline() != due {
                alarm.as_mut().reset(due);
            }
            ready!(alarm.as_mut().poll(cx));
            if due.elapsed() < STOOD_STILL {
                return Poll::Ready(());
            }
            self.since = None;
        }
    }
}

/// What is waited for on a connection.
pub(super) struct Waits {
    pub(super) patience: Patience,
    /// The next of an answer that is due.
    answer: Wait,
    /// Whether words came since then that answer nothing.
    chatter: bool,
    /// The end of an answer that comes and is no copied data.
    answering: Wait,
    /// That the server takes what is written.
    taking: Wait,
}

impl Waits {
    pub(super) fn new(patience: Patience) -> Self {
        let (answer, answering, taking) = (Wait::default(), Wait::default(), Wait::default());
        Waits { patience, answer, chatter: false, answering, taking }
    }

    /// Nothing is missed up to now.
    pub(super) fn nothing_is_due(&mut self) {
        self.answer.over();
        self.answering.over();
        self.chatter = false;
    }

    /// Whether too long nothing was heard of an answer that is due.
    pub(super) fn poll_silence(&mut self, cx: &mut Context<'_>, is_ready: bool) -> Poll<io::Error> {
        if is_ready {
            self.nothing_is_due();
            return Poll::Pending;
        }
        let Some(patience) = self.patience.get() else { return Poll::Pending };
        let most = patience.saturating_mul(ENDLESS);
        if self.answering.lasts() && self.answering.poll(cx, most).is_ready() {
            return Poll::Ready(late(ENDLESSLY, most));
        }
        ready!(self.answer.poll(cx, patience));
        let what = if self.chatter { "not answered" } else { "said nothing" };
        Poll::Ready(late(what, patience))
    }

    /// Notes what has come; an error where it is no answer, or one without an end, for too long.
    pub(super) fn came(&mut self, seen: Seen, is_ready: bool) -> io::Result<()> {
        let Some(patience) = self.patience.get().filter(|_| !is_ready) else {
            self.nothing_is_due();
            return Ok(());
        };
        match seen {
            Seen::Beside => {
                self.chatter = true;
                let is_late = self.answer.has_lasted(patience);
                return if is_late { Err(late("not answered", patience)) } else { Ok(()) };
            }
            Seen::Answer => {
                let most = patience.saturating_mul(ENDLESS);
                if self.answering.has_lasted(most) {
                    return Err(late(ENDLESSLY, most));
                }
            }
            Seen::EndOrCopy => self.answering.over(),
        }
        self.answer.over();
        self.chatter = false;
        Ok(())
    }

    /// Something is about to be written. Whoever had nothing to wait for when he read last is woken to read
    /// again, and waits from now on.
    pub(super) fn asked(&mut self, cx: &mut Context<'_>) {
        if let (None, Some(patience)) = (self.answer.since, self.patience.get()) {
            let _ = self.answer.poll(cx, patience);
        }
    }

    /// What came of writing; an error where the server takes nothing for too long.
    pub(super) fn poll_taken<T>(
        &mut self,
        cx: &mut Context<'_>,
        sent: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if sent.is_ready() {
            self.taking.over();
            return sent;
        }
        let Some(patience) = self.patience.get() else { return Poll::Pending };
        ready!(self.taking.poll(cx, patience));
        Poll::Ready(Err(late("taken nothing of what was sent", patience)))
    }
}

fn late(what: &str, patience: Duration) -> io::Error {
    let text = format!("the server has {what} for {} s", patience.as_secs_f32());
    io::Error::new(io::ErrorKind::TimedOut, text)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::advance;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);
    const MOST: Duration = Duration::from_secs(120);
    const SECOND: Duration = Duration::from_secs(1);

    fn waits() -> Waits {
        Waits::new(Patience::new(PATIENCE))
    }

    /// Whether a server that says nothing right now is given up.
    async fn silent(waits: &mut Waits) -> bool {
        poll_fn(|cx| Poll::Ready(waits.poll_silence(cx, false).is_ready())).await
    }

    #[tokio::test(start_paused = true)]
    async fn who_stood_still_waits_once_more_and_no_longer() {
        let mut one = waits();
        assert!(!silent(&mut one).await);
        advance(PATIENCE + SECOND).await;
        assert!(silent(&mut one).await);
        let mut one = waits();
        assert!(!silent(&mut one).await);
        advance(PATIENCE + STOOD_STILL).await;
        assert!(!silent(&mut one).await);
        advance(PATIENCE + SECOND).await;
        assert!(silent(&mut one).await);
        // The same of words that answer nothing, and of an answer that goes on and on.
        for (seen, most) in [(Seen::Beside, PATIENCE), (Seen::Answer, MOST)] {
            let mut one = waits();
            one.came(seen, false).unwrap();
            advance(most + SECOND).await;
            assert!(one.came(seen, false).is_err());
            let mut one = waits();
            one.came(seen, false).unwrap();
            advance(most + STOOD_STILL).await;
            one.came(seen, false).unwrap();
            one.came(seen, false).unwrap();
            advance(most + SECOND).await;
            assert!(one.came(seen, false).is_err());
        }
        // Nobody who waits stands still: a pause at the end of the time is no excuse.
        let mut one = waits();
        one.came(Seen::Answer, false).unwrap();
        advance(MOST - SECOND).await;
        one.came(Seen::Answer, false).unwrap();
        assert!(!silent(&mut one).await);
        advance(SECOND * 2).await;
        assert!(silent(&mut one).await);
    }
}
