//! How much memory a restored server may ask for when it starts: a part of what this host has. Its sizes
//! are those of the source, which may be a larger host; no replay depends on them.

use std::fs;
use std::path::Path;

/// What a server takes when it starts, the bytes of a number without a unit, and which part of this
/// host's memory it may be.
const TAKEN: [(&str, u64, u64); 3] =
    [("shared_buffers", 8192, 4), ("wal_buffers", 8192, 32), ("wal_decode_buffer_size", 1, 32)];

/// The memory that is free here and may be taken; nothing where that is not known.
pub(super) fn available() -> Option<u64> {
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    let groups = read(Path::new("/proc/self/cgroup"));
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let at = Path::new("/sys/fs/cgroup").join(group);
    let bounds = at.ancestors().take_while(|at| at.starts_with("/sys/fs/cgroup"));
    let bounds = bounds.filter_map(|at| read(&at.join("memory.max")).trim().parse().ok());
    bounds.chain(free(&read(Path::new("/proc/meminfo")))).min()
}

/// What `/proc/meminfo` says that programs can have.
fn free(text: &str) -> Option<u64> {
    let told = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = told.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The same lines of a configuration, with sizes that this host can give, and what was made smaller,
/// for people.
pub(super) fn fitting(lines: &str, available: Option<u64>) -> (String, Vec<String>) {
    let (mut text, mut said) = (String::new(), Vec::new());
    for line in lines.lines() {
        match available.and_then(|available| smaller(line, available)) {
            Some((name, value, bound)) => {
                text += &format!("{name} = '{bound}kB'\n");
                said.push(format!(
                    "{name} = {value} of the source is more than this host can give: the server \
                     that replays takes {bound}kB"
                ));
            }
            None => text += &format!("{line}\n"),
        }
    }
    (text, said)
}

/// The name of what is too large in a line, its value, and how many KiB it may be.
fn smaller(line: &str, available: u64) -> Option<(&str, &str, u64)> {
    let (name, value) = line.split_once(" = ")?;
    let value = value.trim_matches('\'');
    let (_, unit, part) = TAKEN.iter().find(|(known, _, _)| *known == name)?;
    let bound = available / part;
    (bytes(value, *unit)? > bound).then_some((name, value, bound / 1024))
}

/// A size in bytes; nothing for one that stands for a rule, such as -1.
fn bytes(value: &str, unit: u64) -> Option<u64> {
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &value[digits.len()..] {
        "" => unit,
        "B" => 1,
        "kB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        "TB" => 1 << 40,
        _ => return None,
    };
    let (whole, fraction) = digits.trim().split_once('.').unwrap_or((digits.trim(), ""));
    // A fraction counts for a whole one.
    let number = whole.parse::<u64>().ok()?.saturating_add(u64::from(!fraction.is_empty()));
    Some(number.saturating_mul(unit))
}

/// Whether a server says that it gets no memory when it starts (`sysv_shmem.c`, `dsm_impl.c`).
pub(super) fn is_short(words: &str) -> bool {
    let told = ["could not map anonymous shared memory", "could not create shared memory segment"];
    told.iter().chain(&["could not resize shared memory segment"]).any(|told| words.contains(told))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_a_larger_host_are_made_to_fit() {
        let lines = "shared_buffers = '40GB'\nwal_buffers = '-1'\nwork_mem = '64GB'\n\
                     wal_decode_buffer_size = '1GB'\n";
        let (text, said) = fitting(lines, Some(4 << 30));
        assert_eq!(
            text,
            "shared_buffers = '1048576kB'\nwal_buffers = '-1'\nwork_mem = '64GB'\n\
             wal_decode_buffer_size = '131072kB'\n"
        );
        assert!(said.len() == 2 && said[0].contains("shared_buffers = 40GB"), "{said:?}");
        assert_eq!(fitting(lines, None), (lines.to_owned(), Vec::new()));
        let small = "shared_buffers = '16384'\nwal_buffers = '1.5MB'\n";
        assert_eq!(fitting(small, Some(4 << 30)), (small.to_owned(), Vec::new()));
        let (text, _) = fitting("shared_buffers = '1638400'\n", Some(4 << 30));
        assert_eq!(text, "shared_buffers = '1048576kB'\n", "pages, where there is no unit");
    }

    #[test]
    fn memory_is_read_as_the_kernel_tells_it() {
        let text = "MemTotal:       16384000 kB\nMemAvailable:    8192000 kB\n";
        assert_eq!(free(text), Some(8_192_000 * 1024));
        assert_eq!(free("MemTotal: 5 kB\n"), None);
        assert!(available().is_some_and(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn a_server_that_gets_no_memory_says_so() {
        let words = "FATAL:  could not map anonymous shared memory: Cannot allocate memory";
        assert!(is_short(words) && !is_short("LOG:  recovery has paused"));
    }
}
