//! Whether log is on its way into the bucket and does not arrive, and when to say so.

use std::time::Duration;

use drctl_model::{Checked, Finding, FindingCode, SourceId};
use tokio::time::Instant;

use crate::repository::findings::Findings;

/// How often the same is said again.
const REMIND_EVERY: Duration = Duration::from_secs(60);

/// Commits that wait are told of after this; other log a minute after it should be safe.
const COMMITS_WAIT: Duration = Duration::from_secs(10);

/// A stream that stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Still {
    /// Whether commits wait for it.
    pub(crate) synchronous: bool,
    /// Bytes that wait; nothing: nobody knows, for nothing was heard of the server.
    pub(crate) waiting: u64,
    /// For how long.
    pub(crate) since: Duration,
}

/// Who is told.
struct Teller {
    findings: Findings,
    /// Whose log it is.
    source: SourceId,
    /// By which way it comes.
    subject: String,
    /// What an operator reads.
    words: fn(&Still) -> String,
}

/// Whether log is on its way into the bucket, and does not arrive.
pub(crate) struct Standstill {
    synchronous: bool,
    patience: Duration,
    told: Option<Teller>,
    begun: Instant,
    /// Whether nothing stands that was told of, by us or by whoever streamed before.
    settled: bool,
    waiting: u64,
    /// When the server was heard of.
    heard: Instant,
    since: Option<Instant>,
    said: Option<Instant>,
}

impl Standstill {
    /// Of a stream that commits wait for, or one that ships what was written each `interval`.
    pub(crate) fn new(synchronous: bool, interval: Duration) -> Self {
        let patience = match synchronous {
            true => COMMITS_WAIT,
            false => interval + Duration::from_secs(60),
        };
        let heard = Instant::now();
        Standstill {
            synchronous,
            patience,
            told: None,
            begun: heard,
            settled: false,
            waiting: 0,
            heard,
            since: None,
            said: None,
        }
    }

    /// Tells these of it, in an engine's words; `subject` says by which way the log comes.
    pub(crate) fn telling(
        self,
        findings: &Findings,
        (source, subject): (&SourceId, String),
        words: fn(&Still) -> String,
    ) -> Self {
        let (findings, source) = (findings.clone(), source.clone());
        Standstill { told: Some(Teller { findings, source, subject, words }), ..self }
    }

    /// Something arrived.
    pub(crate) fn moved(&mut self, now: Instant) {
        self.since = Some(now);
        self.settle();
    }

    /// It does not stand still, or not any more.
    fn settle(&mut self) {
        let Some(told) = self.told.as_ref().filter(|_| !self.settled) else { return };
        let of = |code| (code, Some(told.subject.clone()));
        let looked_for = vec![of(FindingCode::LogStandsStill), of(FindingCode::CommitsWait)];
        told.findings.note(Checked { looked_for, found: Vec::new() });
        self.settled = true;
    }

    /// The server was heard of.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Looks at what is not safe yet, and says so when that takes too long.
    pub(crate) fn look(&mut self, now: Instant, unsafe_bytes: u64) {
        self.waiting = unsafe_bytes;
        self.look_again(now);
    }

    /// The same, when nothing can be known but that no time has helped.
    pub(crate) fn look_again(&mut self, now: Instant) {
        let verdict = self.verdict(now, self.waiting);
        // Nothing waits, nor did for as long as would have been told.
        let idle = self.waiting == 0 && now.duration_since(self.begun) >= self.patience;
        match (verdict, &self.told) {
            (Some(still), Some(Teller { findings, source, subject, words })) => {
                let code = match self.synchronous {
                    true => FindingCode::CommitsWait,
                    false => FindingCode::LogStandsStill,
                };
                let (source, subject, text) = (source.clone(), subject.clone(), words(&still));
                findings.tell(Finding { code, source, subject, text, hint: None });
                self.settled = false;
            }
            (None, _) if idle && now.duration_since(self.heard) < self.patience => self.settle(),
            _ => {}
        }
    }

    fn verdict(&mut self, now: Instant, unsafe_bytes: u64) -> Option<Still> {
        let unheard = now.duration_since(self.heard);
        if unsafe_bytes == 0 {
            self.since = None;
        }
        let still = match unsafe_bytes {
            // Nobody knows what waits on a server that says nothing.
            0 if self.synchronous => unheard,
            0 => return None,
            _ => now.duration_since(*self.since.get_or_insert(now)),
        };
        let reminded = self.said.is_some_and(|said| now.duration_since(said) < REMIND_EVERY);
        if still < self.patience || reminded {
            return None;
        }
        self.said = Some(now);
        let (synchronous, waiting) = (self.synchronous, unsafe_bytes);
        Some(Still { synchronous, waiting, since: still })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standstill_is_told_of_in_time_and_not_without_end() {
        let every = Duration::from_secs(3);
        let (start, mut still) = (Instant::now(), Standstill::new(true, every));
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(still.verdict(at(0), 10), None);
        assert_eq!(still.verdict(at(9), 10), None);
        let told = Still { synchronous: true, waiting: 10, since: Duration::from_secs(10) };
        assert_eq!(still.verdict(at(10), 10), Some(told));
        assert_eq!(still.verdict(at(60), 10), None, "said a moment ago");
        assert!(still.verdict(at(70), 10).is_some());
        still.moved(at(71));
        assert_eq!(still.verdict(at(80), 10), None, "something arrived");
        still.heard(at(195));
        assert_eq!(still.verdict(at(200), 0), None, "nothing waits");
        assert_eq!(still.verdict(at(205), 10), None, "it only began to");
        let unheard = Still { synchronous: true, waiting: 0, since: Duration::from_secs(105) };
        assert_eq!(still.verdict(at(300), 0), Some(unheard), "nothing was heard for long");
        let mut plain = Standstill::new(false, every);
        assert_eq!(plain.verdict(at(0), 0), None);
        assert_eq!(plain.verdict(at(0), 10), None);
        assert_eq!(plain.verdict(at(60), 10), None);
        assert!(plain.verdict(at(63), 10).is_some_and(|still| !still.synchronous));
    }
}
