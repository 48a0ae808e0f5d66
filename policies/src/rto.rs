//! How long a restore will take, by what restores took in drills; no IO.
//!
//! The time is a constant and a part for each byte, fitted to the last drills. How far off that was is known from
//! each of them, for it was foretold by those before it: the band is made of these errors, so that it is as wide as
//! the forecasts were wrong (a split conformal band, Vovk et al. 2005).

use jiff::{SignedDuration, Timestamp};

/// So many of the last drills are looked at.
const LAST: usize = 50;

/// So many have to be foretold before the band is made of errors alone.
const ENOUGH: usize = 9;

/// How much wider it is before that.
const WIDER: f64 = 1.5;

/// A restore that was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// When it began.
    pub at: Timestamp,
    /// Bytes that were restored and replayed.
    pub bytes: u64,
    /// How long it took, in milliseconds.
    pub ms: u64,
}

/// What is foretold of a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forecast {
    /// One of two takes no longer, in milliseconds.
    pub p50_ms: u64,
    /// Nine of ten take no longer.
    pub p90_ms: u64,
    /// By so many drills.
    pub drills: u64,
    /// Of the drills that were foretold, so many took no longer than nine of ten should, and how many that were.
    pub inside: (u64, u64),
    /// When nine of ten will take longer than is promised, if the bytes grow on as they did; nothing where they do not,
    /// or nothing is promised, or that is more than ten years away.
    pub breaks: Option<Timestamp>,
}

/// A constant, and a part for each byte.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Line {
    constant: f64,
    per_byte: f64,
}

impl Line {
    /// The one that fits best, of those that fall neither below zero nor with more bytes.
    fn through(all: &[Measured]) -> Option<Self> {
        let n = all.len() as f64;
        let mean = |of: &dyn Fn(&Measured) -> f64| all.iter().map(of).sum::<f64>() / n;
        let (x, y) = (mean(&|one| one.bytes as f64), mean(&|one| one.ms as f64));
        if all.is_empty() {
            return None;
        }
        let spread = mean(&|one| (one.bytes as f64 - x).powi(2));
        let together = mean(&|one| (one.bytes as f64 - x) * (one.ms as f64 - y));
        // Where all are as large there is no telling: each byte takes its share.
        let per_byte = match spread > 0.0 {
            true => (together / spread).max(0.0),
            false => 0.0,
        };
        let constant = y - per_byte * x;
        Some(match constant < 0.0 && x > 0.0 {
            true => Line { constant: 0.0, per_byte: y / x },
            false => Line { constant: constant.max(0.0), per_byte },
        })
    }

    fn at(self, bytes: f64) -> f64 {
        (self.constant + self.per_byte * bytes).max(1.0)
    }
}

/// What a restore of so many bytes will take, by drills, the oldest first. `promised` is the RTO in milliseconds, and
/// `now` the time from which on bytes grow. Nothing without a drill.
#[must_use]
pub fn forecast(
    drills: &[Measured],
    (bytes, now): (u64, Timestamp),
    promised: Option<u64>,
) -> Option<Forecast> {
    let last = &drills[drills.len().saturating_sub(LAST)..];
    let line = Line::through(last)?;
    // Each is foretold by those before it.
    let (mut errors, mut inside): (Vec<f64>, (u64, u64)) = (Vec::new(), (0, 0));
    for (n, one) in last.iter().enumerate() {
        let Some(before) = Line::through(&last[..n]) else { continue };
        let error = one.ms as f64 / before.at(one.bytes as f64);
        if errors.len() >= ENOUGH {
            inside.1 += 1;
            inside.0 += u64::from(error <= band(&errors).1);
        }
        errors.push(error);
    }
    let (middle, most) = band(&errors);
    let ms = |factor: f64| (line.at(bytes as f64) * factor).round() as u64;
    let breaks = promised.and_then(|promised| {
        let allowed = (promised as f64 / most - line.constant) / line.per_byte - bytes as f64;
        let days = (allowed / growth(last)?).max(0.0);
        if !(line.per_byte > 0.0 && days < 3650.0) {
            return None;
        }
        now.checked_add(SignedDuration::from_hours((days * 24.0) as i64)).ok()
    });
    Some(Forecast {
        p50_ms: ms(middle),
        p90_ms: ms(most),
        drills: drills.len() as u64,
        inside,
        breaks,
    })
}

/// The error that one of two does not exceed, and that nine of ten do not.
fn band(errors: &[f64]) -> (f64, f64) {
    let mut sorted = errors.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.last() else { return (1.0, WIDER) };
    let middle = sorted[sorted.len() / 2];
    // The place among one more than there are: the next one is as likely to be anywhere among them.
    let place = (0.9 * (sorted.len() + 1) as f64).ceil() as usize;
    (middle, sorted.get(place - 1).copied().unwrap_or(last.max(1.0) * WIDER))
}

/// By how many bytes a restore grows in a day: the median over all pairs of drills that lie at least a day apart (Theil and
/// Sen). Nothing where it does not grow.
fn growth(all: &[Measured]) -> Option<f64> {
    let mut slopes = Vec::new();
    for (n, one) in all.iter().enumerate() {
        for other in &all[n + 1..] {
            let days = other.at.duration_since(one.at).as_secs_f64() / 86_400.0;
            if days >= 1.0 {
                slopes.push((other.bytes as f64 - one.bytes as f64) / days);
            }
        }
    }
    slopes.sort_by(f64::total_cmp);
    slopes.get(slopes.len() / 2).copied().filter(|slope| *slope > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same noise each time: between 0 and 1.
    struct Noise(u64);

    impl Noise {
        fn next(&mut self) -> f64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 11) as f64 / (1_u64 << 53) as f64
        }
    }

    fn day(n: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + n * 86_400).unwrap()
    }

    /// Drills of a source that grows by a gigabyte a day, at 100 MB/s, with two seconds to begin with, and some that are slower.
    fn history(count: i64, seed: u64) -> Vec<Measured> {
        let mut noise = Noise(seed);
        let one = |n: i64| {
            let bytes = 10_000_000_000 + n as u64 * 1_000_000_000;
            let slow = if noise.next() > 0.9 { 1.0 + noise.next() } else { 1.0 };
            let ms = (2_000.0 + bytes as f64 / 100_000.0) * (0.9 + 0.2 * noise.next()) * slow;
            Measured { at: day(n), bytes, ms: ms as u64 }
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn nine_of_ten_drills_take_no_longer_than_nine_of_ten_should() {
        for seed in 1..20 {
            let all = history(111, seed);
            // Each of a hundred is foretold by those before it alone.
            let inside = (11..111).filter(|n| {
                let next = all[*n];
                let told = forecast(&all[..*n], (next.bytes, next.at), None).expect("a forecast");
                next.ms <= told.p90_ms
            });
            let inside = inside.count();
            assert!((80..=100).contains(&inside), "seed {seed}: {inside} of 100");
        }
        let inside: Vec<u64> = (1..20)
            .map(|seed| forecast(&history(50, seed), (1, day(60)), None).unwrap().inside)
            .map(|(inside, of)| inside * 100 / of)
            .collect();
        let mean = inside.iter().sum::<u64>() / inside.len() as u64;
        assert!((84..=96).contains(&mean), "{mean} of 100: {inside:?}");
    }

    #[test]
    fn the_day_is_told_on_which_growth_breaks_the_promise() {
        let all = history(50, 3);
        let told = |promised| forecast(&all, (60_000_000_000, day(50)), Some(promised)).unwrap();
        // A gigabyte takes ten seconds: some 1 200 s are 70 to 120 gigabytes.
        let breaks = told(1_200_000).breaks.expect("a day");
        assert!(day(55) < breaks && breaks < day(110), "{breaks}");
        // It is broken already, and never will be.
        assert_eq!(told(1_000).breaks, Some(day(50)));
        assert_eq!(told(u64::MAX).breaks, None);
        let same: Vec<Measured> = all.iter().map(|one| Measured { bytes: 1, ..*one }).collect();
        assert_eq!(forecast(&same, (1, day(50)), Some(1)).unwrap().breaks, None);
    }

    #[test]
    fn few_drills_foretell_in_a_wide_band_and_none_nothing() {
        assert_eq!(forecast(&[], (1, day(0)), None), None);
        let one = Measured { at: day(0), bytes: 100, ms: 1000 };
        let told = forecast(&[one], (100, day(1)), None).unwrap();
        assert_eq!((told.p50_ms, told.p90_ms, told.drills, told.inside), (1000, 1500, 1, (0, 0)));
        // Twice as much of one that was never seen in another size takes as long: nothing tells more.
        let two = [one, Measured { at: day(1), bytes: 200, ms: 2000 }];
        let told = forecast(&two, (400, day(2)), None).unwrap();
        // The second took twice what the first foretold.
        assert_eq!((told.p50_ms, told.p90_ms), (8000, 12_000));
    }
}
