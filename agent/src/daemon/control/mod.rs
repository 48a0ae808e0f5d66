//! How the running agent is spoken with: a socket of this host, a line of JSON each way. Who asks is told by
//! the kernel, and looked at for each request.

mod client;
mod opened;
mod peer;
mod recorder;
mod server;

use drctl_model::{Digest, JobKind, SourceId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::oneshot;

pub(crate) use client::{ask, hand_over};
pub(super) use opened::receive;
pub(super) use peer::{Peer, Rights};
pub(super) use server::{Server, tell};

/// The version of this way of speaking. Another one is not guessed at.
const VERSION: u32 = 1;

/// The longest line, in bytes, both ways.
const LONGEST: usize = 4 << 20;

/// What somebody asks of the agent, as it lies in a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    version: u32,
    #[serde(flatten)]
    request: Request,
}

/// What may be asked of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub(crate) enum Request {
    /// What runs, what comes next, what was missed.
    Jobs,
    /// Begin a job now, whatever its schedule and window say.
    Run(Which),
    /// Begin it no more until it is resumed; without a source all jobs.
    Pause(Any),
    /// Let it begin again.
    Resume(Any),
    /// End the run that is under way.
    Cancel(Which),
    /// Read the configuration again.
    Reload,
    /// Store a file of log: what it is follows as soon as the agent is ready for it.
    Push(Wish),
}

/// Where a file of log is to be stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wish {
    pub(crate) source: SourceId,
    /// What stands for the configuration of whoever asks, where he has one.
    pub(crate) configuration: Option<Digest>,
}

/// One job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Which {
    pub(crate) source: SourceId,
    pub(crate) kind: JobKind,
}

/// One job, all of a source, or all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Any {
    pub(crate) source: Option<SourceId>,
    pub(crate) kind: Option<JobKind>,
}

impl Request {
    /// The line that asks it.
    pub(crate) fn line(&self) -> Line {
        Line { version: VERSION, request: self.clone() }
    }

    /// Its name, as it lies in a line.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Request::Jobs => "jobs",
            Request::Run(_) => "run",
            Request::Pause(_) => "pause",
            Request::Resume(_) => "resume",
            Request::Cancel(_) => "cancel",
            Request::Reload => "reload",
            Request::Push(_) => "push",
        }
    }

    /// The source that it is of.
    pub(super) fn source(&self) -> Option<&SourceId> {
        match self {
            Request::Jobs | Request::Reload => None,
            Request::Push(wish) => Some(&wish.source),
            Request::Run(which) | Request::Cancel(which) => Some(&which.source),
            Request::Pause(any) | Request::Resume(any) => any.source.as_ref(),
        }
    }

    /// The kind of job that it is of.
    pub(super) fn kind(&self) -> Option<JobKind> {
        match self {
            Request::Jobs | Request::Reload | Request::Push(_) => None,
            Request::Run(which) | Request::Cancel(which) => Some(which.kind),
            Request::Pause(any) | Request::Resume(any) => any.kind,
        }
    }

    /// Whether a member of the agent's group may ask it: what reads, and what begins or ends ordinary work.
    /// What removes, and what changes the configuration, is for drctl's account, root and the members of another group.
    fn is_for_group(&self) -> bool {
        match self {
            Request::Jobs | Request::Pause(_) | Request::Resume(_) | Request::Cancel(_) => true,
            Request::Run(which) => which.kind == JobKind::Backup,
            Request::Reload | Request::Push(_) => false,
        }
    }
}

/// What the agent answers.
pub(crate) type Answer = Result<Value, Refusal>;

/// Why it does not do what it is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    /// A stable word.
    pub(crate) code: String,
    /// For people.
    pub(crate) message: String,
}

impl Refusal {
    pub(super) fn new(code: &str, message: impl Into<String>) -> Self {
        Refusal { code: code.to_owned(), message: message.into() }
    }
}

/// A request, who asks it, and where the answer goes.
pub(super) struct Asked {
    pub(super) peer: Peer,
    pub(super) request: Request,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// The line that answers.
fn answer_line(answer: &Answer) -> Value {
    match answer {
        Ok(value) => json!({ "version": VERSION, "ok": true, "answer": value }),
        Err(refusal) => json!({ "version": VERSION, "ok": false, "refused": refusal }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn which(kind: JobKind) -> Which {
        Which { source: "shop".parse().unwrap(), kind }
    }

    #[test]
    fn requests_are_lines_that_stay_as_they_are() {
        let cases = [
            (Request::Jobs, r#"{"version":1,"do":"jobs"}"#),
            (
                Request::Run(which(JobKind::Backup)),
                r#"{"version":1,"do":"run","source":"shop","kind":"backup"}"#,
            ),
            (
                Request::Pause(Any { source: None, kind: None }),
                r#"{"version":1,"do":"pause","source":null,"kind":null}"#,
            ),
            (
                Request::Resume(Any {
                    source: Some("shop".parse().unwrap()),
                    kind: Some(JobKind::LogStream),
                }),
                r#"{"version":1,"do":"resume","source":"shop","kind":"log_stream"}"#,
            ),
            (
                Request::Cancel(which(JobKind::Prune)),
                r#"{"version":1,"do":"cancel","source":"shop","kind":"prune"}"#,
            ),
            (Request::Reload, r#"{"version":1,"do":"reload"}"#),
            (
                Request::Push(Wish { source: "shop".parse().unwrap(), configuration: None }),
                r#"{"version":1,"do":"push","source":"shop","configuration":null}"#,
            ),
        ];
        for (request, line) in cases {
            assert_eq!(serde_json::to_string(&request.line()).unwrap(), line);
            let read: Line = serde_json::from_str(line).unwrap();
            assert_eq!(read.request, request);
            assert!(line.contains(request.name()));
        }
    }

    #[test]
    fn a_group_may_neither_remove_nor_reload() {
        assert!(Request::Jobs.is_for_group());
        assert!(Request::Run(which(JobKind::Backup)).is_for_group());
        for kind in JobKind::ALL.into_iter().filter(|kind| *kind != JobKind::Backup) {
            assert!(!Request::Run(which(kind)).is_for_group(), "{kind:?}");
        }
        assert!(!Request::Reload.is_for_group());
    }
}
