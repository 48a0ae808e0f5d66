use drctl_model::{Class, Classified};

use crate::EngineError;

/// What is wrong with a ledger.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// A file is not what it should be.
    #[error("the ledger's {file} is damaged: {problem}")]
    Damaged {
        /// Which.
        file: &'static str,
        /// What is wrong.
        problem: String,
    },
}

impl Classified for LedgerError {
    fn code(&self) -> &'static str {
        "ledger_damaged"
    }

    fn class(&self) -> Class {
        Class::Source
    }

    fn hint(&self) -> Option<String> {
        Some("mend the ledger; nothing was stored of it".to_owned())
    }
}

pub(super) fn damaged(file: &'static str, problem: impl Into<String>) -> EngineError {
    EngineError::from_own(LedgerError::Damaged { file, problem: problem.into() })
}
