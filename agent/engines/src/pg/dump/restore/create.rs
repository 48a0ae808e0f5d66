//! A database made as the dump says, before anything is loaded into it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use drctl_model::{DatabaseFacts, LocaleProvider, ProviderLocale, shown};
use tokio_postgres::error::SqlState;

use super::mark;
use super::opening::{Opening, not_had};
use crate::common::EngineError;
use crate::pg::dump::DumpError;
use crate::pg::server::PgServer;
use crate::pg::server::ServerError;
use crate::pg::server::ServerSaid;
use crate::pg::server::address::{quote_ident, quote_literal};
use crate::pg::server::session::Session;

/// What a dump says of the database itself: the kind of each statement, and its text where it can
/// be run.
pub(super) type Own = [(String, Option<String>)];

/// A database that is to be made.
#[derive(Debug, Clone)]
pub(super) struct Creation {
    pub(super) server: PgServer,
    pub(super) application: String,
    pub(super) facts: DatabaseFacts,
    pub(super) name: String,
    pub(super) owner: bool,
    pub(super) created: Arc<AtomicBool>,
    /// How it is opened for others when it is whole; nothing where this restore did not make it.
    pub(super) opening: Arc<Mutex<Option<Opening>>>,
}

impl Creation {
    /// Makes it under its own name, with its settings and privileges; gives what of those could
    /// not be had. It is closed and marked as not whole.
    pub(super) async fn as_dumped(&self, own: &Own) -> Result<Vec<String>, EngineError> {
        let session = self.session().await?;
        let statement = |wanted: &str| {
            own.iter().find(|(kind, _)| kind == wanted).and_then(|(_, text)| text.clone())
        };
        // In an encoding of its own, or too long: what the manifest says is enough.
        let text = statement("DATABASE").unwrap_or_else(|| self.statement(false));
        self.run(&session, &text).await?;
        let mut opening = self.close(&session).await?;
        let mut more = Vec::new();
        if self.owner {
            let (name, owner) = (quote_ident(&self.name), quote_ident(&self.facts.owner));
            more.push(("owner", Some(format!("ALTER DATABASE {name} OWNER TO {owner}"))));
        }
        let rest = own.iter().filter(|(kind, _)| kind != "DATABASE");
        let rest = rest.filter(|(kind, _)| self.owner || kind != "ACL");
        more.extend(rest.map(|(kind, text)| (kind.as_str(), text.clone())));
        let mut failed = Vec::new();
        for (kind, text) in more {
            let done = match text {
                Some(text) if opening.waits_for(kind, &text) => Ok(()),
                Some(text) if kind == "DATABASE PROPERTIES" => {
                    opening.properties(&session, &self.name, &text).await
                }
                Some(text) => session.client.batch_execute(&text).await.map_err(ServerSaid::from),
                None => Err(ServerSaid::new("its statement is not UTF-8")),
            };
            failed.extend(done.err().map(|said| not_had(kind, &said)));
        }
        self.keep(opening);
        Ok(failed)
    }

    /// Makes it under another name, bare; closed, and marked as not whole.
    pub(super) async fn as_named(&self) -> Result<(), EngineError> {
        let session = self.session().await?;
        let query = "SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = $1";
        let looked = session.client.query_opt(query, &[&self.facts.owner]).await;
        let owner = looked.map_err(EngineError::query("look for the owner"))?.is_some();
        self.run(&session, &self.statement(owner && self.owner)).await?;
        let opening = self.close(&session).await?;
        self.keep(opening);
        Ok(())
    }

    async fn close(&self, session: &Session) -> Result<Opening, EngineError> {
        let closed = Opening::close(session, &self.name).await;
        closed.map_err(|source| {
            EngineError::from(ServerError::Query {
                action: format!("close database `{}`", self.name),
                source,
            })
        })
    }

    fn keep(&self, opening: Opening) {
        *self.opening.lock().unwrap_or_else(PoisonError::into_inner) = Some(opening);
    }

    /// Lets others in, and takes the mark away; gives what of its own could not be had.
    pub(super) async fn open(&self) -> Result<Vec<String>, EngineError> {
        let session = self.session().await?;
        let opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner).take();
        let said = match opening {
            Some(opening) => opening.open(&session, &self.name).await,
            None => match mark::lifted(&session, &self.name).await? {
                Some(text) => session.client.batch_execute(&text).await.map_err(Into::into),
                None => Ok(()),
            }
            .map(|()| Vec::new()),
        };
        said.map_err(|source| {
            EngineError::from(ServerError::Query {
                action: format!("open database `{}`", self.name),
                source,
            })
        })
    }

    /// Marks a database that was there before. Who does not own it cannot.
    pub(super) async fn mark_theirs(&self) -> Result<(), EngineError> {
        let session = self.session().await?;
        if let Err(error) = mark::theirs(&session, &self.name).await {
            let said = std::error::Error::source(&error).map(ToString::to_string);
            let text = format!("{error}: {}", said.unwrap_or_default());
            tracing::warn!(
                "{}: if this restore breaks off, only a count of the rows will show it",
                shown(&text, 300)
            );
        }
        Ok(())
    }

    async fn session(&self) -> Result<Session, EngineError> {
        let maintenance = &self.server.maintenance_database;
        Session::open(&self.server, maintenance, &self.application).await
    }

    /// Makes it, so that none but a superuser comes in.
    async fn run(&self, session: &Session, statement: &str) -> Result<(), EngineError> {
        let statement = statement.trim_end().trim_end_matches(';');
        let statement = &format!("{statement} CONNECTION LIMIT = 0");
        // Before it is there: who gives up meanwhile must look for it.
        self.created.store(true, Ordering::SeqCst);
        session.patiently(session.client.batch_execute(statement)).await.map_err(|error| {
            self.created.store(false, Ordering::SeqCst);
            let source = ServerSaid::from(error);
            let name = self.name.clone();
            if source.is(&SqlState::DUPLICATE_DATABASE) {
                return EngineError::from(DumpError::Exists { name });
            }
            EngineError::from(ServerError::Query {
                action: format!("create database `{name}`"),
                source,
            })
        })
    }

    fn statement(&self, owner: bool) -> String {
        let DatabaseFacts { encoding, collate, ctype, provider, .. } = &self.facts;
        let mut statement = format!(
            "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}",
            quote_ident(&self.name),
            quote_literal(encoding),
            quote_literal(collate),
            quote_literal(ctype),
        );
        if let Some(ProviderLocale { provider, locale, rules }) = provider {
            let word = match provider {
                LocaleProvider::Icu => "icu ICU_LOCALE",
                LocaleProvider::Builtin => "builtin BUILTIN_LOCALE",
            };
            statement += &format!(" LOCALE_PROVIDER {word} {}", quote_literal(locale));
            if let Some(rules) = rules {
                statement += &format!(" ICU_RULES {}", quote_literal(rules));
            }
        }
        if owner {
            statement += &format!(" OWNER {}", quote_ident(&self.facts.owner));
        }
        statement
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::target;
    use super::*;

    #[test]
    fn a_database_is_created_as_it_was() {
        let expected = "CREATE DATABASE \"shop2\" TEMPLATE template0 ENCODING 'UTF8' \
                        LC_COLLATE 'C' LC_CTYPE 'it''s' OWNER \"shop\"\"s\"";
        assert_eq!(target(true).creation.statement(true), expected);
        let mut creation = target(false).creation;
        let (provider, rules) = (LocaleProvider::Icu, Some("&a < 'x'".to_owned()));
        creation.facts.provider =
            Some(ProviderLocale { provider, locale: "de-AT".to_owned(), rules });
        let statement = creation.statement(false);
        let expected = "LOCALE_PROVIDER icu ICU_LOCALE 'de-AT' ICU_RULES '&a < ''x'''";
        assert!(statement.ends_with(expected), "{statement}");
    }
}
