//! Whether a backup is plausible, beside those before it.

use drctl_model::{BackupKind, BackupSummary, newest};
use jiff::Timestamp;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;

/// A backup with less than this share of the plain bytes, or of the rows, of the newest good one is suspect.
const SHARE: f64 = 0.5;

/// Below this size a source may shrink as it likes, and how far it can be compressed tells nothing.
const SMALL_BYTES: u64 = 1 << 20;

/// Below so many rows a source may lose them as it likes.
const FEW_ROWS: u64 = 1_000;

/// Rows, or bytes where rows are not known, that differ by no more than this are as many as before.
const AS_MANY: f64 = 0.05;

/// By so much the compression may differ while there are as many rows: data that were encrypted where they
/// lie have the same rows, and hardly compress.
const COMPRESSION: f64 = 0.25;

/// So many backups before it are looked at for what is usual, and at least so many are needed.
const SAMPLES: std::ops::RangeInclusive<usize> = 8..=30;

/// What is further than so many deviations from the median is unusual.
const DEVIATIONS: f64 = 6.0;

/// What a backup is judged by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Measured {
    plain: f64,
    sealed: f64,
    rows: Option<f64>,
    seconds: f64,
    /// In UTC: what matters is that it is the same clock for all.
    weekday: Weekday,
}

impl Measured {
    /// Of so many plain and stored bytes, made between these times.
    pub(crate) fn new(
        kind: &BackupKind,
        (plain, sealed): (u64, u64),
        (started, finished): (Timestamp, Timestamp),
    ) -> Self {
        let rows = match kind {
            BackupKind::Logical(dumped) => dumped.rows.map(float),
            _ => None,
        };
        let seconds = finished.duration_since(started).as_secs_f64().max(0.0);
        let weekday = finished.to_zoned(TimeZone::UTC).weekday();
        Measured { plain: float(plain), sealed: float(sealed), rows, seconds, weekday }
    }

    fn of(backup: &BackupSummary) -> Self {
        let bytes = (backup.plain_bytes, backup.sealed_bytes);
        Measured::new(&backup.kind, bytes, (backup.started, backup.finished))
    }

    /// How far it was compressed; nothing where that says little.
    fn ratio(&self) -> Option<f64> {
        (self.plain > float(SMALL_BYTES) && self.sealed > 0.0).then(|| self.plain / self.sealed)
    }
}

#[expect(clippy::cast_precision_loss, reason = "shares, not sums")]
fn float(number: u64) -> f64 {
    number as f64
}

/// Why a backup of this `kind` is not plausible beside those before it; empty where it is.
#[must_use]
pub(crate) fn implausible(
    kind: &BackupKind,
    now: &Measured,
    newest_first: &[BackupSummary],
) -> Vec<String> {
    let alike = alike(kind, newest_first);
    let before = newest(alike.iter().copied());
    let beside = |judge: fn(&Measured, &Measured) -> Option<String>| {
        let before = before?;
        Some(beside(&judge(now, &Measured::of(before))?, before))
    };
    let mut why: Vec<String> =
        [less as fn(&_, &_) -> _, fewer_rows, compressed].into_iter().filter_map(beside).collect();
    if why.is_empty() {
        why.extend(unusual(now, &alike));
    }
    why
}

/// The good backups whose size tells something about that of another of this `kind`: full backups and
/// dumps are compared with their like. How much an incremental backup holds depends on how much was
/// written; whether it is plausible is told by the files that it lists.
pub(crate) fn alike<'a>(
    kind: &BackupKind,
    newest_first: &'a [BackupSummary],
) -> Vec<&'a BackupSummary> {
    newest_first.iter().filter(|backup| is_alike(kind, backup)).collect()
}

/// Whether it is one of these.
pub(crate) fn is_alike(kind: &BackupKind, backup: &BackupSummary) -> bool {
    backup.is_good() && backup.kind.parent().is_none() && backup.kind.as_str() == kind.as_str()
}

/// Whether a backup has far fewer bytes than the newest good one of its like.
#[must_use]
pub(crate) fn shrunk(plain: u64, newest: Option<&BackupSummary>) -> Option<String> {
    let before = newest?;
    Some(beside(&fewer_bytes(float(plain), float(before.plain_bytes))?, before))
}

/// What is amiss beside another backup, in words.
fn beside(why: &str, before: &BackupSummary) -> String {
    format!("{why} {}, the newest good one", before.backup)
}

fn fewer_bytes(now: f64, before: f64) -> Option<String> {
    let share = now / before;
    (before > float(SMALL_BYTES) && share < SHARE)
        .then(|| format!("it has {:.0} % of the bytes of", share * 100.0))
}

fn less(now: &Measured, before: &Measured) -> Option<String> {
    fewer_bytes(now.plain, before.plain)
}

fn fewer_rows(now: &Measured, before: &Measured) -> Option<String> {
    let (now, before) = (now.rows?, before.rows?);
    let share = now / before;
    (before > float(FEW_ROWS) && share < SHARE)
        .then(|| format!("it has {:.0} % of the rows of", share * 100.0))
}

/// Whether as many rows compress quite otherwise.
fn compressed(now: &Measured, before: &Measured) -> Option<String> {
    let (ratio, was) = (now.ratio()?, before.ratio()?);
    let amounts = now.rows.zip(before.rows).unwrap_or((now.plain, before.plain));
    let differs = |(now, before): (f64, f64), by: f64| (now / before - 1.0).abs() > by;
    (!differs(amounts, AS_MANY) && differs((ratio, was), COMPRESSION)).then(|| {
        format!(
            "its data compress {ratio:.1} to 1, and about as many rows compressed {was:.1} to 1 before: the \
             data may have been encrypted or overwritten, or compression_level was changed. Compare it with"
        )
    })
}

/// Whether it differs from what is usual in two ways at once.
fn unusual(now: &Measured, alike: &[&BackupSummary]) -> Option<String> {
    // Whoever accepted one said that it is as usual from then on.
    let since = alike.iter().position(|backup| backup.accepted.is_some());
    let since = since.map_or(alike.len(), |at| at + 1);
    let known = || alike.iter().take(since).map(|one| Measured::of(one));
    // A Sunday is like other Sundays, where enough of them are known.
    let most = *SAMPLES.end();
    let same = known().filter(|one| one.weekday == now.weekday).take(most).collect::<Vec<_>>();
    let enough = same.len() >= *SAMPLES.start();
    let usual = if enough { same } else { known().take(most).collect() };
    let feature = |name: &str, of: fn(&Measured) -> Option<f64>, least: (f64, f64)| {
        let all: Vec<f64> = usual.iter().filter_map(of).collect();
        let (now, median, scale) = (of(now)?, median(&all)?, deviation(&all)?);
        let scale = scale.max(median * least.0).max(least.1);
        let far = all.len() >= *SAMPLES.start() && (now - median).abs() > DEVIATIONS * scale;
        far.then(|| format!("its {name} is {now:.1}, where {median:.1} is usual"))
    };
    let slowness: fn(&Measured) -> Option<f64> = |one| {
        let megabytes = one.plain / float(SMALL_BYTES);
        (megabytes >= 1.0).then(|| one.seconds * 1_000.0 / megabytes)
    };
    let megabytes = |one: &Measured| Some(one.plain / float(SMALL_BYTES));
    // Sizes that never differ would make anything unusual: so much is usual always.
    let found: Vec<String> = [
        feature("size in MiB", megabytes, (0.05, 1.0)),
        feature("compression", Measured::ratio, (0.03, 0.0)),
        // More takes longer: that would be no second thing.
        feature("time for a MiB in ms", slowness, (0.2, 0.0)),
    ]
    .into_iter()
    .flatten()
    .collect();
    (found.len() > 1).then(|| found.join("; "))
}

fn median(all: &[f64]) -> Option<f64> {
    let mut sorted = all.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

/// The median deviation from the median, as wide as a standard deviation of what is normally distributed.
fn deviation(all: &[f64]) -> Option<f64> {
    let middle = median(all)?;
    let off: Vec<f64> = all.iter().map(|one| (one - middle).abs()).collect();
    Some(median(&off)? * 1.4826)
}

#[cfg(test)]
mod tests {
    use drctl_model::Dumped;

    use super::*;

    fn before(plain_bytes: u64) -> BackupSummary {
        BackupSummary {
            source: "shop".parse().unwrap(),
            backup: "20260301T000000Z-0000000000000000".parse().unwrap(),
            engine: drctl_model::Engine::PgDump,
            kind: BackupKind::Logical(Dumped::default()),
            host: "db1".into(),
            started: jiff::Timestamp::UNIX_EPOCH,
            finished: jiff::Timestamp::UNIX_EPOCH,
            plain_bytes,
            sealed_bytes: 0,
            segments: 0,
            suspect: vec![],
            manifest_sha256: drctl_model::Digest([0; 32]),
            accepted: None,
            signer: String::new(),
            objects: None,
        }
    }

    #[test]
    fn like_is_compared_with_like() {
        let at = |backup: &str, kind: &BackupKind, suspect: bool| BackupSummary {
            backup: backup.parse().unwrap(),
            kind: kind.clone(),
            suspect: if suspect { vec!["bad pages".into()] } else { vec![] },
            ..before(100)
        };
        let coordinates = drctl_model::Coordinates {
            system_id: 7,
            segment_size: drctl_model::WalSegmentSize::new(1 << 20).unwrap(),
            timeline: drctl_model::Timeline::FIRST,
            start: drctl_model::Lsn(1),
            stop: drctl_model::Lsn(2),
            stop_timeline: drctl_model::Timeline::FIRST,
            listing_sha256: None,
            log: None,
        };
        let full = BackupKind::Full(coordinates.clone());
        let parent = drctl_model::Parent {
            backup: "20260301T000000Z-0000000000000001".parse().unwrap(),
            manifest_sha256: drctl_model::Digest([0; 32]),
        };
        let increment = drctl_model::Increment { parent, at: coordinates };
        let incremental = BackupKind::Incremental(increment);
        let all = [
            at("20260304T000000Z-0000000000000004", &incremental, false),
            at("20260303T000000Z-0000000000000003", &full, true),
            at("20260301T000000Z-0000000000000001", &full, false),
            at("20260201T000000Z-0000000000000000", &BackupKind::Logical(Dumped::default()), false),
        ];
        let found = |kind: &BackupKind| {
            newest(alike(kind, &all).into_iter()).map(|backup| backup.backup.to_string())
        };
        assert_eq!(found(&full).unwrap(), "20260301T000000Z-0000000000000001");
        assert_eq!(
            found(&BackupKind::Logical(Dumped::default())).unwrap(),
            "20260201T000000Z-0000000000000000"
        );
        assert_eq!(found(&incremental), None);
    }

    #[test]
    fn what_shrank_is_suspect() {
        let mega = 1 << 20;
        let cases = [
            ("the first one", 10, None, false),
            ("as large as before", 100 * mega, Some(before(100 * mega)), false),
            ("just over half", 51 * mega, Some(before(100 * mega)), false),
            ("just under half", 49 * mega, Some(before(100 * mega)), true),
            ("small ones may vary", 1, Some(before(mega)), false),
        ];
        for (name, plain, newest, is_suspect) in cases {
            assert_eq!(shrunk(plain, newest.as_ref()).is_some(), is_suspect, "{name}");
        }
    }

    fn measured(plain: u64, sealed: u64, rows: Option<u64>, seconds: i64) -> Measured {
        let kind = BackupKind::Logical(Dumped { rows, ..Dumped::default() });
        let finished = Timestamp::from_second(seconds).unwrap();
        Measured::new(&kind, (plain, sealed), (Timestamp::UNIX_EPOCH, finished))
    }

    fn made(plain: u64, sealed: u64, rows: Option<u64>, seconds: i64) -> BackupSummary {
        BackupSummary {
            kind: BackupKind::Logical(Dumped { rows, ..Dumped::default() }),
            sealed_bytes: sealed,
            finished: Timestamp::from_second(seconds).unwrap(),
            ..before(plain)
        }
    }

    fn why(now: &Measured, before: &[BackupSummary]) -> Vec<String> {
        implausible(&BackupKind::Logical(Dumped::default()), now, before)
    }

    #[test]
    fn fewer_rows_and_another_compression_are_suspect() {
        let mega = 1 << 20;
        let one = [made(100 * mega, 10 * mega, Some(10_000), 60)];
        let found = |now: Measured| why(&now, &one).join("|");
        assert_eq!(found(measured(100 * mega, 10 * mega, Some(10_000), 60)), "");
        let rows = found(measured(90 * mega, 9 * mega, Some(4_999), 60));
        assert!(rows.starts_with("it has 50 % of the rows of 2026"), "{rows}");
        assert_eq!(found(measured(90 * mega, 9 * mega, Some(5_000), 60)), "");
        // As many rows that hardly compress.
        let encrypted = found(measured(110 * mega, 90 * mega, Some(10_100), 60));
        assert!(
            encrypted.starts_with("its data compress 1.2 to 1, and about as many"),
            "{encrypted}"
        );
        assert_eq!(found(measured(100 * mega, 13 * mega, Some(10_000), 60)), "", "7.7 to 1");
        assert_eq!(found(measured(300 * mega, 90 * mega, Some(20_000), 60)), "", "other data came");
        // Where nobody counts rows, bytes say whether it is as much.
        let base = [made(100 * mega, 10 * mega, None, 60)];
        assert!(!why(&measured(102 * mega, 50 * mega, None, 60), &base).is_empty());
        assert!(why(&measured(120 * mega, 50 * mega, None, 60), &base).is_empty());
        // Little says little.
        let little = [made(mega, mega / 10, Some(1_000), 60)];
        assert!(why(&measured(mega, mega, Some(1), 60), &little).is_empty());
    }

    #[test]
    fn what_differs_from_the_usual_in_two_ways_is_suspect() {
        let mega = 1 << 20;
        let usual = |n: u64| {
            made((100 + n % 5) * mega, 10 * mega, None, 60 + i64::try_from(n % 3).unwrap())
        };
        let many: Vec<BackupSummary> = (0..8).map(usual).collect();
        let large_and_slow = measured(400 * mega, 40 * mega, None, 2_000);
        let found = why(&large_and_slow, &many);
        assert_eq!(
            found,
            [
                "its size in MiB is 400.0, where 102.0 is usual; its time for a MiB in ms is 5000.0, where 600.0 is usual"
            ]
        );
        assert!(why(&large_and_slow, &many[1..]).is_empty(), "too few to know what is usual");
        assert!(why(&measured(400 * mega, 40 * mega, None, 240), &many).is_empty(), "more came");
        assert!(
            why(&measured(103 * mega, 10 * mega, None, 6_000), &many).is_empty(),
            "one way only"
        );
        assert!(why(&measured(130 * mega, 12 * mega, None, 140), &many).is_empty(), "it grows");
        // What somebody accepted is usual from then on.
        let accepted = BackupSummary {
            suspect: vec!["unusual".into()],
            accepted: Some(Timestamp::UNIX_EPOCH),
            ..made(400 * mega, 40 * mega, None, 2_000)
        };
        let since: Vec<BackupSummary> = std::iter::once(accepted).chain(many.clone()).collect();
        assert!(why(&large_and_slow, &since).is_empty());
        // A Sunday is like other Sundays.
        let week = |n: i64| {
            let sunday = n % 7 == 3;
            let (size, pace) =
                if sunday { (400, 2_000) } else { (100 + n.cast_unsigned() % 5, 60) };
            let started = Timestamp::from_second(n * 86_400).unwrap();
            let finished = Timestamp::from_second(n * 86_400 + pace).unwrap();
            BackupSummary { started, finished, ..made(size * mega, 40 * mega, None, 0) }
        };
        let on = |day: i64, weeks: i64| {
            let kind = BackupKind::Logical(Dumped::default());
            let started = Timestamp::from_second(day * 86_400).unwrap();
            let finished = Timestamp::from_second(day * 86_400 + 2_000).unwrap();
            let now = Measured::new(&kind, (400 * mega, 40 * mega), (started, finished));
            let days: Vec<BackupSummary> = (day - weeks * 7..day).rev().map(week).collect();
            why(&now, &days)
        };
        assert!(on(7 * 20 + 3, 8).is_empty(), "a Sunday among Sundays");
        assert_eq!(on(7 * 20 + 4, 8).len(), 1, "a Monday like a Sunday");
        assert_eq!(on(7 * 20 + 3, 7).len(), 1, "too few Sundays");
        // What is long ago is not usual any more.
        let grown = |n: u64| made((400 + n) * mega, 40 * mega, None, 600);
        let later: Vec<BackupSummary> = (0..30).map(grown).chain(many).collect();
        assert!(why(&large_and_slow, &later).is_empty());
    }
}
