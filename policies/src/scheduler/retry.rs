//! How long it is waited after a failure.

use jiff::SignedDuration;

/// After so many failures of one run.
pub(super) fn pause_after(failed: u32) -> SignedDuration {
    SignedDuration::from_mins(match failed {
        0 => 0,
        1 => 1,
        2 => 5,
        3 => 15,
        _ => 30,
    })
}

/// After so many failures of a stream in a row: 1 s, 2 s, 4 s … 30 s. A synchronous commit waits for so long
/// after its server came back.
pub(super) fn stream_pause_after(failed: u32) -> SignedDuration {
    let doubled = 1_i64.checked_shl(failed.saturating_sub(1).min(32)).unwrap_or(i64::MAX);
    SignedDuration::from_secs(doubled.min(30))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound() {
        let minutes: Vec<i64> = (1..=6).map(|n| pause_after(n).as_mins()).collect();
        assert_eq!(minutes, [1, 5, 15, 30, 30, 30]);
        let seconds: Vec<i64> = (1..=7).map(|n| stream_pause_after(n).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(stream_pause_after(u32::MAX).as_secs(), 30);
    }
}
