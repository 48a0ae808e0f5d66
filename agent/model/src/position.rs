use std::fmt;

/// A position in the log of one engine: a number on a line, which prints as the engine's own tools
/// print it.
///
/// What else a tool tells of a position fits into the number: a binary log's file and the offset in
/// it, the seconds and the ordinal of an oplog.
pub trait Position: Copy + Ord + fmt::Debug + fmt::Display + Send + Sync + 'static {
    /// The position of a number.
    fn of(number: u64) -> Self;

    /// Its number.
    fn number(self) -> u64;

    /// The first one there is.
    #[must_use]
    fn first() -> Self {
        Self::of(0)
    }

    /// The last one there is.
    #[must_use]
    fn last() -> Self {
        Self::of(u64::MAX)
    }

    /// The position so much further on; the last one there is where that would not fit.
    #[must_use]
    fn plus(self, much: u64) -> Self {
        Self::of(self.number().saturating_add(much))
    }

    /// How much lies between `earlier` and here; 0 where it is not earlier.
    #[must_use]
    fn since(self, earlier: Self) -> u64 {
        self.number().saturating_sub(earlier.number())
    }
}
