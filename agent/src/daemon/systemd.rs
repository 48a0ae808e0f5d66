//! What the service manager is told, where there is one: nothing is said to nobody. One that does not listen
//! keeps nobody waiting: a thread of its own speaks. A status that nobody heard gives way to the next one, and so
//! does a sign of life; no other word is lost.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use sd_notify::NotifyState;

/// So long is waited at the end until it was said that it ends.
const LAST_WORD: Duration = Duration::from_secs(1);

/// What is still to be said.
#[derive(Default)]
struct Unsaid {
    /// In this order, each at once.
    words: VecDeque<Vec<NotifyState<'static>>>,
    /// The newest status, where it is another one than the last.
    status: Option<String>,
    last: String,
    alive: bool,
    /// Whether something is being said.
    speaking: bool,
}

static UNSAID: OnceLock<(Mutex<Unsaid>, Condvar)> = OnceLock::new();

/// The agent is there: what follows a start may go on.
pub(super) fn ready() {
    say(|unsaid| unsaid.words.push_back(vec![NotifyState::Ready]));
}

/// The configuration is being read again.
pub(super) fn reloading() {
    // From systemd 253 on a reload that does not say since when is a failed one.
    let since = NotifyState::monotonic_usec_now().ok();
    let words = [NotifyState::Reloading].into_iter().chain(since).collect();
    say(|unsaid| unsaid.words.push_back(words));
}

/// The agent ends. Waits for a moment until that was said.
pub(super) fn stopping() {
    say(|unsaid| unsaid.words.push_back(vec![NotifyState::Stopping]));
    let (unsaid, changed) = shared();
    let busy = |unsaid: &mut Unsaid| unsaid.speaking || !unsaid.words.is_empty();
    let _ = changed.wait_timeout_while(locked(unsaid), LAST_WORD, busy);
}

/// What it does, in a line that `systemctl status` shows.
pub(super) fn status(text: String) {
    say(|unsaid| {
        if text != unsaid.last {
            unsaid.last.clone_from(&text);
            unsaid.status = Some(text);
        }
    });
}

/// It is alive.
pub(super) fn alive() {
    say(|unsaid| unsaid.alive = true);
}

/// How often it has to say that it is alive: twice as often as it is asked to. `None`: nobody asks.
pub(super) fn alive_every() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|within| within / 2).filter(|every| !every.is_zero())
}

fn shared() -> &'static (Mutex<Unsaid>, Condvar) {
    UNSAID.get_or_init(|| {
        let thread = std::thread::Builder::new().name("notify".to_owned());
        if let Err(error) = thread.spawn(|| speak(shared())) {
            tracing::error!("the service manager is told nothing: {error}");
        }
        Default::default()
    })
}

fn locked(unsaid: &Mutex<Unsaid>) -> MutexGuard<'_, Unsaid> {
    unsaid.lock().unwrap_or_else(PoisonError::into_inner)
}

fn say(what: impl FnOnce(&mut Unsaid)) {
    let (unsaid, changed) = shared();
    what(&mut locked(unsaid));
    changed.notify_all();
}

fn speak((unsaid, changed): &(Mutex<Unsaid>, Condvar)) -> ! {
    let mut now = locked(unsaid);
    loop {
        let words = now.words.pop_front();
        let words =
            words.or_else(|| std::mem::take(&mut now.alive).then(|| vec![NotifyState::Watchdog]));
        let status = if words.is_none() { now.status.take() } else { None };
        now.speaking = words.is_some() || status.is_some();
        if !now.speaking {
            changed.notify_all();
            now = changed.wait(now).unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        drop(now);
        let status = status.as_deref().map(NotifyState::Status);
        let all: Vec<NotifyState<'_>> = words.into_iter().flatten().chain(status).collect();
        if let Err(error) = sd_notify::notify(&all) {
            tracing::debug!("the service manager is not told: {error}");
        }
        now = locked(unsaid);
    }
}
