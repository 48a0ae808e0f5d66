//! What a restore that failed has left behind.

use std::fmt;

/// What a restore that failed has left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftover {
    /// It had not begun to write.
    Nothing,
    /// This run had created the database, and has dropped it again.
    Dropped,
    /// This run had created the database, and could not drop it.
    Ours,
    /// The database was there before, and holds a part now.
    Theirs,
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Leftover::Nothing => "nothing was changed on the server",
            Leftover::Dropped => "this run had created it and has dropped it again",
            Leftover::Ours => "this run had created it and could not drop it: it is incomplete",
            Leftover::Theirs => "it existed before this run and was left as it is: incomplete",
        })
    }
}
