//! Transactions that were prepared and not decided, in a restored cluster that has opened. Nobody but
//! whoever coordinates them knows how they ended.

use drctl_model::shown;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::ask::{ANSWER_WAIT, late};
use super::run::Recovering;
use crate::common::EngineError;
use crate::pg::server::address::quote_literal;

/// The most of them that are told.
const MOST: usize = 1000;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undecided {
    /// Its name.
    pub gid: String,
    /// The role that prepared it.
    pub owner: Option<String>,
    /// The database in which it has to be decided.
    pub database: Option<String>,
    /// When it was prepared.
    pub since: Option<Timestamp>,
}

impl Undecided {
    /// Its name as a statement has it.
    #[must_use]
    pub fn literal(&self) -> String {
        shown(&quote_literal(&self.gid), 220)
    }
}

impl Recovering {
    /// Those of a cluster that has opened: while it recovers it does not show them.
    ///
    /// # Errors
    /// [`ServerError::Query`](crate::pg::server::ServerError::Query).
    pub async fn undecided(&self) -> Result<Vec<Undecided>, EngineError> {
        let session = self.session().await?;
        let query = format!(
            "SELECT gid, owner::pg_catalog.text, database::pg_catalog.text, \
                    pg_catalog.to_char(prepared AT TIME ZONE 'UTC', \
                                       'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') \
             FROM pg_catalog.pg_prepared_xacts ORDER BY prepared, gid LIMIT {MOST}"
        );
        let asked = timeout(ANSWER_WAIT, session.client.query(&query, &[])).await;
        let rows = asked.map_err(|_| late())?;
        let rows = rows.map_err(EngineError::query("look for prepared transactions"))?;
        let one = |row: &tokio_postgres::Row| {
            let text = |at: usize| row.try_get::<_, Option<String>>(at).ok().flatten();
            Undecided {
                gid: text(0).unwrap_or_default(),
                owner: text(1),
                database: text(2),
                since: text(3).and_then(|at| at.parse().ok()),
            }
        };
        Ok(rows.iter().map(one).collect())
    }
}
