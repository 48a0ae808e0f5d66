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
    /// Since when an answer comes that is no copied data.
    answering: Option<Instant>,
    /// That the server takes what is written.
    taking: Wait,
}

impl Waits {
    pub(super) fn new(patience: Patience) -> Self {
        let (answer, taking) = (Wait::default(), Wait::default());
        Waits { patience, answer, chatter: false, answering: None, taking }
    }

    /// Nothing is missed up to now.
    pub(super) fn nothing_is_due(&mut self) {
        self.answer.over();
        (self.chatter, self.answering) = (false, None);
    }

    /// Whether too long nothing was heard of an answer that is due.
    pub(super) fn poll_silence(&mut self, cx: &mut Context<'_>, is_ready: bool) -> Poll<io::Error> {
        if is_ready {
            self.nothing_is_due();
            return Poll::Pending;
        }
        let Some(patience) = self.patience.get() else { return Poll::Pending };
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
                let over = self.answer.begin().elapsed().checked_sub(patience);
                // Who stood still for longer waits once more.
                if over.is_some_and(|over| over >= STOOD_STILL) {
                    self.answer.over();
                }
                let is_late = over.is_some_and(|over| over < STOOD_STILL);
                return if is_late { Err(late("not answered", patience)) } else { Ok(()) };
            }
            Seen::Answer => {
                let began = *self.answering.get_or_insert_with(Instant::now);
                let most = patience.saturating_mul(ENDLESS);
                if began.elapsed() > most {
                    return Err(late("answered without an end", most));
                }
            }
            Seen::EndOrCopy => self.answering = None,
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
