use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Entry;
use super::error::damaged;
use crate::EngineError;

/// What is on each account.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sums {
    /// By account.
    pub accounts: BTreeMap<String, i64>,
    /// The position of the last entry in them; 0 where there is none.
    pub at: u64,
}

impl Sums {
    /// Reads the file.
    ///
    /// # Errors
    /// [`LedgerError::Damaged`](super::LedgerError::Damaged) for one that is not whole.
    pub fn parse(text: &str) -> Result<Sums, EngineError> {
        let cut = || damaged("sums", "it does not end with its position");
        let body = text.strip_suffix('\n').ok_or_else(cut)?;
        let (lines, last) = body.rsplit_once('\n').unwrap_or(("", body));
        let at = last.strip_prefix("end ").and_then(|at| at.parse().ok()).ok_or_else(cut)?;
        let account = |line: &str| {
            let (name, sum) = line.split_once(' ')?;
            Some((name.to_owned(), sum.parse().ok()?))
        };
        let accounts: Option<_> = lines.lines().map(account).collect();
        let accounts = accounts.ok_or_else(|| damaged("sums", "a line is no account"))?;
        Ok(Sums { accounts, at })
    }

    /// The file.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (account, sum) in &self.accounts {
            let _ = writeln!(text, "{account} {sum}");
        }
        let _ = writeln!(text, "end {}", self.at);
        text
    }

    /// Adds an entry, which must be the next one.
    ///
    /// # Errors
    /// [`LedgerError::Damaged`](super::LedgerError::Damaged) for another.
    pub fn add(&mut self, entry: &Entry) -> Result<(), EngineError> {
        if entry.at != self.at + 1 {
            let problem = format!("{} follows on {}", entry.at, self.at);
            return Err(damaged("log", problem));
        }
        *self.accounts.entry(entry.account.clone()).or_default() += entry.change;
        self.at = entry.at;
        Ok(())
    }
}
