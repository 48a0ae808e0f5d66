//! What was tried, and what was seen of it.

use anyhow::Result;
use drctl_model::FindingCode;

use super::{Failure, Level};

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// How good it is.
    pub level: Level,
    /// What was tried, stable: `bucket.put`.
    pub check: String,
    /// The finding that it is, where `status` knows it too.
    pub code: Option<FindingCode>,
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
        self.push((level, None), check, text.into(), hint);
    }

    fn push(
        &mut self,
        (level, code): (Level, Option<FindingCode>),
        check: &str,
        text: String,
        hint: Option<&str>,
    ) {
        let (check, hint) = (check.to_owned(), hint.map(str::to_owned));
        self.0.push(Check { level, check, code, text, hint });
    }

    /// The same of what is a finding: it is as bad here as everywhere.
    pub(crate) fn finding(
        &mut self,
        code: FindingCode,
        check: &str,
        text: impl Into<String>,
        hint: &str,
    ) {
        self.push((code.level(), Some(code)), check, text.into(), Some(hint));
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

    /// What was found, where that is no error; an error is a finding of this code.
    pub(crate) fn take_or<T>(
        &mut self,
        code: FindingCode,
        check: &str,
        found: Result<T>,
    ) -> Option<T> {
        let failed = |error: &anyhow::Error| {
            let Failure { messages, hint, .. } = Failure::of(error);
            self.push((code.level(), Some(code)), check, messages.join(": "), hint.as_deref());
        };
        found.inspect_err(failed).ok()
    }

    /// What was found, where that is no error.
    pub(crate) fn take<T>(&mut self, check: &str, found: Result<T>) -> Option<T> {
        found.inspect_err(|error| self.bad(check, error)).ok()
    }
}
