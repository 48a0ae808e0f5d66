//! By how much runs of a host begin later than they are due.

use std::time::Duration;

use super::JobKey;

/// A part of the jitter: fixed for a host, a source and a kind, and spread evenly over them, so
/// that hosts with one schedule do not begin at once.
#[must_use]
pub fn part_of_jitter(host: &str, key: &JobKey, most: Duration) -> Duration {
    // FNV-1a, and its high bits mixed into the low ones, which are otherwise alike for names that
    // differ in their last letter.
    let text = format!("{host}\0{}\0{}", key.source, key.kind.as_str());
    let mut hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let seconds = (u128::from(most.as_secs()) * u128::from(hash >> 32)) >> 32;
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use drctl_model::JobKind;

    use super::*;

    #[test]
    fn the_part_is_fixed_and_spread_evenly() {
        let most = Duration::from_secs(3_600);
        let part = |host: &str, source: &str, kind| {
            part_of_jitter(host, &JobKey { source: source.parse().unwrap(), kind }, most)
        };
        assert_eq!(part("db1", "shop", JobKind::Backup), part("db1", "shop", JobKind::Backup));
        assert_ne!(part("db1", "shop", JobKind::Backup), part("db2", "shop", JobKind::Backup));
        assert_ne!(part("db1", "shop", JobKind::Backup), part("db1", "shop", JobKind::Prune));
        let mut quarters = [0_u32; 4];
        for host in 0..400 {
            let part = part(&format!("db{host}"), "shop", JobKind::Backup);
            assert!(part < most);
            quarters[usize::try_from(part.as_secs() / 900).unwrap()] += 1;
        }
        assert!(quarters.iter().all(|count| (70..130).contains(count)), "{quarters:?}");
        let key = JobKey { source: "shop".parse().unwrap(), kind: JobKind::Backup };
        assert_eq!(part_of_jitter("db1", &key, Duration::ZERO), Duration::ZERO);
    }
}
