//! A restored cluster's server, asked where it is: by whatever role and database lets us in, and
//! never for ever.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use drctl_model::{Lsn, shown};
use jiff::Timestamp;
use tokio::time::{Instant, sleep, timeout};

use super::PhysicalError;
use super::memory::is_short;
use super::names::{databases, superusers};
use super::run::Recovering;
use super::settings::are_too_small;
use super::stopped::Stopped;
use crate::common::EngineError;
use crate::pg::server::ServerError;
use crate::pg::server::ServerSaid;
use crate::pg::server::session::Session;

/// How often it is asked where it is.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How often it is tried to log in where it refuses.
const KNOCK_EVERY: Duration = Duration::from_secs(1);

/// How long a login or an answer may take: each is quick, unless a lock stands before it.
pub(super) const ANSWER_WAIT: Duration = Duration::from_secs(20);

/// How long it may refuse us while it stands at its target, where nothing changes any more.
const STANDING_PATIENCE: Duration = Duration::from_secs(10);

/// The same while it may be under way: a role may come with the WAL that is replayed.
const REPLAYING_PATIENCE: Duration = Duration::from_secs(600);

/// The name under which it sees us.
const APPLICATION: &str = "drctl/recovery";

/// Where a recovery is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Whether it replays, or has become a server of its own.
    pub in_recovery: bool,
    /// Whether it has come to its target and waits there.
    pub paused: bool,
    /// How far the WAL was replayed.
    pub replayed: Option<Lsn>,
    /// The time of the last commit that was replayed: what the data show.
    pub shows: Option<Timestamp>,
}

/// What a look at it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// It does not answer yet; why, where it has answered and refuses us.
    Silent(Option<String>),
    /// Where it is.
    At(Progress),
    /// It stopped: the WAL asks for larger settings than it has. Started again it has them.
    TooSmall,
}

/// What is known of how it answers.
pub(super) struct Answers {
    data: PathBuf,
    /// The session in which it is asked, while it lasts.
    session: Option<Session>,
    /// Since when it refuses us.
    refused: Option<Instant>,
}

/// Why there is no answer.
enum Closed {
    /// It is not that far yet, or nobody answers.
    NotYet(EngineError),
    /// It refuses us, or does not come to an end with its answer.
    Refused(EngineError),
}

impl Answers {
    pub(super) fn of(data: &Path) -> Self {
        Answers { data: data.to_owned(), session: None, refused: None }
    }
}

impl Recovering {
    /// What there is to see after a moment.
    ///
    /// # Errors
    /// [`ServerError::Query`] with the server's last words, where it has ended; why it refuses us,
    /// where it does so for too long.
    pub async fn look(&mut self) -> Result<Look, EngineError> {
        sleep(LOOK_EVERY).await;
        if let Some(status) =
            self.child.try_wait().map_err(EngineError::io("look at the server"))?
        {
            if are_too_small(&self.words()) {
                return Ok(Look::TooSmall);
            }
            let words = self.last_words();
            let source = ServerSaid::new(format!("{status}; {words}"));
            if is_short(&words) {
                return Err(PhysicalError::Memory { source }.into());
            }
            return Err(EngineError::from(ServerError::Query {
                action: "recover the restored cluster".into(),
                source,
            }));
        }
        // One session for all questions: a recovering server has better things to do than logins.
        let session = match self.answers.session.take() {
            Some(session) => Ok(session),
            None => self.enter().await,
        };
        let asked = match session {
            Ok(session) => self.ask(session).await,
            Err(closed) => Err(closed),
        };
        match asked {
            Ok(progress) => {
                self.answers.refused = None;
                let small = progress.paused && are_too_small(&self.words());
                Ok(if small { Look::TooSmall } else { Look::At(progress) })
            }
            Err(Closed::NotYet(error)) if self.is_at_target() => self.refused(error).await,
            Err(Closed::NotYet(_)) => Ok(Look::Silent(None)),
            Err(Closed::Refused(error)) => self.refused(error).await,
        }
    }

    async fn ask(&mut self, session: Session) -> Result<Progress, Closed> {
        let query = "SELECT pg_catalog.pg_is_in_recovery(), \
            CASE WHEN pg_catalog.pg_is_in_recovery() \
                 THEN pg_catalog.pg_get_wal_replay_pause_state() END, \
            pg_catalog.pg_last_wal_replay_lsn()::text, \
            pg_catalog.to_char(pg_catalog.pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC', \
                               'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
        let asked = timeout(ANSWER_WAIT, session.client.query_one(query, &[])).await;
        let row = match asked {
            // A session that was ended is no refusal yet: the next one is.
            Ok(Err(error)) if session.client.is_closed() => {
                return Err(Closed::NotYet(EngineError::query(ASKING)(error)));
            }
            Ok(row) => row.map_err(EngineError::query(ASKING)).map_err(Closed::Refused)?,
            Err(_) => return Err(Closed::Refused(late())),
        };
        self.answers.session = Some(session);
        let text = |at: usize| row.try_get::<_, Option<String>>(at).ok().flatten();
        Ok(Progress {
            in_recovery: row.try_get(0).unwrap_or(true),
            paused: text(1).as_deref() == Some("paused"),
            replayed: text(2).and_then(|lsn| lsn.parse().ok()),
            shows: text(3).and_then(|at| at.parse().ok()),
        })
    }

    /// Superusers that the cluster's own files name.
    pub(super) fn superusers(&self) -> Vec<String> {
        superusers(&self.answers.data)
    }

    /// Logs in as the configured role, or else as a superuser that the cluster's own files name:
    /// at the target that role may not be there, or may not connect. Whom it lets in is the one
    /// that is used from then on.
    async fn enter(&mut self) -> Result<Session, Closed> {
        let (session, (user, database)) = self.any_door().await?;
        (self.server.user, self.server.maintenance_database) = (user, database);
        Ok(session)
    }

    /// A session by the first role and database that are let in, those that are known before others.
    async fn any_door(&self) -> Result<(Session, (String, String)), Closed> {
        let own = (self.server.user.clone(), self.server.maintenance_database.clone());
        let first = match enter(&self.server, &own).await {
            Err(Closed::Refused(error)) => error,
            entered => return entered.map(|session| (session, own)),
        };
        for door in doors(&self.answers.data, &own) {
            if let Ok(session) = enter(&self.server, &door).await {
                return Ok((session, door));
            }
        }
        Err(Closed::Refused(first))
    }

    /// A refusal: it is told, and an error where it lasts.
    async fn refused(&mut self, error: EngineError) -> Result<Look, EngineError> {
        let since = *self.answers.refused.get_or_insert_with(Instant::now);
        let patience = match self.stands() {
            true => STANDING_PATIENCE,
            false => REPLAYING_PATIENCE,
        };
        if since.elapsed() > patience {
            return Err(error);
        }
        sleep(KNOCK_EVERY).await;
        let why = std::error::Error::source(&error).map(|why| format!(": {why}"));
        Ok(Look::Silent(Some(shown(&format!("{error}{}", why.unwrap_or_default()), 200))))
    }

    /// Whether it says that it has come to its target, or to the end of the WAL.
    fn stands(&self) -> bool {
        self.is_at_target() || self.complaint().is_some()
    }

    /// Whether it is consistent, and lets nobody in all the same: at the checkpoint that it began with a transaction
    /// had more parts than the WAL lists (64 subtransactions), and it has not ended since. A standby shows no data
    /// until then (`ProcArrayApplyRecoveryInfo` in `procarray.c`).
    #[must_use]
    pub fn is_shut(&self) -> bool {
        let words = self.words();
        words.contains("consistent recovery state reached")
            && !words.contains("ready to accept read")
    }

    /// Whether it says that it has come to its target.
    fn is_at_target(&self) -> bool {
        self.words().contains("pausing at the end of recovery")
    }

    /// A session of our own, for questions that take no time: beside the one in which it is asked
    /// where it is, the same role may have no other.
    pub(super) async fn session(&self) -> Result<Session, EngineError> {
        match self.any_door().await {
            Ok((session, _)) => Ok(session),
            Err(Closed::NotYet(error) | Closed::Refused(error)) => Err(error),
        }
    }

    /// Holds the replay where it is, as far as our role may: a server that was told no target goes
    /// on with WAL that comes.
    pub async fn hold(&self) {
        if let Ok(session) = self.session().await {
            let query = "SELECT pg_catalog.pg_wal_replay_pause()";
            let _ = timeout(ANSWER_WAIT, session.client.query(query, &[])).await;
        }
    }

    /// What it wrote into its log since it was started.
    fn words(&self) -> String {
        let mut text = Vec::new();
        let read = File::open(&self.log).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.log_from))?;
            file.read_to_end(&mut text)
        });
        // One that cannot be read tells nothing, and a proof that needs its words fails.
        let _ = read;
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The last lines that the server wrote of something that went wrong.
    #[must_use]
    pub fn last_words(&self) -> String {
        let text = self.words();
        let bad = |line: &&str| {
            let told = ["FATAL", "PANIC", "ERROR", "error:", "hint:"];
            // What it answers to our own looks while it starts is no reason for anything.
            let ours = ["the database system is", "permission denied to set parameter"];
            told.iter().any(|w| line.contains(w))
                && !ours.iter().any(|words| line.contains(&format!("FATAL:  {words}")))
        };
        let lines: Vec<&str> = text.lines().filter(bad).collect();
        let from = lines.len().saturating_sub(6);
        shown(&lines[from..].join("; "), 1500)
    }

    /// The line that tells why no more WAL can be replayed, where the server has said so more than
    /// once: a standby fetches the same WAL again and again then, and waits for other WAL.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        complaint(&self.words())
    }

    /// Where and why the replay stopped, in the server's own words.
    #[must_use]
    pub fn stopped(&self) -> Option<Stopped> {
        Stopped::last_of(&self.words())
    }
}

const ASKING: &str = "ask the restored server where it is";

pub(super) fn late() -> EngineError {
    let text = format!(
        "it gave no answer within {} s: an unfinished transaction may hold a lock that every \
         session needs",
        ANSWER_WAIT.as_secs()
    );
    EngineError::from(ServerError::Query {
        action: ASKING.to_owned(),
        source: ServerSaid::new(text),
    })
}

async fn enter(
    server: &crate::pg::server::PgServer,
    (user, database): &(String, String),
) -> Result<Session, Closed> {
    let server = crate::pg::server::PgServer { user: user.clone(), ..server.clone() };
    match timeout(ANSWER_WAIT, Session::open(&server, database, APPLICATION)).await {
        Ok(Ok(session)) => Ok(session),
        Ok(Err(error)) if is_not_yet(&error) => Err(Closed::NotYet(error)),
        Ok(Err(error)) => Err(Closed::Refused(error)),
        Err(_) => Err(Closed::Refused(late())),
    }
}

/// Whether a server is still starting, or not there at all: `cannot_connect_now`, or nobody has
/// answered. `too_many_connections` is a refusal as others: nobody else is there whose end would help,
/// and other roles and databases have limits of their own.
fn is_not_yet(error: &EngineError) -> bool {
    let said = std::iter::successors(std::error::Error::source(error), |cause| cause.source())
        .find_map(|cause| cause.downcast_ref::<ServerSaid>());
    match said.map(ServerSaid::sqlstate) {
        Some(Some(state)) => state == "57P03",
        Some(None) => matches!(error.own(), Some(ServerError::Connect { .. })),
        None => false,
    }
}

/// Other roles and databases to try than the own ones: the own role before others.
fn doors(data: &Path, own: &(String, String)) -> Vec<(String, String)> {
    let mut places = vec![own.1.clone(), "template1".to_owned()];
    places.extend(databases(data));
    let mut users = vec![own.0.clone()];
    users.extend(superusers(data));
    let pair = |user: &String| {
        let user = user.clone();
        let pair = move |place: &String| (user.clone(), place.clone());
        places.iter().map(pair).collect::<Vec<_>>()
    };
    let mut all: Vec<_> = users.iter().flat_map(pair).filter(|door| door != own).collect();
    all.truncate(MOST_DOORS);
    all
}

/// The most pairs of role and database that are tried.
const MOST_DOORS: usize = 100;

/// The last complaint of a server's log that it has made before. It says so once of what lies in
/// its own directory, before it fetches the same WAL, however long that takes.
fn complaint(log: &str) -> Option<String> {
    let messages = log.lines().filter_map(|line| Some(line.split_once("LOG:  ")?.1));
    let all: Vec<&str> = messages.filter(|message| is_complaint(message)).collect();
    let (last, before) = all.split_last()?;
    before.contains(last).then(|| shown(last.trim(), 300))
}

/// What a standby says of WAL that it cannot go on with (`xlogreader.c`, `xlogrecovery.c`).
fn is_complaint(line: &str) -> bool {
    let told = [
        "invalid record length",
        "invalid resource manager ID",
        "incorrect prev-link",
        "incorrect resource manager data checksum",
        "invalid magic number",
        "unexpected pageaddr",
        "out-of-sequence timeline ID",
        "WAL file is from different database system",
        "contrecord",
        "is not a child of database system timeline",
        "forked off current database system timeline",
        "invalid info bits",
    ];
    told.iter().any(|words| line.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_role_is_tried_before_others_and_no_pair_twice() {
        let data = tempfile::tempdir().unwrap();
        let own = ("clerk".to_owned(), "postgres".to_owned());
        assert_eq!(doors(data.path(), &own), [("clerk".to_owned(), "template1".to_owned())]);
    }

    #[test]
    fn a_server_that_cannot_go_on_says_so_in_its_log() {
        for (line, told) in [
            ("LOG:  invalid record length at 0/3000148: wanted 24, got 0", true),
            ("LOG:  record with incorrect prev-link 0/2FFFF30 at 0/3000060", true),
            ("LOG:  restored log file \"000000010000000000000003\" from archive", false),
        ] {
            assert_eq!(is_complaint(line), told, "{line}");
        }
    }

    #[test]
    fn what_a_server_says_again_and_again_is_why_it_waits() {
        let round = "LOG:  restored log file \"000000010000000000000003\" from archive\n\
                     LOG:  record with incorrect prev-link 0/2FFFF30 at 0/3000060\n\
                     LOG:  waiting for WAL to become available at 0/3000060\n";
        assert_eq!(complaint(round), None, "it may go on");
        let told = complaint(&round.repeat(2)).unwrap_or_default();
        assert!(told.starts_with("record with incorrect prev-link"), "{told}");
        let other = "LOG:  invalid record length at 0/4000148: wanted 24, got 0\n";
        assert_eq!(complaint(&(round.repeat(2) + other)), None, "it went on");
    }
}
