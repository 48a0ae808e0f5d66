//! The agent's channels: each has a task of its own, so that one that hangs holds up nobody. What waits is
//! what was seen last, and no more: what a channel is to be told follows from it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use drctl_policies::{Channel, Severity, Way};
use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::alert_test::send_if_due;
use super::amiss::{Amiss, Seen};
use super::deliver;
use super::extent::Extent;
use super::notification_log::NotificationLog;
use crate::host::Setup;

/// How often in a row nothing can be delivered before others are told.
const FAILURES: u32 = 2;

/// How long what is being delivered may take when the agent ends.
const LAST: Duration = Duration::from_secs(5);

/// Why a channel delivers nothing, since when, and how often it was tried.
#[derive(Debug, Clone)]
struct Failing {
    why: String,
    since: Timestamp,
    times: u32,
}

type AllFailing = Arc<Mutex<BTreeMap<String, Failing>>>;

/// All channels of a configuration.
pub(crate) struct Outbox {
    seen: watch::Sender<Option<Arc<Seen>>>,
    failing: AllFailing,
    tasks: Vec<JoinHandle<()>>,
}

impl Outbox {
    /// Opens them; nothing is told yet.
    pub(crate) fn open(setup: &Setup) -> Self {
        let (seen, failing) = (watch::Sender::new(None), AllFailing::default());
        let one = |(name, channel): (&String, &Channel)| {
            let served = Served {
                setup: setup.clone(),
                name: name.clone(),
                channel: channel.clone(),
                failing: Arc::clone(&failing),
            };
            tokio::spawn(served.serve(seen.subscribe()))
        };
        let tasks = setup.config.notify.iter().map(one).collect();
        Outbox { seen, failing, tasks }
    }

    /// Has every channel tell what is new in what is seen now.
    pub(crate) fn tell(&self, seen: Seen) {
        self.seen.send_replace(Some(Arc::new(seen)));
    }

    /// Lets what is being delivered be delivered and noted, for a while: the next agent would tell it again.
    pub(crate) async fn close(&mut self) {
        // The end of it is what every channel waits for.
        self.seen = watch::Sender::new(None);
        let _ = timeout(LAST, join_all(self.tasks.iter_mut())).await;
        self.tasks.iter().for_each(JoinHandle::abort);
        // A program that hangs is killed, with its children, where its task is dropped.
        let rest = self.tasks.iter_mut().filter(|task| !task.is_finished());
        let _ = timeout(LAST, join_all(rest)).await;
        self.tasks.clear();
    }

    /// The channels that deliver nothing, as what is amiss.
    pub(crate) fn failing(&self) -> Vec<Amiss> {
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let long = failing.iter().filter(|(_, one)| one.times >= FAILURES);
        let amiss = |(name, one): (&String, &Failing)| Amiss {
            source: None,
            code: "channel_fails".to_owned(),
            subject: name.clone(),
            severity: Severity::Attention,
            text: format!(
                "notifications by the channel {name} are not delivered: {}. Nobody is told anything by it",
                one.why
            ),
            safe: Some(
                "backups go on, and what is amiss is told when it can be delivered".to_owned(),
            ),
            run: "drctl notify test",
            since: Some(one.since),
            extent: Extent::default(),
        };
        long.map(amiss).collect()
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// One channel, while the agent runs.
struct Served {
    setup: Setup,
    name: String,
    channel: Channel,
    failing: AllFailing,
}

impl Served {
    async fn serve(self, mut seen: watch::Receiver<Option<Arc<Seen>>>) {
        let mut log = None;
        while seen.changed().await.is_ok() {
            let now = seen.borrow_and_update().clone();
            let Some(now) = now else { continue };
            let log = match &mut log {
                Some(log) => log,
                none => none.insert(self.on_record().await),
            };
            self.tell(log, &now).await;
        }
    }

    /// What was told by agents before.
    async fn on_record(&self) -> NotificationLog {
        let told = match self.setup.writable_catalog().await {
            Some(catalog) => catalog.told_notices(&self.name).await.unwrap_or_default(),
            None => Vec::new(),
        };
        NotificationLog::of(told)
    }

    async fn tell(&self, log: &mut NotificationLog, seen: &Seen) {
        let host = self.setup.host();
        let at = (host.as_str(), self.name.as_str(), &self.channel);
        let sums_up = !matches!(self.channel.way, Way::Pagerduty { .. });
        for due in log.due(self.setup.clock.now(), at, seen, sums_up) {
            if let Err(error) = deliver(&self.setup, (&self.name, &self.channel), &due.notice).await
            {
                return self.failed(error.to_string());
            }
            self.failing.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
            let (event, code) = (due.notice.event.as_str(), due.notice.code.as_str());
            tracing::info!(channel = self.name, event, code, "told");
            let now = self.setup.clock.now();
            log.delivered(now, &due.notes);
            let kept = match self.setup.writable_catalog().await {
                Some(catalog) => catalog.note_told(&self.name, now, due.notes).await.is_ok(),
                None => false,
            };
            if !kept {
                tracing::warn!(
                    channel = self.name,
                    "what was told is not on record: the next agent tells it again"
                );
            }
        }
        if let Err(error) = send_if_due(&self.setup, (&self.name, &self.channel)).await {
            self.failed(error.to_string());
        }
    }

    /// What is not delivered is due again at the next look.
    fn failed(&self, why: String) {
        tracing::error!(
            channel = self.name,
            "a notification is not delivered, and is tried again: {why}"
        );
        let mut all = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let since = self.setup.clock.now();
        let one =
            all.entry(self.name.clone()).or_insert(Failing { why: String::new(), since, times: 0 });
        (one.why, one.times) = (why, one.times.saturating_add(1));
    }
}
