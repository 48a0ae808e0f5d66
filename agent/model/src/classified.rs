//! What every error says of itself: its name, how a command ends that meets it, what to do.

/// What kind of trouble an error is; the exit code of a command follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// None of the others.
    Failure,
    /// The command line is wrong.
    Usage,
    /// Data is not what was signed of it.
    Verification,
    /// Nothing satisfies what was asked for.
    NoTarget,
    /// Somebody else works there.
    Busy,
    /// The configuration is wrong.
    Configuration,
    /// The bucket cannot be reached, read or written.
    Storage,
    /// A key is missing, damaged or the wrong one.
    Key,
    /// The source's server or its tools refuse.
    Source,
    /// The target is not empty, or not fit.
    Target,
    /// Stopped by a signal.
    Interrupted,
}

/// An error that people and scripts meet.
pub trait Classified: std::error::Error {
    /// A stable name for scripts.
    fn code(&self) -> &'static str;

    /// What kind of trouble it is.
    fn class(&self) -> Class;

    /// What the operator can do about it, as an imperative sentence.
    fn hint(&self) -> Option<String>;
}
