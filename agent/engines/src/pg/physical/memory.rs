//! How much memory a restored server may ask for when it starts: a part of what this host has. Its sizes
//! are those of the source, which may be a larger host; no replay depends on them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

/// What a server takes when it starts, the bytes of a number without a unit, and which part of this
/// host's memory it may be.
pub(super) const TAKEN: [(&str, u64, u64); 3] =
    [("shared_buffers", 8192, 4), ("wal_buffers", 8192, 32), ("wal_decode_buffer_size", 1, 32)];

/// The memory that is free here and may be taken; nothing where that is not known.
pub(super) fn available() -> Option<u64> {
    bounds().chain(told(&read(Path::new(MEMORY)), "MemAvailable")).min()
}

/// All that there is here, and may be taken once everything else is gone.
fn whole() -> Option<u64> {
    let memory = read(Path::new(MEMORY));
    let swap = told(&memory, "SwapTotal").unwrap_or_default();
    let all = told(&memory, "MemTotal").map(|all| all.saturating_add(swap));
    bounds().chain(getrlimit(Resource::As).current).chain(all).min()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// What the groups of this process may have at the most.
fn bounds() -> impl Iterator<Item = u64> {
    let groups = read(Path::new("/proc/self/cgroup"));
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let at = Path::new("/sys/fs/cgroup").join(group);
    let above: Vec<PathBuf> = at.ancestors().map(Path::to_owned).collect();
    let within = above.into_iter().take_while(|at| at.starts_with("/sys/fs/cgroup"));
    within.filter_map(|at| read(&at.join("memory.max")).trim().parse().ok())
}

/// Where the kernel tells of memory.
const MEMORY: &str = "/proc/meminfo";

/// What it says there under a name, in bytes.
fn told(text: &str, name: &str) -> Option<u64> {
    let told = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = told.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// What a server takes that this host cannot give, in words, before there is a server.
pub(super) fn too_small(sizes: &BTreeMap<String, String>) -> Vec<String> {
    let lines: String = sizes.iter().map(|(name, value)| format!("{name} = '{value}'\n")).collect();
    let all = smaller(&lines, available()).into_iter();
    all.map(|one| {
        let says = one.says;
        format!("{says}; before you start the cluster by hand, lower it in its files")
    })
    .collect()
}

/// Whether what a server says that it asked for is more than this host has, whatever else ends.
#[must_use]
pub fn is_beyond_this_host(words: &str) -> bool {
    asked(words).is_some_and(|asked| whole().is_some_and(|whole| asked > whole))
}

/// How much it says that it asked for (`sysv_shmem.c`).
fn asked(words: &str) -> Option<u64> {
    let (_, rest) = words.split_once("(currently ")?;
    rest.split_once(" bytes)")?.0.parse().ok()
}

/// A size that this host cannot give.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Smaller {
    /// The setting.
    pub(super) name: &'static str,
    /// What it is instead.
    pub(super) value: String,
    /// That, for people.
    pub(super) says: String,
}

/// What these lines of a configuration set larger than this host can give. It has to be said on the
/// command line: the cluster's own `postgresql.auto.conf` counts more than any other file.
pub(super) fn smaller(lines: &str, available: Option<u64>) -> Vec<Smaller> {
    let Some(available) = available else { return Vec::new() };
    let too_large = lines.lines().filter_map(|line| too_large(line, available));
    let told = too_large.map(|(name, value, bound)| Smaller {
        name,
        value: format!("{bound}kB"),
        says: format!(
            "the source's {name} = {value} is too much for this host: the server that replays uses \
             {bound}kB"
        ),
    });
    told.collect()
}

/// The name of what is too large in a line, its value, and how many KiB it may be.
fn too_large(line: &str, available: u64) -> Option<(&'static str, &str, u64)> {
    let (name, value) = line.split_once(" = ")?;
    let value = value.trim_matches('\'');
    let (name, unit, part) = TAKEN.iter().find(|(known, _, _)| *known == name)?;
    let bound = available / part;
    (bytes(value, *unit)? > bound).then_some((*name, value, bound / 1024))
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

/// What a server takes when it starts whatever it does, and the bytes of a number without a unit; of locks
/// those that a small one has for each.
const AT_ONCE: [(&str, u64); 4] = [
    ("shared_buffers", 8192),
    ("min_dynamic_shared_memory", 1 << 20),
    ("max_locks_per_transaction", 10_000),
    ("max_pred_locks_per_transaction", 10_000),
];

/// Why no server starts here with a setting: it is more than this host has, whatever else ends.
pub(super) fn beyond(name: &str, value: &str) -> Option<String> {
    let (_, unit) = AT_ONCE.iter().find(|(known, _)| *known == name)?;
    let (asked, whole) = (bytes(value.trim(), *unit)?, whole()?);
    (asked > whole)
        .then(|| format!("{value} is too much: this host has {} MiB of memory", whole >> 20))
}

/// How many huge pages the kernel keeps.
pub(super) fn huge_pages() -> Option<u64> {
    let memory = read(Path::new(MEMORY));
    let told = memory.lines().find_map(|line| line.strip_prefix("HugePages_Total:"))?;
    told.trim().parse().ok()
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
        let found = |lines: &str| -> Vec<(&str, String)> {
            let all = smaller(lines, Some(4 << 30));
            all.into_iter().map(|one| (one.name, one.value)).collect()
        };
        let bound = |name, value: &str| (name, value.to_owned());
        assert_eq!(
            found(lines),
            [bound("shared_buffers", "1048576kB"), bound("wal_decode_buffer_size", "131072kB")]
        );
        assert!(smaller(lines, Some(4 << 30))[0].says.contains("shared_buffers = 40GB"));
        assert_eq!(smaller(lines, None), []);
        assert_eq!(found("shared_buffers = '16384'\nwal_buffers = '1.5MB'\n"), []);
        let pages = found("shared_buffers = '1638400'\n");
        assert_eq!(pages, [bound("shared_buffers", "1048576kB")], "pages, where there is no unit");
    }

    #[test]
    fn memory_is_read_as_the_kernel_tells_it() {
        let text = "MemTotal:       16384000 kB\nMemAvailable:    8192000 kB\n";
        assert_eq!(told(text, "MemAvailable"), Some(8_192_000 * 1024));
        assert_eq!(told("MemTotal: 5 kB\n", "MemAvailable"), None);
        assert!(available().is_some_and(|bytes| bytes > 1 << 20));
        assert!(huge_pages().is_some());
    }

    #[test]
    fn what_no_server_here_can_be_given_is_told() {
        for (name, value, told) in [
            ("shared_buffers", "4000TB", true),
            ("shared_buffers", "16384", false),
            ("min_dynamic_shared_memory", "2000000000", true),
            ("max_pred_locks_per_transaction", "2000000000", true),
            ("max_pred_locks_per_transaction", "64", false),
            ("work_mem", "4000TB", false),
        ] {
            assert_eq!(beyond(name, value).is_some(), told, "{name} = {value}");
        }
    }

    #[test]
    fn a_server_that_gets_no_memory_says_so() {
        let words = "FATAL:  could not map anonymous shared memory: Cannot allocate memory";
        assert!(is_short(words) && !is_short("LOG:  recovery has paused"));
        let hint = |bytes: u64| {
            format!("HINT:  This error usually means (…) (currently {bytes} bytes), reduce it")
        };
        assert!(is_beyond_this_host(&hint(1 << 60)));
        assert!(!is_beyond_this_host(&hint(1 << 20)), "others may end");
        assert!(!is_beyond_this_host(words), "nobody says how much");
    }
}
