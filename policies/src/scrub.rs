//! What of all that is stored is read now, and how fast, so that in some time all of it was.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// The least that is read in a second, where nobody allows less: 4 MiB, so that little is read soon.
pub const FLOOR: u64 = 4 << 20;

/// Something that is read, at once or a part at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readable<T> {
    /// What it is.
    pub what: T,
    /// Stored bytes of it.
    pub bytes: u64,
    /// Of these so many were read already.
    pub done: u64,
    /// Whether a run may read a part of it.
    pub in_parts: bool,
    /// When it was read last; of what never was: since when it has been there.
    pub since: Timestamp,
    /// Whether it was read before.
    pub was_read: bool,
}

impl<T> Readable<T> {
    fn left(&self) -> u64 {
        self.bytes.saturating_sub(self.done)
    }
}

/// What is read now and not left to the `next` run, and how many bytes of each: what is begun, then what
/// has waited longest, as much as is the share of one run where all is read `within` a time, and a fourth
/// more. What was read and would be late before the next run is among it, however much that is. What was
/// never read is no more than the share: a host that has just forgotten all begins anew and does not read
/// all of it at once.
#[must_use]
pub fn due_now<T>(
    mut all: Vec<Readable<T>>,
    within: Duration,
    (now, next): (Timestamp, Timestamp),
) -> Vec<(T, u64)> {
    all.sort_by_key(|one| (one.done == 0, one.since));
    let sum: u128 = all.iter().map(|one| u128::from(one.bytes)).sum();
    let pause = u128::from(next.duration_since(now).as_secs().max(0).unsigned_abs());
    let share = (sum * pause * 5).div_ceil(u128::from(within.as_secs().max(1)) * 4).min(sum);
    let mut left = u64::try_from(share).unwrap_or(u64::MAX);
    let within = SignedDuration::try_from(within).unwrap_or(SignedDuration::MAX);
    let due = all.into_iter().filter_map(|one| {
        let late = one.since.saturating_add(within).is_ok_and(|until| until <= next);
        let bytes = match (one.was_read && late, one.in_parts) {
            (true, _) | (false, false) => one.left(),
            (false, true) => one.left().min(left),
        };
        if left == 0 && one.left() > 0 && !(one.was_read && late) {
            return None;
        }
        left = left.saturating_sub(bytes);
        Some((one.what, bytes))
    });
    due.collect()
}

/// How many bytes a second are read, where each of these is to be read in its time: twice as many, for
/// new ones come meanwhile; no fewer than [`FLOOR`], and never more than `most`.
#[must_use]
pub fn bytes_per_second(all: impl IntoIterator<Item = (u64, Duration)>, most: Option<u64>) -> u64 {
    let each =
        |(bytes, time): (u64, Duration)| u128::from(bytes) / u128::from(time.as_secs().max(1));
    let needed: u128 = all.into_iter().map(each).sum();
    let twice = u64::try_from(needed.saturating_mul(2)).unwrap_or(u64::MAX);
    twice.max(FLOOR).min(most.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const DAY: i64 = 86_400;

    fn day(n: i64) -> Timestamp {
        Timestamp::from_second(n * DAY).unwrap()
    }

    fn one(what: u32, bytes: u64, since: i64, was_read: bool) -> Readable<u32> {
        Readable { what, bytes, done: 0, in_parts: true, since: day(since), was_read }
    }

    fn due(all: Vec<Readable<u32>>, days: u64, now: i64) -> Vec<(u32, u64)> {
        due_now(all, Duration::from_secs(days * 86_400), (day(now), day(now + 1)))
    }

    #[test]
    fn what_has_waited_longest_is_read_and_no_more_than_the_share() {
        let all = vec![one(1, 100, 9, true), one(2, 100, 7, false), one(3, 100, 8, true)];
        assert_eq!(due(all.clone(), 30, 10), [(2, 13)], "a part of it");
        assert_eq!(due(all.clone(), 3, 8), [(2, 100), (3, 25)]);
        let whole: Vec<_> =
            all.iter().map(|one| Readable { in_parts: false, ..one.clone() }).collect();
        assert_eq!(due(whole, 30, 10), [(2, 100)], "what is read at once is read as a whole");
        let mut begun = all;
        begun[0].done = 90;
        assert_eq!(due(begun, 30, 10), [(1, 10), (2, 3)], "what is begun is ended first");
        assert_eq!(due(vec![one(1, 0, 1, false), one(2, 5, 1, false)], 1, 9), [(1, 0), (2, 5)]);
        assert!(due(Vec::new(), 30, 1).is_empty());
    }

    #[test]
    fn what_was_read_is_read_again_in_time_and_what_never_was_comes_by_and_by() {
        // Many runs were missed: all that is late is read.
        let late = (1..=9).map(|n| one(n, 100, i64::from(n), true)).collect();
        let all = (1..=9).map(|n| (n, 100)).collect::<Vec<_>>();
        assert_eq!(due(late, 30, 100), all);
        // A host that knows nothing of earlier looks does not read all of it.
        let unknown = (1..=9).map(|n| one(n, 100, i64::from(n), false)).collect();
        assert_eq!(due(unknown, 3, 100), [(1, 100), (2, 100), (3, 100), (4, 75)]);
    }

    #[test]
    fn it_is_read_as_fast_as_needed_within_the_bounds() {
        let hour = Duration::from_secs(3_600);
        assert_eq!(bytes_per_second([], None), FLOOR);
        let much = 3_600 * (64 << 20);
        assert_eq!(bytes_per_second([(much, hour)], None), 128 << 20);
        assert_eq!(bytes_per_second([(much, hour), (much, 2 * hour)], None), 192 << 20);
        assert_eq!(bytes_per_second([(much, hour)], Some(1 << 20)), 1 << 20);
        assert_eq!(bytes_per_second([(u64::MAX, Duration::ZERO); 9], None), u64::MAX);
    }

    #[test]
    fn all_is_read_once_in_the_time_while_backups_come_and_go() {
        let (within, mut there) = (14_i64, BTreeMap::new());
        for now in 100..300_i64 {
            // Sizes that differ, one new backup each day, of which thirty stay.
            let bytes = u64::try_from(now * 7919 % 1000).unwrap() + 1;
            there.insert(u32::try_from(now).unwrap(), one(0, bytes, now, false));
            while there.len() > 30 {
                there.pop_first();
            }
            let named = |(n, one): (&u32, &Readable<u32>)| Readable { what: *n, ..one.clone() };
            let all = there.iter().map(named).collect::<Vec<_>>();
            for (what, bytes) in due(all, within.unsigned_abs(), now) {
                let at = there.get_mut(&what).unwrap();
                at.done += bytes;
                assert!(at.done <= at.bytes, "no more than there is");
                if at.done == at.bytes {
                    (at.done, at.since, at.was_read) = (0, day(now), true);
                }
            }
            let oldest = there.values().map(|one| now - one.since.as_second() / DAY).max().unwrap();
            assert!(now < 130 || oldest <= within, "{oldest} days on day {now}: {there:?}");
        }
    }
}
