//! pgBackRest: backups and WAL that it keeps in a repository of its own.
//!
//! It is believed only where it was seen to tell the truth. Its `info` and `verify` end with
//! status 0 over gaps and corruption, so their texts are read, and the archive is listed and
//! walked here. Of `archive-get` status 1 alone means absent. It runs as the server's account, for what
//! anybody else leaves in its directories is in that one's way: drctl runs as that one too, or asks the
//! helper of that account for it.

mod backup;
mod bounded;
mod call;
mod command;
mod control;
mod error;
mod exits;
mod helped;
mod info;
mod listing;
mod presence;
mod raw;
mod report;
mod restore;
mod segment;
mod version;
mod walk;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::common::helper::Ask;
use crate::common::process::Tool;
use crate::common::{EngineError, Helper, Secret};
use crate::pg::server::SILENCE;
use crate::pg::server::address::ACTIVITY;

pub use backup::{BackedUp, BackupStep};
pub use command::{Asked, Command, Purpose};
pub use error::BackRestError;
pub use exits::{Exit, ExitKind};
pub use info::{
    ANNOTATION, ArchiveBounds, Backup, Cluster, Detail, Info, InfoError, StanzaStatus, Tablespace,
};
pub use listing::{ArchiveListing, ClusterArchive, SegmentFile, SegmentName};
pub use report::{Verified, VerifiedPart};
pub use segment::Got;
pub use version::Version;
pub use walk::{Gap, Run, Walk};

/// The most bytes of an answer that is read as a whole. The longest there is, of `info`, has less
/// than 1 KiB for each backup.
const MAX_ANSWER: usize = 64 << 20;

/// One stanza of pgBackRest in one of its repositories.
#[derive(Debug, Clone)]
pub struct BackRest {
    /// The program; found by the search path when it is a bare name.
    pub program: PathBuf,
    /// Its configuration file; its own default where there is none.
    pub config: Option<PathBuf>,
    /// What pgBackRest calls the cluster.
    pub stanza: String,
    /// The repository's number, from 1.
    pub repo: u32,
    /// The repository's passphrase, where it is not in the configuration file. Goes into the
    /// child's environment: pgBackRest refuses it as an argument.
    pub cipher_pass: Option<Secret>,
    /// The account that the server behind a socket must run as, for pgBackRest too.
    pub require_peer: Option<String>,
    /// How long it may neither say nor do anything.
    pub silence: Duration,
    /// Whose helper runs it: then of the above only stanza, repository and silence count.
    pub helper: Option<Helper>,
}

impl BackRest {
    /// A stanza in the first repository of pgBackRest's default configuration.
    #[must_use]
    pub fn new(stanza: impl Into<String>) -> Self {
        BackRest {
            program: "pgbackrest".into(),
            config: None,
            stanza: stanza.into(),
            repo: 1,
            cipher_pass: None,
            require_peer: None,
            silence: SILENCE,
            helper: None,
        }
    }

    /// The version that is installed.
    ///
    /// # Errors
    /// [`BackRestError::Missing`]; [`BackRestError::Version`] for one that is too old
    /// or says something else.
    pub async fn version(&self) -> Result<Version, EngineError> {
        let tool = self.tool(Command::Version {});
        let (text, ended) = call::read(&tool, 1 << 10, self.silence).await?;
        call::outcome("version", ended)?;
        let text = String::from_utf8_lossy(&text);
        match Version::parse(&text) {
            Some(version) if version >= Version::OLDEST => Ok(version),
            _ => Err(BackRestError::Version {
                found: drctl_model::shown(text.trim(), 60),
                oldest: Version::OLDEST.to_string(),
            }
            .into()),
        }
    }

    /// What the repository holds of the stanza, as pgBackRest tells it.
    ///
    /// # Errors
    /// [`BackRestError::Stanza`] unless all is well or there is no backup yet: an empty list
    /// out of a repository that cannot be read must not be taken for an empty repository. Also
    /// where it cannot be run or its answer cannot be read.
    pub async fn info(&self) -> Result<Info, EngineError> {
        let info = self.look().await?;
        if info.is_whole() {
            return Ok(info);
        }
        Err(BackRestError::Stanza {
            stanza: self.stanza.clone(),
            repo: self.repo,
            code: info.status.code,
            message: info.status.message,
        }
        .into())
    }

    /// The same, also where the stanza is in trouble: [`Info::status`] says which. What pgBackRest
    /// lists and has no directory any more is in [`Info::gone`].
    ///
    /// # Errors
    /// [`BackRestError::Failed`] and [`EngineError::Silent`] where it fails;
    /// [`BackRestError::Says`] for an answer that cannot be read.
    pub async fn look(&self) -> Result<Info, EngineError> {
        self.look_for_files(self.listed().await?).await
    }

    /// What pgBackRest's list says, whether the files are there or not.
    async fn listed(&self) -> Result<Info, EngineError> {
        let text = self.answer(Command::Info { set: None }).await?;
        Info::parse(&text, &self.stanza, self.repo).map_err(says("info"))
    }

    /// More of one backup.
    ///
    /// # Errors
    /// [`BackRestError::Says`] where there is no such backup; as [`look`](Self::look).
    pub async fn detail(&self, label: &str) -> Result<Detail, EngineError> {
        let set = Some(checked(label)?.to_owned());
        let text = self.answer(Command::Info { set }).await?;
        Detail::parse(&text, &self.stanza, label).map_err(says("info"))
    }

    /// All that lies in the stanza's archive.
    ///
    /// # Errors
    /// [`BackRestError::Says`] where the stanza is not there; also where it cannot be run or
    /// its answer cannot be read.
    pub async fn listing(&self) -> Result<ArchiveListing, EngineError> {
        let tool = self.tool(Command::ListArchive {});
        let (listing, ended) = call::read_by(&tool, self.silence, ArchiveListing::read).await?;
        call::outcome("repo-ls", ended)?;
        listing.map_err(says("repo-ls"))
    }

    /// Has pgBackRest check all that the repository holds, or one backup and its WAL where its
    /// version can. Its exit status is not asked: it is 0 over corruption.
    ///
    /// # Errors
    /// [`BackRestError::Failed`] and [`EngineError::Silent`] where it fails;
    /// [`BackRestError::Says`] for what cannot be read.
    pub async fn verify(&self, label: Option<&str>) -> Result<Verified, EngineError> {
        let mut set = None;
        if let Some(label) = label
            && self.version().await?.verifies_one_backup()
        {
            set = Some(checked(label)?.to_owned());
        }
        let tool = self.tool(Command::Verify { set });
        let (text, ended) = call::read(&tool, MAX_ANSWER, self.silence).await?;
        let text = String::from_utf8_lossy(&text);
        if let Some(verified) = Verified::parse(&text, &self.stanza) {
            return Ok(verified);
        }
        call::outcome("verify", ended)?;
        Err(says("verify")(InfoError::new("it does not report what it has verified")))
    }

    /// Removes what has expired by pgBackRest's own retention. Waits for another pgBackRest that
    /// works on the stanza, at most `wait`.
    ///
    /// # Errors
    /// [`BackRestError::Failed`] where it fails; backups that are retained are not affected.
    pub async fn expire(&self, wait: Duration) -> Result<(), EngineError> {
        let tool = self.tool(Command::Expire {});
        call::patiently(
            wait,
            |_| {},
            || async { call::outcome("expire", call::run(&tool, self.silence).await?) },
        )
        .await
        .map(|_| ())
    }

    /// Has the server archive a segment, and waits for it: proves that server, `archive_command`
    /// and all repositories fit each other, and nothing of what is there already.
    ///
    /// # Errors
    /// [`BackRestError::Failed`] with what is wrong.
    pub async fn check(&self) -> Result<(), EngineError> {
        self.simply(Command::Check {}).await
    }

    /// Creates the stanza in all repositories; one that is there already and fits stays.
    ///
    /// # Errors
    /// [`BackRestError::Failed`], also where the stanza belongs to another cluster.
    pub async fn create_stanza(&self) -> Result<(), EngineError> {
        self.simply(Command::StanzaCreate {}).await
    }

    /// Tells all repositories that the cluster was upgraded or replaced; changes nothing where it
    /// was not.
    ///
    /// # Errors
    /// [`BackRestError::Failed`].
    pub async fn upgrade_stanza(&self) -> Result<(), EngineError> {
        self.simply(Command::StanzaUpgrade {}).await
    }

    /// Runs a command that says nothing.
    async fn simply(&self, command: Command) -> Result<(), EngineError> {
        let name = command.name();
        let tool = self.tool(command);
        call::outcome(name, call::run(&tool, self.silence).await?).map(|_| ())
    }

    /// Runs a command that only looks, and gives what it writes.
    async fn answer(&self, command: Command) -> Result<Vec<u8>, EngineError> {
        let name = command.name();
        let tool = self.tool(command);
        let (text, ended) = call::read(&tool, MAX_ANSWER, self.silence).await?;
        call::outcome(name, ended)?;
        Ok(text)
    }

    /// What runs a command: here, or by the helper of its account.
    fn tool(&self, command: Command) -> Tool {
        let Some(helper) = self.helper.clone() else { return self.here(&command) };
        let asked = Asked { stanza: self.stanza.clone(), repo: self.repo, run: command };
        let ask = Ask { helper, job: asked.job(), silence: self.silence };
        Tool::asked_for(call::TOOL, ask).with_server(ACTIVITY)
    }

    /// The program itself, for a command.
    fn here(&self, command: &Command) -> Tool {
        if matches!(command, Command::Version {}) {
            return Tool::new(call::TOOL, self.program.clone()).arg(command.name());
        }
        let mut tool = self.everywhere(command.name());
        if command.is_of_one() {
            tool = self.of_repository(tool);
        }
        tool.args(&command.options(&self.stanza))
    }

    /// The program with what every command is told.
    fn everywhere(&self, command: &'static str) -> Tool {
        let tool = Tool::new(call::TOOL, self.program.clone()).with_server(ACTIVITY);
        let mut tool = tool.arg(command);
        if let Some(config) = &self.config {
            tool = tool.arg(option("config", config));
        }
        if let Some(secret) = &self.cipher_pass {
            let name = format!("PGBACKREST_REPO{}_CIPHER_PASS", self.repo);
            tool = tool.env(name, secret.expose());
        }
        if let Some(account) = &self.require_peer {
            tool = tool.env("PGREQUIREPEER", account);
        }
        tool.arg(format!("--stanza={}", self.stanza)).arg("--no-log-timestamp")
    }

    /// For a command that works in one repository.
    fn of_repository(&self, tool: Tool) -> Tool {
        tool.arg(format!("--repo={}", self.repo))
    }
}

/// `--name=value`, of a path.
fn option(name: &str, value: &Path) -> std::ffi::OsString {
    let mut option = std::ffi::OsString::from(format!("--{name}="));
    option.push(value);
    option
}

/// A label that may stand in an argument.
fn checked(label: &str) -> Result<&str, EngineError> {
    let known = drctl_model::label_type(label);
    known.map(|_| label).map_err(|error| EngineError::Config(error.to_string()))
}

fn says(command: &'static str) -> impl FnOnce(InfoError) -> EngineError {
    move |error| BackRestError::Says { command, problem: error.to_string() }.into()
}
