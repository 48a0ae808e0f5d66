//! What the service manager is told, where there is one: nothing is said to nobody.

use std::time::Duration;

use sd_notify::NotifyState;

/// The agent is there: what follows a start may go on.
pub(super) fn ready() {
    say(&[NotifyState::Ready]);
}

/// The configuration is being read again.
pub(super) fn reloading() {
    // From systemd 253 on a reload that does not say since when is a failed one.
    match NotifyState::monotonic_usec_now() {
        Ok(since) => say(&[NotifyState::Reloading, since]),
        Err(_) => say(&[NotifyState::Reloading]),
    }
}

/// The agent ends.
pub(super) fn stopping() {
    say(&[NotifyState::Stopping]);
}

/// What it does, in a line that `systemctl status` shows.
pub(super) fn status(text: &str) {
    say(&[NotifyState::Status(text)]);
}

/// It is alive.
pub(super) fn alive() {
    say(&[NotifyState::Watchdog]);
}

/// How often it has to say that it is alive: twice as often as it is asked to. `None`: nobody asks.
pub(super) fn alive_every() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|within| within / 2).filter(|every| !every.is_zero())
}

fn say(words: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(words) {
        tracing::debug!("the service manager is not told: {error}");
    }
}
