use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use drctl_model::JobKind;

/// What may be asked of the running agent.
#[derive(Debug, Subcommand)]
pub enum AgentVerb {
    /// Show what the agent does: what runs, what comes next, what was missed and why.
    Jobs(AgentAt),
    /// Have the agent begin a job now, whatever its schedule says.
    Run(JobArgs),
    /// Have the agent start no more runs of a job, until it is resumed or the agent starts again.
    Pause(SomeJobs),
    /// Have the agent begin a paused job again when it is due.
    Resume(SomeJobs),
    /// Have the agent end the run of a job.
    Cancel(JobArgs),
    /// Have the agent read its configuration again. A wrong one is refused, and the old one goes on.
    Reload(AgentAt),
}

impl AgentVerb {
    /// Where the agent listens, where that is named.
    pub fn socket(&self) -> Option<&Path> {
        let at = match self {
            AgentVerb::Jobs(at) | AgentVerb::Reload(at) => at,
            AgentVerb::Run(JobArgs { at, .. }) | AgentVerb::Cancel(JobArgs { at, .. }) => at,
            AgentVerb::Pause(SomeJobs { at, .. }) | AgentVerb::Resume(SomeJobs { at, .. }) => at,
        };
        at.socket.as_deref()
    }
}

/// Which agent is asked.
#[derive(Debug, Clone, Args)]
pub struct AgentAt {
    /// Where the agent listens. Then no configuration is read, so this works while that is wrong, and
    /// where you may not read it. Default: as the configuration says.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    socket: Option<PathBuf>,
}

/// A job of the agent.
#[derive(Debug, Clone, Args)]
pub struct JobArgs {
    /// The source, as the configuration names it.
    pub source: String,
    /// What the job does.
    #[arg(default_value = "backup")]
    pub kind: Kind,
    /// Where to ask.
    #[command(flatten)]
    pub at: AgentAt,
}

/// One job of the agent, all of a source, or all.
#[derive(Debug, Clone, Args)]
pub struct SomeJobs {
    /// Only those of this source.
    pub source: Option<String>,
    /// Only this one.
    #[arg(requires = "source")]
    pub kind: Option<Kind>,
    /// Where to ask.
    #[command(flatten)]
    pub at: AgentAt,
}

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Take a backup.
    Backup,
    /// Stream WAL.
    #[value(name = "log_stream", alias = "stream")]
    LogStream,
    /// Remove what no policy keeps.
    Prune,
    /// Check what is stored.
    Verify,
    /// Try a backup in a scratch server.
    Drill,
    /// Write missing indexes over the WAL.
    #[value(name = "log_index", alias = "index")]
    LogIndex,
    /// Tell what was done.
    Report,
}

impl From<Kind> for JobKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Backup => JobKind::Backup,
            Kind::LogStream => JobKind::LogStream,
            Kind::Prune => JobKind::Prune,
            Kind::Verify => JobKind::Verify,
            Kind::LogIndex => JobKind::LogIndex,
            Kind::Report => JobKind::Report,
            Kind::Drill => JobKind::Drill,
        }
    }
}
