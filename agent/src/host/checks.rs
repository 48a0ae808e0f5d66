//! What was tried, and what was seen of it.

use anyhow::Result;

use super::{Failure, Level};

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// How good it is.
    pub level: Level,
    /// What was tried, stable: `bucket.put`.
    pub check: String,
    /// What was seen.
    pub text: String,
    /// What to do.
    pub hint: Option<String>,
}

/// Collects what was tried.
#[derive(Default)]
pub(crate) struct Checks(pub(crate) Vec<Check>);

impl Checks {
    pub(crate) fn add(
        &mut self,
        level: Level,
        check: &str,
        text: impl Into<String>,
        hint: Option<&str>,
    ) {
        let hint = hint.map(str::to_owned);
        self.0.push(Check { level, check: check.to_owned(), text: text.into(), hint });
    }

    pub(crate) fn good(&mut self, check: &str, text: impl Into<String>) {
        self.add(Level::Good, check, text, None);
    }

    pub(crate) fn warn(&mut self, check: &str, text: impl Into<String>, hint: &str) {
        self.add(Level::Warning, check, text, Some(hint));
    }

    pub(crate) fn bad(&mut self, check: &str, error: &anyhow::Error) {
        let failure = Failure::of(error);
        self.add(Level::Bad, check, failure.messages.join(": "), failure.hint.as_deref());
    }

    /// What was found, where that is no error.
    pub(crate) fn take<T>(&mut self, check: &str, found: Result<T>) -> Option<T> {
        found.inspect_err(|error| self.bad(check, error)).ok()
    }
}
