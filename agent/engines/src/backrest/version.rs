//! Versions of pgBackRest, and what each can do.

use std::fmt;

/// A version of pgBackRest: `2.45`, `2.55.1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Its first number.
    pub major: u32,
    /// Its second number.
    pub minor: u32,
    /// Its third number; 0 where there is none.
    pub patch: u32,
}

impl Version {
    /// The oldest that drctl drives: its `info` has annotations (from 2.41), and its options are
    /// those that are given to it. Debian 12 has it.
    pub const OLDEST: Version = Version { major: 2, minor: 45, patch: 0 };

    /// Reads what `pgbackrest version` writes: `pgBackRest 2.45`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Version> {
        let number = text.trim().strip_prefix("pgBackRest ")?;
        let number = number.strip_suffix("dev").unwrap_or(number);
        let mut parts = number.split('.').map(str::parse::<u32>);
        let (major, minor) = (parts.next()?.ok()?, parts.next()?.ok()?);
        let patch = parts.next().unwrap_or(Ok(0)).ok()?;
        parts.next().is_none().then_some(Version { major, minor, patch })
    }

    /// Whether it is this one of the second line or a later one.
    #[must_use]
    pub fn at_least(self, minor: u32) -> bool {
        (self.major, self.minor) >= (2, minor)
    }

    /// Whether `verify` looks at one backup alone when asked to.
    #[must_use]
    pub fn verifies_one_backup(self) -> bool {
        self.at_least(55)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        if self.patch > 0 { write!(f, ".{}", self.patch) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_tells_what_it_can() {
        let of = |text| Version::parse(text).unwrap();
        // As 2.45 wrote it.
        let bookworm = of("pgBackRest 2.45\n");
        assert_eq!(bookworm, Version::OLDEST);
        assert_eq!(bookworm.to_string(), "2.45");
        assert!(!bookworm.verifies_one_backup());
        assert!(of("pgBackRest 2.55.1").verifies_one_backup());
        assert_eq!(of("pgBackRest 2.55.1").to_string(), "2.55.1");
        assert!(!of("pgBackRest 2.54").verifies_one_backup());
        assert!(of("pgBackRest 2.60dev").verifies_one_backup());
        assert!(of("pgBackRest 3.0").verifies_one_backup());
        for text in ["", "2.45", "pgBackRest", "pgBackRest 2", "pgBackRest 2.x", "x 2.45.1.1"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }
}
