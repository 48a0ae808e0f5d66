//! Whether the host is under pressure, as the kernel tells (PSI): what waits for processor, disk or memory.

use std::fs;
use std::path::Path;

/// Where the kernel tells it.
const PLACE: &str = "/proc/pressure";

/// What may be short.
const SHORT: [&str; 3] = ["cpu", "io", "memory"];

/// How much of the last ten seconds some tasks have waited, in percent: of the resource for which it was
/// most. Nothing where this kernel does not tell.
pub(crate) fn highest() -> Option<(&'static str, f64)> {
    let read = |what: &&'static str| {
        let text = fs::read_to_string(Path::new(PLACE).join(what)).ok()?;
        Some((*what, some_avg10(&text)?))
    };
    SHORT.iter().filter_map(read).max_by(|one, other| one.1.total_cmp(&other.1))
}

fn some_avg10(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let number = line.split_whitespace().find_map(|word| word.strip_prefix("avg10="))?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_tells_is_read() {
        let text = "some avg10=12.34 avg60=5.00 avg300=1.00 total=99\nfull avg10=99.00 avg60=0.00";
        assert_eq!(some_avg10(text), Some(12.34));
        for bad in ["", "full avg10=1.00", "some avg60=1.00", "some avg10=x"] {
            assert_eq!(some_avg10(bad), None, "{bad}");
        }
    }
}
