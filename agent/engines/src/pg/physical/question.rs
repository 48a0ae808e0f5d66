//! A question of an operator to a restored server.

use std::time::Duration;

use drctl_model::shown;
use tokio::time::timeout;
use tokio_postgres::SimpleQueryMessage;

use crate::common::EngineError;
use crate::pg::server::session::Session;
use crate::pg::server::{PgServer, ServerError, ServerSaid};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The database.
    pub database: String,
    /// The statement, in which names are looked for in `public`.
    pub sql: String,
    /// How long an answer may take.
    pub within: Duration,
}

/// The name under which a server sees us.
const APPLICATION: &str = "drctl/check";

/// So much of an answer is looked at, in characters.
const ANSWER: usize = 1_000;

/// Asks each, without a right to change anything; gives the first column of the first row, as text: nothing where that
/// is null, or there is no row. What kept an answer from being given: what the server says, or that it gave none in time.
pub(super) async fn ask_all(
    server: &PgServer,
    questions: &[Question],
) -> Vec<Result<Option<String>, EngineError>> {
    let mut answers = Vec::new();
    for question in questions {
        answers.push(ask(server, question).await);
    }
    answers
}

async fn ask(server: &PgServer, question: &Question) -> Result<Option<String>, EngineError> {
    let session = Session::open(server, &question.database, APPLICATION).await?;
    let failed = EngineError::query("ask a check");
    let begin = "SET search_path = public; BEGIN READ ONLY";
    session.client.batch_execute(begin).await.map_err(failed)?;
    let asked = timeout(question.within, session.client.simple_query(&question.sql)).await;
    let asked = asked.map_err(|_| {
        let text = format!("it gave no answer within {} s", question.within.as_secs());
        let (action, source) = ("ask a check".to_owned(), ServerSaid::new(text));
        EngineError::from(ServerError::Query { action, source })
    })?;
    let rows = asked.map_err(EngineError::query("ask a check"))?;
    let first = rows.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let text = first.and_then(|row| row.try_get(0).ok().flatten());
    Ok(text.map(|text| shown(text, ANSWER)))
}
