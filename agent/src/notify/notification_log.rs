//! What a channel was told, and what it is to be told next: once when something begins, once when it is
//! over, and now and then while it lasts. Pure.

use std::collections::{BTreeMap, VecDeque};

use drctl_catalog::ToldNotice;
use drctl_model::shown;
use drctl_policies::{Channel, Severity};
use jiff::{SignedDuration, Timestamp};

use super::amiss::{Amiss, Key, Seen, concerns};
use super::extent::{Change, Extent};
use super::notice::{Event, Notice};

/// The most notices of a channel in [`SPAN`].
const MOST: usize = 10;

/// For how long those are counted.
const SPAN: SignedDuration = SignedDuration::from_mins(10);

/// How often the beginning and the end of one thing are told in [`FLAPPING`].
const MOST_CHANGES: u32 = 4;

/// For how long those are counted.
const FLAPPING: SignedDuration = SignedDuration::from_hours(1);

/// How much of a summary is told line by line.
const LINES: usize = 20;

/// A notice that is due, and what is noted once it is delivered.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) notice: Notice,
    pub(super) notes: Vec<ToldNotice>,
}

/// What one channel was told.
#[derive(Debug, Default)]
pub(super) struct NotificationLog {
    told: BTreeMap<Key, ToldNotice>,
    /// When the last notices were sent.
    sent: VecDeque<Timestamp>,
}

fn key(told: &ToldNotice) -> Key {
    (told.source.clone(), told.code.clone(), told.subject.clone())
}

fn severity(told: &ToldNotice) -> Severity {
    match told.severity == Severity::Breached.as_str() {
        true => Severity::Breached,
        false => Severity::Attention,
    }
}

/// How far apart two times are; a clock may have been set back.
fn apart(now: Timestamp, then: Timestamp) -> SignedDuration {
    now.duration_since(then).abs()
}

impl NotificationLog {
    /// As it is on record.
    pub(super) fn of(told: Vec<ToldNotice>) -> Self {
        let told = told.into_iter().map(|one| (key(&one), one)).collect();
        NotificationLog { told, sent: VecDeque::new() }
    }

    /// A notice was delivered.
    pub(super) fn delivered(&mut self, now: Timestamp, notes: &[ToldNotice]) {
        self.sent.push_back(now);
        self.told.extend(notes.iter().map(|one| (key(one), one.clone())));
    }

    /// What the channel is to be told now, what is worst first. What does not fit is told in one summary,
    /// or later by a channel that needs each thing by itself.
    pub(super) fn due(
        &mut self,
        now: Timestamp,
        (host, name, channel): (&str, &str, &Channel),
        seen: &Seen,
        sums_up: bool,
    ) -> Vec<Due> {
        while self.sent.front().is_some_and(|sent| apart(now, *sent) >= SPAN) {
            self.sent.pop_front();
        }
        let begun = seen.amiss.iter().filter(|one| {
            let (source, code, subject) = &one.key();
            concerns((name, channel), (source, code, subject), one.severity)
        });
        let reminder = SignedDuration::try_from(channel.reminder).unwrap_or(SignedDuration::MAX);
        let mut due: Vec<Due> =
            begun.filter_map(|one| self.of_amiss(now, host, one, reminder)).collect();
        let amiss = |told: &ToldNotice| seen.amiss.iter().any(|one| one.key() == key(told));
        let over = self.told.values().filter(|told| told.stands && !amiss(told)).filter(|told| {
            let place = (told.source.as_str(), told.code.as_str(), told.subject.as_str());
            seen.is_over(&key(told)) && concerns((name, channel), place, severity(told))
        });
        let over: Vec<Due> = over.filter_map(|told| Self::of_end(now, host, told)).collect();
        due.extend(over);
        due.sort_by_key(|one| {
            (one.notice.event == Event::Reminder, std::cmp::Reverse(one.notice.severity))
        });
        self.within_bounds(now, host, due, sums_up)
    }

    fn within_bounds(
        &self,
        now: Timestamp,
        host: &str,
        mut due: Vec<Due>,
        sums_up: bool,
    ) -> Vec<Due> {
        let room = MOST.saturating_sub(self.sent.len());
        if due.len() <= room {
            return due;
        }
        let rest = due.split_off(if sums_up { room.saturating_sub(1) } else { room });
        if sums_up && room > 0 {
            due.push(summary(now, host, rest));
        }
        due
    }

    /// A notice of what is amiss, if one is due.
    fn of_amiss(
        &self,
        now: Timestamp,
        host: &str,
        amiss: &Amiss,
        reminder: SignedDuration,
    ) -> Option<Due> {
        let before = self.told.get(&amiss.key());
        let stands = before.filter(|told| told.stands);
        let (change, changed) = match stands {
            Some(told) => amiss.extent.since(&Extent::recorded(&told.extent)),
            None => (Change::None, String::new()),
        };
        let event = match (stands, change) {
            (Some(told), Change::None | Change::Fewer) if amiss.severity <= severity(told) => {
                if change == Change::None && apart(now, told.told) < reminder {
                    return None;
                }
                Event::Reminder
            }
            _ => Event::Begun,
        };
        let (changes, counted) = match (event, stands) {
            (Event::Reminder, Some(told)) => (told.changes, told.counted),
            _ => counted(now, before)?,
        };
        let notice = Notice {
            event,
            severity: amiss.severity,
            host: host.to_owned(),
            source: amiss.source.clone(),
            code: amiss.code.clone(),
            subject: amiss.subject.clone(),
            text: flapping(&(changed + &amiss.text), event, changes),
            safe: amiss.safe.clone(),
            run: Some(amiss.run.to_owned()),
            since: amiss.since,
            at: now,
        };
        let (source, code, subject) = amiss.key();
        let note = ToldNotice {
            source,
            code,
            subject,
            severity: amiss.severity.as_str().to_owned(),
            text: shown(&amiss.text, 500),
            since: amiss.since,
            stands: true,
            told: now,
            changes,
            counted,
            extent: amiss.extent.record(),
        };
        Some(Due { notice, notes: vec![note] })
    }

    /// A notice that something is over.
    fn of_end(now: Timestamp, host: &str, told: &ToldNotice) -> Option<Due> {
        let (changes, counted) = counted(now, Some(told))?;
        let text = end(now, told);
        let notice = Notice {
            event: Event::Recovered,
            severity: severity(told),
            host: host.to_owned(),
            source: told.source.parse().ok(),
            code: told.code.clone(),
            subject: told.subject.clone(),
            text: flapping(&text, Event::Recovered, changes),
            safe: None,
            run: None,
            since: told.since,
            at: now,
        };
        let note = ToldNotice { stands: false, told: now, changes, counted, ..told.clone() };
        Some(Due { notice, notes: vec![note] })
    }
}

/// That it is over: what was said of it holds no more.
fn end(now: Timestamp, told: &ToldNotice) -> String {
    match told.code.as_str() {
        "configuration_refused" => {
            format!("It is over: since {now:.0} the agent uses the configuration on disk.")
        }
        _ => format!("It is over. What was told of it before:\n{}", told.text),
    }
}

/// How often the thing has changed with this change, and since when that is counted; nothing where it has
/// changed too often to be told again now.
fn counted(now: Timestamp, before: Option<&ToldNotice>) -> Option<(u32, Timestamp)> {
    match before.filter(|told| apart(now, told.counted) < FLAPPING) {
        Some(told) if told.changes >= MOST_CHANGES => None,
        Some(told) => Some((told.changes + 1, told.counted)),
        None => Some((1, now)),
    }
}

/// The text; with the last change that is told it says so.
fn flapping(text: &str, event: Event, changes: u32) -> String {
    if event == Event::Reminder || changes < MOST_CHANGES {
        return text.to_owned();
    }
    format!("{text}\nIt comes and goes: within an hour no more changes of it are told.")
}

/// Many at once.
fn summary(now: Timestamp, host: &str, rest: Vec<Due>) -> Due {
    let worst = rest.iter().map(|one| one.notice.severity).max();
    let line =
        |one: &Due| format!("- {}: {}", one.notice.title(None), shown(&one.notice.text, 200));
    let mut lines = vec![format!("{} more, too many to tell each by itself:", rest.len())];
    lines.extend(rest.iter().take(LINES).map(line));
    if rest.len() > LINES {
        lines.push(format!("and {} more", rest.len() - LINES));
    }
    let notice = Notice {
        event: Event::Summary,
        severity: worst.unwrap_or(Severity::Attention),
        host: host.to_owned(),
        source: None,
        code: "summary".to_owned(),
        subject: String::new(),
        text: lines.join("\n"),
        safe: None,
        run: Some("drctl status".to_owned()),
        since: None,
        at: now,
    };
    Due { notice, notes: rest.into_iter().flat_map(|one| one.notes).collect() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use drctl_policies::Way;

    use super::*;

    fn channel() -> Channel {
        Channel {
            way: Way::Command { command: vec!["/bin/true".to_owned()] },
            min_severity: Severity::Attention,
            sources: None,
            reminder: Duration::from_secs(24 * 3600),
            title: None,
            body: None,
            ca_file: None,
            allow_plain: false,
        }
    }

    fn at(minute: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minute)
    }

    fn gap(subject: &str) -> Amiss {
        Amiss {
            source: Some("shop".parse().unwrap()),
            code: "log_gap".to_owned(),
            subject: subject.to_owned(),
            severity: Severity::Attention,
            text: "a gap".to_owned(),
            safe: None,
            run: "drctl status",
            since: Some(at(0)),
            extent: Extent::default(),
        }
    }

    fn seen(amiss: &[Amiss]) -> Seen {
        let sources = BTreeSet::from(["shop".parse().unwrap()]);
        Seen { amiss: amiss.to_vec(), sources, ..Seen::default() }
    }

    /// Delivers all that is due, and gives what that was.
    fn tell(log: &mut NotificationLog, minute: i64, channel: &Channel, seen: &Seen) -> Vec<Event> {
        let due = log.due(at(minute), ("db1", "dba", channel), seen, true);
        due.iter().for_each(|one| log.delivered(at(minute), &one.notes));
        due.iter().map(|one| one.notice.event).collect()
    }

    #[test]
    fn a_thing_is_told_once_at_its_beginning_once_at_its_end_and_now_and_then_between() {
        let (mut log, channel) = (NotificationLog::default(), channel());
        let (some, none) = (seen(&[gap("one")]), seen(&[]));
        assert_eq!(tell(&mut log, 0, &channel, &none), []);
        assert_eq!(tell(&mut log, 5, &channel, &some), [Event::Begun]);
        assert_eq!(tell(&mut log, 10, &channel, &some), []);
        assert_eq!(tell(&mut log, 5 + 24 * 60 - 1, &channel, &some), []);
        assert_eq!(tell(&mut log, 5 + 24 * 60, &channel, &some), [Event::Reminder]);
        assert_eq!(tell(&mut log, 10 + 24 * 60, &channel, &some), []);
        // Another agent goes on with what is on record.
        let mut log = NotificationLog::of(log.told.values().cloned().collect());
        assert_eq!(tell(&mut log, 15 + 24 * 60, &channel, &some), []);
        assert_eq!(tell(&mut log, 20 + 24 * 60, &channel, &none), [Event::Recovered]);
        assert_eq!(tell(&mut log, 25 + 24 * 60, &channel, &none), []);
    }

    #[test]
    fn what_stands_for_several_is_told_anew_when_they_are_more_or_others() {
        let (mut log, channel) = (NotificationLog::default(), channel());
        let gone = |all: &[&str]| {
            let all: Vec<String> = all.iter().map(|one| (*one).to_owned()).collect();
            let code = "object_gone".to_owned();
            seen(&[Amiss { code, extent: Extent::of(&all), ..gap("") }])
        };
        assert_eq!(tell(&mut log, 0, &channel, &gone(&["b", "c"])), [Event::Begun]);
        assert_eq!(tell(&mut log, 5, &channel, &gone(&["c", "b"])), []);
        let more = gone(&["a", "b", "c", "d"]);
        let due = log.due(at(10), ("db1", "dba", &channel), &more, true);
        let told: Vec<_> = due.iter().map(|one| (one.notice.event, &one.notice.text[..])).collect();
        assert_eq!(told, [(Event::Begun, "More: 2 -> 4.\na gap")]);
        assert_eq!(tell(&mut log, 10, &channel, &more), [Event::Begun]);
        // Another agent knows what it was.
        let mut log = NotificationLog::of(log.told.values().cloned().collect());
        assert_eq!(tell(&mut log, 15, &channel, &more), []);
        assert_eq!(tell(&mut log, 20, &channel, &gone(&["e"])), [Event::Reminder]);
        assert_eq!(tell(&mut log, 25, &channel, &gone(&["a"])), [Event::Begun]);
        assert_eq!(tell(&mut log, 30, &channel, &seen(&[])), [Event::Recovered]);
        assert_eq!(log.told.len(), 1);
    }

    #[test]
    fn what_several_stand_for_is_not_over_by_itself() {
        let (mut log, channel) = (NotificationLog::default(), channel());
        assert_eq!(tell(&mut log, 0, &channel, &seen(&[gap("one")])), [Event::Begun]);
        let extent = Extent::of(&["zero".to_owned(), "one".to_owned()]);
        let several = seen(&[Amiss { extent, ..gap("") }]);
        assert_eq!(tell(&mut log, 5, &channel, &several), [Event::Begun]);
        assert_eq!(tell(&mut log, 10, &channel, &seen(&[])), [Event::Recovered; 2]);
    }

    #[test]
    fn what_was_not_delivered_is_due_again() {
        let (mut log, channel) = (NotificationLog::default(), channel());
        let some = seen(&[gap("one")]);
        for minute in [0, 5] {
            let due = log.due(at(minute), ("db1", "dba", &channel), &some, true);
            assert_eq!(due.len(), 1);
        }
    }

    #[test]
    fn what_comes_and_goes_is_told_a_few_times_an_hour_and_in_the_end_as_it_is() {
        let (mut log, channel) = (NotificationLog::default(), channel());
        let told: Vec<(i64, Event)> = (0..72)
            .flat_map(|turn| {
                let now = if turn % 2 == 0 { seen(&[gap("one")]) } else { seen(&[]) };
                let told = tell(&mut log, turn * 5, &channel, &now);
                told.into_iter().map(move |event| (turn * 5, event))
            })
            .collect();
        for hour in 0..6 {
            let within = told.iter().filter(|(minute, _)| minute / 60 == hour).count();
            assert!((1..=4).contains(&within), "{hour}: {told:?}");
        }
        // It is quiet in the end, and that is what was last told.
        let quiet = tell(&mut log, 7 * 60, &channel, &seen(&[]));
        let last = quiet.last().or(told.last().map(|(_, event)| event));
        assert_eq!(last, Some(&Event::Recovered));
    }

    #[test]
    fn much_at_once_is_told_in_one_summary_and_a_pager_gets_each_by_itself_later() {
        let channel = channel();
        let many: Vec<Amiss> = (0..30).map(|n| gap(&format!("{n:02}"))).collect();
        let many = seen(&many);
        let mut log = NotificationLog::default();
        let told = tell(&mut log, 0, &channel, &many);
        assert_eq!((told.len(), told[9]), (10, Event::Summary));
        assert_eq!(tell(&mut log, 5, &channel, &many), []);
        assert_eq!(tell(&mut log, 15, &channel, &many), [], "all of it was told");
        assert_eq!(tell(&mut log, 15, &channel, &seen(&[])).len(), 10);
        let mut pager = NotificationLog::default();
        let mut each = |minute: i64| {
            let due = pager.due(at(minute), ("db1", "dba", &channel), &many, false);
            due.iter().for_each(|one| pager.delivered(at(minute), &one.notes));
            due.len()
        };
        assert_eq!([0, 5, 10, 20, 30].map(&mut each), [10, 0, 10, 10, 0]);
    }

    #[test]
    fn what_nobody_knows_is_not_told_as_over() {
        let channel = channel();
        let gone = Amiss { code: "gave_up".to_owned(), subject: "backup".to_owned(), ..gap("") };
        let mut log = NotificationLog::default();
        let both = seen(&[gap("one"), gone]);
        assert_eq!(tell(&mut log, 0, &channel, &both).len(), 2);
        let nothing = Seen { sources: BTreeSet::new(), ..seen(&[]) };
        assert_eq!(tell(&mut log, 5, &channel, &nothing), [], "the source was not looked at");
        let unknown = BTreeSet::from([gap("one").key()]);
        let unknown = Seen { unknown, ..seen(&[]) };
        assert_eq!(tell(&mut log, 5, &channel, &unknown), [], "and no run came to its end");
        let well = BTreeSet::from([("shop".parse().unwrap(), "backup".to_owned())]);
        let well = Seen { well, ..seen(&[]) };
        assert_eq!(tell(&mut log, 5, &channel, &well), [Event::Recovered; 2]);
    }

    #[test]
    fn a_channel_is_told_what_it_asks_for_and_nothing_of_itself() {
        let urgent = Channel { min_severity: Severity::Breached, ..channel() };
        let other = Channel { sources: Some(vec!["blog".parse().unwrap()]), ..channel() };
        let mut log = NotificationLog::default();
        assert_eq!(tell(&mut log, 0, &urgent, &seen(&[gap("one")])), []);
        assert_eq!(tell(&mut log, 0, &other, &seen(&[gap("one")])), []);
        let path = |name: &str| {
            let code = "channel_fails".to_owned();
            Amiss { source: None, code, ..gap(name) }
        };
        assert_eq!(tell(&mut log, 0, &other, &seen(&[path("dba")])), []);
        assert_eq!(tell(&mut log, 0, &other, &seen(&[path("pager")])), [Event::Begun]);
        let worse = Amiss { severity: Severity::Breached, ..gap("one") };
        let mut log = NotificationLog::default();
        assert_eq!(tell(&mut log, 0, &channel(), &seen(&[gap("one")])), [Event::Begun]);
        assert_eq!(tell(&mut log, 5, &channel(), &seen(&[worse])), [Event::Begun], "it is worse");
    }
}
