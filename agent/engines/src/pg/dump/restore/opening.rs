//! A database that is closed to others while it is restored, and opened when it is whole.

use super::mark;
use crate::pg::server::ServerSaid;
use crate::pg::server::address::quote_ident;
use crate::pg::server::session::Session;

/// No limit.
const UNLIMITED: i32 = -1;

/// How a database that was closed is opened.
///
/// A superuser closes it by a limit of no connections, which binds everybody else. To anybody else
/// that would close it too: they take the privilege to connect from all others.
#[derive(Debug)]
pub(super) struct Opening {
    superuser: bool,
    /// How many connections it takes in the end.
    limit: i32,
    comment: Option<String>,
    privileges: Option<String>,
}

impl Opening {
    /// Marks and closes a database that was made with a limit of no connections.
    pub(super) async fn close(session: &Session, name: &str) -> Result<Self, ServerSaid> {
        let query = "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user";
        let superuser: bool = session.client.query_one(query, &[]).await?.try_get(0)?;
        session.client.batch_execute(&mark::of_ours(name)).await?;
        if !superuser {
            let name = quote_ident(name);
            let statements = format!(
                "REVOKE CONNECT ON DATABASE {name} FROM PUBLIC; \
                 ALTER DATABASE {name} CONNECTION LIMIT {UNLIMITED}"
            );
            session.client.batch_execute(&statements).await?;
        }
        Ok(Opening { superuser, limit: UNLIMITED, comment: None, privileges: None })
    }

    /// Whether a statement of the dump waits until the database is opened; keeps it then.
    pub(super) fn waits_for(&mut self, kind: &str, text: &str) -> bool {
        match kind {
            "COMMENT" => self.comment = Some(text.to_owned()),
            "ACL" if !self.superuser => self.privileges = Some(text.to_owned()),
            _ => return false,
        }
        true
    }

    /// Sets what was set for the database, and no limit of connections yet.
    pub(super) async fn properties(
        &mut self,
        session: &Session,
        name: &str,
        text: &str,
    ) -> Result<(), ServerSaid> {
        let client = &session.client;
        let closed = if self.superuser { 0 } else { UNLIMITED };
        // Nobody sees what lies between.
        let set = async {
            let quoted = quote_ident(name);
            let open = format!("ALTER DATABASE {quoted} CONNECTION LIMIT {UNLIMITED}");
            client.batch_execute(&format!("BEGIN; {open}; {text}")).await?;
            let query = "SELECT datconnlimit FROM pg_catalog.pg_database WHERE datname = $1";
            let limit = client.query_one(query, &[&name]).await?.try_get(0)?;
            let close = format!("ALTER DATABASE {quoted} CONNECTION LIMIT {closed}; COMMIT");
            client.batch_execute(&close).await?;
            Ok::<i32, tokio_postgres::Error>(limit)
        };
        match set.await {
            Ok(limit) => self.limit = limit,
            Err(error) => {
                client.batch_execute("ROLLBACK").await?;
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Opens it; gives what of its own could not be had.
    pub(super) async fn open(
        self,
        session: &Session,
        name: &str,
    ) -> Result<Vec<String>, ServerSaid> {
        let quoted = quote_ident(name);
        let mut failed = Vec::new();
        if !self.superuser {
            // At once with what the dump says: nobody comes in whom that keeps out.
            let grant = format!("GRANT CONNECT ON DATABASE {quoted} TO PUBLIC; ");
            let text = grant + self.privileges.as_deref().unwrap_or_default();
            let done = session.client.batch_execute(&text).await.map_err(ServerSaid::from);
            failed.extend(done.err().map(|said| not_had("ACL", &said)));
        }
        let open = |comment: &str| {
            format!(
                "COMMENT ON DATABASE {quoted} IS NULL; {comment}\n; \
                 ALTER DATABASE {quoted} CONNECTION LIMIT {}",
                self.limit
            )
        };
        let comment = self.comment.as_deref().unwrap_or_default();
        let done = session.client.batch_execute(&open(comment)).await.map_err(ServerSaid::from);
        match done {
            Err(said) if comment.is_empty() => return Err(said),
            Err(said) => {
                session.client.batch_execute(&open("")).await?;
                failed.push(not_had("COMMENT", &said));
            }
            Ok(()) => {}
        }
        Ok(failed)
    }
}

/// That something of the database itself could not be had.
pub(super) fn not_had(kind: &str, said: &ServerSaid) -> String {
    format!("{} of the database itself: {said}", kind.to_lowercase())
}
