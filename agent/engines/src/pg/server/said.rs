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
    routine: Option<String>,
}

impl ServerSaid {
    /// The five characters that name the error, where the server sent one.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        self.sqlstate.as_deref()
    }

    /// The routine of the server that raised the error, where it said so: the same in all languages, and
    /// not promised by any version.
    #[must_use]
    pub fn routine(&self) -> Option<&str> {
        self.routine.as_deref()
    }

    pub(crate) fn is(&self, state: &SqlState) -> bool {
        self.sqlstate() == Some(state.code())
    }

    pub(crate) fn new(text: impl Into<String>) -> Self {
        ServerSaid { text: text.into(), sqlstate: None, routine: None }
    }

    /// The same, raised by this routine.
    pub(crate) fn raised_by(self, routine: String) -> Self {
        ServerSaid { routine: Some(routine).filter(|name| !name.is_empty()), ..self }
    }

    pub(crate) fn with_state(text: impl Into<String>, state: String) -> Self {
        ServerSaid { text: text.into(), sqlstate: Some(state), routine: None }
    }
}

impl From<tokio_postgres::Error> for ServerSaid {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(db) = error.as_db_error() {
            let mut text = format!("{}: {} ({})", db.severity(), db.message(), db.code().code());
            for more in [db.detail(), db.hint()].into_iter().flatten() {
                let _ = write!(text, "; {more}");
            }
            let sqlstate = Some(db.code().code().to_owned());
            return ServerSaid { text, sqlstate, routine: db.routine().map(str::to_owned) };
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
