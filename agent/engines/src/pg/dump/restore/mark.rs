//! The mark of a database that is not whole yet: its comment, which whoever looks at it sees.

use crate::common::EngineError;
use crate::pg::dump::DumpError;
use crate::pg::dump::preflight::occupants;
use crate::pg::server::PgServer;
use crate::pg::server::address::{quote_ident, quote_literal};
use crate::pg::server::session::Session;

/// How the comment begins.
const MARK: &str = "drctl: NOT COMPLETE. Its restore is running, or broke off";

/// What parts the mark of a database that was there before from the comment that it had.
const BEFORE: &str = "\nits comment before: ";

/// The statement that marks a database that this restore has made.
pub(super) fn of_ours(name: &str) -> String {
    comment(name, Some(MARK))
}

/// Marks a database that was there before; what its comment was stays readable behind the mark.
pub(super) async fn theirs(session: &Session, name: &str) -> Result<(), EngineError> {
    let before = read(session, name).await?.unwrap_or_default();
    let before = without(&before).unwrap_or(&before);
    let marked = comment(name, Some(&format!("{MARK}{BEFORE}{before}")));
    let failed = EngineError::query(format!("mark database `{name}` as not whole"));
    session.client.batch_execute(&marked).await.map_err(failed)
}

/// The statement that gives a database that was there before its comment back, if it is marked.
pub(super) async fn lifted(session: &Session, name: &str) -> Result<Option<String>, EngineError> {
    let marked = read(session, name).await?;
    let before = marked.as_deref().and_then(without);
    Ok(before.map(|before| comment(name, Some(before).filter(|text| !text.is_empty()))))
}

/// An error where one of these databases is marked, and holds something or was made by a restore.
pub(in crate::pg) async fn all_whole(
    session: &Session,
    server: &PgServer,
    names: &[&str],
    application: &str,
) -> Result<(), EngineError> {
    let mut found = Vec::new();
    for name in names {
        let Some(comment) = read(session, name).await?.filter(|text| text.starts_with(MARK)) else {
            continue;
        };
        // Nothing has come into it yet, and whose it is made it themselves.
        let untouched =
            without(&comment).is_some() && occupants(server, name, application).await?.is_empty();
        if !untouched {
            found.push((*name).to_owned());
        }
    }
    if found.is_empty() {
        Ok(())
    } else {
        Err(EngineError::from(DumpError::Unfinished { names: found }))
    }
}

/// The comment that a database had before it was marked.
fn without(comment: &str) -> Option<&str> {
    comment.strip_prefix(MARK)?.strip_prefix(BEFORE)
}

fn comment(name: &str, text: Option<&str>) -> String {
    let text = text.map_or("NULL".to_owned(), quote_literal);
    format!("COMMENT ON DATABASE {} IS {text}", quote_ident(name))
}

async fn read(session: &Session, name: &str) -> Result<Option<String>, EngineError> {
    let query = "SELECT pg_catalog.shobj_description(oid, 'pg_database') \
                 FROM pg_catalog.pg_database WHERE datname = $1";
    let failed = |error| EngineError::query("read the comments of databases")(error);
    let row = session.client.query_opt(query, &[&name]).await.map_err(failed)?;
    row.map_or(Ok(None), |row| row.try_get(0)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_comes_back_from_behind_the_mark() {
        assert_eq!(without(&format!("{MARK}{BEFORE}it's\ncold")), Some("it's\ncold"));
        assert_eq!(without(&format!("{MARK}{BEFORE}")), Some(""));
        assert_eq!((without(MARK), without("it's cold")), (None, None));
        assert_eq!(comment("a\"b", Some("it's")), "COMMENT ON DATABASE \"a\"\"b\" IS 'it''s'");
        assert_eq!(comment("a", None), "COMMENT ON DATABASE \"a\" IS NULL");
    }
}
