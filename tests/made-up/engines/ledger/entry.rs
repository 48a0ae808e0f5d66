use std::path::Path;

use drctl_model::Lineage;

use super::error::damaged;
use crate::EngineError;

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its position.
    pub at: u64,
    /// When it was made, in seconds since 1970.
    pub seconds: i64,
    /// Of which account.
    pub account: String,
    /// What it adds.
    pub change: i64,
}

impl Entry {
    /// Reads a line.
    fn parse(line: &str) -> Option<Entry> {
        let mut words = line.split(' ');
        let entry = Entry {
            at: words.next()?.parse().ok()?,
            seconds: words.next()?.parse().ok()?,
            account: words.next()?.to_owned(),
            change: words.next()?.parse().ok()?,
        };
        words.next().is_none().then_some(entry)
    }

    /// All entries of a text.
    ///
    /// # Errors
    /// [`LedgerError::Damaged`](super::LedgerError::Damaged) for a line that is none, and for one whose
    /// position does not follow the one before.
    pub fn all(text: &str) -> Result<Vec<Entry>, EngineError> {
        let mut all = Vec::<Entry>::new();
        for line in text.lines() {
            let entry = Entry::parse(line).ok_or_else(|| damaged("log", format!("`{line}`")))?;
            if all.last().is_some_and(|last| last.at + 1 != entry.at) {
                return Err(damaged("log", format!("a gap before {}", entry.at)));
            }
            all.push(entry);
        }
        Ok(all)
    }

    /// The line.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{} {} {} {}\n", self.at, self.seconds, self.account, self.change)
    }
}

/// The entries of a ledger that are whole: the last line may be under way.
///
/// # Errors
/// As [`Entry::all`]; where the file cannot be read.
pub fn written(books: &Path) -> Result<Vec<Entry>, EngineError> {
    let text = std::fs::read_to_string(books.join("log"));
    let text = text.map_err(EngineError::io("read the ledger's log"))?;
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    Entry::all(whole)
}

/// Which ledger it is.
///
/// # Errors
/// [`LedgerError::Damaged`](super::LedgerError::Damaged); where the file cannot be read.
pub fn lineage(books: &Path) -> Result<Lineage, EngineError> {
    let name = std::fs::read_to_string(books.join("name"));
    let name = name.map_err(EngineError::io("read the ledger's name"))?;
    name.trim().parse().map_err(|_| damaged("name", format!("`{}`", name.trim())))
}
