//! Looks after a stream while it runs: what piles up on the server; and the words for one that stands
//! still.

use std::collections::BTreeSet;
use std::time::Duration;

use drctl_engines::pg::{LogHealth, PgServer, log_health};
use drctl_model::{Checked, FindingCode, SourceId};
use tokio::time::{MissedTickBehavior, interval};

use super::health::{LogFinding, OF_SERVER, log_findings};
use crate::host::Level;
use crate::host::figures::{bytes, span};
use crate::log::{Held, HeldLog, Still};
use crate::repository::findings::{Findings, say};

/// How often the server is asked how its log fares.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Looks at the server's log now and then and says what is wrong; never ends. What is wrong
/// already is said at once, then what is new; and all of it again every tenth time.
pub(super) async fn watch(
    server: &PgServer,
    source: &SourceId,
    (findings, held): (&Findings, &HeldLog),
) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut said, mut noted) = (BTreeSet::new(), None);
    for round in 0u32.. {
        ticks.tick().await;
        let health = match log_health(server, "drctl/watch").await {
            Ok(health) => health,
            // The stream itself tells whether the server is there.
            Err(error) => {
                held.say(None);
                tracing::debug!("cannot look at archiving and replication slots: {error}");
                continue;
            }
        };
        held.say(held_by(&health));
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

/// The log that a server holds: whatever keeps most of it decides when the disk is full.
fn held_by(health: &LogHealth) -> Option<Held> {
    let slots = health.slots.iter().map(|slot| slot.kept_bytes);
    let kept = slots.chain([health.waiting_bytes]).flatten().max()?;
    Some(Held { bytes: u64::try_from(kept).unwrap_or(0), free_bytes: health.free_bytes })
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

/// What an operator reads of a stream that stands still.
pub(super) fn stands_still(still: &Still) -> String {
    let Still { waiting, since, .. } = still;
    let (size, time) = (bytes(*waiting), span(since.as_secs_f64()));
    match still.synchronous {
        true if *waiting == 0 => format!(
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
    }
}

#[cfg(test)]
mod tests {
    use drctl_engines::pg::{LogHealth, SlotHealth};

    use super::*;

    #[test]
    fn who_can_do_what_about_a_standstill_is_said() {
        let still = |synchronous, waiting| {
            let since = Duration::from_secs(10);
            stands_still(&Still { synchronous, waiting, since })
        };
        let (unheard, waiting) = (still(true, 0), still(true, 10));
        assert!(unheard.contains("COMMITS") && unheard.contains("heard"), "{unheard}");
        assert!(waiting.contains("COMMITS") && waiting.contains("have not reached"), "{waiting}");
        assert!(still(false, 10).contains("disk fills"));
    }

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
}
