//! Which drills were due in a time, and what became of each; no IO.

use std::collections::BTreeSet;
use std::time::Duration;

use drctl_model::{BackupId, Drill, Verdict};
use drctl_policies::Schedule;
use drctl_policies::rto::{Forecast, Measured, forecast};
use jiff::{SignedDuration, Timestamp};

use crate::host::figures::{count, number};
use crate::repository::drills::last_opened;
use crate::repository::rto::measured;

/// So many runs that were due are looked at.
const MOST: usize = 5_000;

/// How long a run may be late that no later one has followed yet.
const LATE: SignedDuration = SignedDuration::from_hours(24);

/// A drill that was due, or that was run although none was.
#[derive(Debug, Clone, PartialEq)]
pub struct DueDrill {
    /// When it was due; nothing: somebody ran it by hand.
    pub due: Option<Timestamp>,
    /// What became of it; nothing where none was run.
    pub drill: Option<Box<Drill>>,
    /// Whether it was missed: none was run, and none is to be expected any more.
    pub missed: bool,
}

/// The drills of a source in a time, and what they tell of its restores.
#[derive(Debug, Clone, PartialEq)]
pub struct DrillRecord {
    /// In the order of their times.
    pub drills: Vec<DueDrill>,
    /// Of the backups that count and are kept, so many were proven in the last 30 days, and in the last 90 days before
    /// the end of the time; and how many that are.
    pub proven: (u64, u64, u64),
    /// How long a restore of as much as was restored last will take, by all drills up to the end of the time.
    pub forecast: Option<Forecast>,
    /// Whether any run was due at all.
    pub scheduled: bool,
    /// To whom backups are encrypted by the configuration, and when a drill last opened one with that identity, before
    /// the end of the time.
    pub keys: Vec<(String, Option<Timestamp>)>,
}

/// What is known of a source, for its record.
pub(crate) struct OfSource<'a> {
    /// When drills are due, by its policy as it is now.
    pub(crate) schedule: Option<&'a Schedule>,
    /// All its drills, oldest first.
    pub(crate) drills: &'a [Drill],
    /// Its backups that count and are kept.
    pub(crate) kept: &'a BTreeSet<BackupId>,
    /// The promised RTO.
    pub(crate) rto: Option<Duration>,
    /// To whom backups are encrypted.
    pub(crate) recipients: &'a [String],
}

impl DrillRecord {
    /// The record of a time, that is looked at when it is `now`.
    #[must_use]
    pub(crate) fn of(
        of: &OfSource<'_>,
        (from, to): (Timestamp, Timestamp),
        now: Timestamp,
    ) -> Self {
        let until = of.drills.partition_point(|drill| drill.started <= to);
        let up_to = &of.drills[..until];
        let first = up_to.partition_point(|drill| drill.started < from);
        let due = due(of.schedule, (from, to));
        let scheduled = !due.is_empty();
        let measured: Vec<Measured> = up_to.iter().filter_map(measured).collect();
        let bytes = measured.last().map(|last| last.bytes);
        let promised = of.rto.map(|rto| u64::try_from(rto.as_millis()).unwrap_or(u64::MAX));
        let opened = |recipient: &String| {
            (recipient.clone(), last_opened(up_to, recipient).map(|drill| drill.started))
        };
        DrillRecord {
            drills: matched(&due, &up_to[first..], now),
            proven: proven(up_to, of.kept, to),
            forecast: bytes.and_then(|bytes| forecast(&measured, (bytes, to), promised)),
            scheduled,
            keys: of.recipients.iter().map(opened).collect(),
        }
    }

    /// How many that were due were not run.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.drills.iter().filter(|one| one.missed).count() as u64
    }

    /// How many said this.
    #[must_use]
    pub fn said(&self, verdict: Verdict) -> u64 {
        let drills = self.drills.iter().filter_map(|one| one.drill.as_ref());
        drills.filter(|drill| drill.verdict() == verdict).count() as u64
    }

    /// For people, in a line.
    #[must_use]
    pub fn words(&self) -> String {
        let all = [
            (self.said(Verdict::Pass), "passed"),
            (self.said(Verdict::FailData), "FAILED"),
            (self.said(Verdict::FailRto), "over the RTO"),
            (self.said(Verdict::FailRpo), "over the RPO"),
            (self.said(Verdict::Inconclusive), "inconclusive"),
            (self.said(Verdict::Aborted), "aborted"),
            (self.said(Verdict::Skipped), "skipped"),
            (self.missed(), "MISSED"),
        ];
        let all = all.iter().filter(|(count, _)| *count > 0);
        let all: Vec<String> =
            all.map(|(many, what)| format!("{} {what}", number(*many))).collect();
        let (days_30, days_90, kept) = self.proven;
        let what = match (all.is_empty(), self.scheduled) {
            (true, true) => "none yet".to_owned(),
            (true, false) => "none, and none is scheduled".to_owned(),
            (false, _) => all.join(", "),
        };
        format!(
            "drills: {what}; of {} good, {} proven in 30 days, {} in 90",
            count(kept, "backup"),
            number(days_30),
            number(days_90)
        )
    }
}

/// When runs were due in a time.
fn due(schedule: Option<&Schedule>, (from, to): (Timestamp, Timestamp)) -> Vec<Timestamp> {
    let Some(schedule) = schedule else { return Vec::new() };
    let before = from.checked_sub(SignedDuration::from_nanos(1)).unwrap_or(from);
    let next = |at: &Timestamp| schedule.next_after(*at);
    let all = std::iter::successors(next(&before), next);
    all.take_while(|at| *at <= to).take(MOST).collect()
}

/// Each run that was due with the first drill that began behind it, before the next one was due; drills that are more
/// than that were run by hand.
fn matched(due: &[Timestamp], drills: &[Drill], now: Timestamp) -> Vec<DueDrill> {
    let mut all = Vec::new();
    let mut drills = drills.iter().peekable();
    let by_hand =
        |drill: &Drill| DueDrill { due: None, drill: Some(Box::new(drill.clone())), missed: false };
    for (n, at) in due.iter().enumerate() {
        while let Some(drill) = drills.next_if(|drill| drill.started < *at) {
            all.push(by_hand(drill));
        }
        let next = due.get(n + 1);
        let drill = drills.next_if(|drill| next.is_none_or(|next| drill.started < *next));
        let over = next.copied().or_else(|| at.checked_add(LATE).ok()).unwrap_or(Timestamp::MAX);
        let missed = drill.is_none() && over <= now;
        all.push(DueDrill { due: Some(*at), drill: drill.cloned().map(Box::new), missed });
    }
    all.extend(drills.map(by_hand));
    all
}

/// How many of the backups that are kept were proven in 30 and in 90 days, and how many there are.
fn proven(drills: &[Drill], kept: &BTreeSet<BackupId>, to: Timestamp) -> (u64, u64, u64) {
    let within = |days: i64| {
        let since = to.checked_sub(SignedDuration::from_hours(24 * days)).unwrap_or(Timestamp::MIN);
        let proved =
            drills.iter().filter(|drill| drill.outcome.is_proven() && drill.started >= since);
        // One that another one was compared with was restored and digested too.
        let backups = proved.flat_map(|drill| {
            let with = drill.run.as_ref().and_then(|run| run.with.as_ref());
            drill.base.iter().chain(with.map(|with| &with.backup))
        });
        let backups: BTreeSet<&BackupId> = backups.filter(|id| kept.contains(*id)).collect();
        backups.len() as u64
    };
    (within(30), within(90), kept.len() as u64)
}

#[cfg(test)]
mod tests {
    use drctl_model::{
        DrillHost, DrillId, DrillObjectives, DrillOutcome, DrillPhase, DrillPoint, DrillRun, Equal,
        Header, PhaseClock, PointWanted, RepositoryId,
    };
    use jiff::tz::TimeZone;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn backup(n: u64) -> BackupId {
        BackupId::new(Timestamp::UNIX_EPOCH, n)
    }

    fn drill(started: &str, base: u64, outcome: DrillOutcome) -> Drill {
        let run = DrillRun {
            point: DrillPoint { wanted: PointWanted::Latest, seed: None, of: 1 },
            with: None,
            manifest_sha256: None,
            bytes: Some(1_000),
            phases: vec![PhaseClock { phase: DrillPhase::Loading, ms: 500 }],
            on: DrillHost {
                drctl: String::new(),
                server: String::new(),
                cpus: 1,
                memory_bytes: None,
            },
            objectives: DrillObjectives::default(),
            lost_ms: None,
            checks: Vec::new(),
            together: None,
            by_kit: false,
            opened_by: outcome.is_proven().then(|| "age1one".to_owned()).into_iter().collect(),
            deviations: Vec::new(),
            cleaned: true,
            sealed: None,
        };
        Drill {
            header: Header::new([]),
            repository: RepositoryId::new(1),
            source: "shop".parse().expect("a name"),
            drill: DrillId::new(at(started), base),
            host: "db1".to_owned(),
            started: at(started),
            took_ms: 600,
            system_id: None,
            timeline: None,
            base: Some(backup(base)),
            newest: None,
            target: "latest".to_owned(),
            outcome,
            run: Some(run),
        }
    }

    fn equal() -> DrillOutcome {
        DrillOutcome::Equal(Equal::default())
    }

    #[test]
    fn what_was_due_is_told_with_what_became_of_it() {
        let schedule = Schedule::new("0 3 * * *", TimeZone::UTC).expect("a schedule");
        let failed = DrillOutcome::Failed { error: "mismatch".to_owned() };
        let drills = [
            drill("2026-10-01T12:00:00Z", 9, equal()),
            drill("2026-11-01T01:00:00Z", 1, equal()),
            drill("2026-11-01T03:05:00Z", 1, equal()),
            drill("2026-11-01T15:00:00Z", 1, equal()),
            drill("2026-11-03T03:00:00Z", 2, failed),
            drill("2026-11-09T03:00:00Z", 3, equal()),
        ];
        let kept = [1, 2, 3, 4].map(backup).into();
        let recipients = ["age1one".to_owned(), "age1two".to_owned()];
        let of = OfSource {
            schedule: Some(&schedule),
            drills: &drills,
            kept: &kept,
            rto: None,
            recipients: &recipients,
        };
        let time = (at("2026-11-01T00:00:00Z"), at("2026-11-04T12:00:00Z"));
        let record = DrillRecord::of(&of, time, at("2026-11-04T12:00:00Z"));
        let told = |one: &DueDrill| {
            let began = one.drill.as_ref().map(|drill| drill.started.strftime("%dT%H").to_string());
            (one.due.map(|due| due.strftime("%d").to_string()), began, one.missed)
        };
        let some = |text: &str| Some(text.to_owned());
        let expected = [
            (None, some("01T01"), false),
            (some("01"), some("01T03"), false),
            (None, some("01T15"), false),
            (some("02"), None, true),
            (some("03"), some("03T03"), false),
            // It may still come.
            (some("04"), None, false),
        ];
        let all: Vec<_> = record.drills.iter().map(told).collect();
        // The third of the month's first day was more than was due.
        assert_eq!(all[..2], expected[..2]);
        let mut sorted = all.clone();
        sorted.sort();
        let mut wanted = expected.to_vec();
        wanted.sort();
        assert_eq!(sorted, wanted);
        assert_eq!((record.missed(), record.scheduled), (1, true));
        // Of four that are kept the first was proven; what failed proves nothing.
        assert_eq!(record.proven, (1, 1, 4));
        assert_eq!(record.forecast.map(|told| told.drills), Some(4));
        let last = Some(at("2026-11-01T15:00:00Z"));
        assert_eq!(
            record.keys,
            [(some("age1one").unwrap(), last), (some("age1two").unwrap(), None)]
        );
        let later = DrillRecord::of(&of, time, at("2026-11-06T12:00:00Z"));
        assert_eq!(later.missed(), 2, "it did not come");
        let none = OfSource { schedule: None, ..of };
        let record = DrillRecord::of(&none, time, at("2026-11-06T12:00:00Z"));
        assert_eq!((record.drills.len(), record.scheduled), (4, false));
    }
}
