//! What a seed makes of a host: a zone whose clock changes meanwhile, a policy, and when its jobs are due and may
//! begin, reckoned from the calendar and by nothing of the product.

use std::sync::OnceLock;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp, ToSpan as _};

use crate::random::Random;

/// A minute, and the hours in which it comes every day.
#[derive(Debug, Clone)]
pub(crate) struct Daily {
    pub(crate) minute: i8,
    pub(crate) hours: Vec<i8>,
}

/// What a seed makes of a host.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) zone: TimeZone,
    pub(crate) begin: Timestamp,
    pub(crate) at_once: usize,
    pub(crate) backups: Daily,
    pub(crate) prunes: Daily,
    jitter: &'static str,
    window: Option<(Time, Time)>,
    blackout: Option<(Date, Date)>,
    retention: &'static str,
}

/// Zones whose clock changes in 2026, with when it does.
pub(crate) fn changes() -> &'static [(TimeZone, Timestamp)] {
    static ALL: OnceLock<Vec<(TimeZone, Timestamp)>> = OnceLock::new();
    ALL.get_or_init(|| {
        let [from, until] = ["2026-01-10T00:00:00Z", "2026-12-01T00:00:00Z"]
            .map(|text| text.parse::<Timestamp>().expect("a time"));
        let zones = TimeZoneDatabase::bundled();
        let all = zones.available().filter_map(|name| zones.get(name.as_str()).ok());
        all.flat_map(|zone| {
            let changes: Vec<Timestamp> = zone
                .following(from)
                .map(|change| change.timestamp())
                .take_while(|change| *change < until)
                .collect();
            changes.into_iter().map(move |change| (zone.clone(), change)).collect::<Vec<_>>()
        })
        .collect()
    })
}

/// Rules of retention that differ in what they need.
const RETENTION: [&str; 5] = [
    "last = 3\n",
    "last = 1\ndaily = 3\nweekly = 2\n",
    "last = 1\nwithin = \"3d\"\n",
    "within = \"2d\"\ndaily = 4\nmin_backups = 2\nmax_age = \"20d\"\n",
    "daily = 3\nmin_backups = 3\nmax_age = \"5d\"\n",
];

impl Daily {
    fn line(&self) -> String {
        let hours: Vec<String> = self.hours.iter().map(ToString::to_string).collect();
        format!("{} {} * * *", self.minute, hours.join(","))
    }
}

impl Plan {
    pub(crate) fn of(random: &mut Random) -> Self {
        let (zone, change) = random.pick(changes());
        let begin = change - random.seconds(150_000, 600_000);
        let backups: [(i8, &[i8]); 5] =
            [(0, &[2]), (30, &[2, 14]), (0, &[1, 9, 17]), (30, &[0, 12]), (15, &[3, 19])];
        let prunes: [(i8, &[i8]); 4] = [(30, &[3]), (0, &[2]), (30, &[14]), (45, &[20])];
        let (minute, hours) = random.pick(&backups);
        let backups = Daily { minute, hours: hours.to_vec() };
        let (minute, hours) = random.pick(&prunes);
        let prunes = Daily { minute, hours: hours.to_vec() };
        let day = zone.to_datetime(begin + random.seconds(100_000, 500_000)).date();
        let days = day.checked_add(random.pick(&[0, 1]).days()).expect("a date");
        let window = (Time::constant(5, 0, 0, 0), Time::constant(23, 0, 0, 0));
        Plan {
            at_once: random.pick(&[1, 2, 3]),
            backups,
            prunes,
            jitter: random.pick(&["0s", "0s", "25m"]),
            window: random.chance(25).then_some(window),
            blackout: random.chance(50).then_some((day, days)),
            retention: random.pick(&RETENTION),
            begin,
            zone,
        }
    }

    /// The policy as its file has it.
    pub(crate) fn policy(&self) -> String {
        let zone = self.zone.iana_name().expect("it has a name");
        let mut text = format!(
            "schedule = \"{}\"\ntimezone = \"{zone}\"\njitter = \"{}\"\nattempts = 4\n",
            self.backups.line(),
            self.jitter
        );
        if let Some((from, until)) = self.blackout {
            text += &format!("blackout = [\"{from}..{until}\"]\n");
        }
        if let Some((from, until)) = self.window {
            let (from, until) = (from.strftime("%H:%M"), until.strftime("%H:%M"));
            text += &format!("[window]\nfrom = \"{from}\"\nuntil = \"{until}\"\n");
        }
        text + &format!(
            "[log_index]\nschedule = \"never\"\n[prune]\nschedule = \"{}\"\n[retention]\n{}",
            self.prunes.line(),
            self.retention
        )
    }

    /// Why no run may begin at a time; nothing where one may.
    pub(crate) fn forbids(&self, at: Timestamp) -> Option<String> {
        let there = self.zone.to_datetime(at);
        let dark = |(from, until): &(Date, Date)| (*from..=*until).contains(&there.date());
        let shut = |(from, until): &(Time, Time)| !(*from..*until).contains(&there.time());
        if self.blackout.as_ref().is_some_and(dark) {
            return Some(format!("in the blackout, on {there}"));
        }
        self.window.as_ref().is_some_and(shut).then(|| format!("outside of the window, at {there}"))
    }

    /// Whether a run might have begun at any moment between two.
    pub(crate) fn open_from(&self, from: Timestamp, until: Timestamp) -> bool {
        let step = SignedDuration::from_mins(30);
        let mut at = from;
        while at < until {
            if self.forbids(at).is_some() {
                return false;
            }
            at += step;
        }
        self.forbids(until).is_none()
    }

    /// The last due time by a moment that may be late by the jitter, or a little earlier where the clock leaves
    /// it out.
    pub(crate) fn last_due(&self, of: &Daily, by: Timestamp) -> Option<Timestamp> {
        let today = self.zone.to_datetime(by).date();
        let days = [today, today.yesterday().ok()?, today.tomorrow().ok()?];
        let times = days.iter().flat_map(|day| {
            of.hours
                .iter()
                .map(|hour| DateTime::from_parts(*day, Time::constant(*hour, of.minute, 0, 0)))
        });
        let due = times.filter_map(|time| self.zone.to_ambiguous_timestamp(time).earlier().ok());
        due.filter(|due| *due + SignedDuration::from_mins(85) <= by).max()
    }
}
