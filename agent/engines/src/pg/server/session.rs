//! Sessions on a server, with settings that are ours whatever role and database have set.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::{CancelToken, Client};

use super::PgServer;
use super::address::is_poolers;
use super::leave::{self, Held};
use super::link::{self, AsItIs, Patience};
use super::options::{self, Believed};
use super::spelling;
use crate::common::EngineError;
use crate::pg::server::ServerError;
use crate::pg::server::ServerSaid;

/// A session on the server. Dropped, it takes its leave of the server while the program goes on;
/// [`goodbye`](super::goodbye) waits for that.
pub(crate) struct Session {
    pub(crate) client: Client,
    server: PgServer,
    /// The database as it is reached, and the name that we go by.
    within: (String, String),
    patience: Patience,
    /// Whether the role may set all.
    pub(crate) superuser: bool,
    /// The settings that would have hidden damage from it: server, database or role have set them.
    pub(crate) hiding: Vec<String>,
    /// Whether the server knows limits of transactions.
    may_haste: bool,
    _held: Held,
}

impl Session {
    /// Logs in, and makes the session's settings independent of those of role and database. The
    /// name may be spelled.
    pub(crate) async fn open(
        server: &PgServer,
        database: &str,
        application: &str,
    ) -> Result<Self, EngineError> {
        match Self::reach(server, database, application).await {
            Err(error) if is_unknown(&error) && !database.is_ascii() => {
                match reached_by(server, database, application).await {
                    Some(reached) => Self::reach(server, &reached, application).await,
                    None => Err(error),
                }
            }
            reached => reached,
        }
    }

    /// Another one, in the same database.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) async fn beside(&self) -> Result<Self, EngineError> {
        Self::reach(&self.server, &self.within.0, &self.within.1).await
    }

    async fn reach(
        server: &PgServer,
        database: &str,
        application: &str,
    ) -> Result<Self, EngineError> {
        let token = format!("{:032x}", rand::random::<u128>());
        let late = || {
            let source = ServerSaid::new("it did not accept the session in time");
            Err(EngineError::from(ServerError::Connect { target: server.target(), source }))
        };
        let mut more = server.options.iter();
        let (mut asked, mut believed) = (more.next(), Believed::Usual);
        loop {
            let options = options::of_session(&token, asked, believed);
            let attempt = Self::begin(server, (database, application), &options, &token);
            match timeout(LOGIN_WAIT, attempt).await.unwrap_or_else(|_| late()) {
                // What only a superuser may set.
                Err(error) if may_not(&error) && more.len() > 0 => asked = more.next(),
                Err(error) => believed = believed.after(error.sqlstate()).ok_or(error)?,
                Ok(mut session) => {
                    session.server.options = asked.cloned().into_iter().collect();
                    return Ok(session);
                }
            }
        }
    }

    async fn begin(
        server: &PgServer,
        (database, application): (&str, &str),
        options: &str,
        token: &str,
    ) -> Result<Self, EngineError> {
        let mut session = Self::log_in(server, database, application, options).await?;
        match session.prepare(server, token).await {
            Ok(()) => Ok(session),
            Err(error) => Err(session.ended_in_haste().unwrap_or(error)),
        }
    }

    async fn prepare(&mut self, server: &PgServer, token: &str) -> Result<(), EngineError> {
        self.is_ours(server, token).await?;
        let failed = |error| EngineError::query(SETTING_UP)(error);
        self.client.batch_execute(&options::again()).await.map_err(failed)?;
        self.client.batch_execute(LATER).await.map_err(failed)?;
        let row = self.client.query_one(options::ASK_HIDING, &[]).await.map_err(failed)?;
        self.superuser = row.try_get(0).map_err(failed)?;
        self.hiding = row.try_get(1).map_err(failed)?;
        if self.superuser {
            self.client.batch_execute(&options::as_superuser()).await.map_err(failed)?;
        }
        // Only a courtesy, and not to be had on every platform.
        let _ = self.client.batch_execute(CHECK).await;
        Ok(())
    }

    /// What to say of a session that was ended before it could be prepared, by a server that may
    /// limit transactions: its word on that is lost where no statement waited for an answer.
    fn ended_in_haste(&self) -> Option<EngineError> {
        let text = "the server ended the session before it could be prepared";
        let source = ServerSaid::with_state(text, options::HASTE.to_owned());
        let error = EngineError::from(ServerError::Query { action: SETTING_UP.to_owned(), source });
        Some(error).filter(|_| self.may_haste && self.client.is_closed())
    }

    /// The server, with those of its options that it takes from this role, and the account behind its
    /// socket: a tool is given the same.
    pub(crate) fn reached(&self) -> &PgServer {
        &self.server
    }

    async fn log_in(
        server: &PgServer,
        database: &str,
        application: &str,
        options: &str,
    ) -> Result<Self, EngineError> {
        let mut link = link::connect(server).await.map_err(|error| server.unreachable(&error))?;
        if spelling::is_spelled(database) {
            link.unspell();
        }
        // The only data that a session copies are rows that are counted.
        link.count_copied();
        let (patience, account) = (link.patience(), link.account());
        let config = server.config(database, application, options);
        let refused = |error| server.refused(database, error);
        let (client, driver) = config.connect_raw(link, AsItIs).await.map_err(refused)?;
        let may_haste = options::may_haste(driver.parameter("server_version"));
        let _held = leave::driven(drive(driver));
        let (mut server, hiding) = (server.clone(), Vec::new());
        // Tools and other sessions meet the same account, or nobody.
        server.require_peer = account.or(server.require_peer);
        let within = (database.to_owned(), application.to_owned());
        Ok(Session { client, server, within, patience, superuser: false, hiding, may_haste, _held })
    }

    /// An error where the server would give damaged pages as empty or sound ones, and we may not
    /// forbid it: what is read then proves nothing.
    pub(crate) fn sees_damage(&self, database: &str) -> Result<(), EngineError> {
        let Some(first) = self.hiding.first().filter(|_| !self.superuser) else { return Ok(()) };
        let (user, names) = (self.server.user.clone(), self.hiding.join(" and "));
        Err(EngineError::from(ServerError::Permission {
            action: format!("switch off {names}, which hides damage in database `{database}`"),
            advice: format!(
                "reset {first} where it is set (ALTER SYSTEM, ALTER DATABASE or ALTER ROLE … RESET \
                 {first}; postgresql.conf), or use a superuser: while it is on, damaged pages look \
                 empty or sound, and a backup of them would look good"
            ),
            user,
            source: None,
        }))
    }

    /// An error unless the session was begun for us, with our settings: a pooler lends one that
    /// belongs to others, before us and after us. Nothing is set before this is known.
    async fn is_ours(&self, server: &PgServer, token: &str) -> Result<(), EngineError> {
        let asked = self.client.query_one(options::ASK_TOKEN, &[]).await;
        let row = asked.map_err(|error| match ServerSaid::from(error) {
            source if is_poolers(&source) => {
                EngineError::from(ServerError::Pooler { target: server.target(), source })
            }
            source => {
                EngineError::from(ServerError::Query { action: SETTING_UP.to_owned(), source })
            }
        })?;
        let found = row.try_get::<_, Option<&str>>(0).map_err(EngineError::query(SETTING_UP))?;
        if found == Some(token) {
            return Ok(());
        }
        let source = ServerSaid::new("the session that it gave has other settings than asked for");
        Err(EngineError::from(ServerError::Pooler { target: server.target(), source }))
    }

    /// Our own sessions see damage; what others were shown stays in the server's memory.
    pub(crate) fn doubts(&self) -> Vec<String> {
        let doubt = |name: &String| {
            format!(
                "{name} is on: damaged pages that other sessions have read may look empty or \
                 sound, in this backup too"
            )
        };
        self.hiding.iter().map(doubt).collect()
    }

    /// The server's version, such as `15.18 (Debian 15.18-0+deb12u1)`.
    pub(crate) async fn version(&self) -> Result<String, EngineError> {
        self.text("SELECT pg_catalog.current_setting('server_version')", "ask for the version")
            .await
    }

    /// The one value of a query that gives one text.
    pub(crate) async fn text(&self, query: &str, action: &str) -> Result<String, EngineError> {
        let row = self.client.query_one(query, &[]).await.map_err(EngineError::query(action))?;
        row.try_get(0).map_err(EngineError::query(action))
    }

    /// A handle that can cancel the statement in progress.
    pub(crate) fn canceller(&self) -> Canceller {
        Canceller { token: self.client.cancel_token(), server: self.server.clone() }
    }

    /// Bears a long silence while `work` is done: it counts, copies files, or waits for others.
    pub(crate) async fn patiently<T>(&self, work: impl Future<Output = T>) -> T {
        self.patience.set(self.server.silence.saturating_mul(LONG));
        let done = work.await;
        self.patience.set(self.server.quick());
        done
    }
}

/// How a database is reached whose name is in another encoding than ours; nothing where it is not.
async fn reached_by(server: &PgServer, database: &str, application: &str) -> Option<String> {
    let asked = Session::reach(server, &server.maintenance_database, application).await.ok()?;
    let reached = spelling::reached_by(&asked.client, database).await;
    Some(reached).filter(|reached| reached != database)
}

/// How long a login may take, the connection included.
const LOGIN_WAIT: Duration = Duration::from_secs(45);

/// How many times the usual silence of a server may last while it works for us.
const LONG: u32 = 24;

const SETTING_UP: &str = "prepare the session";

/// What not every version knows: the time limits of applications are no help for a backup, and a
/// view or a foreign table that takes a table's place is never executed.
const LATER: &str = "SELECT pg_catalog.set_config(name, v, false) \
     FROM pg_catalog.pg_settings JOIN (VALUES ('transaction_timeout', '0'), \
     ('idle_session_timeout', '0'), ('restrict_nonsystem_relation_kind', 'view, foreign-table')) \
     AS later (n, v) ON n = name";

/// A server that counts rows for us notices within seconds that we are gone.
const CHECK: &str = "SELECT pg_catalog.set_config(name, '5s', false) \
     FROM pg_catalog.pg_settings WHERE name = 'client_connection_check_interval'";

/// Cancels the statement that runs in a session.
#[derive(Clone)]
pub(crate) struct Canceller {
    token: CancelToken,
    server: PgServer,
}

impl Canceller {
    pub(crate) async fn cancel(self) {
        let sent = async {
            let link = link::connect(&self.server).await.map_err(|error| error.to_string())?;
            let sent = self.token.cancel_query_raw(link, AsItIs).await;
            sent.map_err(|error| error.to_string())
        };
        match timeout(LOGIN_WAIT, sent).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "cancel a statement"),
            Err(_) => tracing::debug!("a statement was not cancelled in time"),
        }
    }
}

async fn drive<S, T>(connection: tokio_postgres::Connection<S, T>)
where
    tokio_postgres::Connection<S, T>: Future<Output = Result<(), tokio_postgres::Error>>,
{
    let Err(error) = connection.await else { return };
    // Whoever waits for an answer hears that the connection is closed, and not why.
    let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    let ours = [io::ErrorKind::TimedOut, io::ErrorKind::InvalidData];
    match io.filter(|io| ours.contains(&io.kind())) {
        Some(reason) => tracing::warn!("a session is given up: {reason}"),
        None => tracing::debug!(%error, "a session has ended"),
    }
}

fn is_unknown(error: &EngineError) -> bool {
    matches!(error.own(), Some(ServerError::NoDatabase { .. }))
}

fn may_not(error: &EngineError) -> bool {
    matches!(error.own(), Some(ServerError::Permission { .. }))
}
