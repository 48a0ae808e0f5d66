//! Where the installed servers and tools are.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

const REMEDY: &str = "run tests/components/install";

/// Where Debian's packages put every PostgreSQL.
pub(super) const DEBIANS: &str = "/usr/lib/postgresql";

/// The program of a component that `tests/components/install` builds.
///
/// # Panics
/// When it is not installed.
pub(super) fn built(name: &str) -> PathBuf {
    let program = cache().join("bin").join(name);
    assert!(program.exists(), "{name} is missing ({}): {REMEDY}", program.display());
    program
}

/// The folder of a component that `tests/components/install` unpacks whole. The cache links to it, and may
/// lie where the servers' account cannot go.
///
/// # Panics
/// When it is not installed.
pub(super) fn unpacked(name: &str) -> PathBuf {
    let link = cache().join(name);
    fs::canonicalize(&link).unwrap_or_else(|error| panic!("{}: {error}: {REMEDY}", link.display()))
}

/// What checks metrics and alert rules.
///
/// # Panics
/// When it is not installed.
#[must_use]
pub fn promtool() -> PathBuf {
    built("promtool")
}

/// The cache of `tests/components/install`: the same rule as in that script.
fn cache() -> PathBuf {
    match env::var_os("DRCTL_TEST_CACHE").filter(|set| !set.is_empty()) {
        Some(cache) => cache.into(),
        None => Path::new(&env::var_os("HOME").expect("HOME is set")).join(".cache/drctl-tests"),
    }
}

/// The programs of the PostgreSQL to test with: `$PG_MAJOR`, or else the newest installed. Where that
/// is older than `at_least`, those of the one that is kept beside it.
///
/// # Panics
/// When there is none.
pub(super) fn postgres_bin(at_least: u32) -> PathBuf {
    let major = match env::var("PG_MAJOR") {
        Ok(major) if !major.is_empty() => Some(major),
        _ => newest_postgres().map(|major| major.to_string()),
    };
    let major = major.unwrap_or_else(|| panic!("PostgreSQL's server is missing: {REMEDY}"));
    if major.parse::<u32>().is_ok_and(|major| major < at_least) {
        return kept_postgres_bin(at_least);
    }
    let bin = postgres_bin_of(&major);
    assert!(
        bin.join("initdb").exists(),
        "PostgreSQL {major} is missing: {REMEDY} with PG_MAJOR={major} set"
    );
    bin
}

/// The programs of a PostgreSQL that is newer than the one to test with. Its folder is linked to from
/// the cache, which may lie where the servers' account cannot go.
fn kept_postgres_bin(major: u32) -> PathBuf {
    let link = cache().join(format!("postgresql-{major}"));
    let home = fs::canonicalize(&link).unwrap_or(link);
    let bin = home.join("usr/lib/postgresql").join(major.to_string()).join("bin");
    let program = bin.join("initdb");
    assert!(program.exists(), "PostgreSQL {major} is missing ({}): {REMEDY}", program.display());
    bin
}

fn newest_postgres() -> Option<u32> {
    let releases = fs::read_dir(DEBIANS).ok()?;
    releases
        .filter_map(|release| release.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|major| postgres_bin_of(&major.to_string()).join("initdb").exists())
        .max()
}

fn postgres_bin_of(major: &str) -> PathBuf {
    Path::new(DEBIANS).join(major).join("bin")
}
