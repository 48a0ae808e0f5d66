//! What the service manager is told, where there is one: nothing is said to nobody. One that does not listen
//! keeps nobody waiting: a thread of its own speaks, and what does not fit is not said.

use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use sd_notify::NotifyState;

/// So much is said before anybody has listened.
const UNHEARD: usize = 16;

/// So long is waited at the end until it was said that it ends.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Something to say; whoever has a sender waits until it was said.
struct Word(NotifyState<'static>, Option<NotifyState<'static>>, Option<SyncSender<()>>);

/// What is said as it goes, without its own thread: the text of a status, which is said when it changes.
enum Say {
    Word(Word),
    Status(String),
}

static SPEAKER: OnceLock<Option<SyncSender<Say>>> = OnceLock::new();

/// The agent is there: what follows a start may go on.
pub(super) fn ready() {
    say(Say::Word(Word(NotifyState::Ready, None, None)));
}

/// The configuration is being read again.
pub(super) fn reloading() {
    // From systemd 253 on a reload that does not say since when is a failed one.
    let since = NotifyState::monotonic_usec_now().ok();
    say(Say::Word(Word(NotifyState::Reloading, since, None)));
}

/// The agent ends. Waits for a moment until that was said.
pub(super) fn stopping() {
    let (heard, hears) = sync_channel(1);
    say(Say::Word(Word(NotifyState::Stopping, None, Some(heard))));
    let _ = hears.recv_timeout(LAST_WORD);
}

/// What it does, in a line that `systemctl status` shows.
pub(super) fn status(text: String) {
    say(Say::Status(text));
}

/// It is alive.
pub(super) fn alive() {
    say(Say::Word(Word(NotifyState::Watchdog, None, None)));
}

/// How often it has to say that it is alive: twice as often as it is asked to. `None`: nobody asks.
pub(super) fn alive_every() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|within| within / 2).filter(|every| !every.is_zero())
}

fn say(what: Say) {
    let speaker = SPEAKER.get_or_init(|| {
        let (speaker, words) = sync_channel(UNHEARD);
        let thread = std::thread::Builder::new().name("notify".to_owned());
        thread.spawn(move || speak(&words)).ok().map(|_| speaker)
    });
    if let Some(speaker) = speaker
        && speaker.try_send(what).is_err()
    {
        tracing::debug!("the service manager does not listen");
    }
}

fn speak(words: &Receiver<Say>) {
    let mut last = String::new();
    for what in words {
        match what {
            Say::Status(text) if text == last => {}
            Say::Status(text) => {
                send(&[NotifyState::Status(&text)]);
                last = text;
            }
            Say::Word(Word(word, more, heard)) => {
                let all: Vec<NotifyState<'_>> = [word].into_iter().chain(more).collect();
                send(&all);
                if let Some(heard) = heard {
                    let _ = heard.try_send(());
                }
            }
        }
    }
}

fn send(words: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(words) {
        tracing::debug!("the service manager is not told: {error}");
    }
}
