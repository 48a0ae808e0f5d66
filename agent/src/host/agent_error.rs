mod codes;
mod hints;

use std::error::Error;
use std::path::PathBuf;

use drctl_catalog::CatalogError;
use drctl_engines::{EngineError, Stderr};
use drctl_model::{BackupId, Classified, Lsn, RepositoryId, SourceId, Timeline, shown};
use drctl_policies::Diagnostic;
use drctl_store::{FormatError, KeyError, SealError, StoreError, said_by_client};

use super::Exit;

/// What stops the agent itself; the rooms below have errors of their own.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// No configuration file.
    #[error("there is no configuration at {}", .0.display())]
    NoConfiguration(PathBuf),
    /// A configuration that cannot be used.
    #[error("{}", hints::wrong(.0))]
    Configuration(Vec<Diagnostic>),
    /// A secret that the configuration names cannot be had.
    #[error("{what} cannot be read from {from}: {why}")]
    Secret {
        /// Which secret.
        what: String,
        /// Where it should be.
        from: String,
        /// Why it is not to be had.
        why: String,
    },
    /// A directory of ours that is not ours alone.
    #[error("{} is not for drctl's account alone: {why}", .path.display())]
    NotPrivate {
        /// The directory.
        path: PathBuf,
        /// What speaks against it.
        why: String,
    },
    /// A file that is believed, and that another account can change.
    #[error("other accounts may change {}, so drctl does not trust it: {why}", .path.display())]
    Changeable {
        /// The file, or the directory of files.
        path: PathBuf,
        /// Which place another account can change, and how.
        why: String,
    },
    /// A source that is not configured.
    #[error("there is no source `{source_name}`")]
    UnknownSource {
        /// What was asked for.
        source_name: String,
        /// What there is.
        known: Vec<SourceId>,
    },
    /// Another process works on this source.
    #[error("another drctl works on `{source_name}` ({holder})")]
    Busy {
        /// The source.
        source_name: SourceId,
        /// What is known of the other process.
        holder: String,
    },
    /// Another agent works with this state directory, and what is known of it.
    #[error("another agent runs with {} ({})", .0.display(), .1)]
    SecondAgent(PathBuf, String),
    /// No agent of this host can be spoken with: why, and what to do.
    #[error("{0}")]
    NoAgent(String, &'static str),
    /// An agent runs and gives no answer within so many seconds.
    #[error("the agent did not answer within {0} s")]
    AgentSilent(u64),
    /// The agent does not do what it was asked, and why.
    #[error("the agent refused: {0}")]
    AgentRefused(String),
    /// A hook failed, so that a job was not begun, and why.
    #[error("the hook {0} failed, so the {1} was not begun: {2}")]
    Hook(String, &'static str, String),
    /// What has to be in the audit log cannot be written into it, and why.
    #[error("the removal cannot be written into the audit log: {0}")]
    NotLogged(String),
    /// The audit log of this host was changed, and how.
    #[error("{0}")]
    AuditBroken(String),
    /// Nothing in the bucket satisfies what was asked for.
    #[error("{0}")]
    NoBackup(String),
    /// The place holds no repository.
    #[error("{url} holds no drctl repository")]
    NotARepository {
        /// The place.
        url: String,
    },
    /// The place holds another repository than the configuration says.
    #[error("{url} holds the repository {found}, and the configuration says {pinned}")]
    OtherRepository {
        /// The place.
        url: String,
        /// Its identifier.
        found: RepositoryId,
        /// The one that it must be.
        pinned: RepositoryId,
    },
    /// The place holds backups, and nothing says of which repository.
    #[error("{url} holds backups, and the marker of their repository is gone or damaged")]
    MarkerLost {
        /// The place.
        url: String,
    },
    /// The place holds a repository already.
    #[error("{url} holds a drctl repository already ({id})")]
    RepositoryExists {
        /// The place.
        url: String,
        /// Its identifier.
        id: String,
    },
    /// A file that must not be overwritten exists.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// A segment is missing or not what the manifest says.
    #[error("{key} is not what the manifest says")]
    Segment {
        /// The object's key.
        key: String,
    },
    /// An incremental backup is based on something that is not there, or is another one.
    #[error("the chain of backups is broken: {0}")]
    BrokenChain(String),
    /// What came back is not what was dumped.
    #[error("{0}")]
    Mismatch(String),
    /// Other log lies where ours belongs.
    #[error("{key} holds other WAL than this server writes (from host {host})")]
    OtherLog {
        /// The object's key.
        key: String,
        /// Who wrote it.
        host: String,
    },
    /// The log before ours in the bucket is of another history.
    #[error(
        "the WAL of this server does not follow {key}, which host {host} stored at {written}: two \
         histories of one cluster"
    )]
    OtherHistory {
        /// The object's key.
        key: String,
        /// Who wrote it.
        host: String,
        /// When.
        written: jiff::Timestamp,
    },
    /// A name that we need is taken by an object that nobody whom we trust has written.
    #[error("{key} holds something that no trusted key has signed")]
    NameTaken {
        /// The object's key.
        key: String,
    },
    /// A file that is not the log that its name says.
    #[error("{} is not what its name says: {why}", .path.display())]
    NotWal {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A segment that the server still writes.
    #[error(
        "{} is not finished: its records end at {at}, before it is full, and without a WAL switch",
        path.display()
    )]
    Unfinished {
        /// The file.
        path: PathBuf,
        /// Where its records end.
        at: Lsn,
    },
    /// A segment in an archive is not the log that was written.
    #[error("the segment {name} is not what its name says: {why}")]
    BadSegment {
        /// Its name.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// Log that a recovery needs is missing.
    #[error("the WAL of timeline {timeline} is missing from {at}, and a later part is there")]
    LogGap {
        /// Whose log.
        timeline: Timeline,
        /// The first byte that is missing.
        at: Lsn,
    },
    /// No plan leads to the target.
    #[error("{0}")]
    NoPlan(String, &'static str),
    /// The bucket does not hold what was just written into it.
    #[error("the bucket does not hold what was written: {0}")]
    Incomplete(String),
    /// The restore's target is not fit.
    #[error("{0}")]
    Target(String),
    /// A drill was ended so that other work of the host goes on.
    #[error("{0}: the drill was ended")]
    DrillAborted(String),
    /// A drill was not begun, since other work of the host comes first.
    #[error("{0}: the drill was not begun")]
    DrillSkipped(String),
    /// The log makes a tablespace at this place of the source, and no sandbox leads it elsewhere.
    #[error("the WAL creates a tablespace at {}, a directory of the source", shown(&.0.to_string_lossy(), 200))]
    Place(PathBuf),
    /// Code of the backup would run as a superuser of the server that it is restored into.
    #[error(
        "code that is not owned by a superuser would run as {user}, a superuser of the target: \
         {}{}; its digest is {digest}. Nothing was done",
        what[..what.len().min(5)].join("; "),
        match what.len().saturating_sub(5) {
            0 => String::new(),
            more => format!("; and {more} more"),
        }
    )]
    Runs {
        /// As whom.
        user: String,
        /// What, each for people.
        what: Vec<String>,
        /// What stands for all of it.
        digest: String,
    },
    /// A restored server would run without a sandbox: which part is missing, and what to do.
    #[error(
        "no sandbox can be made for the restored server: {0}. Without it the server could \
         reach the keys, the bucket's credentials, the network and the source's own files. Nothing \
         was done"
    )]
    NoSandbox(String, &'static str),
    /// Something that was asked for makes no sense.
    #[error("{0}")]
    Usage(String),
    /// No key to open backups with.
    #[error("no identity is at hand to open the backup {0}")]
    NoIdentity(BackupId),
    /// No key to try.
    #[error("no identity is configured, and none was given")]
    NoIdentityToTest,
    /// No key to sign with.
    #[error("no signing key is configured")]
    NoSigningKey,
    /// A key to sign with that is not pinned.
    #[error("the signing key is not in keys.verifying_keys: nobody would trust what it signs")]
    Unpinned(String),
    /// A signal.
    #[error("stopped by a signal")]
    Interrupted,
}

/// An error as the operator and scripts see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// A stable name.
    pub code: &'static str,
    /// How the process ends.
    pub exit: Exit,
    /// What failed, and below it why, each level once.
    pub messages: Vec<String>,
    /// What to do.
    pub hint: Option<String>,
}

impl Failure {
    /// Reads an error chain: the first level that knows its code, exit and hint decides.
    #[must_use]
    pub fn of(error: &anyhow::Error) -> Self {
        let mut messages: Vec<String> = Vec::new();
        let mut found: Option<(&'static str, Exit)> = None;
        let mut hint = None;
        for cause in error.chain() {
            // What a store's client says is told as a whole, in plain words.
            let said = said_by_client(cause);
            let is_whole = said.is_some();
            let message = match cause.downcast_ref::<Stderr>() {
                Some(Stderr(text)) => indented(text.split('\n')),
                None => in_lines(&said.unwrap_or_else(|| cause.to_string())),
            };
            if messages.last().is_none_or(|last| !last.contains(&message)) {
                messages.push(message);
            }
            if let Some(error) = known(cause) {
                found = found.or_else(|| Some((error.code(), error.class().into())));
                hint = hint.or_else(|| error.hint());
            }
            if is_whole {
                break;
            }
        }
        // A context that is an `AgentError` is not itself a source, but can be asked for.
        if let Some(problem) = error.downcast_ref::<AgentError>() {
            found = Some((problem.code(), problem.class().into()));
            hint = problem.hint().or(hint);
        }
        let (code, exit) = found.unwrap_or(("failed", Exit::Failure));
        let hint = hint.map(|hint| in_lines(&hint));
        Failure { code, exit, messages, hint }
    }
}

/// Where a line of our own begins anew.
const BREAK: &str = "\n  ";

/// A text of ours: its lines stay, and the line ends in names that it holds are shown, so that no name
/// looks like words of ours.
fn in_lines(text: &str) -> String {
    indented(text.split(BREAK))
}

fn indented<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    lines.map(|line| shown(line, usize::MAX)).collect::<Vec<_>>().join(BREAK)
}

/// Takes an error for one of a kind, where it is that.
type Kind = for<'e> fn(&'e (dyn Error + 'static)) -> Option<&'e dyn Classified>;

/// The errors that say what they are: a line for each.
const KNOWN: &[Kind] = &[
    is::<AgentError>,
    is::<StoreError>,
    is::<SealError>,
    is::<FormatError>,
    is::<KeyError>,
    is::<EngineError>,
    is::<CatalogError>,
];

fn is<'e, E: Classified + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e dyn Classified> {
    error.downcast_ref::<E>().map(|error| error as &dyn Classified)
}

fn known<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e dyn Classified> {
    KNOWN.iter().find_map(|is| is(error))
}

#[cfg(test)]
mod tests {
    use drctl_engines::backrest::{BackRestError, Exit as Ended};
    use drctl_engines::pg::{DumpError, ServerError};

    use super::*;

    #[test]
    fn a_name_never_breaks_a_message_and_lines_of_ours_stay() {
        let stderr = Stderr("pg_dump: error\nit failed".to_owned());
        let error = anyhow::Error::new(stderr).context("dump the database `a\nhint: b\u{202e}`");
        assert_eq!(
            Failure::of(&error).messages,
            ["dump the database `a\\nhint: b\\u{202e}`", "pg_dump: error\n  it failed"]
        );
        let lacks = "this host lacks what the cluster needs:\n  a locale\n  a\nb";
        let error = anyhow::Error::from(AgentError::Target(lacks.to_owned()));
        assert_eq!(Failure::of(&error).messages, [lacks.replace("a\nb", "a\\nb")]);
    }

    #[test]
    fn every_class_of_errors_has_its_exit() {
        let backrest = |code: i32| {
            let source = drctl_engines::Stderr(String::new());
            let exit = Ended::of(code);
            EngineError::from(BackRestError::Failed { command: "backup", exit, source })
        };
        let wrong = || drctl_model::MarkerError::Foreign(String::new());
        let cases: [(anyhow::Error, &str, Exit); 12] = [
            (EngineError::NotEmpty { found: Vec::new() }.into(), "not_empty", Exit::Target),
            (
                EngineError::from(DumpError::Exists { name: "a".to_owned() }).into(),
                "exists",
                Exit::Target,
            ),
            (
                EngineError::from(DumpError::Unfinished { names: Vec::new() }).into(),
                "unfinished",
                Exit::Target,
            ),
            (
                EngineError::from(ServerError::LeftOut { what: Vec::new() }).into(),
                "copy_incomplete",
                Exit::Source,
            ),
            (backrest(40).into(), "pgbackrest_target", Exit::Target),
            (backrest(50).into(), "pgbackrest_busy", Exit::Busy),
            (backrest(27).into(), "pgbackrest_configuration", Exit::Configuration),
            (backrest(75).into(), "pgbackrest_no_backup", Exit::NoTarget),
            (backrest(82).into(), "pgbackrest_archiving", Exit::Source),
            (SealError::WrongKey.into(), "wrong_key", Exit::Key),
            (FormatError::Marker(wrong()).into(), "not_a_repository", Exit::Storage),
            (AgentError::Interrupted.into(), "interrupted", Exit::Interrupted),
        ];
        for (error, code, exit) in cases {
            let failure = Failure::of(&error.context("look"));
            assert_eq!((failure.code, failure.exit), (code, exit));
        }
    }
}
