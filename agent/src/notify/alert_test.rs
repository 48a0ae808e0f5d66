//! The monthly test of each channel, which a person acknowledges: whether what is told is read by anybody.

use drctl_catalog::{AlertTest, Catalog};
use drctl_policies::{Channel, Severity};
use jiff::{SignedDuration, Timestamp};

use super::amiss::Amiss;
use super::extent::Extent;
use super::notice::Notice;
use super::{Undelivered, deliver};
use crate::host::Setup;

/// How long it is from one test message to the next.
const EVERY: SignedDuration = SignedDuration::from_hours(30 * 24);

/// How long a person may take to acknowledge one.
const PATIENCE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Letters and digits that are not taken for one another.
const LETTERS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// Sends the test message of a channel where it is due.
pub(super) async fn send_if_due(
    setup: &Setup,
    (name, channel): (&str, &Channel),
) -> Result<(), Undelivered> {
    // Without a record nobody could acknowledge it.
    let Some(catalog) = setup.writable_catalog().await else { return Ok(()) };
    let Ok(tests) = catalog.alert_tests().await else { return Ok(()) };
    let now = setup.clock.now();
    if !is_due(now, name, &tests) {
        return Ok(());
    }
    let code = new_code();
    let more = format!(
        " Say that you have read this, on {}: `drctl notify ack {code}`. If nobody does within 7 days, \
         other channels and `drctl status` tell that messages of this one reach nobody.",
        setup.host()
    );
    // On record before it is sent: whoever reads it can acknowledge it.
    if catalog.note_alert_test(name, &code, now).await.is_err() {
        return Ok(());
    }
    let notice = Notice::test(setup.host(), now, &more);
    if let Err(error) = deliver(setup, (name, channel), &notice).await {
        // It was not sent: the next look sends another one.
        let _ = catalog.forget_alert_test(name, &code).await;
        return Err(error);
    }
    tracing::info!(channel = name, "the monthly test message was sent");
    Ok(())
}

/// Six letters that nobody guesses by accident.
fn new_code() -> String {
    let bytes: [u8; 6] = rand::random();
    bytes.iter().map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
}

fn is_due(now: Timestamp, name: &str, tests: &[AlertTest]) -> bool {
    let last = tests.iter().filter(|test| test.channel == name).map(|test| test.sent).max();
    last.is_none_or(|last| now.duration_since(last).abs() >= EVERY)
}

/// A channel whose last test message nobody has acknowledged in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unanswered {
    /// The channel.
    pub(crate) channel: String,
    /// When the message was sent.
    pub(crate) sent: Timestamp,
}

impl Unanswered {
    /// What is amiss, and what to do.
    pub(crate) fn text(&self) -> String {
        format!(
            "nobody has acknowledged the test message of {:.0} by the channel {}: look whether messages \
             reach anybody there, and run `drctl notify ack CODE` with the code in it",
            self.sent, self.channel
        )
    }

    /// The same, for the other channels.
    pub(crate) fn amiss(&self) -> Amiss {
        Amiss {
            source: None,
            code: "alert_path".to_owned(),
            subject: self.channel.clone(),
            severity: Severity::Attention,
            text: self.text(),
            safe: None,
            run: "drctl notify test",
            since: Some(self.sent),
            extent: Extent::default(),
        }
    }
}

/// When each configured channel last sent a test message that a person has acknowledged.
pub(crate) async fn acknowledged(setup: &Setup, catalog: &Catalog) -> Vec<(String, Timestamp)> {
    let tests = match setup.config.notify.is_empty() {
        true => Vec::new(),
        false => catalog.alert_tests().await.unwrap_or_default(),
    };
    let names = setup.config.notify.keys();
    names.filter_map(|name| Some((name.clone(), answered(name, &tests)?))).collect()
}

fn answered(name: &str, tests: &[AlertTest]) -> Option<Timestamp> {
    let of_it = tests.iter().filter(|test| test.channel == name);
    of_it.filter(|test| test.acked.is_some()).map(|test| test.sent).max()
}

/// The configured channels whose last test message nobody has acknowledged in time.
pub(crate) async fn unanswered(setup: &Setup, catalog: &Catalog) -> Vec<Unanswered> {
    if setup.config.notify.is_empty() {
        return Vec::new();
    }
    let tests = catalog.alert_tests().await.unwrap_or_default();
    let names = setup.config.notify.keys();
    names.filter_map(|name| late(setup.clock.now(), name, &tests)).collect()
}

fn late(now: Timestamp, name: &str, tests: &[AlertTest]) -> Option<Unanswered> {
    let of_it = || tests.iter().filter(|test| test.channel == name);
    let answered = answered(name, tests);
    // Of those that nobody answered the oldest one counts.
    let open = of_it().filter(|test| answered.is_none_or(|answered| test.sent > answered));
    let first = open.map(|test| test.sent).min()?;
    let unanswered = Unanswered { channel: name.to_owned(), sent: first };
    (now.duration_since(first) >= PATIENCE).then_some(unanswered)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(day: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * day)
    }

    fn test(sent: i64, acked: Option<i64>) -> AlertTest {
        let (channel, code) = ("dba".to_owned(), format!("C{sent}"));
        AlertTest { channel, code, sent: day(sent), acked: acked.map(day) }
    }

    #[test]
    fn a_test_is_due_every_month() {
        assert!(is_due(day(0), "dba", &[]));
        let one = [test(0, None)];
        assert!(!is_due(day(29), "dba", &one) && is_due(day(30), "dba", &one));
        assert!(is_due(day(1), "pager", &one), "each channel by itself");
    }

    #[test]
    fn what_nobody_acknowledges_in_a_week_is_told_until_somebody_does() {
        let late = |now: i64, tests: &[AlertTest]| late(day(now), "dba", tests).map(|one| one.sent);
        assert_eq!(late(6, &[test(0, None)]), None);
        assert_eq!(late(7, &[test(0, None)]), Some(day(0)));
        assert_eq!(
            late(31, &[test(0, None), test(30, None)]),
            Some(day(0)),
            "also after the next one"
        );
        assert_eq!(late(40, &[test(0, None), test(30, Some(31))]), None);
        assert_eq!(late(40, &[test(0, Some(1)), test(30, None)]), Some(day(30)));
    }
}
