//! What a database server says.

use std::error::Error;
use std::fmt::Write as _;

use tokio_postgres::error::SqlState;

/// What a database server answered, or why it did not answer.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct ServerSaid {
    text: String,
    sqlstate: Option<String>,
}

impl ServerSaid {
    /// The five characters that name the error, where the server sent one.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        self.sqlstate.as_deref()
    }

    pub(crate) fn is(&self, state: &SqlState) -> bool {
        self.sqlstate() == Some(state.code())
    }

    pub(crate) fn new(text: impl Into<String>) -> Self {
        ServerSaid { text: text.into(), sqlstate: None }
    }

    pub(crate) fn with_state(text: impl Into<String>, state: String) -> Self {
        ServerSaid { text: text.into(), sqlstate: Some(state) }
    }
}

impl From<tokio_postgres::Error> for ServerSaid {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(db) = error.as_db_error() {
            let mut text = format!("{}: {} ({})", db.severity(), db.message(), db.code().code());
            for more in [db.detail(), db.hint()].into_iter().flatten() {
                let _ = write!(text, "; {more}");
            }
            return ServerSaid { text, sqlstate: Some(db.code().code().to_owned()) };
        }
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            let _ = write!(text, ": {inner}");
            cause = inner.source();
        }
        ServerSaid::new(text)
    }
}
