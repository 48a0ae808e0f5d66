//! Looks after a stream while it runs: what piles up on the server, and what stands still.

use std::collections::BTreeSet;
use std::time::Duration;

use drctl_engines::pg::{LogHealth, PgServer, log_health};
use drctl_model::{Checked, Finding, FindingCode, SourceId};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Shipping;
use super::health::{LogFinding, OF_SERVER, log_findings, slot_named};
use crate::host::Level;
use crate::host::figures::{bytes, span};
use crate::repository::findings::{Findings, say};

/// How often the server is asked how its log fares.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// How often the same is said again.
const REMIND_EVERY: Duration = Duration::from_secs(60);

/// Commits that wait are told of after this; other log a minute after it should be safe.
const COMMITS_WAIT: Duration = Duration::from_secs(10);

/// Looks at the server's log now and then and says what is wrong; never ends. What is wrong
/// already is said at once, then what is new; and all of it again every tenth time.
pub(super) async fn watch(server: &PgServer, source: &SourceId, findings: &Findings) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut said, mut noted) = (BTreeSet::new(), None);
    for round in 0u32.. {
        ticks.tick().await;
        let health = match log_health(server, "drctl/watch").await {
            Ok(health) => health,
            // The stream itself tells whether the server is there.
            Err(error) => {
                tracing::debug!("cannot look at archiving and replication slots: {error}");
                continue;
            }
        };
        if round.is_multiple_of(10) {
            said.clear();
        }
        let mut amiss = Vec::new();
        for finding in log_findings(&health) {
            let (news, found) = (is_news(&finding, &mut said), finding.finding(source));
            match &found {
                Some(found) if news => say(found),
                None if news => {
                    let hint = finding.hint.as_deref().unwrap_or_default();
                    tracing::warn!("{}: {hint}", finding.text);
                }
                _ => {}
            }
            amiss.extend(found);
        }
        let what: Vec<_> = amiss.iter().map(|one| (one.code, one.subject.clone())).collect();
        // What stays as it is need not be written each time.
        if round.is_multiple_of(10) || noted.as_ref() != Some(&what) {
            findings.note(Checked { looked_for: looked_for(&health), found: amiss });
            noted = Some(what);
        }
    }
}

/// What would have been seen of a server, had it been amiss.
pub(crate) fn looked_for(health: &LogHealth) -> Vec<(FindingCode, Option<String>)> {
    let seen = |code: &&FindingCode| **code != FindingCode::LogWaits || health.unasked.is_none();
    OF_SERVER.iter().filter(seen).map(|code| (*code, None)).collect()
}

/// Whether something is wrong that was not said yet: of each slot by itself, but not again whenever
/// its numbers change.
fn is_news(finding: &LogFinding, said: &mut BTreeSet<Said>) -> bool {
    finding.level > Level::Good && said.insert((finding.hint.clone(), finding.slot.clone()))
}

/// What was said, and of which slot.
type Said = (Option<String>, Option<String>);

/// Whether log is on its way into the bucket, and does not arrive.
pub(super) struct Standstill {
    synchronous: bool,
    patience: Duration,
    /// Who is told: whose log it is, and through which slot it comes.
    told: Option<(Findings, SourceId, String)>,
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
    pub(super) fn new(shipping: &Shipping) -> Self {
        let patience = match shipping.synchronous {
            true => COMMITS_WAIT,
            false => shipping.interval + Duration::from_secs(60),
        };
        let synchronous = shipping.synchronous;
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

    /// Tells these of it.
    pub(super) fn telling(self, findings: &Findings, source: &SourceId, slot: &str) -> Self {
        let told = Some((findings.clone(), source.clone(), slot_named(slot)));
        Standstill { told, ..self }
    }

    /// Something arrived.
    pub(super) fn moved(&mut self, now: Instant) {
        self.since = Some(now);
        self.settle();
    }

    /// It does not stand still, or not any more.
    fn settle(&mut self) {
        let Some((findings, _, slot)) = self.told.as_ref().filter(|_| !self.settled) else {
            return;
        };
        let of = |code| (code, Some(slot.clone()));
        let looked_for = vec![of(FindingCode::LogStandsStill), of(FindingCode::CommitsWait)];
        findings.note(Checked { looked_for, found: Vec::new() });
        self.settled = true;
    }

    /// The server was heard of.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Looks at what is not safe yet, and says so when that takes too long.
    pub(super) fn look(&mut self, now: Instant, unsafe_bytes: u64) {
        self.waiting = unsafe_bytes;
        self.look_again(now);
    }

    /// The same, when nothing can be known but that no time has helped.
    pub(super) fn look_again(&mut self, now: Instant) {
        let verdict = self.verdict(now, self.waiting);
        // Nothing waits, nor did for as long as would have been told.
        let idle = self.waiting == 0 && now.duration_since(self.begun) >= self.patience;
        match (verdict, &self.told) {
            (Some(text), Some((findings, source, slot))) => {
                let code = match self.synchronous {
                    true => FindingCode::CommitsWait,
                    false => FindingCode::LogStandsStill,
                };
                let (source, subject) = (source.clone(), slot.clone());
                findings.tell(Finding { code, source, subject, text, hint: None });
                self.settled = false;
            }
            (None, _) if idle && now.duration_since(self.heard) < self.patience => self.settle(),
            _ => {}
        }
    }

    fn verdict(&mut self, now: Instant, unsafe_bytes: u64) -> Option<String> {
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
        let size = bytes(unsafe_bytes);
        let time = span(still.as_secs_f64());
        Some(match self.synchronous {
            true if unsafe_bytes == 0 => format!(
                "COMMITS ARE WAITING, if there are any: nothing was heard of the server for {time}. If \
                 it lives and its way here stays cut: ALTER SYSTEM RESET synchronous_standby_names, \
                 and SELECT pg_reload_conf(); commits are then safe on the server's disk only"
            ),
            true => format!(
                "COMMITS ARE WAITING: {size} of WAL have not reached the bucket for {time}. If it \
                 stays away: ALTER SYSTEM RESET synchronous_standby_names, and SELECT \
                 pg_reload_conf(); commits are then safe on the server's disk only"
            ),
            false => format!(
                "{size} of WAL have not reached the bucket for {time}; the server keeps them, and \
                 its disk fills"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use drctl_engines::pg::{LogHealth, SlotHealth};

    use super::*;

    #[test]
    fn each_slot_is_told_of_once() {
        let slot = |name: &str, kept_bytes| SlotHealth {
            name: name.to_owned(),
            active: false,
            status: "reserved".to_owned(),
            kept_bytes: Some(kept_bytes),
        };
        let mut said = BTreeSet::new();
        let mut told = |slots: Vec<SlotHealth>| -> Vec<Option<String>> {
            let health = LogHealth {
                archiving: false,
                failing: None,
                waiting_bytes: None,
                unasked: None,
                slots,
                free_bytes: None,
            };
            let found = log_findings(&health).into_iter();
            found.filter(|f| is_news(f, &mut said)).map(|f| f.slot).collect()
        };
        let name = |name: &str| Some(name.to_owned());
        assert_eq!(told(vec![slot("one", 2 << 30), slot("two", 1)]), [name("one")]);
        assert_eq!(told(vec![slot("one", 3 << 30), slot("two", 2 << 30)]), [name("two")]);
        assert_eq!(told(vec![slot("one", 3 << 30), slot("two", 2 << 30)]), []);
    }

    #[test]
    fn a_standstill_is_told_of_in_time_and_not_without_end() {
        let shipping = Shipping {
            slot: String::new(),
            interval: Duration::from_secs(3),
            synchronous: true,
            puts: 1,
            heartbeat: None,
        };
        let (start, mut still) = (Instant::now(), Standstill::new(&shipping));
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(still.verdict(at(0), 10), None);
        assert_eq!(still.verdict(at(9), 10), None);
        assert!(still.verdict(at(10), 10).is_some_and(|text| text.contains("COMMITS")));
        assert_eq!(still.verdict(at(60), 10), None, "said a moment ago");
        assert!(still.verdict(at(70), 10).is_some());
        still.moved(at(71));
        assert_eq!(still.verdict(at(80), 10), None, "something arrived");
        still.heard(at(195));
        assert_eq!(still.verdict(at(200), 0), None, "nothing waits");
        assert_eq!(still.verdict(at(205), 10), None, "it only began to");
        let said = still.verdict(at(300), 0).expect("nothing was heard for long");
        assert!(said.contains("COMMITS") && said.contains("heard"), "{said}");
        let mut plain = Standstill::new(&Shipping { synchronous: false, ..shipping });
        assert_eq!(plain.verdict(at(0), 0), None);
        assert_eq!(plain.verdict(at(0), 10), None);
        assert_eq!(plain.verdict(at(60), 10), None);
        assert!(plain.verdict(at(63), 10).is_some_and(|text| text.contains("disk fills")));
    }
}
