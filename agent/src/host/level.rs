//! How good what was found is.

/// How good a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Good,
    /// It works, and could be safer.
    Warning,
    /// A backup or restore would fail.
    Bad,
}
