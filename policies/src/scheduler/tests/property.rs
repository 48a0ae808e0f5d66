//! The scheduler through weeks of random trouble.
//!
//! Where the clock is never set, a plain model says at each moment what must begin and what must be
//! told ([`model`](super::model)). Where it is set, what holds is that nothing runs twice at once,
//! nothing is served again, and nothing falls silent.
//!
//! `DRCTL_SCHEDULER_ROUNDS` sets how many hosts are tried, `DRCTL_SCHEDULER_SEED` the first one.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use jiff::tz::TimeZone;

use super::world::{Random, World, zones};
use super::*;

const SCHEDULES: &[&str] = &[
    "0 * * * *",
    "17 */2 * * *",
    "30 2 * * *",
    "0 0,1,2,3 * * *",
    "*/20 1-3 * * *",
    "45 23 * * *",
    "0 4,16 * * *",
    "5 3 * * MON-FRI",
    "0 */6 * * *",
    "*/15 * * * *",
];

/// Names the seed of a host on which something went wrong.
struct Named(u64);

impl Drop for Named {
    #[expect(clippy::print_stderr, reason = "a test that fails")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("DRCTL_SCHEDULER_SEED={} DRCTL_SCHEDULER_ROUNDS=1 does it again", self.0);
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn rhythm(random: &mut Random, zone: &TimeZone) -> Rhythm {
    Rhythm::At(Schedule::new(random.pick(SCHEDULES), zone.clone()).unwrap())
}

fn job(random: &mut Random, zone: &TimeZone, change: Timestamp, steady: bool) -> JobSpec {
    let rhythm = rhythm(random, zone);
    let Rhythm::At(schedule) = &rhythm else { unreachable!() };
    let shortest = schedule.spacing().unwrap().0.as_secs();
    let jitter =
        if random.chance(40) { random.seconds(0, shortest).unsigned_abs() } else { Duration::ZERO };
    let window = random.pick(&[
        window("22:00", "06:00"),
        window("00:30", "03:30"),
        window("01:00", "23:00"),
        window("02:00", "03:00"),
    ]);
    let day = zone.to_datetime(change + random.seconds(-200_000, 800_000)).date();
    let days =
        crate::window::Blackout::new(day, day + jiff::Span::new().days(random.pick(&[0, 0, 1, 3])));
    JobSpec {
        rhythm,
        window: window.filter(|_| steady && random.chance(40)),
        blackout: days.filter(|_| steady && random.chance(30)).into_iter().collect(),
        zone: zone.clone(),
        jitter,
        attempts: u32::try_from(1 + random.below(5)).unwrap(),
        rpo: random.chance(50).then_some(Duration::from_secs(86_400)),
    }
}

fn host(
    random: &mut Random,
    zone: &TimeZone,
    change: Timestamp,
    steady: bool,
) -> BTreeMap<JobKey, JobSpec> {
    let mut specs = BTreeMap::new();
    let sources = ["a", "b", "c", "d"];
    let count = usize::try_from(1 + random.below(4)).unwrap();
    for source in &sources[..count] {
        for (kind, percent) in [(JobKind::Backup, 100), (JobKind::Prune, 40), (JobKind::Verify, 40)]
        {
            if random.chance(percent) {
                specs.insert(key(source, kind), job(random, zone, change, steady));
            }
        }
        if random.chance(20) {
            let always = JobSpec { rhythm: Rhythm::Always, ..spec("0 0 * * *") };
            specs.insert(key(source, JobKind::LogStream), always);
        }
    }
    specs
}

/// Something happens that no schedule foresees.
fn trouble(world: &mut World, steady: bool) {
    let keys: Vec<JobKey> = world.specs.keys().cloned().collect();
    let any = |world: &mut World| {
        (!keys.is_empty()).then(|| keys[world.random.below(keys.len() as u64) as usize].clone())
    };
    let away = |world: &mut World| {
        let (from, until) =
            world.random.pick(&[(0, 50), (60, 3_000), (3_600, 90_000), (90_000, 260_000)]);
        world.random.seconds(from, until)
    };
    match world.random.below(if steady { 15 } else { 20 }) {
        0 | 1 => {
            let away = away(world);
            world.die(away);
        }
        2 | 3 => {
            let away = away(world);
            world.leave(away);
        }
        4 | 5 => {
            let length = away(world);
            world.doze(length);
        }
        6 => {
            let of = if world.random.chance(50) { any(world) } else { None };
            world.pause(of);
        }
        7 => world.resume(),
        8 | 9 => {
            let Some(key) = any(world) else { return };
            world.tell(Event::Run { key });
        }
        10 => {
            let waits = world.one_that_waits().filter(|_| world.random.chance(50));
            let Some(key) = waits.or_else(|| any(world)) else { return };
            world.cancel(key);
        }
        11..=13 => {
            let Some(key) = any(world) else { return };
            let breached = !world.breached.contains(&key.source);
            world.tell(Event::RpoBreached { source: key.source, breached });
        }
        14 => reload(world, steady),
        _ => {
            let steps: &[i64] = &[1, 59, 600, 3_600, 7_200, 10_800, 86_400, 3_456_000, 31_536_000];
            let step = SignedDuration::from_secs(world.random.pick(steps));
            let off = match world.random.below(5) {
                0 | 1 => world.off + step,
                2 | 3 => world.off - step,
                _ => SignedDuration::ZERO,
            };
            world.set(off);
        }
    }
}

/// Other places, jobs that go and come back, another schedule for one that owes nothing.
fn reload(world: &mut World, steady: bool) {
    let mut specs = world.specs.clone();
    let at_once = if steady { usize::try_from(1 + world.random.below(4)).unwrap() } else { 16 };
    let keys: Vec<JobKey> =
        specs.keys().filter(|key| key.kind != JobKind::LogStream).cloned().collect();
    if !keys.is_empty() {
        let key = keys[world.random.below(keys.len() as u64) as usize].clone();
        if world.random.chance(30) {
            let spec = specs.remove(&key);
            world.tell(Event::Reload { specs: specs.clone(), at_once });
            let later = world.real + world.random.seconds(60, 20_000);
            while world.real < later {
                world.pass(later);
            }
            specs.extend(spec.map(|spec| (key, spec)));
        } else if specs[&key].jitter != Duration::ZERO {
            specs.get_mut(&key).unwrap().jitter = Duration::ZERO;
        } else if world.is_idle(&key) {
            let zone = specs[&key].zone.clone();
            specs.get_mut(&key).unwrap().rhythm = rhythm(&mut world.random, &zone);
        }
    }
    world.tell(Event::Reload { specs, at_once });
}

/// A host for some weeks; how many runs began.
fn live(seed: u64, zones: &[(TimeZone, Timestamp)], steady: bool) -> u64 {
    let _named = Named(seed);
    let mut random = Random(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let at = usize::try_from(random.below(zones.len() as u64)).unwrap();
    let (zone, change) = zones[at].clone();
    let begin = change - random.seconds(3_600, 400_000);
    let specs = host(&mut random, &zone, change, steady);
    let at_once = usize::try_from(1 + random.below(4)).unwrap();
    let mut world = World::new(random, begin, specs, if steady { at_once } else { 16 }, steady);
    let end = begin + SignedDuration::from_hours(24 * 14);
    while world.real < end {
        let quiet = world.real + world.random.seconds(600, 200_000);
        while world.real < quiet {
            world.pass(quiet);
        }
        trouble(&mut world, steady);
    }
    world.starts
}

fn rounds(steady: bool, default: u64) {
    let zones = zones();
    assert!(zones.len() > 200, "{}", zones.len());
    let first = number("DRCTL_SCHEDULER_SEED", 1);
    let last = first + number("DRCTL_SCHEDULER_ROUNDS", default);
    let starts: u64 = (first..last).map(|seed| live(seed, &zones, steady)).sum();
    assert!(starts > last - first, "{starts}");
}

#[test]
fn what_is_due_begins_once_whatever_happens_to_the_agent() {
    rounds(true, 30);
}

#[test]
fn a_clock_that_is_set_neither_doubles_nor_silences() {
    rounds(false, 40);
}
